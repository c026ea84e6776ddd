//! XDP on the devmap's way out to a tap: the frame becomes the member's by its destination MAC, and by nothing else.

use aya_ebpf::bindings::{xdp_action, xdp_md};
use hotpair_abi::Slot;
use hotpair_abi::count::Counter;

use crate::count::{Exit, NO_PAIR, row};
use crate::from_uplink::drop;
use crate::packet::XdpFrame;
use crate::{maps, role};

/// Decides about one copy of a frame.
#[inline(always)]
pub fn to_guest(ctx: *mut xdp_md) -> Exit {
    // SAFETY: the context outlives the program; devmap programs may read the egress interface.
    let ifindex = unsafe { (*ctx).egress_ifindex };
    let Some(port) = maps::port(ifindex) else {
        return drop(NO_PAIR, Counter::GuestUnknownPort);
    };
    let Some(pair) = maps::pair(port.pair) else {
        return drop(NO_PAIR, Counter::GuestUnknownPort);
    };
    let row = row(port.pair);
    if role::word(pair).muted(Slot::from_bit(port.slot as u64)) {
        return drop(row, Counter::GuestMuted);
    }
    if XdpFrame(ctx).put(0, &role::mac(pair).pairs()).is_none() {
        return drop(row, Counter::GuestUnknownPort);
    }
    Exit::new(row, Counter::GuestDelivered, xdp_action::XDP_PASS as i32)
}
