//! What has become of a pair's connections at a takeover: each is counted once, however often it is told.

use std::collections::{BTreeMap, HashMap, HashSet};

use hotpair_abi::maps::Tuple;
use hotpair_abi::tcp::connection::{Connection, RST_SEEN, Scene};
use hotpair_abi::tcp::nudge::Nudge;
use hotpair_abi::tcp::verdict::{Verdict, Why};
use hotpair_abi::{Epoch, PairId, Slot};

use crate::api::types::Carried;

/// What is counted of those that are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counts {
    /// Who goes on and who is reset: another slot has become active.
    All,
    /// Who is reset.
    Resets,
    /// Nobody: they may have been told before.
    Nothing,
}

/// What has become of a pair's connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Account {
    /// Of the change of role.
    pub(crate) epoch: Epoch,
    /// Who speaks since then.
    pub(crate) slot: Slot,
    pub(crate) carried: Carried,
    /// Why some could not go on, and how many of them.
    reasons: BTreeMap<&'static str, u64>,
}

impl Account {
    fn new(epoch: Epoch, scene: &Scene) -> Account {
        let slot = Slot::from_bit(u64::from(scene.speaker));
        Account { epoch, slot, carried: Carried::default(), reasons: BTreeMap::new() }
    }

    fn add(&mut self, connection: &Connection, nudge: &Nudge, scene: &Scene, counts: Counts) {
        match counts {
            Counts::All | Counts::Resets if nudge.client.any() => {
                self.carried.reset += 1;
                *self.reasons.entry(why_not(connection, scene).text()).or_default() += 1;
            }
            Counts::All => self.carried.went_on += 1,
            Counts::Resets | Counts::Nothing => {}
        }
    }

    /// As a sentence; nothing if there is nothing to tell.
    pub(crate) fn text(&self) -> Option<String> {
        let Carried { went_on, reset } = self.carried;
        let some = |count: u64| format!("{count} TCP connection{}", if count == 1 { "" } else { "s" });
        let were = if reset == 1 { "was" } else { "were" };
        let reasons: Vec<String> =
            self.reasons.iter().map(|(why, count)| format!("{count}: {why}")).collect();
        let reasons = reasons.join("; ");
        match (went_on, reset) {
            (0, 0) => None,
            (_, 0) => Some(format!("{} went on", some(went_on))),
            (0, _) => Some(format!("{} {were} reset ({reasons})", some(reset))),
            _ => Some(format!("{} went on, {reset} {were} reset ({reasons})", some(went_on))),
        }
    }
}

/// Why a connection could not go on at the member that speaks now.
fn why_not(connection: &Connection, scene: &Scene) -> Why {
    let slot = scene.speaker;
    match Why::from_u32(connection.why) {
        _ if connection.created_ns < scene.since_ns[slot as usize & 1] => Why::Older,
        Some(why) if why != Why::Well => why,
        _ if connection.half(slot).flags & RST_SEEN != 0 => Why::Reset,
        _ => Why::Behind,
    }
}

/// A connection and what is said to it.
pub(super) type Told<'a> = (&'a Tuple, &'a Connection, Nudge);

/// The connections of each pair that have been reset, by what they are called and when they began, for as long as the table has
/// them. Their rows do not say so until somebody speaks.
#[derive(Debug, Default)]
pub(super) struct Resets(HashMap<PairId, HashSet<(Tuple, u64)>>);

impl Resets {
    /// What is to be said to a pair's connections, which are all that the table has of it, and what becomes of them by that.
    /// Who was reset stays so, and was counted then.
    pub(super) fn tell<'a>(
        &mut self,
        (pair, epoch, counts): (PairId, Epoch, Counts),
        connections: &'a [(Tuple, Connection)],
        scene: &Scene,
    ) -> (Vec<Told<'a>>, Account) {
        let before = self.0.remove(&pair).unwrap_or_default();
        let mut reset = HashSet::new();
        let mut told = Vec::new();
        let mut account = Account::new(epoch, scene);
        for (tuple, connection) in connections {
            let key = (*tuple, connection.created_ns);
            let again = before.contains(&key);
            let nudge = if again { lost(connection, scene).nudge(scene) } else { connection.nudge(scene) };
            let Some(nudge) = nudge else { continue };
            if nudge.client.any() {
                reset.insert(key);
            }
            if !again {
                account.add(connection, &nudge, scene, counts);
            }
            told.push((tuple, connection, nudge));
        }
        self.0.insert(pair, reset);
        (told, account)
    }
}

/// Whether a connection may not have been told who speaks: nobody has spoken on it since, or it is over for its client.
pub(super) fn may_be_untold(connection: &Connection, scene: &Scene) -> bool {
    connection.speaker != scene.speaker || connection.nudge(scene).is_some_and(|nudge| nudge.client.any())
}

/// The connection, as its row would be if somebody had spoken since its reset.
fn lost(connection: &Connection, scene: &Scene) -> Connection {
    Connection { speaker: scene.speaker, verdict: Verdict::Lost as u32, ..*connection }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hotpair_abi::tcp::connection::{ANSWERED, HAS_BASE, SYN_ACK};

    const PAIR: PairId = PairId(0);

    fn scene(speaker: u32) -> Scene {
        Scene { speaker, ..Scene::default() }
    }

    /// A connection that both members know, and with which slot 0 speaks.
    fn connection(verdict: Verdict) -> Connection {
        let mut connection = Connection { flags: HAS_BASE | ANSWERED, created_ns: 5, ..Connection::FRESH };
        connection.verdict = verdict as u32;
        connection.half.iter_mut().for_each(|half| half.flags = SYN_ACK);
        connection
    }

    fn table(connections: &[Connection]) -> Vec<(Tuple, Connection)> {
        (1..).zip(connections).map(|(ports, one)| (Tuple { ports, ..Tuple::default() }, *one)).collect()
    }

    fn carried(account: &Account) -> (u64, u64) {
        (account.carried.went_on, account.carried.reset)
    }

    #[test]
    fn what_was_reset_is_told_with_its_reasons() {
        let mut account = Account::new(Epoch(1), &scene(0));
        assert_eq!(account.text(), None);
        account.carried.went_on = 2;
        assert_eq!(account.text().as_deref(), Some("2 TCP connections went on"));
        account.carried = Carried { went_on: 1, reset: 3 };
        account.reasons = [(Why::Older.text(), 2), (Why::Payload.text(), 1)].into();
        let why = "(2: began before the present standby came; 1: the members send different bytes)";
        assert_eq!(account.text(), Some(format!("1 TCP connection went on, 3 were reset {why}")));
        account.carried.went_on = 0;
        assert_eq!(account.text(), Some(format!("3 TCP connections were reset {why}")));
    }

    #[test]
    fn a_connection_that_the_new_speaker_never_had_is_an_older_one_whatever_else_is_wrong_with_it() {
        let scene = Scene { speaker: 1, since_ns: [0, 50], ..Scene::default() };
        let mut connection = Connection { created_ns: 20, why: Why::Behind as u32, ..Connection::FRESH };
        assert_eq!(why_not(&connection, &scene), Why::Older);
        connection.created_ns = 60;
        assert_eq!(why_not(&connection, &scene), Why::Behind);
        connection.why = Why::Well as u32;
        connection.half[1].flags = RST_SEEN;
        assert_eq!(why_not(&connection, &scene), Why::Reset);
    }

    #[test]
    fn a_connection_is_reset_as_often_as_it_is_told_and_counted_once() {
        let mut resets = Resets::default();
        let table = table(&[connection(Verdict::InSync), connection(Verdict::Unprotected)]);
        let (told, account) = resets.tell((PAIR, Epoch(2), Counts::All), &table, &scene(1));
        assert_eq!((carried(&account), account.epoch, account.slot), ((1, 1), Epoch(2), Slot::One));
        assert!(told[1].2.client.any());
        // Its row is as it was, as nobody has spoken: it does not go on with the one that spoke before.
        let (told, account) = resets.tell((PAIR, Epoch(3), Counts::All), &table, &scene(0));
        assert_eq!((carried(&account), account.epoch, account.slot), ((1, 0), Epoch(3), Slot::Zero));
        assert!(told[1].2.client.any() && !told[0].2.client.any());
        // Another connection of the same client from the same port is another one.
        let anew = [table[0], (table[1].0, Connection { created_ns: 9, ..table[1].1 })];
        let (_, account) = resets.tell((PAIR, Epoch(4), Counts::All), &anew, &scene(1));
        assert_eq!(carried(&account), (1, 1));
        assert_eq!(resets.0[&PAIR].len(), 1, "what the table has forgotten is forgotten");
    }

    #[test]
    fn a_start_tells_those_on_whose_connection_nobody_has_spoken_since_and_those_that_are_over() {
        let went_over = connection(Verdict::InSync);
        assert!(may_be_untold(&went_over, &scene(1)) && !may_be_untold(&went_over, &scene(0)));
        let spoken = Connection { speaker: 1, ..went_over };
        assert!(!may_be_untold(&spoken, &scene(1)));
        let over = Connection { verdict: Verdict::Lost as u32, ..spoken };
        assert!(may_be_untold(&over, &scene(1)));
    }

    #[test]
    fn who_may_have_been_told_before_is_not_counted_and_where_no_slot_has_become_active_nobody_goes_on() {
        let mut resets = Resets::default();
        let one = table(&[connection(Verdict::InSync), connection(Verdict::Unprotected)]);
        let (told, account) = resets.tell((PAIR, Epoch(2), Counts::Nothing), &one, &scene(1));
        assert_eq!((told.len(), account.text()), (2, None));
        let (_, account) = resets.tell((PAIR, Epoch(3), Counts::All), &one, &scene(1));
        assert_eq!(carried(&account), (1, 0));
        let (_, account) = Resets::default().tell((PAIR, Epoch(3), Counts::Resets), &one, &scene(1));
        assert_eq!(carried(&account), (0, 1));
    }
}
