//! What an operator sees of a standby that does not keep up: which connection would be lost, why, and how far behind it is.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hotpair::api::types::Flow;
use hotpair_tests::lab::Lab;
use hotpair_tests::wait::{wait_for, wait_until};

use super::chain::said_to_be;
use crate::metrics::scrape;
use crate::scenario::protected;
use crate::takeover::{hasty, open};

/// So much fits into the queue of a tap that nobody reads.
const UPLOAD: u64 = 64 << 10;

/// The only connection there is.
fn flow(lab: &Lab) -> Result<Flow> {
    let flows = lab.flows()?.flows;
    ensure!(flows.len() == 1, "{flows:?}");
    flows.into_iter().next().context("one")
}

#[test]
fn a_standby_that_is_behind_is_said_to_be() -> Result<()> {
    let name = "a_standby_that_is_behind_is_said_to_be";
    let Some(lab) = protected(name, hasty().metrics())? else { return Ok(()) };
    let standby = lab.standby()?;
    for v6 in [false, true] {
        let mut client = open(&lab, v6)?;
        client.increment()?;
        let clients = [client.local()?.to_string()];
        said_to_be(&lab, &clients, "in_sync", "")?;
        ensure!(flow(&lab)?.lag_bytes == 0, "{:?}", flow(&lab)?);
        standby.freeze()?;
        client.upload(UPLOAD)?;
        // The primary has answered, so it has all, and nothing is on its way any more.
        let behind = flow(&lab)?;
        let (lag, ms) = (behind.lag_bytes, behind.lag_ms);
        ensure!((UPLOAD..UPLOAD + 100).contains(&lag) && ms > 10.0, "{behind:?}");
        // First the connection says so, and when the standby is not believed to live any more, all of them.
        let why = "the standby had not received all that was acknowledged";
        ensure!(behind.verdict == "unprotected" && [why, AWAY].contains(&behind.why.as_str()), "{behind:?}");
        said_to_be(&lab, &clients, "unprotected", AWAY)?;
        let text = lab.hotpair(&["show", "web"])?.stdout;
        ensure!(text.contains(&format!("1 unprotected; the standby is behind by {lag} B, for ")), "{text}");
        let text = lab.hotpair(&["flows", "web"])?.stdout;
        ensure!(text.contains(&format!("{lag} B, ")) && text.contains(AWAY), "{text}");
        let series = scrape(&lab)?;
        let gauge = |name: &str| series[&format!("hotpair_standby_lag_{name}{{pair=\"web\"}}")];
        ensure!(gauge("bytes") == lag as f64 && gauge("seconds") > ms / 1e3, "{series:?}");

        standby.thaw()?;
        // It was all in its queue.
        said_to_be(&lab, &clients, "in_sync", "")?;
        let level = wait_for("it to be level", Duration::from_secs(5), || {
            let level = flow(&lab)?;
            ensure!(level.lag_bytes == 0 && level.lag_ms == 0.0, "{level:?}");
            Ok(level)
        })?;
        ensure!(level.received == behind.received, "{behind:?}, {level:?}");
        ensure!(lab.standby()?.generation() == standby.generation(), "another one has come");
        client.increment()?;
        drop(client);
        wait_until("the connection to be over", Duration::from_secs(5), || {
            lab.flows().is_ok_and(|flows| flows.flows.is_empty())
        })?;
    }
    Ok(())
}

/// What is said of a connection that is in sync, when the standby is not in service.
const AWAY: &str = "no standby is in service";
