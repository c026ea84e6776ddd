//! Layouts of the pinned maps. `#[repr(C)]`, padding explicit, sizes asserted: what is pinned must mean the same to the
//! next version that adopts it, or carry another `ABI_VERSION`.
//!
//! | map | type | key -> value |
//! | --- | --- | --- |
//! | `HOST` | array, 1 | 0 -> [`Host`] |
//! | `ENTRIES` | hash | 16-byte address -> [`Entry`] |
//! | `INDEX` | array, mmapable | [`crate::index::place`] -> [`crate::index::Row`] |
//! | `PAIRS` | array, mmapable | pair -> [`Pair`] |
//! | `MEMBERS` | array, mmapable | pair * 2 + slot -> [`Member`] |
//! | `PORTS` | hash | ifindex of a tap -> [`Port`] |
//! | `GROUPS` | array of devmaps | pair -> devmap of 2: both taps |
//! | `TAPS` | devmap | pair * 2 + slot -> tap |
//! | `CONNECTIONS` | hash | [`Tuple`] -> [`crate::tcp::connection::Connection`] |
//! | `LATE` | queue | [`Late`] |
//! | `TURNED` | queue | [`Turned`] |
//! | `HANDOVER` | LRU hash | [`Flow`] -> [`crate::handover::Turn`] |
//! | `RETURN` | LRU hash | [`ReturnKey`] -> [`ReturnPath`] (tagged frames only) |
//! | `STATS` | per-CPU array | pair + 1 -> its counters, u64 each; row 0 belongs to no pair |
//! | `EVENTS` | ring buffer | [`crate::event::Event`] |

use crate::address::Address;
use crate::index::Spread;

/// What the programs must know about their host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Host {
    /// [`crate::ABI_VERSION`] of whoever created the maps.
    pub abi_version: u32,
    /// The uplink.
    pub uplink_ifindex: u32,
    /// The uplink's MAC: what ARP and ND for entry addresses are answered with.
    pub uplink_mac: [u8; 6],
    /// 1: neighbour answers leave by a redirect to the uplink, 0: by XDP_TX. A veth does not flush what XDP_TX gives it
    /// while its peer has no XDP program (`veth_xdp_flush`).
    pub answer_by_redirect: u8,
    /// 1: what XDP puts in front of a frame stays with it as far as the taps ([`crate::tcp::plan`]). Generic XDP loses it.
    pub keeps_metadata: u8,
    /// The host's own internal IP: the only source it may reach members from (network byte order).
    pub internal_ip: [u8; 4],
    /// Rows of `PAIRS`.
    pub max_pairs: u32,
    /// Zero.
    pub pad: u32,
    /// Where an address is in `INDEX`.
    pub spread: Spread,
}

/// Value of `ENTRIES`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Entry {
    /// The pair that the address belongs to.
    pub pair: u32,
}

/// [`Pair::flags`]: the row is in use.
pub const PAIR_IN_USE: u32 = 1 << 0;
/// [`Pair::flags`]: any frame of a member counts as a sign of life (`heartbeat.source = "probe"`).
pub const PAIR_PROBE: u32 = 1 << 1;
/// [`Pair::flags`]: its TCP connections are kept fit for a takeover.
pub const PAIR_TCP: u32 = 1 << 2;
/// [`Pair::flags`]: what the members send on a TCP connection is compared.
pub const PAIR_COMPARE: u32 = 1 << 3;

/// [`Pair::flags`]: of a TCP connection, the first answer is heard, whosever it is (`answer = "first"`).
pub const PAIR_FIRST: u32 = 1 << 4;

/// [`Pair::untold_epoch`]: `TURNED` was full; the rest of the connections is put into it when those that stood in it are served.
pub const REST: u64 = 1 << 63;

/// A pair, as the programs see it. The controller writes all of it but `tripped_epoch`, `untold_epoch` and
/// `conflict_event_ns`; `since_ns` both.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Pair {
    /// [`crate::RoleWord`]: written with one atomic store.
    pub role: u64,
    /// Packets of the entry addresses may leave until this CLOCK_BOOTTIME, nanoseconds; `u64::MAX` for ever.
    pub lease_until_ns: u64,
    /// A member that has not beaten for this long (nanoseconds) is silent.
    pub timeout_ns: u64,
    /// Written by the programs: the epoch in which the kernel's latch has failed over by itself; 0 never.
    pub tripped_epoch: u64,
    /// `PAIR_*`.
    pub flags: u32,
    /// Both members' MAC.
    pub mac: [u8; 6],
    /// Zero.
    pub pad: [u8; 2],
    /// Tap of each slot; 0 for none.
    pub tap_ifindex: [u32; 2],
    /// Zero.
    pub pad2: [u8; 4],
    /// What is counted for a switchover to come ([`crate::handover::watch`]); 0: nothing.
    pub watch: u64,
    /// The pair's name, zero-padded: how a restarted controller finds its rows again.
    pub name: [u8; 16],
    /// Written by the programs: CLOCK_BOOTTIME (nanoseconds) of the last address conflict reported, one a second at most.
    pub conflict_event_ns: u64,
    /// Since when the present member of each slot is there, CLOCK_BOOTTIME nanoseconds: it knows no older connection. The
    /// controller writes it at a member's start, the programs when a heartbeat says that it has rebooted.
    pub since_ns: [u64; 2],
    /// How long the standby may be late with a TCP connection before nothing waits for it, nanoseconds.
    pub lag_limit_ns: u64,
    /// Until when a planned switchover drains at most, CLOCK_BOOTTIME nanoseconds ([`crate::RoleWord::in_force`]).
    pub handover_until_ns: u64,
    /// Written by the programs: the epoch in which the latch has tripped and not all TCP connections stand in `TURNED` yet to be
    /// told of it, with [`REST`]; 0 none.
    pub untold_epoch: u64,
}

/// A member's signs of life. Written by `from_guest` only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Member {
    /// CLOCK_BOOTTIME (nanoseconds) of the last valid heartbeat (source agent) or of the last frame (source probe).
    pub last_beat_ns: u64,
    /// Since when it has been beating without a gap longer than the pair's timeout, CLOCK_BOOTTIME nanoseconds.
    pub streak_since_ns: u64,
    /// Boot id of the last heartbeat.
    pub boot_id: u64,
    /// Sequence of the last heartbeat.
    pub sequence: u64,
    /// When the guest says it sent that one, its own clock, nanoseconds.
    pub sent_ns: u64,
    /// Requests processed since the guest's boot, by its own count.
    pub requests: u64,
    /// Requests in flight, by its own count.
    pub in_flight: u32,
    /// Microseconds until the next heartbeat is due.
    pub interval_us: u32,
    /// [`crate::heartbeat::State`] of the last heartbeat; 0 before the first. Source probe: serving.
    pub state: u32,
    /// The state that the controller was last told of at once ([`crate::event::Kind::StateChanged`]).
    pub told_state: u32,
    /// CLOCK_BOOTTIME (nanoseconds) of the last frame whose time was taken: every frame with source probe, heartbeats
    /// (stale ones too) with source agent. No other packet costs a look at the clock.
    pub last_frame_ns: u64,
    /// CLOCK_BOOTTIME (nanoseconds) of the last spoofing event about this member: one a second at most.
    pub last_event_ns: u64,
    /// Valid heartbeats since the row was last cleared.
    pub beats: u64,
    /// When it was told, CLOCK_BOOTTIME nanoseconds: once a millisecond at most.
    pub told_ns: u64,
    /// Boot id before the present one, 0 for none: what still comes of it is a replay.
    pub boot_id_before: u64,
    /// CLOCK_BOOTTIME (nanoseconds) of the last events about TCP connections with this member as the standby, one of each
    /// kind a second at most: that a gate has opened, has closed again, that the members differ.
    pub tcp_event_ns: [u64; 3],
}

/// Value of `PORTS`: whose tap it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Port {
    /// The pair.
    pub pair: u32,
    /// 0 or 1.
    pub slot: u32,
    /// The member's internal IP as seen from the host (network byte order).
    pub internal_ip: [u8; 4],
}

/// Key of `HANDOVER`: one client's conversation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Flow {
    /// The client's address, as a map key.
    pub remote: Address,
    /// The entry address, as a map key.
    pub entry: Address,
    /// Client port and entry port in the order of memory, as in the client's packet; ICMP echo: identifier and sequence;
    /// otherwise 0.
    pub ports: u32,
    /// IP protocol.
    pub protocol: u8,
    /// Zero.
    pub pad: [u8; 3],
}

/// Key of `CONNECTIONS`: one client's TCP connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Tuple {
    /// The client's address, as a map key.
    pub remote: Address,
    /// The entry address, as a map key.
    pub entry: Address,
    /// Client port and entry port in the order of memory, as in the client's packet.
    pub ports: u32,
    /// Outer VLAN tag: TPID in the upper half, VLAN id in the lower; 0 for none.
    pub outer: u32,
    /// Inner VLAN tag, or zero.
    pub inner: u32,
    /// Zero.
    pub pad: u32,
}

/// Value of `LATE`: a connection that is to be looked at again, as its standby may be late then.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Late {
    /// The connection.
    pub tuple: Tuple,
    /// When, CLOCK_BOOTTIME nanoseconds.
    pub due_ns: u64,
}

/// Value of `TURNED`: a connection that is to be told of a takeover by the kernel's latch. Not in `LATE`: there it would wait for
/// whoever is due before it, and let others wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Turned {
    /// The connection.
    pub tuple: Tuple,
    /// The epoch in which the latch has tripped.
    pub epoch: u64,
}

/// Key of `RETURN`: who a tagged frame goes back to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ReturnKey {
    /// The client's address.
    pub remote: Address,
    /// Outer tag: TPID in the upper half, VLAN id (priority cleared) in the lower.
    pub outer: u32,
    /// Inner tag, or zero.
    pub inner: u32,
}

/// Value of `RETURN`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct ReturnPath {
    /// MAC the client's last frame came from.
    pub mac: [u8; 6],
    /// Zero.
    pub pad: [u8; 2],
}

const _: () = {
    assert!(size_of::<Host>() == 48);
    assert!(size_of::<Entry>() == 4);
    // Two cache lines, so that no two pairs share one.
    assert!(size_of::<Pair>() == 128);
    assert!(core::mem::offset_of!(Pair, role) == 0);
    assert!(core::mem::offset_of!(Pair, tripped_epoch) == 24);
    assert!(core::mem::offset_of!(Pair, watch) == 56);
    assert!(size_of::<Member>() == 128);
    assert!(core::mem::offset_of!(Member, last_beat_ns) == 0);
    assert!(size_of::<Port>() == 12);
    assert!(size_of::<Late>() == 56);
    assert!(size_of::<Turned>() == 56);
    assert!(size_of::<Flow>() == 40);
    assert!(size_of::<ReturnKey>() == 24);
    assert!(size_of::<ReturnPath>() == 8);
};

#[cfg(feature = "user")]
mod pod {
    use super::{Address, Entry, Flow, Host, Late, Member, Pair, Port, ReturnKey, ReturnPath, Tuple, Turned};
    use crate::handover::Turn;
    use crate::tcp::connection::Connection;

    macro_rules! pod {
        ($($name:ty),*) => { $(
            // SAFETY: repr(C) integers and byte arrays, padding explicit: every bit pattern is a value.
            unsafe impl aya::Pod for $name {}
        )* };
    }
    pod!(
        Address, Connection, Entry, Flow, Host, Late, Member, Pair, Port, ReturnKey, ReturnPath, Tuple, Turn,
        Turned
    );
}
