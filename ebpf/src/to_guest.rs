//! XDP on the devmap's way out to a tap: a segment of a known TCP connection becomes the member's own, by the plan that
//! travels with it, or by looking the connection up again. Everything else is the member's already, and passes after two
//! comparisons.

use aya_ebpf::bindings::xdp_action::{XDP_DROP, XDP_PASS};
use aya_ebpf::bindings::xdp_md;
use hotpair_abi::count::Counter;

use crate::count::{NO_PAIR, count, row};
use crate::packet::XdpFrame;
use crate::tcp::{from_client, plan, to_member};
use crate::{maps, role};

/// Decides about one copy of a frame.
#[inline(always)]
pub fn to_guest(ctx: *mut xdp_md) -> u32 {
    if let Some(action) = plan::write(ctx) {
        return action;
    }
    let frame = XdpFrame(ctx);
    if frame.addressed_to() != Some(from_client::KNOWN) {
        return XDP_PASS;
    }
    segment(ctx)
}

#[inline(never)]
fn segment(ctx: *mut xdp_md) -> u32 {
    // SAFETY: the context outlives the program; devmap programs may read the egress interface.
    let ifindex = unsafe { (*ctx).egress_ifindex };
    // Taps are told to `PORTS` before they are entered into a devmap, and taken out after.
    let Some((port, pair)) = maps::port(ifindex).and_then(|port| Some((port, maps::pair(port.pair)?))) else {
        count(NO_PAIR, Counter::TcpRewriteFailed);
        return XDP_DROP;
    };
    let row = row(port.pair);
    let frame = XdpFrame(ctx);
    if frame.address_to(role::mac_pairs(pair)).is_none() {
        count(row, Counter::TcpRewriteFailed);
        return XDP_DROP;
    }
    let mut how = to_member::to_member(ctx, pair, role::word(pair), &port);
    if how == to_member::STALE {
        how = to_member::to_member(ctx, pair, role::word(pair), &port);
    }
    let counter = match how {
        to_member::AS_IS => return XDP_PASS,
        to_member::TRANSLATED => {
            count(row, Counter::TcpTranslated);
            return XDP_PASS;
        }
        // Changed twice meanwhile: its sender repeats it.
        to_member::REFUSED | to_member::STALE => Counter::TcpNotForStandby,
        _ => Counter::TcpRewriteFailed,
    };
    count(row, counter);
    XDP_DROP
}
