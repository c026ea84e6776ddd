//! When the kernel's latch has tripped, and there is no controller to do it: the connections of the pair are found and put
//! into the queue, and each is told that another member speaks (`Connection::nudge`).

use core::ffi::c_void;

use hotpair_abi::maps::{Pair, REST, Tuple};
use hotpair_abi::tcp::connection::{CLOSED, Connection, HAS_BASE};
use hotpair_abi::{RoleWord, voice};

use crate::tcp::{locked, scene_now};
use crate::{maps, role};

/// A walk through the connections.
struct Walk {
    /// The pair whose connections are looked for.
    pair: u32,
    /// Whether the queue has no room any more.
    full: u32,
    /// The epoch in which the latch has tripped.
    epoch: u64,
}

/// Whether connections of this pair are yet to be put into the queue.
#[inline(always)]
pub fn is_untold(pair: *mut Pair) -> bool {
    role::untold(pair) != 0
}

/// Whether somebody waits to be told.
#[inline(always)]
pub fn is_waiting() -> bool {
    maps::scratch().is_some_and(|scratch| maps::first_turned(&mut scratch.turned))
}

/// Whether the latch has made another member speak than the controller did.
#[inline(always)]
fn is_turned(word: RoleWord, tripped: u64) -> bool {
    voice::active(word, tripped) as u8 != word.active() as u8
}

/// Puts the pair's connections into the queue: as many as it has room for, and the others when those that stand
/// in it have been served.
///
/// A global function to the verifier, for the reason that `hotpair_sum_payload` is one.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn hotpair_find_turned(id: u32) -> u32 {
    let Some(pair) = maps::pair(id) else {
        return 0;
    };
    let untold = role::untold(pair);
    if untold == 0 || (untold & REST != 0 && is_waiting()) {
        return 0;
    }
    let (word, tripped) = (role::word(pair), role::tripped(pair));
    let epoch = word.epoch().0;
    // Another CPU is about to trip the latch, and its second word was seen first: its connections wait for whoever sees both.
    if untold == epoch && tripped != epoch {
        return 0;
    }
    let mut walk = Walk { pair: id, full: 0, epoch };
    if untold & !REST == epoch && is_turned(word, tripped) && role::carries_tcp(pair) {
        // SAFETY: the callback has the type that the helper wants, and its context outlives the call.
        unsafe { maps::each_connection(look as *mut c_void, (&raw mut walk).cast()) };
    }
    // Meanwhile another CPU may have said what is left, or the latch of a later epoch tripped. Two CPUs that go through the
    // connections at once may put one into the queue twice, which is told twice.
    if role::untold(pair) == untold {
        // SAFETY: points into the array map; the programs are this field's only writers.
        unsafe {
            (&raw mut (*pair).untold_epoch).write_volatile(if walk.full != 0 { epoch | REST } else { 0 });
        }
    }
    1
}

/// Looks at one connection.
extern "C" fn look(_: *mut c_void, tuple: *const Tuple, connection: *mut Connection, walk: *mut Walk) -> i64 {
    const ON: i64 = 0;
    const ENOUGH: i64 = 1;
    // SAFETY: the caller's own variable.
    let walk = unsafe { &mut *walk };
    // SAFETY: a row of the map. Each field is an aligned word. `pair` changes only when the row begins anew; a connection that
    // begins or ends in this very moment needs to be told nothing; and of `turn` this function is the only writer.
    let (pair, flags, turn) = unsafe {
        (
            (&raw const (*connection).pair).read_volatile(),
            (&raw const (*connection).flags).read_volatile(),
            (&raw const (*connection).out.turn).read_volatile(),
        )
    };
    if pair != walk.pair || flags & (HAS_BASE | CLOSED) != HAS_BASE || turn == walk.epoch as u32 {
        return ON;
    }
    let Some(scratch) = maps::scratch() else {
        return ENOUGH;
    };
    // SAFETY: the row's key.
    scratch.turned.tuple = unsafe { *tuple };
    scratch.turned.epoch = walk.epoch;
    if !maps::push_turned(&scratch.turned) {
        walk.full = 1;
        return ENOUGH;
    }
    // SAFETY: as above.
    unsafe { (&raw mut (*connection).out.turn).write_volatile(walk.epoch as u32) };
    ON
}

/// What is to be said to the connection whose entry of the queue is in the scratch is in the scratch afterwards. Returns whether
/// there is something.
///
/// A global function as well.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn hotpair_is_to_be_told() -> u32 {
    is_to_be_told().unwrap_or(false) as u32
}

#[inline(always)]
fn is_to_be_told() -> Option<bool> {
    let scratch = maps::scratch()?;
    let connection = maps::connection(&scratch.tuple)?;
    // SAFETY: an aligned word of the row, which changes only when the row begins anew.
    let id = unsafe { (&raw const (*connection).pair).read_volatile() };
    let may_speak = scene_now(scratch, id)?;
    let word = RoleWord(scratch.word);
    // In a later epoch there is a controller, which tells them itself.
    if !may_speak || word.epoch().0 != scratch.turned.epoch || scratch.scene.speaker == word.active() as u32 {
        return None;
    }
    let (tells, mac) = locked(connection, |connection| {
        (connection.turn_and_nudge(&scratch.scene, &mut scratch.nudge), connection.mac)
    });
    scratch.mac = mac;
    Some(tells)
}
