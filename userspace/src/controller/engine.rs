//! The one thread that looks, decides and flips.
//!
//! It sleeps until the next moment at which a member could be called silent, or until an event comes. From waking to
//! the changed role word it makes no system call but the clock's.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hotpair_abi::{PairId, Slot};
use tokio::sync::oneshot;

use super::{PairFacts, Shared, boottime, execute, priority, report, wall_ms};
use crate::api::types::{Done, PairStatus, Record, Refusal};
use crate::pair::{self, Action, Event, Request, RequestId, Signs, State, step};
use crate::store::HISTORY_LINES;

/// What the API asks the engine.
pub(crate) enum Ask {
    Report(oneshot::Sender<Vec<PairStatus>>),
    Request { pair: String, request: Request, answer: oneshot::Sender<Result<Done, Refusal>> },
}

enum Message {
    Pair(PairId, Event),
    /// Look at this pair now.
    Look(PairId),
    Ask(Ask),
    Stop,
}

/// Where events go in.
#[derive(Clone)]
pub(crate) struct Inbox(Arc<Mutex<mpsc::Sender<Message>>>);

impl Inbox {
    fn send(&self, message: Message) {
        // Once the engine has ended nobody is interested any more.
        let _ = self.0.lock().expect("sending does not panic").send(message);
    }

    pub(crate) fn event(&self, pair: PairId, event: Event) {
        self.send(Message::Pair(pair, event));
    }

    pub(crate) fn look(&self, pair: PairId) {
        self.send(Message::Look(pair));
    }

    pub(crate) fn ask(&self, ask: Ask) {
        self.send(Message::Ask(ask));
    }

    pub(crate) fn stop(&self) {
        self.send(Message::Stop);
    }
}

pub(crate) struct Outbox(mpsc::Receiver<Message>);

pub(crate) fn channel() -> (Inbox, Outbox) {
    let (sender, receiver) = mpsc::channel();
    (Inbox(Arc::new(Mutex::new(sender))), Outbox(receiver))
}

/// A pair and what goes on with it.
struct Driven {
    facts: Arc<PairFacts>,
    state: State,
    next_look: pair::Nanos,
    last_change: Option<Record>,
}

struct Engine {
    shared: Arc<Shared>,
    pairs: Vec<Driven>,
    by_id: HashMap<PairId, usize>,
    requests: HashMap<RequestId, (usize, oneshot::Sender<Result<Done, Refusal>>)>,
    next_request: RequestId,
}

/// A pair with what its state machine begins with.
pub(crate) type Begun = (Arc<PairFacts>, (State, Vec<Action>));

pub(crate) fn spawn(shared: Arc<Shared>, begun: Vec<Begun>, outbox: Outbox) -> JoinHandle<()> {
    std::thread::Builder::new()
        .name("engine".into())
        .spawn(move || {
            if let Err(why) = priority::raise() {
                tracing::warn!(
                    %why,
                    "the engine runs at ordinary priority: a busy host may delay failovers (needs CAP_SYS_NICE)"
                );
            }
            let mut engine = Engine {
                shared,
                pairs: Vec::new(),
                by_id: HashMap::new(),
                requests: HashMap::new(),
                next_request: 1,
            };
            for (facts, (state, actions)) in begun {
                let last_change = report::last_change(&engine.shared, &facts.config.name);
                engine.by_id.insert(facts.id, engine.pairs.len());
                engine.pairs.push(Driven { facts, state, next_look: 0, last_change });
                engine.execute(engine.pairs.len() - 1, actions, Instant::now());
            }
            engine.run(&outbox);
        })
        .expect("a thread can be started")
}

impl Engine {
    fn run(&mut self, outbox: &Outbox) {
        loop {
            self.shared.pulse.fetch_add(1, Ordering::Relaxed);
            let now = boottime();
            let next = self.pairs.iter().map(|pair| pair.next_look).min().unwrap_or(now + 1_000_000_000);
            let message = if next <= now {
                outbox.0.try_recv().map_err(|_| RecvTimeoutError::Timeout)
            } else {
                outbox.0.recv_timeout(Duration::from_nanos(next - now))
            };
            match message {
                Ok(Message::Pair(id, event)) => {
                    if let Some(&index) = self.by_id.get(&id) {
                        self.look(index);
                        self.step(index, event);
                    }
                }
                Ok(Message::Look(id)) => {
                    if let Some(&index) = self.by_id.get(&id) {
                        self.look(index);
                    }
                }
                Ok(Message::Ask(ask)) => self.ask(ask),
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
            let now = boottime();
            for index in 0..self.pairs.len() {
                if self.pairs[index].next_look <= now {
                    self.look(index);
                }
            }
        }
    }

    /// Reads the signs of life and draws conclusions.
    fn look(&mut self, index: usize) {
        let id = self.pairs[index].facts.id;
        let plane = &self.shared.plane;
        let signs = Slot::BOTH.map(|slot| Signs::from(&plane.member(id, slot)));
        let tripped = plane.tripped(id);
        self.step(index, Event::Observed { signs, tripped });
    }

    fn step(&mut self, index: usize, event: Event) {
        let decided = Instant::now();
        let pair = &mut self.pairs[index];
        let now = boottime();
        let (state, actions) = step(pair.state.clone(), event, now);
        pair.next_look = state.next_look(now);
        pair.state = state;
        self.execute(index, actions, decided);
    }

    fn execute(&mut self, index: usize, actions: Vec<Action>, decided: Instant) {
        let mut flip = None;
        for action in actions {
            let facts = Arc::clone(&self.pairs[index].facts);
            match action {
                Action::SetRole(word) => {
                    self.shared.plane.set_role(facts.id, word);
                    flip = Some(decided.elapsed());
                }
                Action::ClearSigns(slot) => self.shared.plane.clear_member(facts.id, slot),
                Action::Save(saved) => self.shared.store.save(&facts.config.name, saved),
                Action::Announce => {
                    let _ = self.shared.announce.send(facts.config.entry.clone());
                }
                Action::Record(entry) => self.record(index, entry, flip),
                Action::Answer(id, answer) => self.answer(id, answer),
                Action::Start { .. } | Action::Stop { .. } | Action::Release { .. } | Action::AskRunning => {
                    execute::spawn(&self.shared, facts, action);
                }
            }
        }
    }

    fn record(&mut self, index: usize, entry: pair::Entry, flip: Option<Duration>) {
        let pair = &mut self.pairs[index];
        let changed = entry.epoch_before != entry.epoch_after;
        let record = Record {
            at_ms: wall_ms(),
            pair: pair.facts.config.name.clone(),
            kind: entry.kind,
            slot: entry.slot.map(|slot| slot as u8),
            generation: entry.generation,
            epoch_before: entry.epoch_before.0,
            epoch_after: entry.epoch_after.0,
            detected_by: entry.detected_by.map(|sign| sign.name().to_owned()),
            detect_us: entry.detect.map(|detect| u64::try_from(detect.as_micros()).unwrap_or(u64::MAX)),
            flip_us: flip.filter(|_| changed).map(|flip| flip.as_secs_f64() * 1e6),
            text: entry.text,
        };
        tracing::info!(
            pair = %record.pair, kind = ?record.kind, epoch = record.epoch_after, detect_us = record.detect_us,
            flip_us = record.flip_us, "{}", record.text
        );
        if super::is_role_change(record.kind) {
            pair.last_change = Some(record.clone());
        }
        self.shared.meters.count(&record);
        self.shared.store.record(record.clone());
        let mut history = self.shared.history.lock().expect("nobody panics with it");
        let lines = history.entry(record.pair.clone()).or_default();
        lines.push_back(record);
        if lines.len() > HISTORY_LINES {
            lines.pop_front();
        }
    }

    fn ask(&mut self, ask: Ask) {
        match ask {
            Ask::Report(answer) => {
                let now = boottime();
                let pairs = self
                    .pairs
                    .iter()
                    .map(|pair| {
                        report::pair(&self.shared, &pair.facts, &pair.state, pair.last_change.as_ref(), now)
                    })
                    .collect();
                let _ = answer.send(pairs);
            }
            Ask::Request { pair, request, answer } => {
                let Some(index) = self.pairs.iter().position(|driven| driven.facts.config.name == pair)
                else {
                    return;
                };
                let id = self.next_request;
                self.next_request += 1;
                self.requests.insert(id, (index, answer));
                self.look(index);
                self.step(index, Event::Request(id, request));
            }
        }
    }

    fn answer(&mut self, id: RequestId, answer: Result<String, Refusal>) {
        if let Some((index, asker)) = self.requests.remove(&id) {
            let epoch = self.pairs[index].state.epoch.0;
            let _ = asker.send(answer.map(|text| Done { text, epoch }));
        }
    }
}
