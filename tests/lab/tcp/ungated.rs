//! `ack = "primary"`: nothing waits for the standby, which is said; and what becomes of a connection then.

use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use hotpair::api::types::{Flows, Protection};
use hotpair_tests::lab::{Builder, Lab};
use hotpair_tests::stream::Conversation;
use hotpair_tests::wait::wait_for;

use super::kill_primary;
use crate::scenario::protected;
use crate::takeover::open;

/// A lab whose standby may be away for long before anybody calls it silent, and would be waited for all that time if it were
/// waited for: with `ack = "both"` these tests stand still.
fn lab() -> Builder {
    let long = Duration::from_secs(10);
    Lab::builder().carries_tcp_ungated().heartbeat(Duration::from_millis(5), long).lag_limit(long)
}

#[test]
fn ungated_connections_go_on_through_a_kill_and_status_says_what_was_chosen() -> Result<()> {
    let name = "ungated_connections_go_on_through_a_kill_and_status_says_what_was_chosen";
    let Some(lab) = protected(name, lab())? else { return Ok(()) };
    let said = lab.must(&["status"])?;
    let note = "note: web: a failover resets the TCP connections of which the standby has missed something (ack = \"primary\")";
    ensure!(said.contains(note), "{said}");
    ensure!(lab.status()?.notes.len() == 1 && lab.show()?.ack == "primary", "{said}");
    // What the standby could still miss is the client's: so nothing of that is under way when the primary dies.
    let (mut downloads, mut others) = (Vec::new(), Vec::new());
    for v6 in [false, true] {
        let mut download = open(&lab, v6)?;
        download.pace(8 << 20)?;
        download.ask("GET", 16 << 20)?;
        download.receive(1 << 20)?;
        downloads.push(download);
        let mut other = open(&lab, v6)?;
        // Little: a copy for which a busy standby has no room comes only once here.
        for _ in 0..20 {
            other.increment()?;
        }
        others.push(other);
    }
    let clients = others.iter().map(|other| Ok(other.local()?.to_string())).collect::<Result<Vec<_>>>()?;
    wait_for("the standby to have it all", Duration::from_secs(10), || {
        let flows: Flows = serde_json::from_str(&lab.must(&["flows", "web", "-o", "json"])?)?;
        let mut ours = flows.flows.iter().filter(|flow| clients.contains(&flow.client));
        ensure!(ours.all(|flow| flow.verdict == "in_sync" && flow.lag_bytes == 0), "{flows:?}");
        Ok(())
    })?;
    kill_primary(&lab)?;
    for download in &mut downloads {
        download.rest(16 << 20)?;
    }
    for other in &mut others {
        other.upload(1 << 20)?;
    }
    downloads.iter_mut().chain(&mut others).try_for_each(Conversation::increment)
}

#[test]
fn an_ungated_connection_does_not_wait_for_a_frozen_standby_and_is_reset_for_what_that_has_missed()
-> Result<()> {
    let name =
        "an_ungated_connection_does_not_wait_for_a_frozen_standby_and_is_reset_for_what_that_has_missed";
    let Some(lab) = protected(name, lab())? else { return Ok(()) };
    let standby = lab.standby()?;
    let mut clients = [open(&lab, false)?, open(&lab, true)?];
    let mut idle = open(&lab, false)?;
    idle.increment()?;
    for client in &mut clients {
        client.increment()?;
        client.take_gap();
    }
    standby.freeze()?;
    let (mut gaps, mut behind) = (Vec::new(), None);
    for client in &mut clients {
        for _ in 0..20 {
            client.increment()?;
        }
        client.upload(8 << 20)?;
        client.download(8 << 20)?;
        gaps.push(client.take_gap());
        behind = lab.show()?.tcp;
    }
    let pair = lab.pair()?;
    standby.thaw()?;
    eprintln!("longest gaps {gaps:?}");
    ensure!(pair.protection == Protection::Protected, "that long a silence is allowed: {pair:?}");
    ensure!(behind.as_ref().is_some_and(|tcp| tcp.lag_bytes > 1 << 20), "{behind:?}");
    // Far from the ten seconds that a gate would have waited.
    ensure!(gaps.iter().all(|gap| *gap < Duration::from_secs(1)), "{gaps:?}");
    let opened = lab.show()?.counters.iter().any(|count| count.name == "tcp_gate_opened");
    ensure!(!opened, "there is no gate that could open");
    // What did not fit into its queue has been acknowledged, and is nowhere any more.
    thread::sleep(Duration::from_millis(300));
    kill_primary(&lab)?;
    for client in &mut clients {
        let error = client.increment().expect_err("the standby has not got all of it");
        ensure!(format!("{error:#}").contains("reset"), "reset, not a silence: {error:#}");
    }
    idle.increment()?;
    open(&lab, true)?.increment()
}
