//! How well a pair is, and why, in words; and when it wants to be looked at again.

use hotpair_abi::{Epoch, Slot, heartbeat};

use super::judge::nanos;
use super::{Action, Nanos, Phase, Signs, State};
use crate::api::types::{Protection, RecordKind};

/// How well a pair is, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// How well.
    pub protection: Protection,
    /// Why not protected.
    pub why: Option<String>,
    /// Since when.
    pub since: Nanos,
}

impl Default for Health {
    fn default() -> Self {
        Health { protection: Protection::Down, why: Some("the controller has just started".into()), since: 0 }
    }
}

/// Longest time between two looks: what no event has announced is seen by then.
const GLANCE: Nanos = 100_000_000;
/// While something is wrong that only looking can show to have ended.
const STARE: Nanos = 5_000_000;

impl State {
    /// What keeps this slot's member from serving, as part of a sentence.
    pub(super) fn ailment(&self, slot: Slot, now: Nanos) -> String {
        let place = self.place(slot);
        let because = |text: &str| match &place.why {
            Some(why) => format!("{text} ({why})"),
            None => text.to_owned(),
        };
        match place.phase {
            Phase::Unknown => "the hypervisor has not said yet what runs there".into(),
            Phase::Empty { .. } if !self.settings.auto_replace && !place.wanted => {
                because("nothing runs there, and replace.auto is off: ask for it with `hotpair replace`")
            }
            Phase::Empty { .. } if self.paused && !place.wanted => {
                because("nothing runs there, and the pair is paused")
            }
            Phase::Empty { .. } => because("nothing runs there; a new member will be tried again"),
            Phase::Starting => because("a new member is being made"),
            Phase::Booting { .. } => because("its member is starting up"),
            Phase::Fencing { .. } => because("its member is being ended"),
            Phase::Releasing { .. } => because("its old member's storage is being released"),
            Phase::Serving => {
                if let Some(lost) = &place.lost {
                    return lost.how.clone();
                }
                if !place.fresh(self.settings.timeout, now) {
                    return if place.signs.last == 0 {
                        "it has not been heard yet".into()
                    } else {
                        let silent = now.saturating_sub(place.signs.last);
                        format!("it has been silent for {:.0} ms", silent as f64 / 1e6)
                    };
                }
                match place.signs.state {
                    Some(heartbeat::State::Serving) => "nothing".into(),
                    Some(heartbeat::State::Failing) => "its own health check fails".into(),
                    Some(heartbeat::State::Stopping) => "it is shutting down".into(),
                    Some(heartbeat::State::Starting) | None => "its service is starting".into(),
                }
            }
        }
    }

    /// Whether the entry addresses are served.
    #[must_use]
    pub fn serves(&self, now: Nanos) -> bool {
        let place = self.place(self.active);
        self.held
            && place.phase == Phase::Serving
            && place.lost.is_none()
            && !self.primary_failed(now)
            && (place.fresh(self.settings.timeout * 4, now) || self.is_candidate(self.active.other(), now))
    }

    pub(super) fn assess(&mut self, now: Nanos, actions: &mut Vec<Action>) {
        let standby = self.active.other();
        let (protection, why) = if !self.held {
            let [zero, one] = Slot::BOTH.map(|slot| self.ailment(slot, now));
            (Protection::Down, Some(format!("no member has served yet; slot 0: {zero}; slot 1: {one}")))
        } else if !self.serves(now) {
            let primary = self.ailment(self.active, now);
            let other = self.ailment(standby, now);
            let text = format!(
                "the primary (slot {}): {primary}; the standby (slot {standby}) cannot take over: {other}",
                self.active
            );
            (Protection::Down, Some(text))
        } else if self.paused {
            let text = "the pair is paused: nothing is failed over until `hotpair resume`";
            (Protection::Unprotected, Some(text.to_owned()))
        } else if !self.is_candidate(standby, now) {
            let text = format!("the standby (slot {standby}): {}", self.ailment(standby, now));
            (Protection::Unprotected, Some(text))
        } else {
            (Protection::Protected, None)
        };
        if actions.iter().any(|action| matches!(action, Action::Record(_))) {
            self.told_protected = false;
        }
        if protection != self.health.protection {
            self.health.since = now;
            if protection == Protection::Protected {
                self.place_mut(standby).wanted = false;
                let active = self.active;
                self.place_mut(active).wanted = false;
            }
            if protection == Protection::Protected && !self.told_protected {
                self.told_protected = true;
                let active = self.active;
                let text = format!("protected: slot {active} serves, slot {standby} stands by");
                self.record(actions, RecordKind::Protected, Some(standby), text);
            }
        }
        self.health.protection = protection;
        self.health.why = why;
    }

    /// The short way for a pair that is well: takes in the same as [`Event::Observed`](super::Event::Observed) and says
    /// when to look again. `None` when anything is not as it was, which is for [`step`](super::step) to judge; nothing
    /// is taken in then.
    ///
    /// Where it answers, `step` would do the same and ask for nothing; it only costs much less. With ten thousand pairs,
    /// that is what a controller does all day.
    pub fn glance(&mut self, signs: [Signs; 2], tripped: Epoch, now: Nanos) -> Option<Nanos> {
        let calm = self.health.protection == Protection::Protected
            && self.held
            && !self.paused
            && self.preparation.is_none()
            && self.handover.is_none()
            && (tripped == Epoch(0) || tripped != self.epoch);
        if !calm {
            return None;
        }
        for (place, signs) in self.places.iter().zip(&signs) {
            let well = place.phase == Phase::Serving
                && place.known
                && !place.muted
                && place.lost.is_none()
                && place.ailing_since.is_none()
                && signs.state == Some(heartbeat::State::Serving)
                && signs.last > 0
                && now.saturating_sub(signs.last) < nanos(self.settings.timeout);
            if !well {
                return None;
            }
        }
        for (place, signs) in self.places.iter_mut().zip(signs) {
            place.signs = signs;
        }
        Some(self.next_look(now))
    }

    /// When this pair wants to be looked at again, at the latest.
    #[must_use]
    pub fn next_look(&self, now: Nanos) -> Nanos {
        let timeout = nanos(self.settings.timeout);
        let mut next = now + GLANCE;
        for until in [self.preparation.map(|p| p.until), self.handover.map(|h| h.until)].into_iter().flatten()
        {
            next = next.min(until);
        }
        for slot in Slot::BOTH {
            let place = self.place(slot);
            match place.phase {
                Phase::Serving => {
                    let heard = if slot == self.active {
                        place.signs.last.max(self.place(slot.other()).signs.streak_since)
                    } else {
                        place.signs.last
                    };
                    let due = heard + timeout;
                    next = next.min(if due > now { due } else { now + STARE });
                }
                Phase::Booting { until } => next = next.min(until.max(now + STARE)),
                Phase::Empty { retry_at }
                | Phase::Fencing { asked: false, retry_at }
                | Phase::Releasing { asked: false, retry_at }
                    if retry_at > now =>
                {
                    next = next.min(retry_at);
                }
                _ => {}
            }
        }
        next
    }
}
