//! The pair's logic: `step(state, event, now) -> (state, actions)`.
//!
//! No I/O, no clock, no async: time comes in as a value, and what shall be done goes out as one. The controller feeds it
//! and executes; tests, the model checker and the simulator run the same code. It must never learn what an interface, a
//! domain or a file is.
//!
//! | file | about |
//! | --- | --- |
//! | `event.rs` | what the pair is told |
//! | `action.rs` | what it wants done |
//! | `place.rs` | one of its two places: the member there and its signs of life |
//! | `restart.rs` | what outlives a controller, and what the next one begins with |
//! | `judge.rs` | who is alive, who serves, and when the other one takes over |
//! | `switchover.rs` | what the operator asks for: switchover, failover, pause, replace |
//! | `cycle.rs` | a place's way round: fence, release, start, serve |
//! | `report.rs` | how well the pair is, and why, in words |

mod action;
mod cycle;
mod event;
mod judge;
mod place;
mod report;
mod restart;
mod switchover;

#[cfg(test)]
mod tests;

use std::time::Duration;

use hotpair_abi::{Epoch, RoleWord, Slot};

use crate::api::types::RecordKind;

pub use action::{Action, Entry};
pub use event::{Event, Request, RequestId, Sign};
pub use place::{Lost, Phase, Place, Signs};
pub use report::Health;
pub use restart::{Found, Saved};

/// CLOCK_BOOTTIME in nanoseconds: the clock of the data plane.
pub type Nanos = u64;

/// How far the saved epoch runs ahead of the one in use, so that no flip ever waits for a disk.
pub const EPOCH_RESERVE: u64 = 1000;

/// What does not change while a pair runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// A member silent for this long has failed.
    pub timeout: Duration,
    /// How long a started member may take until it serves.
    pub start: Duration,
    /// How long a switchover drains.
    pub handover: Duration,
    /// Whether failed members are replaced without being asked.
    pub auto_replace: bool,
    /// Whether both members receive every packet.
    pub mirror: bool,
    /// Whether what a TCP client sees acknowledged waits for the standby.
    pub gate: bool,
}

impl Settings {
    /// How long a silent standby is given before it is replaced. Nothing is in danger that it could save:
    /// the pair says unprotected at once, and a restarted agent is worth the wait.
    #[must_use]
    pub fn standby_grace(&self) -> Duration {
        (self.timeout * 10).max(Duration::from_secs(3))
    }
}

/// A planned switchover that waits for its moment, while what each conversation is owed is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Preparation {
    /// When the counting began; names the occasion.
    pub since: Nanos,
    /// When it begins at the latest.
    pub until: Nanos,
    /// Who asked; none when the primary said that it stops.
    pub request: Option<RequestId>,
}

/// A planned switchover that drains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handover {
    /// When the old primary goes quiet.
    pub until: Nanos,
    /// Who asked; none when the primary said that it stops.
    pub request: Option<RequestId>,
    /// The epoch before it began.
    pub epoch_before: Epoch,
}

/// Everything about a pair.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct State {
    /// What does not change.
    pub settings: Settings,
    /// Rises with every change of role.
    pub epoch: Epoch,
    /// The epoch a power cut falls back to: saved, and above every epoch in use.
    pub ceiling: Epoch,
    /// Whose answers leave.
    pub active: Slot,
    /// Whether the entry addresses are answered for: from the first member that serves on.
    pub held: bool,
    /// Automatic failover and replacement are off.
    pub paused: bool,
    /// The two places.
    pub places: [Place; 2],
    /// A planned switchover that has not begun yet.
    pub preparation: Option<Preparation>,
    /// A planned switchover under way.
    pub handover: Option<Handover>,
    /// The role word as last written.
    pub word: RoleWord,
    /// When the present primary began to serve.
    pub active_since: Nanos,
    /// How well the pair is, and since when.
    pub health: Health,
    /// Whether "protected" was the last thing told: a standby that only blinked is not worth a line each time.
    pub told_protected: bool,
    /// When the hypervisor may be asked again about a member that is silent.
    pub ask_again_at: Nanos,
    /// Whether the hypervisor cannot be reached.
    pub cut_off: bool,
}

impl State {
    /// The place of a slot.
    #[must_use]
    pub fn place(&self, slot: Slot) -> &Place {
        &self.places[slot.index()]
    }

    fn place_mut(&mut self, slot: Slot) -> &mut Place {
        &mut self.places[slot.index()]
    }

    fn enter(&mut self, slot: Slot, phase: Phase, now: Nanos) {
        let place = self.place_mut(slot);
        place.phase = phase;
        place.since = now;
    }

    /// The role word that this state stands for.
    fn role_word(&self, now: Nanos) -> RoleWord {
        let protect = self.settings.mirror && self.held && self.is_candidate(self.active.other(), now);
        RoleWord::new(self.epoch, self.active)
            .with_held(self.held)
            .with_paused(self.paused)
            .with_handover(self.handover.is_some())
            .with_muted(Slot::Zero, self.places[0].muted)
            .with_muted(Slot::One, self.places[1].muted)
            .with_mirror(self.settings.mirror)
            .with_protect(protect)
            .with_gate(protect && self.settings.gate)
    }

    fn record(&self, actions: &mut Vec<Action>, kind: RecordKind, slot: Option<Slot>, text: String) {
        actions.push(Action::Record(Entry {
            kind,
            slot,
            generation: slot.map(|slot| self.place(slot).generation),
            epoch_before: self.epoch,
            epoch_after: self.epoch,
            detected_by: None,
            detect: None,
            text,
        }));
    }

    /// Brings the data plane and the store in line with the state; the role word goes first.
    fn settle(&mut self, now: Nanos, actions: &mut Vec<Action>) {
        self.settle_as(self.role_word(now), now, actions);
    }

    fn settle_as(&mut self, word: RoleWord, now: Nanos, actions: &mut Vec<Action>) {
        if word != self.word {
            actions.insert(0, Action::SetRole(word));
            self.word = word;
        }
        if self.epoch.0 + EPOCH_RESERVE / 2 > self.ceiling.0 {
            self.ceiling = Epoch(self.epoch.0 + EPOCH_RESERVE);
            actions.push(Action::Save(self.saved()));
        }
        self.assess(now, actions);
    }
}

/// One step. Pure: the same state, event and time give the same result.
#[must_use]
pub fn step(mut state: State, event: Event, now: Nanos) -> (State, Vec<Action>) {
    let mut actions = Vec::new();
    match event {
        Event::Observed { signs, tripped } => {
            for slot in Slot::BOTH {
                state.place_mut(slot).signs = signs[slot.index()];
            }
            state.follow_latch(tripped, now, &mut actions);
        }
        Event::Running { list, asked_at } => state.take_stock(&list, asked_at, now, &mut actions),
        Event::Unreachable => state.cut_off = true,
        Event::Reachable => {
            state.cut_off = false;
            state.retry_now(now, &mut actions);
        }
        Event::Retry => state.retry_now(now, &mut actions),
        Event::Lost { slot, generation, by, how } => state.note_lost(slot, generation, by, how, now),
        Event::Found { slot, generation, by } => state.note_found(slot, generation, by),
        Event::Started { slot, generation, result } => {
            state.started(slot, generation, result, now, &mut actions);
        }
        Event::Stopped { slot, generation, result } => {
            state.stopped(slot, generation, result, now, &mut actions);
        }
        Event::Released { slot, generation, result } => {
            state.released(slot, generation, result, now, &mut actions);
        }
        Event::Quiet { since } => state.quiet(since, now),
        Event::Request(id, request) => state.request(id, request, now, &mut actions),
        Event::Tick => {}
    }
    state.judge(now, &mut actions);
    state.advance(now, &mut actions);
    state.settle(now, &mut actions);
    (state, actions)
}
