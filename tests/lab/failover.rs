//! The primary breaks in every way there is; the standby serves, and a new standby is made.

use std::time::Duration;

use anyhow::{Result, ensure};
use hotpair_tests::lab::PAIR;
use hotpair_tests::load::Plan;

use crate::scenario::{PATIENCE, fail_over, numbers, patient, protected};

#[test]
fn a_killed_primary_is_replaced_and_the_new_standby_takes_over_next() -> Result<()> {
    let name = "a_killed_primary_is_replaced_and_the_new_standby_takes_over_next";
    let Some(lab) = protected(name, patient())? else { return Ok(()) };
    let first = fail_over(&lab, |old| old.kill())?;
    let by = first.failover.detected_by.as_deref().unwrap_or_default();
    ensure!(["carrier", "heartbeat", "latch"].contains(&by), "found by {by}");
    ensure!(lab.volumes()?.len() == 2, "the old volume is really gone: {:?}", lab.volumes()?);

    // The new standby receives every packet ...
    let new = lab.standby()?;
    new.capture()?;
    let report =
        lab.client().load(Plan::udp(lab.client().echo()?).during(Duration::from_millis(500)))?.wait();
    let seen = numbers(&new.captured()?);
    ensure!(report.lost().count() == 0, "{}", report.line());
    ensure!(seen == (0..report.sent() as u64).collect::<Vec<_>>(), "{} of {}", seen.len(), report.sent());
    // ... and takes over in its turn.
    let second = fail_over(&lab, |old| old.kill())?;
    ensure!(second.survivor.by() == new.by());
    Ok(())
}

#[test]
fn a_frozen_primary_is_failed_over() -> Result<()> {
    let Some(lab) = protected("a_frozen_primary_is_failed_over", patient())? else { return Ok(()) };
    let outcome = fail_over(&lab, |old| old.freeze())?;
    let by = outcome.failover.detected_by.as_deref();
    ensure!(matches!(by, Some("heartbeat" | "latch")), "its process and its tap are there: {by:?}");
    Ok(())
}

#[test]
fn a_primary_whose_tap_goes_down_is_failed_over() -> Result<()> {
    let name = "a_primary_whose_tap_goes_down_is_failed_over";
    let Some(lab) = protected(name, patient())? else { return Ok(()) };
    fail_over(&lab, |old| lab.host().ip(&format!("link set hp{PAIR}s{} down", old.slot())))?;
    Ok(())
}

#[test]
fn a_primary_whose_tap_is_removed_is_failed_over() -> Result<()> {
    let name = "a_primary_whose_tap_is_removed_is_failed_over";
    let Some(lab) = protected(name, patient())? else { return Ok(()) };
    fail_over(&lab, |old| lab.host().ip(&format!("link del hp{PAIR}s{}", old.slot())))?;
    Ok(())
}

#[test]
fn a_primary_whose_agent_is_silent_is_failed_over() -> Result<()> {
    let name = "a_primary_whose_agent_is_silent_is_failed_over";
    let Some(lab) = protected(name, patient())? else { return Ok(()) };
    let outcome = fail_over(&lab, |old| old.kill_agent())?;
    let by = outcome.failover.detected_by.as_deref();
    ensure!(matches!(by, Some("heartbeat" | "latch")), "{by:?}");
    let detect = Duration::from_micros(outcome.failover.detect_us.unwrap_or_default());
    ensure!(detect >= PATIENCE, "not before its time: {detect:?}");
    Ok(())
}

#[test]
fn a_primary_that_says_failing_is_failed_over() -> Result<()> {
    let name = "a_primary_that_says_failing_is_failed_over";
    let Some(lab) = protected(name, patient())? else { return Ok(()) };
    let outcome = fail_over(&lab, |old| old.set_health(false))?;
    ensure!(outcome.failover.detected_by.as_deref() == Some("agent"), "{:?}", outcome.failover);
    Ok(())
}

#[test]
fn a_primary_stopped_by_its_hypervisor_is_failed_over() -> Result<()> {
    let name = "a_primary_stopped_by_its_hypervisor_is_failed_over";
    let Some(lab) = protected(name, patient())? else { return Ok(()) };
    // As `virsh destroy` does: behind the controller's back.
    fail_over(&lab, |old| lab.command_machine("stop", old.slot(), old.generation()).map(drop))?;
    Ok(())
}

#[test]
fn an_operator_can_force_a_failover() -> Result<()> {
    let Some(lab) = protected("an_operator_can_force_a_failover", patient())? else { return Ok(()) };
    let outcome = fail_over(&lab, |_| lab.must(&["failover", PAIR]).map(drop))?;
    ensure!(outcome.failover.detected_by.as_deref() == Some("operator"), "{:?}", outcome.failover);
    Ok(())
}

#[test]
fn probes_find_a_dead_primary_without_an_agent() -> Result<()> {
    let name = "probes_find_a_dead_primary_without_an_agent";
    let Some(lab) = protected(name, patient().probe())? else { return Ok(()) };
    fail_over(&lab, |old| old.freeze())?;
    fail_over(&lab, |old| old.kill())?;
    Ok(())
}

#[test]
fn ten_failovers_in_a_row_work() -> Result<()> {
    let Some(lab) = protected("ten_failovers_in_a_row_work", patient())? else { return Ok(()) };
    let first = lab.pair()?.epoch;
    // `cargo xtask test --soak` takes its time.
    let rounds = if std::env::var_os("HOTPAIR_SOAK").is_some() { 100 } else { 10 };
    for _ in 0..rounds {
        fail_over(&lab, |old| old.kill())?;
    }
    ensure!(lab.pair()?.epoch == first + rounds);
    ensure!(lab.volumes()?.len() == 2, "{:?}", lab.volumes()?);
    Ok(())
}

#[test]
fn volumes_are_kept_if_the_pair_says_so() -> Result<()> {
    let name = "volumes_are_kept_if_the_pair_says_so";
    let Some(lab) = protected(name, patient().keep_volumes())? else { return Ok(()) };
    let outcome = fail_over(&lab, |old| old.kill())?;
    let kept = format!("web-{}-{}.volume", outcome.old.slot(), outcome.old.generation());
    ensure!(lab.volumes()?.contains(&kept), "{:?}", lab.volumes()?);
    Ok(())
}
