//! A place's way round: serve, be given up, fence, release, start, boot, serve.
//!
//! No step begins before the one before it is known to be done. What fails is tried again with a growing pause, at
//! once when the hypervisor comes back, and never in the way of the member that serves.

use std::time::Duration;

use hotpair_abi::Slot;

use super::judge::nanos;
use super::{Action, Lost, Nanos, Phase, Sign, State};
use crate::api::types::RecordKind;

/// Attempts to release storage before the replacement goes on without: redundancy matters more than disk space.
const RELEASE_ATTEMPTS: u32 = 6;

/// The pause after so many failures in a row: 0, 0.5 s, 1 s, 2 s, up to 30 s.
pub(super) fn pause_after(failures: u32) -> Duration {
    match failures {
        0 => Duration::ZERO,
        n => Duration::from_millis(500).saturating_mul(1 << (n - 1).min(8)).min(Duration::from_secs(30)),
    }
}

impl State {
    /// From now on nothing of this member goes anywhere, and it is made sure that it is gone.
    pub(super) fn give_up(&mut self, slot: Slot, why: String, now: Nanos, actions: &mut Vec<Action>) {
        self.record(actions, RecordKind::MemberLost, Some(slot), format!("slot {slot} is given up: {why}"));
        let booting = matches!(self.place(slot).phase, Phase::Booting { .. });
        self.enter(slot, Phase::Fencing { asked: false, retry_at: now }, now);
        let place = self.place_mut(slot);
        place.muted = true;
        place.lost = None;
        place.ailing_since = None;
        place.refusals = 0;
        if booting {
            place.failures += 1;
        }
        place.why = Some(why);
    }

    /// Asks for whatever is due next in both places.
    pub(super) fn advance(&mut self, now: Nanos, actions: &mut Vec<Action>) {
        for slot in Slot::BOTH {
            let may_start = (self.settings.auto_replace && !self.paused) || self.place(slot).wanted;
            let place = self.place_mut(slot);
            let generation = place.generation;
            let known = place.known;
            match &mut place.phase {
                // Whom to end must be certain: see `take_stock`.
                Phase::Fencing { asked, retry_at } if !*asked && known && now >= *retry_at => {
                    *asked = true;
                    actions.push(Action::Stop { slot, generation });
                }
                Phase::Releasing { asked, retry_at } if !*asked && now >= *retry_at => {
                    *asked = true;
                    actions.push(Action::Release { slot, generation });
                }
                Phase::Empty { retry_at } if now >= *retry_at && may_start => {
                    place.highest += 1;
                    place.generation = place.highest;
                    place.known = true;
                    // Nothing is here that could speak: the place may be heard again.
                    place.muted = false;
                    place.lost = None;
                    place.ailing_since = None;
                    place.signs = super::Signs::default();
                    let generation = place.generation;
                    self.enter(slot, Phase::Starting, now);
                    actions.push(Action::ClearSigns(slot));
                    let text = format!("slot {slot}: a new member is being made (generation {generation})");
                    self.record(actions, RecordKind::Replacing, Some(slot), text);
                    actions.push(Action::Save(self.saved()));
                    actions.push(Action::Start { slot, generation });
                }
                _ => {}
            }
        }
        self.ask_about_silence(now, actions);
    }

    /// A primary that nobody can take over from may be dead without anybody having said so.
    fn ask_about_silence(&mut self, now: Nanos, actions: &mut Vec<Action>) {
        let doubtful = |place: &super::Place| {
            !place.known
                || matches!(place.phase, Phase::Serving | Phase::Unknown)
                    && (place.lost.as_ref().is_some_and(|lost| lost.by == Sign::Carrier)
                        || !place.fresh(self.settings.timeout, now))
        };
        if self.places.iter().any(doubtful) && now >= self.ask_again_at {
            self.ask_again_at = now + 1_000_000_000;
            actions.push(Action::AskRunning);
        }
    }

    pub(super) fn started(
        &mut self,
        slot: Slot,
        generation: u64,
        result: Result<(), String>,
        now: Nanos,
        actions: &mut Vec<Action>,
    ) {
        let until = now + nanos(self.settings.start);
        let place = self.place_mut(slot);
        if place.phase != Phase::Starting || place.generation != generation {
            return;
        }
        match result {
            Ok(()) => {
                self.enter(slot, Phase::Booting { until }, now);
                // What became of it before now was told to nobody: whether it has died since is asked once.
                actions.push(Action::AskRunning);
            }
            Err(why) => {
                // Whether anything came of it is not known: make sure that nothing did.
                place.failures += 1;
                place.refusals = 0;
                place.muted = true;
                place.why = Some(why.clone());
                self.enter(slot, Phase::Fencing { asked: false, retry_at: now }, now);
                let text = format!("slot {slot}: making a new member failed: {why}");
                self.record(actions, RecordKind::ReplaceFailed, Some(slot), text);
            }
        }
    }

    pub(super) fn stopped(
        &mut self,
        slot: Slot,
        generation: u64,
        result: Result<(), String>,
        now: Nanos,
        actions: &mut Vec<Action>,
    ) {
        let place = self.place_mut(slot);
        if !matches!(place.phase, Phase::Fencing { asked: true, .. }) || place.generation != generation {
            return;
        }
        match result {
            Ok(()) => {
                place.refusals = 0;
                self.enter(slot, Phase::Releasing { asked: false, retry_at: now }, now);
                let text = format!("slot {slot}: the old member is gone");
                self.record(actions, RecordKind::Fenced, Some(slot), text);
            }
            Err(why) => {
                place.refusals += 1;
                let retry_at = now + nanos(pause_after(place.refusals));
                place.phase = Phase::Fencing { asked: false, retry_at };
                self.delayed(slot, "it cannot be ended: ", &why, actions);
            }
        }
    }

    /// The history has one line for it, however often it is tried.
    fn delayed(&mut self, slot: Slot, what: &str, why: &str, actions: &mut Vec<Action>) {
        let before = self.place_mut(slot).why.replace(format!("{what}{why}"));
        if !before.is_some_and(|before| before.starts_with(what)) {
            let text = format!("slot {slot}: {what}{why}; tried again until it can");
            self.record(actions, RecordKind::Delayed, Some(slot), text);
        }
    }

    pub(super) fn released(
        &mut self,
        slot: Slot,
        generation: u64,
        result: Result<(), String>,
        now: Nanos,
        actions: &mut Vec<Action>,
    ) {
        let cut_off = self.cut_off;
        let place = self.place_mut(slot);
        if !matches!(place.phase, Phase::Releasing { asked: true, .. }) || place.generation != generation {
            return;
        }
        let retry_at = now + nanos(pause_after(place.failures));
        match result {
            Ok(()) => {
                place.refusals = 0;
                self.enter(slot, Phase::Empty { retry_at }, now);
                let text = format!("slot {slot}: the old member's storage is released");
                self.record(actions, RecordKind::Released, Some(slot), text);
            }
            // A hypervisor that is away has refused nothing: it is asked until it is back, and the storage stays known.
            Err(why) if cut_off || place.refusals + 1 < RELEASE_ATTEMPTS => {
                place.refusals += u32::from(!cut_off);
                let retry_at = now + nanos(pause_after(place.refusals.max(1)));
                place.phase = Phase::Releasing { asked: false, retry_at };
                self.delayed(slot, "its storage cannot be released: ", &why, actions);
            }
            Err(why) => {
                place.refusals = 0;
                self.enter(slot, Phase::Empty { retry_at }, now);
                let text = format!(
                    "slot {slot}: the storage of generation {generation} could not be released and is left behind: {why}"
                );
                self.record(actions, RecordKind::ReleaseFailed, Some(slot), text);
            }
        }
    }

    /// What the hypervisor says runs, against what is believed to.
    pub(super) fn take_stock(
        &mut self,
        list: &[(Slot, u64)],
        asked_at: Nanos,
        now: Nanos,
        actions: &mut Vec<Action>,
    ) {
        for slot in Slot::BOTH {
            let until = now + nanos(self.settings.start);
            let held = self.held;
            let running = list.iter().filter(|(s, _)| *s == slot).map(|(_, g)| *g).max();
            let place = self.place_mut(slot);
            if !place.known {
                // The saved generation may be lost or old; what runs names itself.
                place.known = true;
                place.generation = running.unwrap_or(place.generation);
                place.highest = place.highest.max(place.generation);
            }
            match (&place.phase, running) {
                (Phase::Unknown, Some(_)) => {
                    if place.muted {
                        let why = "it was being ended when the controller was restarted".to_owned();
                        self.give_up(slot, why, now, actions);
                        continue;
                    }
                    // One that has beaten before is held to its heartbeat, not to a start's patience.
                    let known = held && place.signs.last > 0;
                    self.enter(slot, if known { Phase::Serving } else { Phase::Booting { until } }, now);
                }
                (Phase::Unknown, None) => {
                    place.wanted = true;
                    if place.generation == 0 {
                        self.enter(slot, Phase::Empty { retry_at: now }, now);
                        continue;
                    }
                    // What it leaves may still be there.
                    self.enter(slot, Phase::Releasing { asked: false, retry_at: now }, now);
                    let text = format!("slot {slot}: no member was running here when the controller started");
                    self.record(actions, RecordKind::MemberLost, Some(slot), text);
                }
                (Phase::Booting { .. } | Phase::Serving, running)
                    if running != Some(place.generation) && place.since < asked_at =>
                {
                    let how = "it does not run any more".to_owned();
                    place.lost = Some(Lost { by: Sign::Hypervisor, how, at: now });
                }
                (Phase::Empty { .. }, Some(generation)) if place.since < asked_at => {
                    place.generation = generation;
                    place.highest = place.highest.max(generation);
                    let why = "a member runs here that nobody knows of".to_owned();
                    self.give_up(slot, why, now, actions);
                }
                _ => {}
            }
        }
    }

    /// What was in the way is over: what waits for another try need not wait any longer.
    pub(super) fn retry_now(&mut self, now: Nanos, actions: &mut Vec<Action>) {
        for place in &mut self.places {
            match &mut place.phase {
                Phase::Empty { retry_at }
                | Phase::Fencing { asked: false, retry_at }
                | Phase::Releasing { asked: false, retry_at } => *retry_at = (*retry_at).min(now),
                _ => {}
            }
        }
        actions.push(Action::AskRunning);
    }
}
