//! Reading what a member sends, for `hotpair_abi::tcp::stream`: under the lock what is new is found out, then it is read
//! and summed step by step without the lock, and the decision takes the result over.

use core::ffi::c_void;
use core::hint::black_box;

use aya_ebpf::bindings::__sk_buff;
use aya_ebpf::helpers::generated::{bpf_loop, bpf_skb_load_bytes};
use hotpair_abi::tcp::connection::Connection;
use hotpair_abi::tcp::stream::{NOTHING, STEP, SUM, WELL};

use crate::maps;
use crate::packet::TcFrame;
use crate::tcp::{Scratch, locked};

/// Steps for the largest frame that a guest can send (64 KiB), with its stops.
const STEPS: u32 = 24;

/// [`step`]: go on.
const ON: i64 = 0;
/// [`step`]: enough.
const ENOUGH: i64 = 1;

/// A walk through a frame.
struct Walk {
    frame: *mut __sk_buff,
}

/// Compares what is new of the segment in the scratch, whose payload begins at `at`, with what the other member has sent.
/// The result stands in `scratch.compared`.
///
/// The scratch is handed from one step to the next as a pointer, not lent over all three: the one between them finds it by
/// itself.
#[inline(always)]
pub fn compare(frame: TcFrame, at: u32, connection: *mut Connection, slot: u32, scratch: *mut Scratch) {
    // SAFETY: this CPU's scratch; each of the functions has it to itself while it runs.
    unsafe {
        if (*scratch).scene.handover != 0 {
            settle(connection, &mut *scratch);
        }
        if begin(at, connection, slot, &mut *scratch) == SUM {
            hotpair_sum_payload(frame.0);
        }
        end(connection, slot, &mut *scratch);
    }
}

/// Who speaks on this connection, while others go over.
#[inline(never)]
fn settle(connection: *mut Connection, scratch: &mut Scratch) {
    locked(connection, |connection| connection.settle(&mut scratch.scene));
}

#[inline(never)]
fn begin(at: u32, connection: *mut Connection, slot: u32, scratch: &mut Scratch) -> u32 {
    if scratch.scene.compare == 0 || !scratch.segment.is_of_stream() {
        scratch.task.what = NOTHING;
        return NOTHING;
    }
    locked(connection, |connection| {
        connection.to_sum(slot, &scratch.segment, &scratch.scene, &mut scratch.task);
    });
    scratch.payload = at + scratch.task.skip;
    scratch.task.what
}

#[inline(never)]
fn end(connection: *mut Connection, slot: u32, scratch: &mut Scratch) {
    if scratch.task.what == NOTHING {
        scratch.compared = WELL;
        return;
    }
    locked(connection, |connection| {
        scratch.compared = connection.compare(slot, &scratch.scene, &scratch.task);
    });
}

/// Sums what `scratch.task` wants of a frame, from `scratch.payload` on. A frame that cannot be read to its end leaves the
/// task unfinished, which whoever looks at it sees.
///
/// By its C name it is a global function to the verifier (BTF linkage), which walks through it once by itself instead of
/// for each way that leads here: that would be 150,000 instructions more.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn hotpair_sum_payload(skb: *mut __sk_buff) -> u32 {
    let mut walk = Walk { frame: skb };
    // SAFETY: the callback has the type that the helper wants, and its context outlives the call.
    unsafe { bpf_loop(STEPS, step as *mut c_void, (&raw mut walk).cast(), 0) as u32 }
}

/// One step of the walk.
extern "C" fn step(_: u64, walk: *mut c_void) -> i64 {
    let Some(scratch) = maps::scratch() else {
        return ENOUGH;
    };
    // SAFETY: the caller's own variable.
    let walk = unsafe { &*walk.cast::<Walk>() };
    let bytes = black_box(scratch.task.step());
    if bytes == 0 || bytes > STEP {
        return ENOUGH;
    }
    let begun = black_box(scratch.task.sum.begun()) & 7;
    let at = scratch.payload.wrapping_add(scratch.task.sum.pos.wrapping_sub(scratch.task.from));
    // SAFETY: the chunk has room for a step behind seven bytes; the helper writes all of it or fails.
    let result = unsafe {
        let to = scratch.chunk.as_mut_ptr().cast::<u8>().add(begun as usize);
        bpf_skb_load_bytes(walk.frame.cast(), at, to.cast(), bytes)
    };
    if result != 0 {
        return ENOUGH;
    }
    scratch.task.sum.absorb(&mut scratch.chunk, bytes);
    ON
}
