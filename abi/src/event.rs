//! Events: what the data plane tells the controller at once. Never one per packet.

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Kind {
    /// A frame left a tap with a MAC that is not the pair's. Data: the MAC, then two zero bytes.
    SpoofedMac = 1,
    /// A packet left a tap with an address that is not the member's. Data: the 16-byte address.
    SpoofedAddress = 2,
    /// Somebody on the uplink claims a held entry address. Data: 16-byte address, then the MAC.
    AddressConflict = 3,
    /// The kernel's latch has failed over.
    LatchTripped = 4,
    /// A member's heartbeat says another state than was told last. One a millisecond and member at most: what changes
    /// faster is told with the next heartbeat after that. Data: byte 0 the new state.
    StateChanged = 5,
}

impl Kind {
    /// The kind with this number.
    #[must_use]
    pub const fn from_u32(value: u32) -> Option<Kind> {
        match value {
            1 => Some(Kind::SpoofedMac),
            2 => Some(Kind::SpoofedAddress),
            3 => Some(Kind::AddressConflict),
            4 => Some(Kind::LatchTripped),
            5 => Some(Kind::StateChanged),
            _ => None,
        }
    }
}

/// One record of `EVENTS`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Event {
    /// CLOCK_BOOTTIME, nanoseconds.
    pub at_ns: u64,
    /// [`Kind`].
    pub kind: u32,
    /// The pair.
    pub pair: u32,
    /// 0 or 1; `u32::MAX` where no slot is meant.
    pub slot: u32,
    /// The interface it was seen on.
    pub ifindex: u32,
    /// The pair's role word at that moment.
    pub role: u64,
    /// Depends on the kind.
    pub data: [u8; 24],
}

const _: () = assert!(size_of::<Event>() == 56);

#[cfg(feature = "user")]
// SAFETY: repr(C) integers and byte arrays without padding: every bit pattern is a value.
unsafe impl aya::Pod for Event {}
