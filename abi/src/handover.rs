//! Handing a pair's conversations over one by one, so that a planned switchover loses and doubles no answer.
//!
//! A conversation may change hands when neither member owes it an answer: then whatever is asked next is answered by the
//! new primary alone. What a member owes is what was asked less what it has answered, against the least that this
//! difference has been. For a service that answers each request once that is exact from the first moment on in which the
//! member owed nothing while it was counted, whatever was under way when the counting began; for others it does no harm.
//!
//! Packets are counted, not understood, and two things cannot be told from others:
//! - A member that has been behind by the same number of answers ever since before the counting began looks level. When the
//!   conversation goes over, the new primary says so many once more, or what the old one was behind by is never heard.
//! - A request that a member never answers (its socket overflowed) is owed for ever. Taking it for forgotten after a while
//!   would be to take a late answer for a lost one; so the conversation waits for the end of the handover, and is cut off there.
//!
//! The counting begins a little before the handover, while the controller waits for its moment ([`watch`]). TCP has an
//! account of its own ([`crate::tcp`]); of it only the connections that begin meanwhile stand here.

use crate::role::RoleWord;

/// Nothing is handed over.
pub const NOTHING: u32 = 0;
/// What each conversation owes is counted; the active member answers.
pub const WATCH: u32 = 1;
/// Conversations go over, each in its moment.
pub const DRAIN: u32 = 2;

/// [`crate::maps::Pair::watch`]: the epoch under which conversations are watched, and a number for the occasion, so that
/// what an earlier one has counted is ignored.
#[inline(always)]
#[must_use]
pub const fn watch(epoch: u64, occasion: u16) -> u64 {
    (epoch << 16) | occasion as u64
}

/// What a pair's conversations go through now. Watching ends with its epoch.
#[inline(always)]
#[must_use]
pub const fn phase(word: RoleWord, watch: u64) -> u32 {
    if word.handover() {
        DRAIN
    } else if watch >> 16 != 0 && watch >> 16 == word.epoch().0 {
        WATCH
    } else {
        NOTHING
    }
}

/// The watch that a handover goes by; 0 if nobody watched under the epoch before it.
#[inline(always)]
#[must_use]
pub const fn watched(word: RoleWord, watch: u64) -> u64 {
    if (watch >> 16) + 1 == word.epoch().0 { watch } else { 0 }
}

/// Value of `HANDOVER`: what is known of a conversation. Each field has one writer: what arrives on the uplink, or one
/// member's tap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Turn {
    /// The watch that counts; what another has counted is void.
    pub watch: u64,
    /// The epoch of the handover in which the conversation has gone over.
    pub taken: u64,
    /// Packets that have arrived for it.
    pub asked: u32,
    /// Packets of it that each member has sent, be they heard or not.
    pub answered: [u32; 2],
    /// The least that each member has owed.
    pub least: [i32; 2],
    /// Zero.
    pub pad: u32,
}

const _: () = assert!(size_of::<Turn>() == 40);

impl Turn {
    /// A conversation that is seen for the first time, by its first packet.
    #[inline(always)]
    #[must_use]
    pub const fn first(watch: u64) -> Turn {
        Turn { watch, taken: 0, asked: 1, answered: [0; 2], least: [0; 2], pad: 0 }
    }

    /// A conversation that goes over with its first packet.
    #[inline(always)]
    #[must_use]
    pub const fn taken(watch: u64, epoch: u64) -> Turn {
        Turn { watch, taken: epoch, asked: 1, answered: [0; 2], least: [0; 2], pad: 0 }
    }

    #[inline(always)]
    const fn owed(&self, slot: usize) -> i32 {
        self.asked.wrapping_sub(self.answered[slot]).cast_signed()
    }

    /// Books a packet of a member.
    #[inline(always)]
    pub const fn answer(&mut self, slot: u32) {
        let slot = slot as usize & 1;
        self.answered[slot] = self.answered[slot].wrapping_add(1);
        let owed = self.owed(slot);
        if owed < self.least[slot] {
            self.least[slot] = owed;
        }
    }

    /// Whether neither member owes anything.
    #[inline(always)]
    #[must_use]
    pub const fn is_level(&self) -> bool {
        self.owed(0) == self.least[0] && self.owed(1) == self.least[1]
    }

    /// Books a packet that arrives while conversations go over; whether this one has, which it does for good.
    #[inline(always)]
    pub const fn ask(&mut self, epoch: u64) -> bool {
        if self.taken == epoch {
            return true;
        }
        if self.is_level() {
            self.taken = epoch;
        }
        self.asked = self.asked.wrapping_add(1);
        self.taken == epoch
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::{Epoch, Slot};
    use proptest::prelude::*;

    #[test]
    fn watching_lasts_until_the_epoch_ends_and_counts_for_the_next_handover() {
        let word = RoleWord::new(Epoch(8), Slot::Zero).with_held(true);
        let watch = watch(8, 7);
        assert_eq!(phase(word, 0), NOTHING);
        assert_eq!(phase(word, watch), WATCH);
        let drain = word.with_epoch(Epoch(9)).with_handover(true);
        assert_eq!((phase(drain, watch), watched(drain, watch)), (DRAIN, watch));
        assert_eq!(phase(word.with_epoch(Epoch(10)), watch), NOTHING);
        // A handover that nobody prepared goes by nothing that was counted before.
        let later = word.with_epoch(Epoch(11)).with_handover(true);
        assert_eq!((phase(later, watch), watched(later, watch)), (DRAIN, 0));
        assert_eq!(phase(RoleWord::new(Epoch(0), Slot::Zero), 0), NOTHING);
    }

    #[test]
    fn a_conversation_goes_over_when_nobody_owes_it_anything() {
        let mut turn = Turn::first(1);
        turn.answer(0);
        assert!(!turn.ask(5), "the standby has not answered");
        turn.answer(0);
        turn.answer(1);
        assert!(!turn.ask(5), "it is still one behind");
        turn.answer(1);
        turn.answer(1);
        turn.answer(0);
        assert!(turn.ask(5));
        assert!(turn.ask(5), "and stays there, whatever is owed");
    }

    #[test]
    fn what_was_under_way_when_the_counting_began_is_found_out() {
        let mut turn = Turn::first(1);
        // The standby's answer to what came before, then to this.
        turn.answer(0);
        turn.answer(1);
        turn.answer(1);
        turn.asked += 1;
        turn.answer(0);
        assert!(!turn.ask(5), "the standby owes the last one");
        turn.answer(1);
        turn.answer(1);
        turn.answer(0);
        assert!(turn.ask(5));
    }

    /// The bound that docs/design.md states: nothing tells this from a member that owes nothing.
    #[test]
    fn a_member_that_was_behind_all_along_looks_level_until_it_has_once_caught_up() {
        let mut turn = Turn::first(1);
        for _ in 0..10 {
            // A client that waits for the primary: the standby answers what was asked before.
            turn.answer(0);
            turn.answer(1);
            assert!(turn.is_level(), "it owes one");
            turn.asked += 1;
        }
        turn.answer(1);
        turn.answer(0);
        turn.answer(1);
        assert!(turn.is_level(), "now it does not");
        turn.asked += 1;
        turn.answer(0);
        turn.answer(1);
        turn.asked += 1;
        turn.answer(0);
        assert!(!turn.is_level(), "and from now on it is known");
    }

    /// Nor this one from a member that is late.
    #[test]
    fn a_request_that_is_never_answered_keeps_its_conversation_until_the_end() {
        let mut turn = Turn::first(1);
        turn.answer(0);
        turn.answer(1);
        // Slot 1 has lost one.
        turn.asked += 1;
        turn.answer(0);
        for _ in 0..1000 {
            assert!(!turn.ask(5));
            turn.answer(0);
            turn.answer(1);
        }
    }

    #[derive(Clone, Copy, Debug)]
    enum Step {
        Ask,
        Answer(usize),
        Drain,
    }

    proptest! {
        /// Both members answer each request once, in order, as late as they like; the handover begins at any time after
        /// both have been level once. Until it is over, and if the conversation goes over at all, each answer is heard once.
        #[test]
        fn each_answer_is_heard_exactly_once(
            steps in proptest::collection::vec(
                prop_oneof![3 => Just(Step::Ask), 3 => Just(Step::Answer(0)), 3 => Just(Step::Answer(1)), 1 => Just(Step::Drain)],
                0..120,
            ),
            old in 0usize..2,
        ) {
            let mut turn = Turn::first(1);
            let (mut asked, mut answered, mut heard) = (1u32, [0u32; 2], vec![0u32]);
            let mut draining = false;
            let answer = |turn: &mut Turn, slot: usize, asked: u32, answered: &mut [u32; 2], heard: &mut Vec<u32>| {
                if answered[slot] == asked {
                    return;
                }
                let speaks = if turn.taken == 5 { 1 - old } else { old };
                if slot == speaks {
                    heard[answered[slot] as usize] += 1;
                }
                turn.answer(slot as u32);
                answered[slot] += 1;
            };
            for slot in 0..2 {
                answer(&mut turn, slot, asked, &mut answered, &mut heard);
            }
            for step in steps {
                match step {
                    Step::Ask => {
                        if draining {
                            turn.ask(5);
                        } else {
                            turn.asked += 1;
                        }
                        asked += 1;
                        heard.push(0);
                    }
                    Step::Answer(slot) => answer(&mut turn, slot, asked, &mut answered, &mut heard),
                    Step::Drain => draining = true,
                }
            }
            for slot in 0..2 {
                while answered[slot] < asked {
                    answer(&mut turn, slot, asked, &mut answered, &mut heard);
                }
            }
            prop_assert!(heard.iter().all(|times| *times == 1), "{heard:?}");
        }
    }
}
