//! After a takeover: every TCP connection of the pair is told at once, so that nobody waits for a timer, and it is counted
//! which of them go on. A thread of its own: the flip must not wait for it, and it must not wait for what the flip has put
//! aside.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread;

use hotpair_abi::maps::Tuple;
use hotpair_abi::tcp::connection::{Connection, RST_SEEN, Scene};
use hotpair_abi::tcp::nudge::Nudge;
use hotpair_abi::tcp::verdict::Why;
use hotpair_abi::{GATEWAY_MAC, PairId, Slot};

use super::{boottime, engine};
use crate::api::types::Carried;
use crate::dataplane::Dataplane;
use crate::network::{Link, Segments, Towards};

/// A pair whose speaker has changed.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    /// The pair.
    pub(super) id: PairId,
    /// Its members' MAC.
    pub(super) mac: [u8; 6],
}

/// Where turns are reported.
#[derive(Clone, Debug)]
pub(crate) struct Nudger(mpsc::Sender<Turn>);

impl Nudger {
    /// Starts the thread; it ends with the last handle.
    pub(super) fn start(
        plane: Arc<Dataplane>,
        uplink: Link,
        engine: engine::Inbox,
    ) -> std::io::Result<Nudger> {
        let (sender, inbox) = mpsc::channel();
        thread::Builder::new().name("hotpair-nudge".into()).spawn(move || {
            // The engine says what it means when this is refused.
            let _ = super::priority::raise();
            while let Ok(turn) = inbox.recv() {
                if let Some(account) = nudge(&plane, &uplink, turn) {
                    engine.carried(turn.id, account);
                }
            }
        })?;
        Ok(Nudger(sender))
    }

    /// Says that the speaker of a pair has changed.
    pub(super) fn turned(&self, turn: Turn) {
        // The thread only ends with the last sender.
        let _ = self.0.send(turn);
    }
}

/// What has become of a pair's connections.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) carried: Carried,
    /// Why some could not go on, and how many of them.
    reasons: BTreeMap<&'static str, u64>,
}

impl Account {
    fn add(&mut self, connection: &Connection, nudge: &Nudge, scene: &Scene) {
        if nudge.client.any() {
            self.carried.reset += 1;
            *self.reasons.entry(why_not(connection, scene).text()).or_default() += 1;
        } else {
            self.carried.went_on += 1;
        }
    }

    /// As a sentence.
    pub(crate) fn text(&self) -> String {
        let Carried { went_on, reset } = self.carried;
        let some = |count: u64| format!("{count} TCP connection{}", if count == 1 { "" } else { "s" });
        if reset == 0 {
            return format!("{} went on", some(went_on));
        }
        let reasons: Vec<String> =
            self.reasons.iter().map(|(why, count)| format!("{count}: {why}")).collect();
        let were = if reset == 1 { "was" } else { "were" };
        format!("{} went on, {reset} {were} reset ({})", some(went_on), reasons.join("; "))
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

/// Tells a pair's connections; what has become of them, if there are any.
fn nudge(plane: &Dataplane, uplink: &Link, turn: Turn) -> Option<Account> {
    let connections = match plane.connections(turn.id) {
        Ok(connections) => connections,
        Err(error) => {
            tracing::warn!(%error, "the connections cannot be read: each goes on with its own timer");
            return None;
        }
    };
    let scene = plane.scene(turn.id, boottime());
    let mut account = Account::default();
    let nudges: Vec<(&Tuple, &Connection, Nudge)> = connections
        .iter()
        .filter_map(|(tuple, connection)| Some((tuple, connection, connection.nudge(&scene)?)))
        .inspect(|(_, connection, nudge)| account.add(connection, nudge, &scene))
        .collect();
    if nudges.is_empty() {
        return None;
    }
    tell(plane, uplink, turn, &scene, &nudges);
    Some(account)
}

fn tell(
    plane: &Dataplane,
    uplink: &Link,
    turn: Turn,
    scene: &Scene,
    nudges: &[(&Tuple, &Connection, Nudge)],
) {
    let tap = plane.tap_index(turn.id, Slot::from_bit(u64::from(scene.speaker)));
    let (member, client) = match (Segments::open(tap), Segments::open(uplink.index)) {
        (Ok(member), Ok(client)) => (member, client),
        (Err(error), _) | (_, Err(error)) => {
            tracing::warn!(%error, "nobody can be told of the takeover: each connection goes on with its own timer");
            return;
        }
    };
    let mut failed = None;
    let tell = |tuple: &Tuple, connection: &Connection, nudge: &Nudge| -> std::io::Result<()> {
        let macs = [turn.mac, GATEWAY_MAC];
        if nudge.member.any() {
            member.send(tuple, Towards::Member, macs, &nudge.member, &[])?;
        }
        if nudge.old_byte.any() {
            member.send(tuple, Towards::Member, macs, &nudge.old_byte, &[0])?;
        }
        if nudge.client.any() {
            client.send(tuple, Towards::Client, [connection.mac, uplink.mac], &nudge.client, &[])?;
        }
        Ok(())
    };
    for (tuple, connection, nudge) in nudges {
        if let Err(error) = tell(tuple, connection, nudge) {
            failed = Some(error);
        }
    }
    if let Some(error) = failed {
        tracing::warn!(%error, "not every connection could be told of the takeover");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_reset_is_told_with_its_reasons() {
        let mut account = Account::default();
        account.carried.went_on = 2;
        assert_eq!(account.text(), "2 TCP connections went on");
        account.carried = Carried { went_on: 1, reset: 3 };
        account.reasons = [(Why::Older.text(), 2), (Why::Payload.text(), 1)].into();
        assert_eq!(
            account.text(),
            "1 TCP connection went on, 3 were reset (2: began before the present standby came; 1: the members send \
             different bytes)"
        );
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
}
