//! What the operator asks for, and the planned way from one member to the other.
//!
//! A switchover is prepared: what each conversation is owed is counted, and a moment is waited for in which nobody is owed
//! anything. Then it drains: for a moment the old primary still answers what it was asked before, and the new one already
//! answers what arrives from now on. Each answer leaves exactly once. One at a time: there is one count for a pair.

use std::time::Duration;

use hotpair_abi::{RoleWord, heartbeat};

use super::judge::{Failure, nanos};
use super::{Action, Entry, Handover, Nanos, Phase, Preparation, Request, RequestId, Sign, State};
use crate::api::types::{RecordKind, Refusal};

/// A switchover waits no longer than this for a quiet moment.
const PATIENCE: Duration = Duration::from_secs(1);
/// One away from a primary that says it stops waits no longer than this: nobody knows for how long that still answers.
const HASTE: Duration = Duration::from_millis(100);

fn refuse(what: &str, why: impl Into<String>, way_out: &str) -> Refusal {
    Refusal { what: what.to_owned(), why: why.into(), way_out: way_out.to_owned() }
}

impl State {
    pub(super) fn request(&mut self, id: RequestId, request: Request, now: Nanos, actions: &mut Vec<Action>) {
        let answer = match request {
            Request::Switchover => match self.begin_switchover(id, now, actions) {
                // Answered when it has ended.
                Ok(()) => return,
                Err(refusal) => Err(refusal),
            },
            Request::Failover => self.forced_failover(now, actions),
            Request::Pause => Ok(self.set_paused(true, actions)),
            Request::Resume => Ok(self.set_paused(false, actions)),
            Request::Replace(slot) => {
                self.asked_replacement(slot.unwrap_or(self.active.other()), now, actions)
            }
        };
        actions.push(Action::Answer(id, answer));
    }

    fn begin_switchover(
        &mut self,
        id: RequestId,
        now: Nanos,
        actions: &mut Vec<Action>,
    ) -> Result<(), Refusal> {
        const WHAT: &str = "switchover";
        if self.preparation.is_some() || self.handover.is_some() {
            return Err(refuse(WHAT, "another one is under way", "wait for it to end"));
        }
        if !self.held {
            return Err(refuse(WHAT, "no member serves yet", "see `hotpair status`"));
        }
        self.standby_ready(WHAT, now)?;
        self.prepare_handover(Some(id), now, actions);
        Ok(())
    }

    /// Whether the standby could serve; if not, why.
    fn standby_ready(&self, what: &str, now: Nanos) -> Result<(), Refusal> {
        let standby = self.active.other();
        if self.is_candidate(standby, now) {
            return Ok(());
        }
        let why = format!("the standby (slot {standby}) is not ready: {}", self.ailment(standby, now));
        Err(refuse(what, why, "wait until `hotpair status` says protected, or mend what it names"))
    }

    fn forced_failover(&mut self, now: Nanos, actions: &mut Vec<Action>) -> Result<String, Refusal> {
        self.standby_ready("failover", now)?;
        let detect = Duration::from_nanos(now.saturating_sub(self.place(self.active).signs.last));
        let old = self.active;
        let failure = Failure { by: Sign::Operator, how: "an operator asked for it".into(), detect };
        self.fail_over(&failure, now, actions);
        Ok(format!("slot {} serves; slot {old} is fenced and replaced", self.active))
    }

    fn set_paused(&mut self, paused: bool, actions: &mut Vec<Action>) -> String {
        let (kind, text) = if paused {
            (RecordKind::Paused, "paused: nothing is failed over or replaced until it is resumed")
        } else {
            (RecordKind::Resumed, "resumed: failures are acted on again")
        };
        if self.paused != paused {
            self.paused = paused;
            self.record(actions, kind, None, text.to_owned());
            actions.push(Action::Save(self.saved()));
        }
        text.to_owned()
    }

    fn asked_replacement(
        &mut self,
        slot: hotpair_abi::Slot,
        now: Nanos,
        actions: &mut Vec<Action>,
    ) -> Result<String, Refusal> {
        const WHAT: &str = "replace";
        if slot == self.active && self.held && self.place(slot).phase == Phase::Serving {
            let why = format!("slot {slot} is the primary, it serves");
            return Err(refuse(
                WHAT,
                why,
                "switch over first (`hotpair switchover PAIR`), then replace the old primary",
            ));
        }
        let place = self.place_mut(slot);
        match &mut place.phase {
            Phase::Unknown => {
                let why = "the hypervisor has not said yet what runs there";
                return Err(refuse(WHAT, why, "wait until the hypervisor can be reached"));
            }
            Phase::Starting | Phase::Fencing { .. } | Phase::Releasing { .. } => {
                place.wanted = true;
                return Ok(format!("slot {slot} is being replaced already"));
            }
            Phase::Empty { retry_at } => *retry_at = now,
            Phase::Booting { .. } | Phase::Serving => {
                self.give_up(slot, "an operator asked for a new one".into(), now, actions);
            }
        }
        let place = self.place_mut(slot);
        place.failures = 0;
        place.wanted = true;
        Ok(format!("slot {slot} is being replaced"))
    }

    fn prepare_handover(&mut self, request: Option<RequestId>, now: Nanos, actions: &mut Vec<Action>) {
        if !self.settings.mirror {
            // The standby was asked nothing.
            self.begin_handover(request, now);
            return;
        }
        let patience = if request.is_some() { PATIENCE } else { HASTE };
        let (since, until) = (now, now + nanos(patience));
        self.preparation = Some(Preparation { since, until, request });
        actions.push(Action::Watch { since, until });
    }

    /// Nobody is owed anything: what was waited for since then need not wait any longer.
    pub(super) fn quiet(&mut self, since: Nanos, now: Nanos) {
        if let Some(preparation) = self.preparation.as_mut().filter(|preparation| preparation.since == since)
        {
            preparation.until = now;
        }
    }

    /// Begins a handover whose moment has come, unless nobody can take over any more, or nobody wants it.
    pub(super) fn finish_preparation(&mut self, now: Nanos, actions: &mut Vec<Action>) {
        let Some(Preparation { request, .. }) =
            self.preparation.take_if(|preparation| now >= preparation.until)
        else {
            return;
        };
        let wanted = request.is_some() || (self.primary_stops() && !self.paused);
        match self.standby_ready("switchover", now) {
            Ok(()) if wanted => self.begin_handover(request, now),
            ready => {
                actions.push(Action::Unwatch);
                actions
                    .extend(request.zip(ready.err()).map(|(id, refusal)| Action::Answer(id, Err(refusal))));
            }
        }
    }

    fn begin_handover(&mut self, request: Option<RequestId>, now: Nanos) {
        let until = now + nanos(self.settings.handover);
        self.handover = Some(Handover { until, request, epoch_before: self.epoch });
        self.epoch = self.epoch.next();
    }

    fn primary_stops(&self) -> bool {
        self.place(self.active).signs.state == Some(heartbeat::State::Stopping)
    }

    /// A primary that says it stops is not waited for until it is silent.
    pub(super) fn hand_over_if_stopping(&mut self, now: Nanos, actions: &mut Vec<Action>) {
        let under_way = self.preparation.is_some() || self.handover.is_some();
        if self.primary_stops() && !under_way && self.is_candidate(self.active.other(), now) {
            self.prepare_handover(None, now, actions);
        }
    }

    /// The role word that [`State::finish_handover`] will come to, if it ends one.
    pub(super) fn plain_switchover(&self, now: Nanos) -> Option<RoleWord> {
        let new = self.active.other();
        let is_due = self.handover.is_some_and(|handover| now >= handover.until);
        // Where the old primary is fit to be the standby: everything else has more to it.
        if !is_due || ![self.active, new].into_iter().all(|slot| self.is_candidate(slot, now)) {
            return None;
        }
        let protect = self.settings.mirror;
        let word = self.role_word(now).with_epoch(self.epoch.next()).with_active(new).with_handover(false);
        Some(word.with_protect(protect).with_gate(protect && self.settings.gate))
    }

    /// Ends a handover whose time has come, or takes it back when the new primary fails meanwhile.
    pub(super) fn finish_handover(&mut self, now: Nanos, actions: &mut Vec<Action>) {
        let Some(handover) = self.handover else {
            return;
        };
        let old = self.active;
        let new = old.other();
        if !self.is_candidate(new, now) {
            let why = self.ailment(new, now);
            self.handover = None;
            self.epoch = self.epoch.next();
            let text = format!("the switchover to slot {new} was given up: {why}; slot {old} serves on");
            self.record(actions, RecordKind::SwitchoverAborted, Some(new), text);
            actions.push(Action::Tell { counts_resets: true });
            if let Some(id) = handover.request {
                let why = format!("the standby (slot {new}) failed while it took over: {why}");
                actions.push(Action::Answer(
                    id,
                    Err(refuse("switchover", why, "the old primary serves on; see `hotpair status`")),
                ));
            }
        } else if now >= handover.until {
            self.handover = None;
            self.active = new;
            self.active_since = now;
            self.epoch = self.epoch.next();
            let why = if handover.request.is_some() { "an operator asked for it" } else { "it stops" };
            actions.push(Action::Announce);
            actions.push(Action::Record(Entry {
                kind: RecordKind::Switchover,
                slot: Some(new),
                generation: Some(self.place(new).generation),
                epoch_before: handover.epoch_before,
                epoch_after: self.epoch,
                detected_by: Some(if handover.request.is_some() { Sign::Operator } else { Sign::Agent }),
                detect: None,
                text: format!("slot {new} took over from slot {old}, planned: {why}"),
            }));
            actions.push(Action::Save(self.saved()));
            if let Some(id) = handover.request {
                actions.push(Action::Answer(id, Ok(format!("slot {new} serves; slot {old} is the standby"))));
            }
        }
    }

    /// A failover comes in the middle of a handover, or before it, and ends where that would have.
    pub(super) fn handover_overtaken(&mut self, actions: &mut Vec<Action>) {
        let prepared = self.preparation.take().and_then(|preparation| preparation.request);
        if let Some(id) = self.handover.take().map_or(prepared, |handover| handover.request) {
            let text = format!("slot {} serves: the old primary failed on the way", self.active.other());
            actions.push(Action::Answer(id, Ok(text)));
        }
    }
}
