//! The gate's watchdog, when no segment passes: connections that wait for their standby stand in a queue, and every
//! heartbeat that comes by, of whichever pair, serves those that are due. Once it has gone to the peer, its frame is made
//! the segment that the client is told by.

use core::ffi::c_void;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::{bpf_clone_redirect, bpf_loop};
use hotpair_abi::count::Counter;
use hotpair_abi::event::Kind;
use hotpair_abi::packet::{ETH_IPV4, ETH_IPV6};
use hotpair_abi::tcp::connection::Connection;
use hotpair_abi::tcp::from_member::OPENED;
use hotpair_abi::tcp::late::{AGAIN, DONE, TELL, TELL_SPEAKER};
use hotpair_abi::{GATEWAY_MAC, Mac, voice};

use crate::count::{count, row};
use crate::packet::TcFrame;
use crate::tcp::pure::{Ends, is_partial, write};
use crate::tcp::{Scratch, locked, news, scene};
use crate::{maps, role};

/// The longest time in which nobody looks, nanoseconds: a pair that allows its standby more must not make others wait.
const LONGEST: u64 = 10_000_000;
/// Connections that one heartbeat serves, at most.
const AT_ONCE: u32 = 64;
/// Length of an Ethernet header.
const L3: usize = 14;

/// A walk through the queue, with the frame that is at hand for it.
struct Walk {
    frame: *mut __sk_buff,
}

/// Puts the connection in the scratch into the queue.
#[inline(always)]
pub fn push(scratch: &mut Scratch) {
    let limit = scratch.scene.lag_limit_ns;
    scratch.late.tuple = scratch.tuple;
    scratch.late.due_ns = scratch.scene.now_ns + if limit < LONGEST { limit } else { LONGEST };
    maps::push_late(&scratch.late);
}

/// Whether somebody is due.
#[inline(always)]
pub fn is_due() -> bool {
    let Some(scratch) = maps::scratch() else {
        return false;
    };
    maps::first_late(&mut scratch.late) && scratch.late.due_ns <= role::now_ns()
}

/// Serves who is due. The frame has served, and is nobody's afterwards.
///
/// A global function to the verifier, for the reason that `hotpair_sum_payload` is one.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn hotpair_serve_late(skb: *mut __sk_buff) -> u32 {
    let frame = TcFrame(skb);
    // A frame whose sum is left to be done as another protocol's cannot become a segment. Then nobody is told, and the
    // next segment finds the gate open.
    let mut walk = Walk { frame: skb };
    if is_partial(frame, L3 + 20) != Some(false) {
        return 0;
    }
    // SAFETY: the callback has the type that the helper wants, and its context outlives the call.
    unsafe { bpf_loop(AT_ONCE, next as *mut c_void, (&raw mut walk).cast(), 0) as u32 }
}

/// Serves one.
extern "C" fn next(_: u64, walk: *mut c_void) -> i64 {
    const ON: i64 = 0;
    const ENOUGH: i64 = 1;
    // SAFETY: the caller's own variable.
    let frame = TcFrame(unsafe { &*walk.cast::<Walk>() }.frame);
    if !is_due() {
        return ENOUGH;
    }
    let Some(scratch) = maps::scratch() else {
        return ENOUGH;
    };
    if !maps::take_late(&mut scratch.late) {
        return ENOUGH;
    }
    scratch.tuple = scratch.late.tuple;
    let Some(connection) = maps::connection(&scratch.tuple) else {
        return ON;
    };
    // SAFETY: an aligned word of the row, which changes only when the row begins anew.
    let id = unsafe { (&raw const (*connection).pair).read_volatile() };
    match look(id, connection, scratch) {
        AGAIN => push(scratch),
        TELL => told(id, Counter::TcpConverted, tell(frame, scratch)),
        TELL_SPEAKER => {
            told(id, Counter::TcpTold, tell_speaker(frame, id, scratch));
            push(scratch);
        }
        _ => {}
    }
    ON
}

#[inline(always)]
fn told(id: u32, what: Counter, done: Option<()>) {
    let why = if done.is_some() { what } else { Counter::TcpRewriteFailed };
    count(row(id), why);
}

#[inline(never)]
fn look(id: u32, connection: *mut Connection, scratch: &mut Scratch) -> u32 {
    let Some(pair) = maps::pair(id) else {
        return DONE;
    };
    let word = role::word(pair);
    let tripped = role::tripped(pair);
    let speaker = voice::active(word, tripped);
    scene(scratch, pair, word, speaker as u32, role::now_ns());
    let now = scratch.scene.now_ns;
    let may = voice::may_speak(word, tripped, speaker, role::lease(pair), || now, || false);
    if may.is_err() || word.handover() {
        return AGAIN;
    }
    let (what, mac) = locked(connection, |connection| {
        (connection.look_again(&scratch.scene, &mut scratch.outcome), connection.mac)
    });
    scratch.mac = mac;
    if scratch.outcome.news & OPENED != 0 {
        count(row(id), Counter::TcpGateOpened);
        news::tell(Kind::GateOpened, id, word, scratch);
    }
    what
}

/// Makes the frame what the speaker is told, and sends a copy. `None`: the kernel refused.
#[inline(never)]
fn tell_speaker(frame: TcFrame, id: u32, scratch: &mut Scratch) -> Option<()> {
    let pair = maps::pair(id)?;
    let tuple = &scratch.tuple;
    if tuple.outer != 0 {
        return Some(());
    }
    let tap = role::tap(pair, scratch.scene.speaker);
    if tap == 0 {
        return None;
    }
    let v4 = tuple.entry.is_v4();
    let ends = Ends { from: tuple.remote, to: tuple.entry, ports: tuple.ports, v4, partial: false };
    write(frame, L3, &ends, &scratch.outcome.tell)?;
    frame.address(role::mac(pair), Mac::new(GATEWAY_MAC))?;
    let ethertype = if v4 { ETH_IPV4 } else { ETH_IPV6 };
    frame.put(12, &ethertype.to_be())?;
    frame.set_mark();
    // SAFETY: clones the frame; nothing read from it before is used afterwards.
    let result = unsafe { bpf_clone_redirect(frame.0, tap, 0) };
    frame.clear_mark();
    (result == 0).then_some(())
}

/// Makes the frame what the client is told, and sends a copy. `None`: the kernel refused.
#[inline(never)]
fn tell(frame: TcFrame, scratch: &mut Scratch) -> Option<()> {
    let host = maps::host()?;
    let tuple = &scratch.tuple;
    // Behind a VLAN, the next segment says it.
    if tuple.outer != 0 {
        return Some(());
    }
    let v4 = tuple.entry.is_v4();
    let ports = tuple.ports.rotate_left(16);
    let ends = Ends { from: tuple.entry, to: tuple.remote, ports, v4, partial: false };
    write(frame, L3, &ends, &scratch.outcome.tell)?;
    frame.address(Mac::new(scratch.mac), Mac::new(host.uplink_mac))?;
    let ethertype = if v4 { ETH_IPV4 } else { ETH_IPV6 };
    frame.put(12, &ethertype.to_be())?;
    // SAFETY: clones the frame; nothing read from it before is used afterwards.
    (unsafe { bpf_clone_redirect(frame.0, host.uplink_ifindex, 0) } == 0).then_some(())
}
