//! The pair's logic: `step(state, event, now) -> (state, actions)`.
//!
//! No I/O, no clock, no async: time comes in as a value, and what shall be done goes out as one. The controller feeds it
//! and executes; tests, the model checker and the simulator run the same code. It must never learn what an interface, a
//! domain or a file is.
//!
//! | file | about |
//! | --- | --- |
//! | `judge.rs` | who is alive, who serves, and when the other one takes over |
//! | `switchover.rs` | what the operator asks for: switchover, failover, pause, replace |
//! | `cycle.rs` | a place's way round: fence, release, start, serve |
//! | `report.rs` | how well the pair is, and why, in words |

mod cycle;
mod judge;
mod report;
mod switchover;

#[cfg(test)]
mod tests;

use std::time::Duration;

use hotpair_abi::heartbeat;
use hotpair_abi::maps::Member;
use hotpair_abi::{Epoch, RoleWord, Slot};

use crate::api::types::{RecordKind, Refusal};

pub use report::Health;

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

/// The signs of life of one member, as its row in the data plane has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signs {
    /// Last sign of life; 0 for none since the row was cleared.
    pub last: Nanos,
    /// Beating without a gap since.
    pub streak_since: Nanos,
    /// What the last heartbeat said.
    pub state: Option<heartbeat::State>,
    /// Changes with every start of the guest's kernel.
    pub boot_id: u64,
}

impl From<&Member> for Signs {
    fn from(row: &Member) -> Self {
        Signs {
            last: row.last_beat_ns,
            streak_since: row.streak_since_ns,
            state: u8::try_from(row.state).ok().and_then(heartbeat::State::from_u8),
            boot_id: row.boot_id,
        }
    }
}

/// What a place of the pair is going through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The hypervisor has not said yet whether something runs here.
    Unknown,
    /// Nothing is here. `retry_at` is when a start may be tried (again).
    Empty {
        /// Not before.
        retry_at: Nanos,
    },
    /// A member is being made; the hypervisor has been asked.
    Starting,
    /// It runs. Unless it serves by then, it is given up.
    Booting {
        /// By then.
        until: Nanos,
    },
    /// It serves, or was serving when last looked at.
    Serving,
    /// It is muted; the hypervisor is being asked to end it.
    Fencing {
        /// Whether a request is under way; otherwise one is due at `retry_at`.
        asked: bool,
        /// Not before.
        retry_at: Nanos,
    },
    /// It is gone for sure; its storage is being released.
    Releasing {
        /// Whether a request is under way; otherwise one is due at `retry_at`.
        asked: bool,
        /// Not before.
        retry_at: Nanos,
    },
}

/// One of the two places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// What it is going through.
    pub phase: Phase,
    /// Since when.
    pub since: Nanos,
    /// Rises with every member made for this place; 0 before the first.
    pub generation: u64,
    /// Signs of life, as last observed.
    pub signs: Signs,
    /// Known from somebody else than the member itself: it is gone or halted. How, in words.
    pub lost: Option<Lost>,
    /// Nothing of it may go anywhere.
    pub muted: bool,
    /// Whether `generation` is certain: this controller made the member, or the hypervisor has named it.
    pub known: bool,
    /// Highest generation ever used here.
    pub highest: u64,
    /// Members in a row that could not be made or never served.
    pub failures: u32,
    /// Refusals in a row to end the old member or to release its storage.
    pub refusals: u32,
    /// Why the last one failed, or why the member was given up.
    pub why: Option<String>,
    /// Since when a standby has been silent or failing without a break.
    pub ailing_since: Option<Nanos>,
    /// Whether a replacement was asked for by the operator (overrides `auto_replace` and a pause, once).
    pub wanted: bool,
}

/// How a loss was noticed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// `hypervisor` or `carrier`.
    pub by: Sign,
    /// As a person would say it.
    pub how: String,
    /// When it was noticed.
    pub at: Nanos,
}

/// What gives a failure away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// No heartbeat for as long as the timeout.
    Heartbeat,
    /// The member itself says that it fails.
    Agent,
    /// The hypervisor says that it is gone or halted.
    Hypervisor,
    /// Nobody holds its tap any more, or the tap is gone or down.
    Carrier,
    /// The kernel's latch acted.
    Latch,
    /// An operator.
    Operator,
}

impl Sign {
    /// As in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Sign::Heartbeat => "heartbeat",
            Sign::Agent => "agent",
            Sign::Hypervisor => "hypervisor",
            Sign::Carrier => "carrier",
            Sign::Latch => "latch",
            Sign::Operator => "operator",
        }
    }
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

/// Names an operator's request until it is answered.
pub type RequestId = u64;

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

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Somebody looked at the data plane: the signs of life of both members, and the epoch in which its latch tripped.
    Observed {
        /// Slot 0 and slot 1.
        signs: [Signs; 2],
        /// `Epoch(0)` for never.
        tripped: Epoch,
    },
    /// The hypervisor says which members run.
    Running {
        /// Place and generation of each.
        list: Vec<(Slot, u64)>,
        /// When it was asked: it says nothing about what happened since.
        asked_at: Nanos,
    },
    /// The hypervisor cannot be reached: what fails from now on says nothing about what was asked for.
    Unreachable,
    /// The hypervisor can be reached again: what failed may be tried at once.
    Reachable,
    /// What kept something else from being done is over: what failed may be tried at once.
    Retry,
    /// A member of that generation is gone or does not execute any more.
    Lost {
        /// Its place.
        slot: Slot,
        /// Its generation; none where the sign does not tell (a tap's carrier).
        generation: Option<u64>,
        /// Who says so.
        by: Sign,
        /// As a person would say it.
        how: String,
    },
    /// A member that was halted executes again.
    Found {
        /// Its place.
        slot: Slot,
        /// Its generation; none where the sign does not tell.
        generation: Option<u64>,
        /// Whose `Lost` is taken back.
        by: Sign,
    },
    /// An [`Action::Start`] ended.
    Started {
        /// Its place.
        slot: Slot,
        /// Its generation.
        generation: u64,
        /// Why it failed.
        result: Result<(), String>,
    },
    /// An [`Action::Stop`] ended.
    Stopped {
        /// Its place.
        slot: Slot,
        /// Its generation.
        generation: u64,
        /// Why it failed.
        result: Result<(), String>,
    },
    /// An [`Action::Release`] ended.
    Released {
        /// Its place.
        slot: Slot,
        /// Its generation.
        generation: u64,
        /// Why it failed.
        result: Result<(), String>,
    },
    /// The operator asks.
    Request(RequestId, Request),
    /// Time has passed.
    Tick,
}

/// What an operator may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Planned: nothing is lost.
    Switchover,
    /// Forced: the primary is treated as failed.
    Failover,
    /// Leave everything as it is.
    Pause,
    /// Look after it again.
    Resume,
    /// Make a new member in that place; the standby's if none is named.
    Replace(Option<Slot>),
}

/// What shall be done. In this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write the role word.
    SetRole(RoleWord),
    /// Tell the uplink's neighbours where the entry addresses are.
    Announce,
    /// Write what must survive, before anything after this is done.
    Save(Saved),
    /// Forget the signs of life of this place.
    ClearSigns(Slot),
    /// Make and start a member.
    Start {
        /// Its place.
        slot: Slot,
        /// Its generation.
        generation: u64,
    },
    /// End a member and see that it is gone.
    Stop {
        /// Its place.
        slot: Slot,
        /// Its generation.
        generation: u64,
    },
    /// Give up the storage of a member that is gone.
    Release {
        /// Its place.
        slot: Slot,
        /// Its generation.
        generation: u64,
    },
    /// Ask the hypervisor which members run.
    AskRunning,
    /// A line for the history.
    Record(Entry),
    /// Answer an operator's request.
    Answer(RequestId, Result<String, Refusal>),
}

/// A line for the history, before it has a wall clock's time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What.
    pub kind: RecordKind,
    /// The place it is about.
    pub slot: Option<Slot>,
    /// Generation of the member there.
    pub generation: Option<u64>,
    /// Epoch before.
    pub epoch_before: Epoch,
    /// Epoch after.
    pub epoch_after: Epoch,
    /// What gave it away.
    pub detected_by: Option<Sign>,
    /// From the last sign of life to the decision.
    pub detect: Option<Duration>,
    /// As a sentence.
    pub text: String,
}

/// What must survive a power cut.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Saved {
    /// No epoch above this one has been used.
    #[serde(deserialize_with = "ceiling")]
    pub ceiling: u64,
    /// 0 or 1.
    #[serde(deserialize_with = "slot")]
    pub active: u8,
    /// Automatic failover and replacement are off.
    pub paused: bool,
    /// Highest generation ever used in each place.
    #[serde(deserialize_with = "generations")]
    pub generations: [u64; 2],
}

/// Refuses what only a damaged entry can say: counting on from there would begin anew at zero.
fn bounded<'de, D, T>(from: D, is_sound: impl FnOnce(&T) -> bool, why: &'static str) -> Result<T, D::Error>
where
    D: serde::Deserializer<'de>,
    T: serde::Deserialize<'de>,
{
    let value = T::deserialize(from)?;
    if is_sound(&value) { Ok(value) } else { Err(serde::de::Error::custom(why)) }
}

fn ceiling<'de, D: serde::Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    bounded(from, |ceiling| *ceiling < Epoch::MAX.0 / 2, "its ceiling of epochs cannot be right")
}

fn slot<'de, D: serde::Deserializer<'de>>(from: D) -> Result<u8, D::Error> {
    bounded(from, |slot| *slot < 2, "its active slot is neither 0 nor 1")
}

fn generations<'de, D: serde::Deserializer<'de>>(from: D) -> Result<[u64; 2], D::Error> {
    bounded(
        from,
        |each: &[u64; 2]| each.iter().all(|one| *one < u64::MAX / 2),
        "its generations cannot be right",
    )
}

/// What a controller finds when it starts.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// From the store; none for a new pair.
    pub saved: Option<Saved>,
    /// The role word of a data plane that was adopted.
    pub word: Option<RoleWord>,
}

impl State {
    /// The state a controller begins with. Follow it with [`Event::Running`] as soon as the hypervisor has answered.
    #[must_use]
    pub fn begin(settings: Settings, found: &Found, now: Nanos) -> (State, Vec<Action>) {
        let saved = found.saved.clone().unwrap_or(Saved {
            ceiling: 0,
            active: 0,
            paused: false,
            generations: [0, 0],
        });
        // A running data plane knows best; without one, nothing at or below the ceiling may come again.
        let live = found.word.filter(|word| word.epoch() > Epoch(0));
        let epoch = live.map_or(Epoch(saved.ceiling + 1), RoleWord::epoch);
        let active = live.map_or(Slot::from_bit(u64::from(saved.active)), RoleWord::active);
        let place = |slot: Slot| Place {
            phase: Phase::Unknown,
            since: now,
            generation: saved.generations[slot.index()],
            known: false,
            highest: saved.generations[slot.index()],
            signs: Signs::default(),
            lost: None,
            muted: live.is_some_and(|word| word.muted(slot)),
            failures: 0,
            refusals: 0,
            why: None,
            ailing_since: None,
            wanted: false,
        };
        let mut state = State {
            settings,
            epoch,
            ceiling: Epoch(saved.ceiling),
            active,
            held: live.is_some_and(RoleWord::held),
            paused: saved.paused,
            places: [place(Slot::Zero), place(Slot::One)],
            handover: None,
            word: live.unwrap_or_default(),
            active_since: now,
            health: Health::default(),
            told_protected: false,
            ask_again_at: 0,
            cut_off: false,
        };
        let mut actions = Vec::new();
        if let Some(word) = live {
            // A handover that was under way when the last controller ended: take it back, roles unchanged.
            if word.handover() {
                state.epoch = state.epoch.next();
            }
            state.record(
                &mut actions,
                RecordKind::Adopted,
                Some(active),
                format!("the controller started and took over what was running: slot {active} serves"),
            );
        }
        state.settle(now, &mut actions);
        actions.push(Action::AskRunning);
        (state, actions)
    }

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

    fn saved(&self) -> Saved {
        Saved {
            ceiling: self.ceiling.0,
            active: self.active as u8,
            paused: self.paused,
            generations: [self.places[0].highest, self.places[1].highest],
        }
    }

    /// Brings the data plane and the store in line with the state; the role word goes first.
    fn settle(&mut self, now: Nanos, actions: &mut Vec<Action>) {
        let word = self.role_word(now);
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
        Event::Request(id, request) => state.request(id, request, now, &mut actions),
        Event::Tick => {}
    }
    state.judge(now, &mut actions);
    state.advance(now, &mut actions);
    state.settle(now, &mut actions);
    (state, actions)
}
