//! A planned switchover in the programs: what each conversation is asked and answers, and who answers it now. The rules are
//! `hotpair_abi::handover`'s.

use hotpair_abi::RoleWord;
use hotpair_abi::flow::{self, Direction};
use hotpair_abi::handover::{DRAIN, NOTHING, Turn, phase, watched};
use hotpair_abi::maps::Pair;
use hotpair_abi::packet::{Bytes, Ip, protocol};

use crate::{maps, role};

/// Whether the conversation of a packet for an entry address has gone over.
#[inline(always)]
pub fn taken_over<B: Bytes>(frame: B, ip: &Ip, pair: *mut Pair, word: RoleWord) -> bool {
    is_on(pair, word) && asks(frame, ip, pair, word)
}

/// Whether anything is to be noted of a pair's packets.
#[inline(always)]
pub fn is_on(pair: *mut Pair, word: RoleWord) -> bool {
    phase(word, role::watch(pair)) != NOTHING
}

/// A packet for an entry address, while [`is_on`]. Whether its conversation has gone over.
#[inline(never)]
fn asks<B: Bytes>(frame: B, ip: &Ip, pair: *mut Pair, word: RoleWord) -> bool {
    let seen = flow::seen(&frame, ip, Direction::ToGuest);
    let mut watch = role::watch(pair);
    let drains = phase(word, watch) == DRAIN;
    if drains {
        watch = watched(word, watch);
    }
    let epoch = word.epoch().0;
    let known = maps::turn(&seen.flow);
    if let Some(turn) = known {
        // SAFETY: the value lives as long as the program runs. Each field has one writer, but for `taken`, which two CPUs
        // may set to the same value.
        let turn = unsafe { &mut *turn };
        if drains && turn.taken == epoch {
            return true;
        }
        if watch != 0 && turn.watch == watch {
            if !drains {
                turn.asked = turn.asked.wrapping_add(1);
                return false;
            }
            return turn.ask(epoch);
        }
    }
    if !seen.begins {
        return false;
    }
    if drains {
        maps::enter(&seen.flow, &Turn::taken(watch, epoch));
    } else if ip.protocol != protocol::TCP {
        maps::enter(&seen.flow, &Turn::first(watch));
    }
    drains
}

/// A packet of a member, while [`is_on`]. Whether its conversation has gone over.
#[inline(always)]
pub fn answers<B: Bytes>(frame: &B, ip: &Ip, pair: *mut Pair, word: RoleWord, slot: u32) -> bool {
    let flow = flow::seen(frame, ip, Direction::FromGuest).flow;
    let Some(turn) = maps::turn(&flow) else {
        return false;
    };
    // SAFETY: as in `asks`.
    let turn = unsafe { &mut *turn };
    // First: who sees the answer counted may let the conversation go over, and this one must not see that.
    let taken = turn.taken == word.epoch().0;
    if turn.watch == role::watch(pair) {
        turn.answer(slot);
    }
    taken
}
