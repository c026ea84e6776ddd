//! Events: what the data plane tells the controller at once. Never one per packet.

use crate::maps::Tuple;

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
    /// The gate of a TCP connection has opened: the standby is late with it, and not waited for any more. Slot: the
    /// standby's. Data: [`of_connection`].
    GateOpened = 6,
    /// The standby has caught up with a TCP connection, and is waited for again. Slot: the standby's. Data:
    /// [`of_connection`].
    GateClosed = 7,
    /// The members have sent different bytes on a TCP connection. Slot: the standby's. Data: [`of_connection`].
    Diverged = 8,
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
            6 => Some(Kind::GateOpened),
            7 => Some(Kind::GateClosed),
            8 => Some(Kind::Diverged),
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

/// The data of an event about a TCP connection: the client's 16-byte address, its port, the port it has called (both in
/// network byte order), then four zero bytes.
#[inline(always)]
#[must_use]
pub const fn of_connection(tuple: &Tuple) -> [u8; 24] {
    let r = tuple.remote.bytes();
    let p = tuple.ports.to_ne_bytes();
    [
        r[0], r[1], r[2], r[3], r[4], r[5], r[6], r[7], r[8], r[9], r[10], r[11], r[12], r[13], r[14], r[15],
        p[0], p[1], p[2], p[3], 0, 0, 0, 0,
    ]
}

#[cfg(feature = "user")]
// SAFETY: repr(C) integers and byte arrays without padding: every bit pattern is a value.
unsafe impl aya::Pod for Event {}
