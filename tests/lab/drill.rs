//! `hotpair drill` on a real pair with a real client.

use std::time::Duration;

use anyhow::Result;
use hotpair::api::types::RecordKind;
use hotpair_tests::lab::PAIR;
use hotpair_tests::load::Plan;
use serde_json::Value;

#[test]
fn a_drill_measures_a_real_failover_and_ends_protected() -> Result<()> {
    if !crate::may_run("a_drill_measures_a_real_failover_and_ends_protected") {
        return Ok(());
    }
    let lab = crate::scenario::patient().start()?;
    let before = lab.wait_protected()?;
    let load =
        lab.client().load(Plan::udp(lab.client().echo()?).rate(500).during(Duration::from_secs(60)))?;
    let said = lab.hotpair(&["drill", PAIR, "--yes", "-o", "json"])?;
    let report: Value = serde_json::from_str(&said.stdout)?;
    assert_eq!(said.code, 0, "{said:?}");
    let clients = load.stop();
    let late = clients.late(Duration::ZERO, clients.duration);
    let after = lab.pair()?;
    assert_ne!(after.primary, before.primary);
    assert_eq!(report["failover"]["epoch_after"], after.epoch, "{report:#}");
    assert!(report["packets_per_second"].as_f64().is_some_and(|rate| rate > 100.0), "{report:#}");
    let first = report["failover"]["first_answer_us"].as_f64().expect("a client asked all the time");
    // It is an upper bound, of a client that had to ask first; a second is not what was promised.
    let most = Duration::from_secs(1) + late;
    assert!((0.0..most.as_secs_f64() * 1e6).contains(&first), "{report:#}; the client was late by {late:?}");
    let history = lab.history()?;
    let last = |kind| history.iter().filter(|record| record.kind == kind).map(|record| record.at_ms).max();
    let (Some(failover), Some(protected)) = (last(RecordKind::Failover), last(RecordKind::Protected)) else {
        panic!("{history:?}")
    };
    assert_eq!(report["protected_after_ms"], (protected - failover) as f64, "{report:#}");
    assert!(clients.answerers().len() >= 2, "{}", clients.line());
    Ok(())
}
