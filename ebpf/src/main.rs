//! hotpair's eBPF programs: the entry points, one for each place where a packet comes from or goes to.
//!
//! A program decides about one frame by what the maps say and counts why. It keeps no state of its own, never waits,
//! and never lets a half rewritten frame go on.
#![no_std]
#![no_main]

use aya_ebpf::EbpfContext;
use aya_ebpf::macros::{classifier, xdp};
use aya_ebpf::programs::{TcContext, XdpContext};

mod beat;
mod count;
mod from_guest;
mod from_uplink;
mod guest_neighbour;
mod handover;
mod internal;
mod maps;
mod out;
mod packet;
mod role;
mod tcp;
mod to_guest;
mod to_guest_from_host;
mod uplink_neighbour;

/// XDP on the uplink.
#[xdp]
pub fn from_uplink(ctx: XdpContext) -> u32 {
    end(&ctx, from_uplink::from_uplink(ctx.ctx)) as u32
}

/// XDP on the devmap's way out to a tap.
#[xdp(map = "devmap")]
pub fn to_guest(ctx: XdpContext) -> u32 {
    to_guest::to_guest(ctx.ctx)
}

/// TCX at a tap's ingress.
#[classifier]
pub fn from_guest(ctx: TcContext) -> i32 {
    end(&ctx, from_guest::from_guest(ctx.as_ptr().cast()))
}

/// TCX at a tap's egress.
#[classifier]
pub fn to_guest_from_host(ctx: TcContext) -> i32 {
    end(&ctx, to_guest_from_host::to_guest_from_host(ctx.as_ptr().cast()))
}

/// Counts why, says so if it was built to, and gives the verdict.
#[inline(always)]
fn end<C: EbpfContext>(ctx: &C, exit: count::Exit) -> i32 {
    #[cfg(feature = "log")]
    if exit.is_drop() {
        let (row, why) = exit.reason();
        aya_log_ebpf::debug!(ctx, "row {} counter {}: passed or dropped", row, why);
    }
    let _ = ctx;
    exit.take()
}

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}

/// Several helpers (redirects, the clock) are for programs under a GPL-compatible licence.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
