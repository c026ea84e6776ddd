//! The one thread that looks, decides and flips.
//!
//! It sleeps until the next moment at which a member could be called silent, or until an event comes. A pair costs
//! nothing before its moment has come (`agenda.rs`), and a healthy one next to nothing then ([`State::glance`]).
//!
//! Flips come first: of what a pair wants done, only what is a store into mapped memory is done on the spot. The rest
//! (records, announcements, members' ends and beginnings) is put aside until nobody's moment has come any more, so that of
//! a hundred members that die at once the last is not kept waiting by what is told about the first. From waking to the
//! changed role word there is no system call but the clock's.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hotpair_abi::{PairId, RoleWord, Slot};
use tokio::sync::oneshot;

use super::account::{Account, Counts};
use super::agenda::Agenda;
use super::nudge::Turn;
use super::{PairFacts, Shared, boottime, execute, history, priority, wall_ms};
use crate::api::types::{Done, Protection, Record, RecordKind, Refusal};
use crate::pair::{self, Action, Event, Request, RequestId, Signs, State, step};

/// What is done between two looks at the clock, so that nobody whose moment has come waits for long.
const AT_ONCE: usize = 64;
/// The longest sleep: the watchdog wants to see the engine go round.
const SLEEP: pair::Nanos = 1_000_000_000;

/// What the API asks the engine.
pub(crate) enum Ask {
    /// How the pairs are, in their order, or how one is.
    Report(Option<PairId>, oneshot::Sender<Vec<Snapshot>>),
    /// How many are how well.
    Tally(oneshot::Sender<Tally>),
    Request {
        pair: PairId,
        request: Request,
        answer: oneshot::Sender<Result<Done, Refusal>>,
    },
}

/// A pair as it was when the engine passed it.
pub(crate) struct Snapshot {
    pub(crate) state: State,
    pub(crate) last_change: Option<Arc<Record>>,
}

/// How many pairs are how well.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) protected: usize,
    pub(crate) unprotected: usize,
    pub(crate) down: usize,
}

enum Message {
    Pair(PairId, Event),
    /// The same for every pair.
    Everyone(Event),
    /// Look at this pair now.
    Look(PairId),
    Ask(Ask),
    /// What has become of a pair's connections at its last change of role.
    Carried(PairId, Account),
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

    pub(crate) fn everyone(&self, event: Event) {
        self.send(Message::Everyone(event));
    }

    pub(crate) fn look(&self, pair: PairId) {
        self.send(Message::Look(pair));
    }

    pub(crate) fn ask(&self, ask: Ask) {
        self.send(Message::Ask(ask));
    }

    pub(crate) fn carried(&self, pair: PairId, account: Account) {
        self.send(Message::Carried(pair, account));
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
    last_change: Option<Arc<Record>>,
}

/// What a pair has decided and what can wait for a moment.
struct Aside {
    index: usize,
    actions: Vec<Action>,
    at_ms: u64,
    /// From the decision to the changed role word.
    flip: Option<Duration>,
    carried: Option<Account>,
}

/// A report under way: the pairs that are still to be told about, and what was told.
struct Report {
    pairs: Range<usize>,
    snapshots: Vec<Snapshot>,
    answer: oneshot::Sender<Vec<Snapshot>>,
}

struct Engine {
    shared: Arc<Shared>,
    pairs: Vec<Driven>,
    agenda: Agenda,
    aside: VecDeque<Aside>,
    reports: VecDeque<Report>,
    requests: HashMap<RequestId, (usize, oneshot::Sender<Result<Done, Refusal>>)>,
    next_request: RequestId,
}

/// A pair with what its state machine begins with.
pub(crate) type Begun = (Arc<PairFacts>, (State, Vec<Action>));

/// Starts it on the pairs, which are those of `shared.pairs` in their order.
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
            Engine::new(shared, begun).run(&outbox);
        })
        .expect("a thread can be started")
}

/// Has a pair's connections told who speaks under this word, if they are carried over.
fn tell(shared: &Shared, facts: &PairFacts, word: RoleWord, counts: Counts) {
    if facts.carries_tcp() {
        shared.nudger.turned(Turn { id: facts.id, mac: facts.mac, epoch: word.epoch(), counts });
    }
}

impl Engine {
    fn new(shared: Arc<Shared>, begun: Vec<Begun>) -> Engine {
        let mut engine = Engine {
            shared,
            pairs: Vec::new(),
            agenda: Agenda::default(),
            aside: VecDeque::new(),
            reports: VecDeque::new(),
            requests: HashMap::new(),
            next_request: 1,
        };
        for (index, (facts, (state, actions))) in begun.into_iter().enumerate() {
            let last_change = engine.shared.history.last_change(&facts.config.name);
            engine.agenda.add();
            engine.pairs.push(Driven { facts, state, last_change });
            engine.execute(index, actions, Instant::now(), None);
        }
        engine
    }

    fn run(&mut self, outbox: &Outbox) {
        self.go_round(outbox);
        // The history has whom the last change of role has reset.
        self.shared.nudger.finish();
        while let Ok(message) = outbox.0.try_recv() {
            if let Message::Carried(..) = message {
                self.receive(message);
            }
        }
        while let Some(aside) = self.aside.pop_front() {
            self.carry_out(aside);
        }
    }

    fn go_round(&mut self, outbox: &Outbox) {
        loop {
            self.shared.pulse.fetch_add(1, Ordering::Relaxed);
            self.look_around();
            match outbox.0.try_recv() {
                Ok(message) => {
                    if !self.receive(message) {
                        return;
                    }
                    continue;
                }
                Err(mpsc::TryRecvError::Disconnected) => return,
                Err(mpsc::TryRecvError::Empty) => {}
            }
            if self.catch_up() {
                continue;
            }
            let now = boottime();
            let next = self.agenda.next().unwrap_or(u64::MAX).min(now + SLEEP);
            match outbox.0.recv_timeout(Duration::from_nanos(next.saturating_sub(now))) {
                Ok(message) => {
                    // What is due goes before what has just come: a flood of events must not hide a silence.
                    self.look_around();
                    if !self.receive(message) {
                        return;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
        }
    }

    /// Looks at every pair whose moment has come.
    fn look_around(&mut self) {
        let now = boottime();
        if self.agenda.is_due(now) {
            while let Some(index) = self.agenda.take(now) {
                self.look(index);
            }
        }
    }

    /// `false`: it was the last one.
    fn receive(&mut self, message: Message) -> bool {
        match message {
            Message::Pair(id, event) => {
                if let Some(index) = self.shared.pairs.position(id) {
                    self.look(index);
                    self.step(index, event);
                }
            }
            Message::Everyone(event) => {
                for index in 0..self.pairs.len() {
                    self.look(index);
                    self.step(index, event.clone());
                }
            }
            Message::Look(id) => {
                if let Some(index) = self.shared.pairs.position(id) {
                    self.look(index);
                }
            }
            Message::Ask(ask) => self.ask(ask),
            Message::Carried(id, account) => {
                if let Some(index) = self.shared.pairs.position(id) {
                    // Behind the change of role in the history: that was put aside before.
                    let (actions, carried) = (Vec::new(), Some(account));
                    self.aside.push_back(Aside { index, actions, at_ms: wall_ms(), flip: None, carried });
                }
            }
            Message::Stop => return false,
        }
        true
    }

    /// Does a little of what can wait; `false` when nothing waits.
    fn catch_up(&mut self) -> bool {
        if !self.aside.is_empty() {
            for aside in self.aside.drain(..AT_ONCE.min(self.aside.len())).collect::<Vec<_>>() {
                self.carry_out(aside);
            }
            return true;
        }
        // After all that was put aside: who sees a changed role finds its record.
        let Some(report) = self.reports.front_mut() else { return false };
        let Range { start, end } = report.pairs;
        report.pairs.start = end.min(start + AT_ONCE);
        report.snapshots.extend(
            self.pairs[start..report.pairs.start]
                .iter()
                .map(|pair| Snapshot { state: pair.state.clone(), last_change: pair.last_change.clone() }),
        );
        if report.pairs.is_empty()
            && let Some(Report { snapshots, answer, .. }) = self.reports.pop_front()
        {
            let _ = answer.send(snapshots);
        }
        true
    }

    /// Reads the signs of life and draws conclusions.
    fn look(&mut self, index: usize) {
        let pair = &mut self.pairs[index];
        let (id, plane) = (pair.facts.id, &self.shared.plane);
        let signs = Slot::BOTH.map(|slot| Signs::from(&plane.member(id, slot)));
        let tripped = plane.tripped(id);
        let now = boottime();
        match pair.state.glance(signs, tripped, now) {
            Some(next) => self.agenda.set(index, next, now),
            None => {
                let decided = Instant::now();
                let flip = pair.state.plain_flip(signs, tripped, now).map(|word| {
                    plane.set_role(id, word);
                    let flip = decided.elapsed();
                    tell(&self.shared, &pair.facts, word, Counts::All);
                    flip
                });
                self.step_at(index, Event::Observed { signs, tripped }, now, flip);
            }
        }
    }

    fn step(&mut self, index: usize, event: Event) {
        self.step_at(index, event, boottime(), None);
    }

    /// `flip`: how long it took, if the role word that will come of this is written already.
    fn step_at(&mut self, index: usize, event: Event, now: pair::Nanos, flip: Option<Duration>) {
        let decided = Instant::now();
        let pair = &mut self.pairs[index];
        let (state, actions) = step(pair.state.clone(), event, now);
        self.agenda.set(index, state.next_look(now), now);
        pair.state = state;
        self.execute(index, actions, decided, flip);
    }

    /// Does what is a matter of nanoseconds, and puts the rest aside.
    fn execute(
        &mut self,
        index: usize,
        mut actions: Vec<Action>,
        decided: Instant,
        mut flip: Option<Duration>,
    ) {
        let id = self.pairs[index].facts.id;
        let plane = &self.shared.plane;
        let tell = |word, counts| tell(&self.shared, &self.pairs[index].facts, word, counts);
        actions.retain(|action| {
            match action {
                Action::SetRole(word) => {
                    let before = plane.role(id);
                    plane.set_role(id, *word);
                    flip.get_or_insert_with(|| decided.elapsed());
                    if before.active() != word.active() {
                        tell(*word, Counts::All);
                    }
                }
                Action::Tell { counts_resets } => {
                    tell(plane.role(id), if *counts_resets { Counts::Resets } else { Counts::Nothing });
                }
                Action::ClearSigns(slot) => plane.clear_member(id, *slot),
                Action::Watch { .. } => {
                    plane.watch(id);
                    // Who waits for the moment may come later.
                    return true;
                }
                Action::Unwatch => plane.unwatch(id),
                _ => return true,
            }
            false
        });
        if !actions.is_empty() {
            self.aside.push_back(Aside { index, actions, at_ms: wall_ms(), flip, carried: None });
        }
    }

    fn carry_out(&mut self, aside: Aside) {
        let Aside { index, actions, at_ms, flip, carried } = aside;
        if let Some(account) = carried {
            self.account(index, &account, at_ms);
        }
        for action in actions {
            let facts = Arc::clone(&self.pairs[index].facts);
            match action {
                Action::Save(saved) => self.shared.store.save(&facts.config.name, saved),
                Action::Announce => {
                    let _ = self.shared.announce.send(facts.config.entry.clone());
                }
                Action::Record(entry) => self.record(index, entry, at_ms, flip),
                Action::Answer(id, answer) => self.answer(id, answer),
                Action::Watch { .. }
                | Action::Start { .. }
                | Action::Stop { .. }
                | Action::Release { .. }
                | Action::AskRunning => execute::spawn(&self.shared, facts, action),
                Action::SetRole(_) | Action::Tell { .. } | Action::ClearSigns(_) | Action::Unwatch => {}
            }
        }
    }

    /// Tells what has become of the connections.
    fn account(&mut self, index: usize, account: &Account, at_ms: u64) {
        let Some(text) = account.text() else { return };
        let pair = &self.pairs[index];
        let (epoch, slot) = (account.epoch.0, account.slot);
        self.keep(
            index,
            Record {
                at_ms,
                pair: pair.facts.config.name.clone(),
                kind: RecordKind::Connections,
                slot: Some(slot as u8),
                generation: Some(pair.state.place(slot).generation),
                epoch_before: epoch,
                epoch_after: epoch,
                detected_by: None,
                detect_us: None,
                flip_us: None,
                connections: Some(account.carried),
                text,
            },
        );
    }

    fn record(&mut self, index: usize, entry: pair::Entry, at_ms: u64, flip: Option<Duration>) {
        let changed = entry.epoch_before != entry.epoch_after;
        let record = Record {
            at_ms,
            pair: self.pairs[index].facts.config.name.clone(),
            kind: entry.kind,
            slot: entry.slot.map(|slot| slot as u8),
            generation: entry.generation,
            epoch_before: entry.epoch_before.0,
            epoch_after: entry.epoch_after.0,
            detected_by: entry.detected_by.map(|sign| sign.name().to_owned()),
            detect_us: entry.detect.map(|detect| u64::try_from(detect.as_micros()).unwrap_or(u64::MAX)),
            flip_us: flip.filter(|_| changed).map(|flip| flip.as_secs_f64() * 1e6),
            connections: None,
            text: entry.text,
        };
        self.keep(index, record);
    }

    fn keep(&mut self, index: usize, record: Record) {
        let record = Arc::new(record);
        tracing::info!(
            pair = %record.pair, kind = ?record.kind, epoch = record.epoch_after, detect_us = record.detect_us,
            flip_us = record.flip_us, "{}", record.text
        );
        if history::is_role_change(record.kind) {
            self.pairs[index].last_change = Some(Arc::clone(&record));
        }
        self.shared.meters.count(&record);
        self.shared.store.record(Arc::clone(&record));
        self.shared.history.add(record);
    }

    fn ask(&mut self, ask: Ask) {
        match ask {
            Ask::Report(of, answer) => {
                let pairs = match of.map(|id| self.shared.pairs.position(id)) {
                    None => 0..self.pairs.len(),
                    Some(Some(index)) => index..index + 1,
                    Some(None) => 0..0,
                };
                self.reports.push_back(Report { pairs, snapshots: Vec::new(), answer });
            }
            Ask::Tally(answer) => {
                let mut tally = Tally::default();
                for pair in &self.pairs {
                    *match pair.state.health.protection {
                        Protection::Protected => &mut tally.protected,
                        Protection::Unprotected => &mut tally.unprotected,
                        Protection::Down => &mut tally.down,
                    } += 1;
                }
                let _ = answer.send(tally);
            }
            Ask::Request { pair, request, answer } => {
                let Some(index) = self.shared.pairs.position(pair) else { return };
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
