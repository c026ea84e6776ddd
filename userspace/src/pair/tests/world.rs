//! A hypervisor, two guests and a data plane in one thread with a clock of its own: what a pair's actions come to, and
//! the promises that hold whatever happens.

use std::collections::BTreeMap;
use std::time::Duration;

use hotpair_abi::heartbeat;
use hotpair_abi::{Epoch, RoleWord, Slot};

use crate::api::types::{Protection, RecordKind, Refusal};
use crate::pair::{Action, Entry, Event, Found, Nanos, Phase, Request, Saved, Settings, Signs, State, step};

pub(super) const MS: Nanos = 1_000_000;
pub(super) const SECOND: Nanos = 1_000 * MS;

/// A guest, as it really is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Guest {
    pub(super) generation: u64,
    pub(super) serves_at: Nanos,
    pub(super) state: heartbeat::State,
    pub(super) frozen: bool,
    pub(super) agent_dead: bool,
}

pub(super) struct World {
    pub(super) now: Nanos,
    pub(super) state: State,
    pub(super) next_look: Nanos,
    pub(super) word: RoleWord,
    pub(super) signs: [Signs; 2],
    pub(super) tripped: Epoch,
    pub(super) guests: [Option<Guest>; 2],
    /// Volumes that exist, by place.
    pub(super) volumes: [Vec<u64>; 2],
    pub(super) hypervisor_up: bool,
    pub(super) starts_fail: Option<&'static str>,
    pub(super) boot: Nanos,
    pub(super) latency: Nanos,
    /// How long it takes until nobody is owed an answer.
    pub(super) quiet_after: Nanos,
    /// The epoch in which the data plane counts what conversations are owed.
    pub(super) watched: Option<Epoch>,
    /// Operations under way: when they end.
    pub(super) under_way: Vec<(Nanos, Action)>,
    pub(super) saved: Option<Saved>,
    pub(super) history: Vec<(Nanos, Entry)>,
    pub(super) answers: BTreeMap<u64, Result<String, Refusal>>,
    pub(super) announced: usize,
    /// Whether resets were to be counted, each time that connections were to be told.
    pub(super) told: Vec<bool>,
    /// Looks for which a glance would have been enough.
    pub(super) glances: usize,
    /// Flips whose role word was known before the step.
    pub(super) plain_flips: usize,
    /// Answers that left, by generation and slot: what the client saw.
    pub(super) spoke: Vec<(Nanos, Slot)>,
}

pub(super) fn settings() -> Settings {
    Settings {
        timeout: Duration::from_millis(8),
        start: Duration::from_secs(60),
        handover: Duration::from_millis(20),
        auto_replace: true,
        mirror: true,
        gate: true,
    }
}

impl World {
    pub(super) fn new(settings: Settings) -> World {
        let now = 1000 * SECOND;
        let (state, actions) = State::begin(settings, &Found::default(), now);
        let mut world = World {
            now,
            word: RoleWord::default(),
            state,
            next_look: now,
            signs: [Signs::default(); 2],
            tripped: Epoch(0),
            guests: [None; 2],
            volumes: [Vec::new(), Vec::new()],
            hypervisor_up: true,
            starts_fail: None,
            boot: 3 * SECOND,
            latency: 40 * MS,
            quiet_after: 20 * MS,
            watched: None,
            under_way: Vec::new(),
            saved: None,
            history: Vec::new(),
            answers: BTreeMap::new(),
            announced: 0,
            told: Vec::new(),
            glances: 0,
            plain_flips: 0,
            spoke: Vec::new(),
        };
        world.execute(actions);
        world
    }

    /// Protected, and a little later.
    pub(super) fn protected(settings: Settings) -> World {
        let mut world = World::new(settings);
        world.run_until_protected(10 * SECOND);
        world.run(50 * MS);
        world
    }

    pub(super) fn execute(&mut self, actions: Vec<Action>) {
        for action in actions {
            match action {
                Action::SetRole(word) => {
                    assert!(
                        word.epoch() >= self.word.epoch(),
                        "the epoch went back: {:?} {word:?}",
                        self.word
                    );
                    if (word.active(), word.held(), word.handover())
                        != (self.word.active(), self.word.held(), self.word.handover())
                    {
                        // What an interrupted handover leaves of itself goes within the epoch of the latch that has followed.
                        let is_left = self.tripped == word.epoch() && word == self.without_handover();
                        assert!(
                            is_left || word.epoch() > self.word.epoch(),
                            "roles changed within an epoch: {word:?}"
                        );
                    }
                    if word.handover() && !self.word.handover() && word.mirror() {
                        let prepared = self.watched.map(Epoch::next);
                        assert_eq!(prepared, Some(word.epoch()), "a handover that nothing was counted for");
                    }
                    for slot in Slot::BOTH {
                        // A place is heard again only when nothing is in it that could speak for an old generation.
                        if self.word.muted(slot) && !word.muted(slot) {
                            assert_eq!(self.guests[slot.index()], None, "a fenced member was unmuted");
                        }
                    }
                    self.word = word;
                }
                Action::Watch { .. } => {
                    assert_ne!(self.watched, Some(self.word.epoch()), "a count was begun anew");
                    self.watched = Some(self.word.epoch());
                    self.under_way.push((self.now + self.quiet_after, action));
                }
                Action::Unwatch => {
                    assert_eq!(self.watched.take(), Some(self.word.epoch()), "nobody counts");
                }
                Action::Announce => self.announced += 1,
                Action::Tell { counts_resets } => self.told.push(counts_resets),
                Action::Save(saved) => {
                    if let Some(old) = &self.saved {
                        assert!(saved.ceiling >= old.ceiling, "the saved epoch went back");
                    }
                    self.saved = Some(saved);
                }
                Action::ClearSigns(slot) => self.signs[slot.index()] = Signs::default(),
                Action::Record(entry) => self.history.push((self.now, entry)),
                Action::Answer(id, answer) => {
                    assert!(self.answers.insert(id, answer).is_none(), "request {id} was answered twice");
                }
                Action::Start { slot, generation } => {
                    let saved = self.saved.as_ref().expect("a generation is saved before it is used");
                    assert!(saved.generations[slot.index()] >= generation, "not saved before it is used");
                    assert_eq!(self.guests[slot.index()], None, "started over a member that still runs");
                    assert!(!self.volumes[slot.index()].contains(&generation), "a volume was used twice");
                    self.under_way.push((self.now + self.latency, action));
                }
                Action::Stop { slot, .. } => {
                    assert!(self.word.muted(slot), "ended before it was muted");
                    self.under_way.push((self.now + self.latency, action));
                }
                Action::Release { slot, generation } => {
                    let runs = self.guests[slot.index()].is_some_and(|guest| guest.generation == generation);
                    assert!(!runs, "storage was released under a running member");
                    self.under_way.push((self.now + self.latency, action));
                }
                Action::AskRunning => self.under_way.push((self.now + self.latency, action)),
            }
        }
        assert!(self.word.epoch().0 <= self.saved.as_ref().map_or(u64::MAX, |saved| saved.ceiling));
    }

    fn without_handover(&self) -> RoleWord {
        self.word.with_handover(false).with_protect(false).with_gate(false)
    }

    pub(super) fn feed(&mut self, event: Event) {
        let (state, actions) = step(self.state.clone(), event, self.now);
        self.next_look = state.next_look(self.now);
        self.state = state;
        self.execute(actions);
    }

    pub(super) fn look(&mut self) {
        let mut glanced = self.state.clone();
        if let Some(next) = glanced.glance(self.signs, self.tripped, self.now) {
            let event = Event::Observed { signs: self.signs, tripped: self.tripped };
            let (stepped, actions) = step(self.state.clone(), event, self.now);
            assert_eq!(actions, [], "a glance overlooks what is to be done");
            assert_eq!((&glanced, next), (&stepped, stepped.next_look(self.now)), "a glance is a step");
            self.glances += 1;
        }
        let mut quick = self.state.clone();
        if let Some(word) = quick.plain_flip(self.signs, self.tripped, self.now) {
            let event = Event::Observed { signs: self.signs, tripped: self.tripped };
            let (from_here, from_there) =
                (step(self.state.clone(), event.clone(), self.now), step(quick, event, self.now));
            assert_eq!(from_here, from_there, "it has taken in nothing else");
            assert_eq!(from_here.1.first(), Some(&Action::SetRole(word)), "a plain flip is a step");
            self.plain_flips += 1;
        }
        self.feed(Event::Observed { signs: self.signs, tripped: self.tripped });
    }

    pub(super) fn ask(&mut self, id: u64, request: Request) {
        self.look();
        self.feed(Event::Request(id, request));
    }

    fn finish(&mut self, asked_at: Nanos, action: &Action) {
        let down = || Err("failed to connect to the hypervisor".to_owned());
        match *action {
            Action::Start { slot, generation } => {
                let result = if !self.hypervisor_up {
                    down()
                } else if let Some(why) = self.starts_fail {
                    Err(why.to_owned())
                } else {
                    self.volumes[slot.index()].push(generation);
                    self.guests[slot.index()] = Some(Guest {
                        generation,
                        serves_at: self.now + self.boot,
                        state: heartbeat::State::Serving,
                        frozen: false,
                        agent_dead: false,
                    });
                    Ok(())
                };
                self.feed(Event::Started { slot, generation, result });
            }
            Action::Stop { slot, generation } => {
                let result = if self.hypervisor_up {
                    let guest = &mut self.guests[slot.index()];
                    if guest.is_some_and(|guest| guest.generation == generation) {
                        *guest = None;
                    }
                    Ok(())
                } else {
                    down()
                };
                self.feed(Event::Stopped { slot, generation, result });
            }
            Action::Release { slot, generation } => {
                let result = if self.hypervisor_up {
                    self.volumes[slot.index()].retain(|volume| *volume != generation);
                    Ok(())
                } else {
                    down()
                };
                self.feed(Event::Released { slot, generation, result });
            }
            Action::Watch { since, .. } => self.feed(Event::Quiet { since }),
            Action::AskRunning if self.hypervisor_up => {
                let list = Slot::BOTH
                    .into_iter()
                    .filter_map(|slot| self.guests[slot.index()].map(|guest| (slot, guest.generation)))
                    .collect();
                self.feed(Event::Running { list, asked_at });
            }
            _ => {}
        }
    }

    /// One millisecond of everything: guests beat every 2 ms, operations end, the controller looks when it wants to.
    pub(super) fn tick(&mut self) {
        self.now += MS;
        let mut changed = false;
        for slot in Slot::BOTH {
            let i = slot.index();
            let Some(guest) = self.guests[i] else { continue };
            if guest.frozen || guest.agent_dead || self.word.muted(slot) || !self.now.is_multiple_of(2 * MS) {
                continue;
            }
            let state = if self.now < guest.serves_at { heartbeat::State::Starting } else { guest.state };
            let signs = &mut self.signs[i];
            changed |= signs.state != Some(state);
            if self.now - signs.last > 8 * MS {
                signs.streak_since = self.now;
            }
            signs.last = self.now;
            signs.state = Some(state);
        }
        let (done, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.under_way).into_iter().partition(|(at, _)| *at <= self.now);
        self.under_way = rest;
        for (at, action) in done {
            self.finish(at - self.latency, &action);
        }
        if changed || self.next_look <= self.now {
            self.look();
        }
        let active = self.word.active();
        if self.word.held()
            && !self.word.muted(active)
            && self.guests[active.index()].is_some_and(|guest| !guest.frozen && self.now >= guest.serves_at)
        {
            self.spoke.push((self.now, active));
        }
    }

    pub(super) fn run(&mut self, time: Nanos) {
        let end = self.now + time;
        while self.now < end {
            self.tick();
        }
    }

    pub(super) fn run_until_protected(&mut self, within: Nanos) {
        let end = self.now + within;
        while self.state.health.protection != Protection::Protected {
            assert!(self.now < end, "not protected within {} ms: {:#?}", within / MS, self.state);
            self.tick();
        }
    }

    /// The hypervisor's process dies, and nobody says so.
    pub(super) fn kill(&mut self, slot: Slot) {
        self.guests[slot.index()] = None;
    }

    pub(super) fn guest(&mut self, slot: Slot) -> &mut Guest {
        self.guests[slot.index()].as_mut().expect("a guest runs there")
    }

    pub(super) fn kinds(&self) -> Vec<RecordKind> {
        self.history.iter().map(|(_, entry)| entry.kind).collect()
    }

    pub(super) fn last(&self, kind: RecordKind) -> &(Nanos, Entry) {
        self.history.iter().rev().find(|(_, entry)| entry.kind == kind).expect("it is in the history")
    }

    pub(super) fn serving(&self, slot: Slot) -> bool {
        self.state.place(slot).phase == Phase::Serving
    }

    /// Longest time in which nobody spoke, since `since`.
    pub(super) fn gap(&self, since: Nanos) -> Nanos {
        let mut last = since;
        let mut gap = 0;
        for (at, _) in self.spoke.iter().filter(|(at, _)| *at >= since) {
            gap = gap.max(at - last);
            last = *at;
        }
        gap.max(self.now - last)
    }
}
