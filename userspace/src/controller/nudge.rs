//! After a takeover: every TCP connection of the pair is told at once, so that nobody waits for a timer. A thread of its
//! own: the flip must not wait for it, and it must not wait for what the flip has put aside.

use std::sync::Arc;
use std::sync::mpsc;
use std::thread;

use hotpair_abi::maps::Tuple;
use hotpair_abi::tcp::connection::Connection;
use hotpair_abi::{GATEWAY_MAC, PairId, Slot};

use super::boottime;
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
    pub(super) fn start(plane: Arc<Dataplane>, uplink: Link) -> std::io::Result<Nudger> {
        let (sender, inbox) = mpsc::channel();
        thread::Builder::new().name("hotpair-nudge".into()).spawn(move || {
            // The engine says what it means when this is refused.
            let _ = super::priority::raise();
            while let Ok(turn) = inbox.recv() {
                nudge(&plane, &uplink, turn);
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

fn nudge(plane: &Dataplane, uplink: &Link, turn: Turn) {
    let connections = match plane.connections(turn.id) {
        Ok(connections) => connections,
        Err(error) => {
            tracing::warn!(%error, "the connections cannot be read: each goes on with its own timer");
            return;
        }
    };
    if connections.is_empty() {
        return;
    }
    let scene = plane.scene(turn.id, boottime());
    let tap = plane.tap_index(turn.id, Slot::from_bit(u64::from(scene.speaker)));
    let (member, client) = match (Segments::open(tap), Segments::open(uplink.index)) {
        (Ok(member), Ok(client)) => (member, client),
        (Err(error), _) | (_, Err(error)) => {
            tracing::warn!(%error, "nobody can be told of the takeover: each connection goes on with its own timer");
            return;
        }
    };
    let mut failed = None;
    let tell = |tuple: &Tuple, connection: &Connection| -> std::io::Result<()> {
        let Some(nudge) = connection.nudge(&scene) else { return Ok(()) };
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
    for (tuple, connection) in &connections {
        if let Err(error) = tell(tuple, connection) {
            failed = Some(error);
        }
    }
    if let Some(error) = failed {
        tracing::warn!(%error, "not every connection could be told of the takeover");
    }
}
