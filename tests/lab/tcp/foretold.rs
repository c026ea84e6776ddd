//! What `flows` says of a connection before a failover is what becomes of it, with the `lag_limit` that pairs have and copies
//! that are lost for good.

use std::collections::BTreeMap;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hotpair::api::types::{Carried, RecordKind};
use hotpair_tests::lab::Lab;
use hotpair_tests::line::Faults;
use hotpair_tests::stream::Conversation;
use hotpair_tests::wait::wait_for;

use super::chain::verdicts;
use super::kill_primary;
use crate::scenario::protected;
use crate::takeover::{hasty, open};

/// The n-th connection asks so often: of the first ones hardly any loses a copy, of the last ones hardly any loses none.
const CONNECTIONS: usize = 24;

/// What it says when it has said the same twice.
fn foretold(lab: &Lab) -> Result<BTreeMap<String, (String, String)>> {
    wait_for("nothing to change any more", Duration::from_secs(10), || {
        let first = verdicts(lab)?;
        thread::sleep(Duration::from_millis(300));
        let second = verdicts(lab)?;
        ensure!(first == second, "{first:?}, then {second:?}");
        Ok(second)
    })
}

#[test]
fn what_flows_says_is_what_comes() -> Result<()> {
    let name = "what_flows_says_is_what_comes";
    let Some(lab) = protected(name, hasty().no_replacement())? else { return Ok(()) };
    let mut clients: Vec<(String, Conversation)> = Vec::new();
    for number in 0..CONNECTIONS {
        let mut conversation = open(&lab, number % 2 == 1)?;
        conversation.increment()?;
        clients.push((conversation.local()?.to_string(), conversation));
    }
    lab.standby()?.set_lines(Faults::LOSS_5, Faults::NONE)?;
    for (number, (local, conversation)) in clients.iter_mut().enumerate() {
        for _ in 0..=number {
            conversation.increment().with_context(|| format!("{local}, which nothing has happened to"))?;
        }
    }
    lab.standby()?.set_lines(Faults::NONE, Faults::NONE)?;
    let said = foretold(&lab)?;
    kill_primary(&lab)?;
    let (mut went_on, mut reset) = (0, 0);
    for (local, mut conversation) in clients {
        let (verdict, why) = said.get(&local).with_context(|| format!("{local} is not listed: {said:?}"))?;
        let on = conversation.increment();
        if verdict == "in_sync" {
            on.with_context(|| format!("{local} was said to be in sync"))?;
            conversation.download(100_000).with_context(|| format!("{local}, later"))?;
            went_on += 1;
        } else {
            ensure!(
                (verdict.as_str(), why.as_str())
                    == ("unprotected", "the standby had not received all that was acknowledged"),
                "{local}: {verdict}, {why}"
            );
            let error = on.err().with_context(|| format!("{local} goes on, and was said to be {verdict}"))?;
            ensure!(format!("{error:#}").contains("reset"), "{local}: {error:#}");
            reset += 1;
        }
    }
    eprintln!("{went_on} went on, {reset} were reset");
    ensure!(went_on > 0 && reset > 0, "{went_on} went on, {reset} were reset: {said:?}");
    let told = wait_for("the history to tell", Duration::from_secs(5), || {
        let history = lab.history()?;
        history
            .iter()
            .find_map(|line| line.connections.filter(|_| line.kind == RecordKind::Connections))
            .context("not yet")
    })?;
    ensure!(told == Carried { went_on, reset }, "{told:?}, and {went_on} went on, {reset} were reset");
    Ok(())
}
