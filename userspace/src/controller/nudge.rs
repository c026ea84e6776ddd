//! After a takeover: every TCP connection of the pair is told at once, so that nobody waits for a timer, and it is counted
//! which of them go on. A thread of its own: the flip must not wait for it, and it must not wait for what the flip has put
//! aside.

use std::collections::HashMap;
use std::io;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use hotpair_abi::maps::Tuple;
use hotpair_abi::tcp::connection::{CLOSED, Scene};
use hotpair_abi::tcp::pure::Pure;
use hotpair_abi::{Epoch, GATEWAY_MAC, PairId, Slot};

use super::account::{Account, Counts, Resets, Told, may_be_untold};
use super::{boottime, engine};
use crate::dataplane::Dataplane;
use crate::network::{Link, Segments, Towards};

/// How long a controller that stops waits until everybody has been told: the next one tells them again.
const PATIENCE: Duration = Duration::from_secs(3);

/// A pair whose connections are to be told who speaks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    /// The pair.
    pub(super) id: PairId,
    /// Its members' MAC.
    pub(super) mac: [u8; 6],
    /// Since when it is so.
    pub(super) epoch: Epoch,
    /// What is counted.
    pub(super) counts: Counts,
}

/// Where turns are reported.
#[derive(Debug)]
pub(crate) struct Nudger {
    /// Nothing for the end.
    turns: mpsc::Sender<Option<Turn>>,
    /// Closed by the thread's end.
    ended: Mutex<mpsc::Receiver<()>>,
}

impl Nudger {
    /// Starts the thread.
    pub(super) fn start(plane: Arc<Dataplane>, uplink: Link, engine: engine::Inbox) -> io::Result<Nudger> {
        let mut resets = Resets::default();
        Nudger::with(move |turns| {
            for (pair, account) in nudge(&plane, &uplink, turns, &mut resets) {
                engine.carried(pair, account);
            }
        })
    }

    fn with(mut nudge: impl FnMut(&[Turn]) + Send + 'static) -> io::Result<Nudger> {
        let (turns, inbox) = mpsc::channel();
        let (end, ended) = mpsc::channel();
        thread::Builder::new().name("hotpair-nudge".into()).spawn(move || {
            // The engine says what it means when this is refused.
            let _ = super::priority::raise();
            let mut waiting = Vec::new();
            let mut goes_on = true;
            while goes_on || !waiting.is_empty() {
                if waiting.is_empty() {
                    goes_on = take_in(inbox.recv().ok(), &mut waiting);
                }
                while goes_on && let Ok(turn) = inbox.try_recv() {
                    goes_on = take_in(Some(turn), &mut waiting);
                }
                let next = next(&mut waiting);
                if !next.is_empty() {
                    nudge(&next);
                }
            }
            drop(end);
        })?;
        Ok(Nudger { turns, ended: Mutex::new(ended) })
    }

    /// Has a pair's connections told who speaks.
    pub(super) fn turned(&self, turn: Turn) {
        // Once the thread has ended nobody is interested any more.
        let _ = self.turns.send(Some(turn));
    }

    /// Waits until all that was reported is told, but not for ever.
    pub(super) fn finish(&self) {
        let _ = self.turns.send(None);
        let ended = self.ended.lock().expect("waiting does not panic").recv_timeout(PATIENCE);
        if ended == Err(RecvTimeoutError::Timeout) {
            tracing::warn!(
                "not every connection could be told of the takeover: the next controller tells them"
            );
        }
    }
}

/// Whether there may be another turn after this one.
fn take_in(turn: Option<Option<Turn>>, waiting: &mut Vec<Turn>) -> bool {
    let Some(Some(turn)) = turn else { return false };
    waiting.push(turn);
    true
}

/// Takes out what is served next: a change of role by itself, and before all that merely may not have been told, which takes one look
/// at the table together.
fn next(waiting: &mut Vec<Turn>) -> Vec<Turn> {
    match waiting.iter().position(|turn| turn.counts != Counts::Nothing) {
        Some(at) => vec![waiting.remove(at)],
        None => std::mem::take(waiting),
    }
}

/// Tells pairs' connections; what has become of those of each.
fn nudge(plane: &Dataplane, uplink: &Link, turns: &[Turn], resets: &mut Resets) -> Vec<(PairId, Account)> {
    let now = boottime();
    let is_overtaken = |turn: &Turn| plane.role(turn.id).epoch() != turn.epoch;
    let turns: Vec<_> = turns.iter().filter(|turn| !is_overtaken(turn)).collect();
    let scenes: HashMap<u32, _> =
        turns.iter().map(|turn| (turn.id.0, (turn.counts, plane.scene(turn.id, now)))).collect();
    let mut connections: HashMap<u32, Vec<_>> = HashMap::new();
    // Where they come and go, most are over, and the table is large: they are not carried along.
    let read = plane.each_connection(|tuple, connection| {
        if connection.flags & CLOSED == 0
            && let Some((counts, scene)) = scenes.get(&connection.pair)
            && (*counts != Counts::Nothing || may_be_untold(connection, scene))
        {
            connections.entry(connection.pair).or_default().push((*tuple, *connection));
        }
    });
    if let Err(error) = read {
        tracing::warn!(%error, "the connections cannot be read: each goes on with its own timer");
        return Vec::new();
    }
    let mut accounts = Vec::new();
    for turn in turns {
        let Some(connections) = connections.get(&turn.id.0) else { continue };
        let scene = plane.scene(turn.id, boottime());
        // After that: a later change of role has a turn of its own, and what is seen here may be of that already.
        if is_overtaken(turn) {
            continue;
        }
        let (told, account) = resets.tell((turn.id, turn.epoch, turn.counts), connections, &scene);
        if !told.is_empty() {
            tell(plane, uplink, *turn, &scene, &told);
        }
        accounts.push((turn.id, account));
    }
    accounts
}

fn tell(plane: &Dataplane, uplink: &Link, turn: Turn, scene: &Scene, told: &[Told]) {
    let speaker = Slot::from_bit(u64::from(scene.speaker));
    let tap = plane.tap_index(turn.id, speaker);
    let (member, client) = match (Segments::open(tap), Segments::open(uplink.index)) {
        (Ok(member), Ok(client)) => (member, client),
        (Err(error), _) | (_, Err(error)) => {
            tracing::warn!(%error, "nobody can be told of the takeover: each connection goes on with its own timer");
            return;
        }
    };
    // It may be gone.
    let other = Segments::open(plane.tap_index(turn.id, speaker.other())).ok();
    let said = said_to_all(told, [turn.mac, GATEWAY_MAC], uplink.mac, |said| {
        let (link, towards) = match said.to {
            To::Speaker => (Some(&member), Towards::Member),
            To::Other => (other.as_ref(), Towards::Member),
            To::Client => (Some(&client), Towards::Client),
        };
        let said_it =
            link.map_or(Ok(()), |link| link.send(said.tuple, towards, said.macs, said.pure, said.payload));
        // Who hangs does not take it, and need not be told.
        if said.to == To::Other { Ok(()) } else { said_it }
    });
    if let Err(error) = said {
        tracing::warn!(%error, "not every connection could be told of the takeover");
    }
}

/// Who is told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum To {
    Speaker,
    /// The member that spoke before.
    Other,
    Client,
}

/// One segment of those that tell a connection.
struct Said<'a> {
    tuple: &'a Tuple,
    to: To,
    macs: [[u8; 6]; 2],
    pure: &'a Pure,
    payload: &'static [u8],
}

/// Says everything to everybody, whatever becomes of the rest. What was refused, as a queue was full, is said once more when
/// all else has been.
fn said_to_all(
    told: &[Told],
    member: [[u8; 6]; 2],
    uplink: [u8; 6],
    mut say: impl FnMut(&Said) -> io::Result<()>,
) -> io::Result<()> {
    let all = told.iter().flat_map(|(tuple, connection, nudge)| {
        let client = [connection.mac, uplink];
        [
            Said { tuple, to: To::Speaker, macs: member, pure: &nudge.member, payload: &[] },
            Said { tuple, to: To::Speaker, macs: member, pure: &nudge.old_byte, payload: &[0] },
            Said { tuple, to: To::Client, macs: client, pure: &nudge.client, payload: &[] },
            Said { tuple, to: To::Other, macs: member, pure: &nudge.other, payload: &[] },
        ]
    });
    let refused: Vec<_> = all.filter(|said| said.pure.any() && say(said).is_err()).collect();
    let mut result = Ok(());
    for said in &refused {
        result = result.and(say(said));
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use hotpair_abi::tcp::connection::Connection;
    use hotpair_abi::tcp::nudge::Nudge;
    use hotpair_abi::tcp::segment::ACK;

    #[test]
    fn who_stops_waits_until_all_are_told() {
        let (told, seen) = mpsc::channel();
        let nudger = Nudger::with(move |turns| {
            thread::sleep(Duration::from_millis(20));
            turns.iter().for_each(|turn| told.send(turn.epoch).expect("somebody listens"));
        })
        .expect("a thread");
        for epoch in [Epoch(1), Epoch(2)] {
            nudger.turned(Turn { id: PairId(0), mac: [2; 6], epoch, counts: Counts::All });
        }
        nudger.finish();
        assert_eq!(seen.try_iter().collect::<Vec<_>>(), [Epoch(1), Epoch(2)]);
    }

    #[test]
    fn a_change_of_role_is_told_before_what_may_have_been_told() {
        let turn =
            |epoch, counts| Turn { id: PairId(epoch as u32), mac: [2; 6], epoch: Epoch(epoch), counts };
        let mut waiting = vec![
            turn(1, Counts::Nothing),
            turn(2, Counts::All),
            turn(3, Counts::Nothing),
            turn(4, Counts::Resets),
        ];
        let mut order = || next(&mut waiting).iter().map(|turn| turn.epoch.0).collect::<Vec<_>>();
        assert_eq!([order(), order(), order(), order()], [vec![2], vec![4], vec![1, 3], vec![]]);
    }

    #[test]
    fn a_refused_segment_keeps_no_other_back_and_is_said_once_more() {
        let tuple = Tuple::default();
        let connection = Connection { mac: [7; 6], ..Connection::FRESH };
        let pure = |seq| Pure { seq, flags: ACK, ..Pure::NOTHING };
        let nudge = Nudge { member: pure(1), old_byte: pure(2), client: pure(3), other: pure(5) };
        let quiet = Nudge { member: pure(4), ..Nudge::default() };
        let told = [(&tuple, &connection, nudge), (&tuple, &connection, quiet)];
        let mut said = Vec::new();
        let result = said_to_all(&told, [[1; 6], [2; 6]], [3; 6], |one| {
            said.push((one.pure.seq, one.macs));
            if [1, 2].contains(&one.pure.seq) { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        let member = [[1; 6], [2; 6]];
        assert_eq!(
            said,
            [
                (1, member),
                (2, member),
                (3, [[7; 6], [3; 6]]),
                (5, member),
                (4, member),
                (1, member),
                (2, member)
            ]
        );
        assert!(result.is_err(), "they were refused twice");
    }
}
