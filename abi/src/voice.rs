//! One voice: who may speak for a pair right now, and when the kernel decides by itself that it is the other one.
//!
//! Pure functions of the role word, the clock and the members' rows; the only place where that is decided.

use crate::count::Counter;
use crate::heartbeat::{Heartbeat, State};
use crate::ids::Slot;
use crate::maps::Member;
use crate::role::RoleWord;

/// The slot whose answers leave: the role word's, or the other one if the kernel's latch has tripped in this epoch.
#[inline(always)]
#[must_use]
pub const fn active(word: RoleWord, tripped_epoch: u64) -> Slot {
    if tripped_epoch != 0 && tripped_epoch == word.epoch().0 && !word.paused() {
        word.active().other()
    } else {
        word.active()
    }
}

/// Whether `slot` may send a packet of an entry address. `now_ns` and `recorded` are only asked when they matter: the
/// clock when the lease can run out, the conversation during a handover.
///
/// # Errors
/// The counter that says why not.
#[inline(always)]
pub fn may_speak(
    word: RoleWord,
    tripped_epoch: u64,
    slot: Slot,
    lease_until_ns: u64,
    now_ns: impl FnOnce() -> u64,
    recorded: impl FnOnce() -> bool,
) -> Result<(), Counter> {
    if word.muted(slot) {
        return Err(Counter::MutedDropped);
    }
    let active = active(word, tripped_epoch);
    if word.held() && word.handover() {
        let turn = if recorded() { active.other() } else { active };
        if slot as u8 != turn as u8 {
            return Err(Counter::HandoverSuppressed);
        }
    } else if slot as u8 != active as u8 {
        return Err(Counter::StandbySuppressed);
    }
    if !word.held() {
        return Err(Counter::NotHeldDropped);
    }
    if lease_until_ns != u64::MAX && now_ns() > lease_until_ns {
        return Err(Counter::LeaseExpired);
    }
    Ok(())
}

/// Whether a heartbeat says something new: of another boot, or of the same one and newer.
///
/// # Errors
/// The counter of what is a replay: not newer, or of the boot before.
#[inline(always)]
pub const fn is_news(member: &Member, beat: &Heartbeat) -> Result<(), Counter> {
    if member.beats == 0 {
        return Ok(());
    }
    if member.boot_id == beat.boot_id {
        return if beat.sequence > member.sequence { Ok(()) } else { Err(Counter::HeartbeatStale) };
    }
    if member.boot_id_before != 0 && member.boot_id_before == beat.boot_id {
        return Err(Counter::HeartbeatOldBoot);
    }
    Ok(())
}

/// The least time between two [`crate::event::Kind::StateChanged`] of a member: what a guest says may not become a flood.
pub const TELL_EVERY_NS: u64 = 1_000_000;

/// Whether the controller is to be told at once of a member's state.
#[inline(always)]
#[must_use]
pub const fn is_to_be_told(told_state: u32, told_ns: u64, state: u32, now_ns: u64) -> bool {
    told_state != state && (told_ns == 0 || now_ns.saturating_sub(told_ns) >= TELL_EVERY_NS)
}

/// Since when a member that shows a sign of life `now_ns` has been doing so without a gap.
#[inline(always)]
#[must_use]
pub const fn streak(last_beat_ns: u64, streak_since_ns: u64, now_ns: u64, timeout_ns: u64) -> u64 {
    if last_beat_ns == 0 || now_ns.saturating_sub(last_beat_ns) > timeout_ns {
        now_ns
    } else {
        streak_since_ns
    }
}

/// When the kernel of a member has started that says at `now_ns`, and at `sent_ns` of its own clock, for the first time that it
/// is another one than the one that was last heard at `last_beat_ns`. It knows no connection of before.
#[inline(always)]
#[must_use]
pub const fn rebooted(last_beat_ns: u64, sent_ns: u64, now_ns: u64) -> u64 {
    let started = now_ns.saturating_sub(sent_ns);
    if started > last_beat_ns { started } else { last_beat_ns }
}

/// The latch: whether a sign of life of `slot`, `now_ns`, makes the kernel fail over to it by itself.
///
/// It does when `slot` is the standby of a held pair, serves, and has beaten for twice the timeout in which nothing was
/// heard of the active one. The controller acts after one timeout, so this is for when it does not act at all.
#[inline(always)]
#[must_use]
#[allow(
    clippy::too_many_arguments,
    reason = "each is one fact of the decision; a struct would only rename them"
)]
pub fn trips(
    word: RoleWord,
    tripped_epoch: u64,
    slot: Slot,
    state: u32,
    now_ns: u64,
    timeout_ns: u64,
    active_last_beat_ns: u64,
    streak_since_ns: u64,
) -> bool {
    if !word.held() || word.paused() || word.handover() || slot as u8 == word.active() as u8 {
        return false;
    }
    if word.muted(Slot::Zero)
        || word.muted(Slot::One)
        || word.epoch().0 == 0
        || tripped_epoch == word.epoch().0
    {
        return false;
    }
    if state != State::Serving as u32 || timeout_ns == 0 {
        return false;
    }
    let since = if active_last_beat_ns > streak_since_ns { active_last_beat_ns } else { streak_since_ns };
    now_ns.saturating_sub(since) >= timeout_ns.saturating_mul(2)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::Epoch;
    use proptest::prelude::*;

    fn word() -> RoleWord {
        RoleWord::new(Epoch(7), Slot::Zero).with_held(true).with_mirror(true)
    }

    fn speak(word: RoleWord, slot: Slot) -> Result<(), Counter> {
        may_speak(
            word,
            0,
            slot,
            u64::MAX,
            || unreachable!("no lease, no clock"),
            || unreachable!("no handover"),
        )
    }

    proptest! {
        /// Whatever the word, the lease and the conversation: never both members.
        #[test]
        fn at_most_one_member_speaks(bits: u64, tripped: u64, same: bool, lease: u64, now: u64, recorded: bool) {
            let word = RoleWord(bits);
            let tripped = if same { word.epoch().0 } else { tripped };
            let may = |slot| may_speak(word, tripped, slot, lease, || now, || recorded).is_ok();
            prop_assert!(!(may(Slot::Zero) && may(Slot::One)));
            if !word.held() {
                prop_assert!(!may(Slot::Zero) && !may(Slot::One));
            }
        }
    }

    #[test]
    fn silence_names_its_reason() {
        assert_eq!(speak(word(), Slot::Zero), Ok(()));
        assert_eq!(speak(word(), Slot::One), Err(Counter::StandbySuppressed));
        assert_eq!(speak(word().with_held(false), Slot::Zero), Err(Counter::NotHeldDropped));
        assert_eq!(speak(word().with_muted(Slot::Zero, true), Slot::Zero), Err(Counter::MutedDropped));
        let leased = |now| may_speak(word(), 0, Slot::Zero, 100, || now, || false);
        assert_eq!(leased(100), Ok(()));
        assert_eq!(leased(101), Err(Counter::LeaseExpired));
    }

    #[test]
    fn a_handover_gives_each_conversation_to_one_slot() {
        let handover = word().with_handover(true);
        let may = |slot, recorded| may_speak(handover, 0, slot, u64::MAX, || 0, || recorded);
        assert_eq!(may(Slot::Zero, false), Ok(()));
        assert_eq!(may(Slot::One, false), Err(Counter::HandoverSuppressed));
        assert_eq!(may(Slot::Zero, true), Err(Counter::HandoverSuppressed));
        assert_eq!(may(Slot::One, true), Ok(()));
    }

    #[test]
    fn the_latch_counts_for_its_epoch_and_not_while_paused() {
        assert_eq!(active(word(), 7), Slot::One);
        assert_eq!(active(word(), 6), Slot::Zero);
        assert_eq!(active(word().with_epoch(Epoch(8)), 7), Slot::Zero);
        assert_eq!(active(word().with_paused(true), 7), Slot::Zero);
        assert_eq!(active(RoleWord::new(Epoch(0), Slot::Zero), 0), Slot::Zero);
    }

    #[test]
    fn the_latch_trips_only_for_a_serving_standby_that_outlived_its_active() {
        let serving = State::Serving as u32;
        let trip = |word, tripped, slot, state, last, streak| {
            trips(word, tripped, slot, state, 1000, 10, last, streak)
        };
        assert!(trip(word(), 0, Slot::One, serving, 980, 500));
        assert!(!trip(word(), 0, Slot::One, serving, 981, 500), "heard of less than two timeouts ago");
        assert!(
            !trip(word(), 0, Slot::One, serving, 500, 981),
            "the standby has not been back for long enough"
        );
        assert!(!trip(word(), 0, Slot::Zero, serving, 500, 500), "the active itself");
        assert!(!trip(word(), 7, Slot::One, serving, 500, 500), "once per epoch");
        assert!(!trip(word(), 0, Slot::One, State::Failing as u32, 500, 500));
        assert!(!trip(word().with_held(false), 0, Slot::One, serving, 500, 500));
        assert!(!trip(word().with_paused(true), 0, Slot::One, serving, 500, 500));
        assert!(!trip(word().with_handover(true), 0, Slot::One, serving, 500, 500));
        assert!(!trip(word().with_muted(Slot::Zero, true), 0, Slot::One, serving, 500, 500));
        assert!(!trip(word().with_muted(Slot::One, true), 0, Slot::One, serving, 500, 500));
    }

    #[test]
    fn what_was_said_before_is_no_news() {
        let beat = |boot_id, sequence| Heartbeat {
            state: State::Serving,
            boot_id,
            sequence,
            sent_ns: 0,
            requests: 0,
            in_flight: 0,
            interval_us: 0,
        };
        let member = Member { beats: 9, boot_id: 7, sequence: 100, boot_id_before: 6, ..Member::default() };
        assert_eq!(is_news(&member, &beat(7, 101)), Ok(()));
        assert_eq!(is_news(&member, &beat(7, 100)), Err(Counter::HeartbeatStale));
        assert_eq!(is_news(&member, &beat(7, 1)), Err(Counter::HeartbeatStale));
        assert_eq!(is_news(&member, &beat(8, 1)), Ok(()), "another boot");
        assert_eq!(is_news(&member, &beat(6, 1_000)), Err(Counter::HeartbeatOldBoot));
        assert_eq!(is_news(&Member::default(), &beat(0, 0)), Ok(()), "the first");
    }

    #[test]
    fn a_state_is_told_once_and_no_change_is_lost() {
        let (serving, failing) = (State::Serving as u32, State::Failing as u32);
        assert!(is_to_be_told(0, 0, serving, 5));
        assert!(!is_to_be_told(serving, 5, serving, 5 + TELL_EVERY_NS));
        assert!(!is_to_be_told(serving, 5, failing, 4 + TELL_EVERY_NS), "too soon");
        assert!(is_to_be_told(serving, 5, failing, 5 + TELL_EVERY_NS), "but then");
    }

    #[test]
    fn a_kernel_is_as_old_as_it_says_but_no_older_than_its_predecessor_was_alive() {
        assert_eq!(rebooted(100, 30, 150), 120);
        assert_eq!(rebooted(100, 70, 150), 100);
        assert_eq!(rebooted(100, u64::MAX, 150), 100);
    }

    #[test]
    fn a_streak_breaks_at_a_gap_longer_than_the_timeout() {
        assert_eq!(streak(0, 0, 100, 10), 100);
        assert_eq!(streak(90, 50, 100, 10), 50);
        assert_eq!(streak(89, 50, 100, 10), 100);
    }
}
