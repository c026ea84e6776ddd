//! Who is alive, who serves, and when the other one takes over.
//!
//! The rule against false alarms: a member is silent only if the *other* one has been beating all that time. After a
//! moment in which nobody could beat (the host was suspended or starved, the controller was stopped), both begin anew.

use std::time::Duration;

use hotpair_abi::heartbeat;
use hotpair_abi::{Epoch, RoleWord, Slot};

use super::{Action, Entry, Lost, Nanos, Phase, Place, Sign, Signs, State};
use crate::api::types::RecordKind;

/// Why the primary cannot go on.
pub(super) struct Failure {
    pub(super) by: Sign,
    pub(super) how: String,
    /// From the last sign of life to now.
    pub(super) detect: Duration,
}

pub(super) fn nanos(duration: Duration) -> Nanos {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Place {
    /// Whether it is beating: the last sign is younger than `timeout`.
    pub(super) fn fresh(&self, timeout: Duration, now: Nanos) -> bool {
        self.signs.last > 0 && now.saturating_sub(self.signs.last) < nanos(timeout)
    }

    /// Whether it beats, says that it serves, and nobody says otherwise.
    pub(super) fn says_serving(&self, timeout: Duration, now: Nanos) -> bool {
        self.fresh(timeout, now)
            && self.signs.state == Some(heartbeat::State::Serving)
            && self.lost.is_none()
            && !self.muted
    }

    /// Whether a member is here that could serve or does.
    pub(super) fn runs(&self) -> bool {
        matches!(self.phase, Phase::Unknown | Phase::Booting { .. } | Phase::Serving)
    }
}

impl State {
    /// Whether the entry addresses could move to this slot now.
    pub(super) fn is_candidate(&self, slot: Slot, now: Nanos) -> bool {
        let place = self.place(slot);
        place.phase == Phase::Serving && place.says_serving(self.settings.timeout, now)
    }

    /// What gives away that the primary cannot go on, if anything does.
    fn failed_by(&self, now: Nanos) -> Option<Sign> {
        let place = self.place(self.active);
        let other = self.place(self.active.other());
        if let Some(lost) = &place.lost {
            return Some(lost.by);
        }
        if !matches!(place.phase, Phase::Serving | Phase::Unknown) {
            return Some(Sign::Hypervisor);
        }
        // A member that stops is handed over from, see `switchover.rs`; should that not have happened in time,
        // it falls silent.
        if let Some(heartbeat::State::Failing | heartbeat::State::Starting) = place.signs.state {
            return Some(Sign::Agent);
        }
        // The silence counts from the moment on from which the other was heard.
        let silent = now.saturating_sub(place.signs.last.max(other.signs.streak_since));
        let outlived = silent >= nanos(self.settings.timeout) && place.signs.last < other.signs.last;
        outlived.then_some(Sign::Heartbeat)
    }

    /// The same, in words.
    fn primary_failure(&self, now: Nanos) -> Option<Failure> {
        let by = self.failed_by(now)?;
        let place = self.place(self.active);
        let age = Duration::from_nanos(now.saturating_sub(place.signs.last));
        let how = match (by, &place.lost) {
            (_, Some(lost)) => lost.how.clone(),
            (Sign::Heartbeat, None) => format!("silent for {:.1} ms", age.as_secs_f64() * 1e3),
            (Sign::Agent, None) if place.signs.state == Some(heartbeat::State::Failing) => {
                "its own health check fails".into()
            }
            (Sign::Agent, None) => "it says that its service is starting again".into(),
            (_, None) => "it is not there".into(),
        };
        Some(Failure { by, how, detect: age })
    }

    /// Whether the primary cannot go on.
    pub(super) fn primary_failed(&self, now: Nanos) -> bool {
        self.failed_by(now).is_some()
    }

    /// Takes in the same as [`Event::Observed`](super::Event::Observed), and says which role word [`step`](super::step)
    /// will make of it if that is a plain flip: both have served, and one does not any more, or a switchover has drained.
    /// Known before anything of it is put into words: the flip need not wait for its own story.
    pub fn plain_flip(&mut self, signs: [Signs; 2], tripped: Epoch, now: Nanos) -> Option<RoleWord> {
        let plain = self.held
            && (tripped == Epoch(0) || tripped != self.epoch)
            && self.places.iter().all(|place| place.phase == Phase::Serving);
        if !plain {
            return None;
        }
        for (place, signs) in self.places.iter_mut().zip(signs) {
            place.signs = signs;
        }
        if self.handover.is_some() { self.plain_switchover(now) } else { self.plain_failover(now) }
    }

    fn plain_failover(&self, now: Nanos) -> Option<RoleWord> {
        if self.paused {
            return None;
        }
        let (old, new) = (self.active, self.active.other());
        let word = self.role_word(now).with_epoch(self.epoch.next()).with_active(new).with_muted(old, true);
        // The one that takes over has nobody behind it.
        let word = word.with_protect(false).with_gate(false);
        (self.primary_failed(now) && self.is_candidate(new, now)).then_some(word)
    }

    pub(super) fn note_lost(
        &mut self,
        slot: Slot,
        generation: Option<u64>,
        by: Sign,
        how: String,
        now: Nanos,
    ) {
        let place = self.place_mut(slot);
        if place.runs() && generation.is_none_or(|generation| generation == place.generation) {
            place.lost.get_or_insert(Lost { by, how, at: now });
        }
    }

    pub(super) fn note_found(&mut self, slot: Slot, generation: Option<u64>, by: Sign) {
        let place = self.place_mut(slot);
        if generation.is_none_or(|generation| generation == place.generation)
            && place.lost.as_ref().is_some_and(|lost| lost.by == by)
        {
            place.lost = None;
        }
    }

    /// The kernel acted while nobody here did: its choice becomes ours, under an epoch that voids its latch.
    pub(super) fn follow_latch(&mut self, tripped: Epoch, now: Nanos, actions: &mut Vec<Action>) {
        if tripped != self.epoch || tripped == Epoch(0) || self.paused {
            return;
        }
        let detect = Duration::from_nanos(now.saturating_sub(self.place(self.active).signs.last));
        let failure = match self.primary_failure(now) {
            // The kernel only was the first to see what is known here: there is no member that could be silent.
            Some(failure) if !matches!(self.place(self.active).phase, Phase::Serving | Phase::Unknown) => {
                failure
            }
            _ => {
                let how = "the data plane saw it silent while the controller did not act".into();
                Failure { by: Sign::Latch, how, detect }
            }
        };
        self.fail_over(&failure, now, actions);
    }

    /// Looks at both members and draws the conclusions that need no asking.
    pub(super) fn judge(&mut self, now: Nanos, actions: &mut Vec<Action>) {
        self.watch_starts(now, actions);
        self.finish_preparation(now, actions);
        self.finish_handover(now, actions);
        if self.paused {
            return;
        }
        let standby = self.active.other();
        if self.held {
            if let Some(failure) = self.primary_failure(now) {
                if self.is_candidate(standby, now) {
                    self.fail_over(&failure, now, actions);
                } else if self
                    .place(self.active)
                    .lost
                    .as_ref()
                    .is_some_and(|lost| lost.by == Sign::Hypervisor)
                {
                    // Nobody can take over. What the hypervisor calls gone is gone: make a new one here.
                    self.give_up(self.active, failure.how, now, actions);
                }
            } else {
                self.hand_over_if_stopping(now, actions);
            }
        }
        self.watch_standby(now, actions);
    }

    /// Members that run become members that serve, or are given up.
    fn watch_starts(&mut self, now: Nanos, actions: &mut Vec<Action>) {
        let timeout = self.settings.timeout;
        for slot in Slot::BOTH {
            let place = self.place(slot);
            match place.phase {
                Phase::Unknown | Phase::Booting { .. } if place.says_serving(timeout, now) => {
                    if self.held && slot == self.active && place.phase != Phase::Unknown {
                        // The clients still wait for the member that was here before.
                        actions.push(Action::Tell { counts_resets: true });
                    }
                    self.enter(slot, Phase::Serving, now);
                    let place = self.place_mut(slot);
                    place.failures = 0;
                    place.why = None;
                    place.ailing_since = None;
                    if !self.held {
                        self.begin_service(slot, now, actions);
                    }
                }
                Phase::Booting { until } if now >= until && !self.paused => {
                    let why = format!(
                        "it did not serve within {} of its start",
                        humantime::format_duration(self.settings.start)
                    );
                    self.give_up(slot, why, now, actions);
                }
                Phase::Booting { .. } if !self.paused => {
                    if let Some(lost) = place.lost.clone() {
                        self.give_up(slot, lost.how, now, actions);
                    }
                }
                _ => {}
            }
        }
    }

    fn begin_service(&mut self, slot: Slot, now: Nanos, actions: &mut Vec<Action>) {
        let before = self.epoch;
        self.held = true;
        self.active = slot;
        self.active_since = now;
        self.epoch = before.next();
        actions.push(Action::Announce);
        actions.push(Action::Record(Entry {
            kind: RecordKind::Started,
            slot: Some(slot),
            generation: Some(self.place(slot).generation),
            epoch_before: before,
            epoch_after: self.epoch,
            detected_by: None,
            detect: None,
            text: format!("slot {slot} serves: the entry addresses are answered for"),
        }));
        actions.push(Action::Save(self.saved()));
    }

    /// The standby's troubles are not urgent, but the pair is not protected while they last.
    fn watch_standby(&mut self, now: Nanos, actions: &mut Vec<Action>) {
        let standby = self.active.other();
        let settings = self.settings;
        let place = self.place_mut(standby);
        if place.phase != Phase::Serving {
            return;
        }
        if let Some(lost) = place.lost.clone() {
            self.give_up(standby, lost.how, now, actions);
            return;
        }
        if place.says_serving(settings.timeout, now) {
            place.ailing_since = None;
            return;
        }
        if matches!(place.signs.state, Some(heartbeat::State::Stopping | heartbeat::State::Starting)) {
            // It restarts: as long to come back as a new one would have.
            self.enter(standby, Phase::Booting { until: now + nanos(settings.start) }, now);
            return;
        }
        let since = *place.ailing_since.get_or_insert(now);
        let failing =
            place.signs.state == Some(heartbeat::State::Failing) && place.fresh(settings.timeout, now);
        let grace = if failing { settings.start } else { settings.standby_grace() };
        if now.saturating_sub(since) >= nanos(grace) {
            let what = if failing { "its own health check has failed" } else { "it has been silent" };
            let why = format!("{what} for {}", humantime::format_duration(grace));
            self.give_up(standby, why, now, actions);
        }
    }

    /// The entry addresses go to the other slot at once, and the old primary is fenced.
    pub(super) fn fail_over(&mut self, failure: &Failure, now: Nanos, actions: &mut Vec<Action>) {
        let old = self.active;
        let before = self.epoch;
        self.handover_overtaken(actions);
        self.active = old.other();
        self.active_since = now;
        self.epoch = self.epoch.next();
        self.held = true;
        let text = if self.place(old).runs() {
            format!("slot {} took over from slot {old}: {}", self.active, failure.how)
        } else {
            format!("slot {} took over: slot {old} does not serve", self.active)
        };
        actions.push(Action::Announce);
        actions.push(Action::Record(Entry {
            kind: RecordKind::Failover,
            slot: Some(self.active),
            generation: Some(self.place(self.active).generation),
            epoch_before: before,
            epoch_after: self.epoch,
            detected_by: Some(failure.by),
            detect: (self.place(old).signs.last > 0).then_some(failure.detect),
            text,
        }));
        actions.push(Action::Save(self.saved()));
        // One that is only just starting has done no harm; it becomes the standby.
        if matches!(self.place(old).phase, Phase::Serving | Phase::Unknown) {
            self.give_up(old, failure.how.clone(), now, actions);
        }
    }
}
