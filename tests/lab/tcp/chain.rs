//! One failover after the other under load: connections opened since the present standby came go on, older ones are said to
//! be unprotected and are reset, and nobody hangs.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hotpair_tests::lab::Lab;
use hotpair_tests::stream::Conversation;
use hotpair_tests::wait::wait_for;

use super::{Busy, kill_primary, soaking};
use crate::scenario::protected;
use crate::takeover::{open, patient};

/// Verdict and why of each connection, by the client's address and port.
pub(super) fn verdicts(lab: &Lab) -> Result<BTreeMap<String, (String, String)>> {
    Ok(lab.flows()?.flows.into_iter().map(|flow| (flow.client, (flow.verdict, flow.why))).collect())
}

/// Waits until each of these connections has been said to be this, and why.
pub(crate) fn said_to_be(lab: &Lab, clients: &[String], verdict: &str, why: &str) -> Result<()> {
    // A connection at work may be behind for a moment; where all are at work, one of them mostly is.
    let mut missing: BTreeSet<&String> = clients.iter().collect();
    wait_for(&format!("all of {clients:?} to be {verdict}"), Duration::from_secs(20), || {
        let seen = verdicts(lab)?;
        for client in missing.clone() {
            let (is, because) = seen.get(client).with_context(|| format!("{client} is not listed"))?;
            if is == verdict && because == why {
                missing.remove(client);
            }
        }
        ensure!(missing.is_empty(), "of {missing:?} it was never said: {seen:?}");
        Ok(())
    })
}

/// A download, an upload and requests, over IPv4 or IPv6, and what `flows` calls them.
pub(super) fn at_work(lab: &Lab, name: &str, v6: bool) -> Result<(Vec<Busy>, Vec<String>)> {
    all_kinds(name, || open(lab, v6))
}

/// A download, an upload and requests, in this order, over connections that are opened so; and what `flows` calls them.
pub(super) fn all_kinds(
    name: &str,
    open: impl Fn() -> Result<Conversation>,
) -> Result<(Vec<Busy>, Vec<String>)> {
    type Round = fn(&mut Conversation) -> Result<()>;
    let rounds: [(&str, Round); 3] = [
        ("download", |c| c.download(256 << 10)),
        ("upload", |c| c.upload(256 << 10)),
        ("requests", |c| {
            thread::sleep(Duration::from_millis(1));
            c.increment()
        }),
    ];
    let (mut busy, mut clients) = (Vec::new(), Vec::new());
    for (what, round) in rounds {
        let mut conversation = open()?;
        // There are many of them, and the members must still have time for their heartbeats.
        conversation.pace(8 << 20)?;
        clients.push(conversation.local()?.to_string());
        busy.push(Busy::start(&format!("{what}, {name}"), conversation, round));
    }
    Ok((busy, clients))
}

#[test]
fn a_chain_of_failovers_carries_what_is_protected_and_resets_the_rest() -> Result<()> {
    let name = "a_chain_of_failovers_carries_what_is_protected_and_resets_the_rest";
    let Some(lab) = protected(name, patient())? else { return Ok(()) };
    let (mut old, mut old_clients): (Vec<Busy>, Vec<String>) = Default::default();
    for round in 0..if soaking() { 20 } else { 5 } {
        lab.wait_protected()?;
        let (new, new_clients) = at_work(&lab, &format!("round {round}"), round % 2 == 1)?;
        for client in &new {
            client.goes_on(2)?;
        }
        said_to_be(&lab, &new_clients, "in_sync", "")?;
        said_to_be(&lab, &old_clients, "unprotected", "began before the present standby came")?;
        kill_primary(&lab)?;
        for client in &new {
            client.goes_on(2).with_context(|| format!("round {round}"))?;
        }
        for client in old {
            client.must_be_reset().with_context(|| format!("round {round}"))?;
        }
        (old, old_clients) = (new, new_clients);
    }
    for client in old {
        client.stop()?;
    }
    Ok(())
}
