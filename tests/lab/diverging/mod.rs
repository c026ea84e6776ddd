//! A service whose members answer with different bytes: noticed, never in the way, and never mixed.

mod iperf3;
mod random;
mod tls;

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hotpair::api::types::Flows;
use hotpair_tests::lab::Lab;

const SOON: Duration = Duration::from_secs(5);
const DIVERGED: &str = "the members send different bytes";

/// Verdict and reason of each connection.
fn flows(lab: &Lab) -> Result<Vec<(String, String)>> {
    let flows: Flows = serde_json::from_str(&lab.must(&["flows", "web", "-o", "json"])?)?;
    Ok(flows.flows.into_iter().map(|flow| (flow.verdict, flow.why)).collect())
}

pub(crate) fn counter(lab: &Lab, name: &str) -> Result<u64> {
    let counters = lab.show()?.counters;
    Ok(counters.iter().find(|count| count.name == name).map_or(0, |count| count.packets))
}

/// Kills the primary and waits until the other one serves.
fn kill(lab: &Lab) -> Result<()> {
    let old = lab.primary()?;
    old.kill()?;
    lab.wait_pair("the survivor to serve", |pair| pair.primary == Some(old.slot() ^ 1))?;
    Ok(())
}

fn is_reset(talk: Result<()>) -> Result<()> {
    let error = talk.err().context("the connection cannot go on")?;
    ensure!(format!("{error:#}").contains("reset"), "reset, not a silence and not wrong bytes: {error:#}");
    Ok(())
}
