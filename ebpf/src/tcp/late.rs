//! The queues of connections that are looked at without a segment of theirs: those that wait for their standby (the gate's
//! watchdog), and those that are to be told of a takeover by the kernel's latch. Frames that come by anyhow, of whichever
//! pair, serve both once they have done what they came for: every heartbeat, and what ends here of a member that is probed. Such
//! a frame is made the segment that somebody is told by.

use core::ffi::c_void;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::{bpf_loop, bpf_skb_change_tail};
use hotpair_abi::RoleWord;
use hotpair_abi::count::Counter;
use hotpair_abi::event::Kind;
use hotpair_abi::maps::Pair;
use hotpair_abi::tcp::connection::{Connection, QUEUED};
use hotpair_abi::tcp::from_member::OPENED;
use hotpair_abi::tcp::late::{AGAIN, DONE, TELL, TELL_SPEAKER};

use crate::count::{count, row};
use crate::from_guest::Member;
use crate::packet::TcFrame;
use crate::tcp::pure::{hotpair_say_to_client, hotpair_say_to_speaker, is_partial};
use crate::tcp::{Scratch, locked, news, scene_now, turn};
use crate::{maps, role};

/// The longest time in which nobody looks, nanoseconds: a pair that allows its standby more must not make others wait.
const LONGEST: u64 = 10_000_000;
/// Connections of each queue that one frame serves, at most.
const AT_ONCE: u32 = 64;
/// The longest frame that is made here: two tags, IPv6, timestamps.
const LONGEST_FRAME: u32 = 22 + 40 + 32 + 1;

/// A callback's answer: go on.
const ON: i64 = 0;
/// A callback's answer: no more.
const ENOUGH: i64 = 1;

/// A walk through a queue, with the frame that is at hand for it.
struct Walk {
    frame: *mut __sk_buff,
}

/// Puts the connection in the scratch into the queue.
#[inline(always)]
pub fn push(scratch: &mut Scratch) {
    let limit = scratch.scene.lag_limit_ns;
    scratch.late.tuple = scratch.tuple;
    scratch.late.due_ns = scratch.scene.now_ns + if limit < LONGEST { limit } else { LONGEST };
    if !maps::push_late(&scratch.late) {
        not_queued(scratch);
    }
}

/// The queue is full: the connection in the scratch is looked at when its next segment passes, and may ask again.
#[inline(never)]
fn not_queued(scratch: &Scratch) {
    if let Some(connection) = maps::connection(&scratch.tuple) {
        locked(connection, |connection| connection.flags &= !QUEUED);
    }
}

/// Whether there is something to do for a frame of this pair that has served.
#[inline(always)]
pub fn is_work(pair: *mut Pair) -> bool {
    turn::is_untold(pair) || turn::is_waiting() || is_due()
}

/// Whether somebody is due.
#[inline(always)]
pub fn is_due() -> bool {
    let Some(scratch) = maps::scratch() else {
        return false;
    };
    maps::first_late(&mut scratch.late) && scratch.late.due_ns <= role::now_ns()
}

/// Serves who is due, with a frame that ends here of a member whose signs of life are its frames: the answers to the host's
/// probes are what comes regularly there.
#[inline(always)]
pub fn after_probe(frame: TcFrame, member: &Member) {
    if role::is_probed(member.pair) && is_work(member.pair) {
        hotpair_serve_late(frame.0, member.port.pair);
    }
}

/// Serves who is due, with a frame of this pair, which is nobody's afterwards.
///
/// A global function to the verifier, for the reason that `hotpair_sum_payload` is one.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn hotpair_serve_late(skb: *mut __sk_buff, pair: u32) -> u32 {
    turn::hotpair_find_turned(pair);
    let frame = TcFrame(skb);
    let mut walk = Walk { frame: skb };
    // A tag beside the bytes would be everybody's.
    if frame.stripped_tag().is_some() {
        return 0;
    }
    // Long enough to be looked into, as an ARP packet is not.
    // SAFETY: the helper checks the length; nothing was read from the frame.
    if unsafe { bpf_skb_change_tail(skb, LONGEST_FRAME, 0) } != 0 {
        return 0;
    }
    // A frame whose sum is left to be done as another protocol's cannot become a segment. Then nobody is told, and the
    // next segment finds the gate open.
    if is_partial(frame, 14 + 20) != Some(false) {
        return 0;
    }
    // SAFETY: the callbacks have the type that the helper wants, and their context outlives the calls.
    unsafe {
        bpf_loop(AT_ONCE, next_turned as *mut c_void, (&raw mut walk).cast(), 0);
        bpf_loop(AT_ONCE, next_late as *mut c_void, (&raw mut walk).cast(), 0);
    }
    1
}

/// The connection whose key is in the scratch, and its pair.
#[inline(always)]
fn known(scratch: &Scratch) -> Option<(*mut Connection, u32)> {
    let connection = maps::connection(&scratch.tuple)?;
    // SAFETY: an aligned word of the row, which changes only when the row begins anew.
    Some((connection, unsafe { (&raw const (*connection).pair).read_volatile() }))
}

/// Tells one of a takeover.
extern "C" fn next_turned(_: u64, walk: *mut c_void) -> i64 {
    // SAFETY: the caller's own variable.
    let frame = TcFrame(unsafe { &*walk.cast::<Walk>() }.frame);
    let Some(scratch) = maps::scratch() else {
        return ENOUGH;
    };
    if !maps::take_turned(&mut scratch.turned) {
        return ENOUGH;
    }
    scratch.tuple = scratch.turned.tuple;
    if let Some((_, id)) = known(scratch)
        && turn::hotpair_is_to_be_told() != 0
    {
        tell_of_turn(frame, id, scratch);
    }
    ON
}

/// Looks at one whose standby may be late.
extern "C" fn next_late(_: u64, walk: *mut c_void) -> i64 {
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
    let Some((connection, id)) = known(scratch) else {
        return ON;
    };
    match look(id, connection, scratch) {
        AGAIN => push(scratch),
        TELL => {
            scratch.said = scratch.outcome.tell;
            told(id, Counter::TcpConverted, hotpair_say_to_client(frame.0));
        }
        TELL_SPEAKER => {
            (scratch.said, scratch.payload_said) = (scratch.outcome.tell, 0);
            told(id, Counter::TcpTold, hotpair_say_to_speaker(frame.0, id));
            push(scratch);
        }
        _ => {}
    }
    ON
}

/// Says to all sides that another member speaks.
#[inline(always)]
fn tell_of_turn(frame: TcFrame, id: u32, scratch: &mut Scratch) {
    let mut done = 1;
    if scratch.nudge.member.any() {
        (scratch.said, scratch.payload_said) = (scratch.nudge.member, 0);
        done &= hotpair_say_to_speaker(frame.0, id);
    }
    if scratch.nudge.old_byte.any() {
        (scratch.said, scratch.payload_said) = (scratch.nudge.old_byte, 1);
        done &= hotpair_say_to_speaker(frame.0, id);
    }
    if scratch.nudge.client.any() {
        scratch.said = scratch.nudge.client;
        done &= hotpair_say_to_client(frame.0);
        told(id, Counter::TcpReset, done);
    } else {
        told(id, Counter::TcpTold, done);
    }
}

#[inline(always)]
fn told(id: u32, what: Counter, done: u32) {
    count(row(id), if done != 0 { what } else { Counter::TcpRewriteFailed });
}

#[inline(never)]
fn look(id: u32, connection: *mut Connection, scratch: &mut Scratch) -> u32 {
    let Some(may_speak) = scene_now(scratch, id) else {
        return DONE;
    };
    let word = RoleWord(scratch.word);
    if !may_speak || word.handover() {
        return AGAIN;
    }
    let what = look_again(connection, scratch);
    if scratch.outcome.news & OPENED != 0 {
        count(row(id), Counter::TcpGateOpened);
        news::tell(Kind::GateOpened, id, word, scratch);
    }
    what
}

/// A function of its own: its stack is given back.
#[inline(never)]
fn look_again(connection: *mut Connection, scratch: &mut Scratch) -> u32 {
    let (what, mac) = locked(connection, |connection| {
        (connection.look_again(&scratch.scene, &mut scratch.outcome), connection.mac)
    });
    scratch.mac = mac;
    what
}
