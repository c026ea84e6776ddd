//! The table of connections: who is over for long is forgotten, by the controller.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::maps::{HashMap, Map, MapData};
use hotpair_abi::is_v4_key;
use hotpair_abi::maps::Tuple;
use hotpair_abi::tcp::connection::{CLOSED, Connection, RST_SEEN};
use hotpair_tests::lab::Lab;
use hotpair_tests::line::Faults;
use hotpair_tests::stream::{Conversation, PORT};
use hotpair_tests::wait::{wait_for, wait_until};

use crate::scenario::protected;
use crate::takeover::{open, patient};

/// Rather more than Linux's TIME_WAIT.
const LONG: Duration = Duration::from_secs(61);

/// The table itself, as it is pinned.
fn table(lab: &Lab) -> Result<HashMap<MapData, Tuple, Connection>> {
    let pin = lab.dir().join("bpf/hotpair/maps/CONNECTIONS");
    Ok(HashMap::try_from(Map::HashMap(MapData::from_pin(pin)?))?)
}

/// Its rows, by the client's address and port: the same port may be used over IPv4 and over IPv6.
pub(crate) fn rows(lab: &Lab) -> Result<BTreeMap<SocketAddr, (Tuple, Connection)>> {
    let rows = table(lab)?.iter().collect::<Result<Vec<_>, _>>()?;
    Ok(rows.into_iter().map(|(tuple, row)| (client(&tuple), (tuple, row))).collect())
}

fn client(tuple: &Tuple) -> SocketAddr {
    let [a, b, ..] = tuple.ports.to_ne_bytes();
    let key = tuple.remote.bytes();
    let ip = if is_v4_key(&key) { [key[12], key[13], key[14], key[15]].into() } else { key.into() };
    SocketAddr::new(ip, u16::from_be_bytes([a, b]))
}

/// Lets it be so long ago that this client was heard.
fn age(lab: &Lab, client: SocketAddr) -> Result<()> {
    let (tuple, mut row) = *rows(lab)?.get(&client).context("no such row")?;
    row.heard_ns =
        row.heard_ns.checked_sub(LONG.as_nanos() as u64).context("this machine has just started")?;
    table(lab)?.insert(tuple, row, 0).context("writing a row")
}

#[test]
fn the_row_of_a_connection_that_is_long_over_vanishes_and_no_other_does() -> Result<()> {
    let name = "the_row_of_a_connection_that_is_long_over_vanishes_and_no_other_does";
    let Some(lab) = protected(name, patient())? else { return Ok(()) };
    let mut over = Vec::new();
    for v6 in [false, true, false] {
        let mut conversation = open(&lab, v6)?;
        conversation.increment()?;
        over.push(conversation.local()?);
    }
    let mut lasting = [open(&lab, false)?, open(&lab, true)?];
    for conversation in &mut lasting {
        conversation.increment()?;
    }
    wait_for("both sides to have closed", Duration::from_secs(10), || {
        let rows = rows(&lab)?;
        ensure!(rows.len() == 5, "{rows:?}");
        ensure!(over.iter().all(|client| rows[client].1.flags & CLOSED != 0), "{rows:?}");
        Ok(())
    })?;
    let recent = over.pop().context("the last one")?;
    for client in &over {
        age(&lab, *client)?;
    }
    // One that lives may be silent for days.
    age(&lab, lasting[0].local()?)?;
    wait_until("the rows to vanish", Duration::from_secs(20), || {
        rows(&lab).is_ok_and(|rows| over.iter().all(|client| !rows.contains_key(client)))
    })?;
    let left: Vec<SocketAddr> = rows(&lab)?.into_keys().collect();
    let mut expected = vec![recent, lasting[0].local()?, lasting[1].local()?];
    expected.sort_unstable();
    ensure!(left == expected, "{left:?} is left, and not {expected:?}");
    lasting.iter_mut().try_for_each(Conversation::increment)
}

/// The client is gone without a word, its server has given up, and the standby has not: somebody comes from the same port.
#[test]
fn a_port_whose_connection_the_primary_has_forgotten_can_be_used_again() -> Result<()> {
    const DEAD: Faults = Faults { lost: 1000, ..Faults::NONE };
    let name = "a_port_whose_connection_the_primary_has_forgotten_can_be_used_again";
    let Some(lab) = protected(name, patient().cable())? else { return Ok(()) };
    for v6 in [false, true] {
        let mut gone = open(&lab, v6)?;
        gone.increment()?;
        gone.keep_alive()?;
        // Until the client's kernel has acknowledged the last answer.
        thread::sleep(Duration::from_millis(200));
        let (from, to) = (gone.local()?, SocketAddr::new(lab.client().entry(v6)?, PORT));
        lab.set_lines(DEAD, DEAD)?;
        gone.vanish()?;
        wait_for("its server to give up", Duration::from_secs(10), || {
            let (_, row) = *rows(&lab)?.get(&from).context("no such row")?;
            ensure!(row.half(row.speaker).flags & RST_SEEN != 0, "{row:?}");
            ensure!(row.flags & CLOSED == 0, "over, and everybody knows: {row:?}");
            Ok(())
        })?;
        lab.set_lines(Faults::NONE, Faults::NONE)?;
        let mut fresh = {
            let _inside = lab.client().netns().enter()?;
            Conversation::open_from(from, to)?
        };
        fresh.increment()?;
        fresh.download(1 << 20)?;
        fresh.upload(1 << 20)?;
    }
    Ok(())
}
