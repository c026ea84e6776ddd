//! The controller gets no time (SIGSTOP): nobody notices, nobody is shot for its absence, and what happened meanwhile is
//! made good.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hotpair::api::types::{PairStatus, Protection, RecordKind};
use hotpair_tests::lab::{Lab, Machine};
use hotpair_tests::vm::fault::Fault;
use hotpair_tests::wait::wait_until;

use crate::scenario::{LATCH, answered_within, patient, protected, steady_load};

/// Half a minute when there is time for it.
fn absence() -> Duration {
    Duration::from_secs(if std::env::var_os("HOTPAIR_SOAK").is_some() { 30 } else { 3 })
}

#[test]
fn a_controller_without_time_costs_no_packet_and_shoots_nobody() -> Result<()> {
    let name = "a_controller_without_time_costs_no_packet_and_shoots_nobody";
    let Some(mut lab) = protected(name, patient().start_within(Duration::from_secs(2)))? else {
        return Ok(());
    };
    let load = steady_load(&lab)?;
    let primary = lab.primary()?;
    // A start that takes its time is under way, well within its deadline; it ends while nobody looks.
    lab.fault("start", Some(Fault::Slow(1500)))?;
    let before = lab.pair()?;
    let told = lab.history()?.len();
    lab.standby()?.kill()?;
    let begun =
        |lab: &Lab| lab.asked().is_ok_and(|asked| asked.iter().any(|a| a.verb == "start" && a.end.is_none()));
    wait_until("a start to begin", Duration::from_secs(10), || begun(&lab))?;
    lab.suspend_controller(true)?;
    std::thread::sleep(absence());
    lab.suspend_controller(false)?;
    lab.fault("start", None)?;
    let after = lab.wait_protected()?;
    std::thread::sleep(Duration::from_millis(500));

    ensure!((after.epoch, after.primary) == (before.epoch, before.primary), "{before:?} {after:?}");
    let kinds: Vec<_> = lab.history()?.iter().skip(told).map(|record| record.kind).collect();
    let expected = [
        RecordKind::MemberLost,
        RecordKind::Fenced,
        RecordKind::Released,
        RecordKind::Replacing,
        RecordKind::Protected,
    ];
    ensure!(kinds == expected, "the standby's end, and nothing held against anybody else: {kinds:?}");
    ensure!(primary.is_alive() && lab.machines_alive() == 2);
    let report = load.stop();
    ensure!(report.lost().count() == 0 && report.doubled().count() == 0, "{}", report.line());
    ensure!(report.answerers() == [primary.by()], "{:?}", report.answerers());
    Ok(())
}

#[test]
fn who_died_while_the_controller_had_no_time_is_replaced_when_it_has() -> Result<()> {
    let name = "who_died_while_the_controller_had_no_time_is_replaced_when_it_has";
    let Some(mut lab) = protected(name, patient())? else { return Ok(()) };
    let before = lab.pair()?;
    let (old, survivor) = (lab.primary()?, lab.standby()?);
    let told = lab.history()?.len();
    let load = steady_load(&lab)?;
    lab.suspend_controller(true)?;
    std::thread::sleep(Duration::from_millis(500));
    old.kill()?;
    wait_until("the survivor's answers", Duration::from_secs(5), || {
        load.so_far().answerers().contains(&survivor.by())
    })?;
    std::thread::sleep(absence() / 2);
    lab.suspend_controller(false)?;
    lab.wait_pair("the latch to be followed", |pair| pair.primary == Some(survivor.slot()))?;
    let after = lab.wait_protected()?;
    std::thread::sleep(Duration::from_millis(200));

    ensure!(after.epoch == before.epoch + 1, "one failover, one epoch: {before:?} {after:?}");
    ensure!(survivor.is_alive(), "the survivor was not held responsible");
    let history = lab.history()?;
    let failover = history[told..].iter().find(|record| record.kind == RecordKind::Failover);
    let failover = failover.context("the history does not tell of the failover")?;
    ensure!(failover.detected_by.as_deref() == Some("latch"), "{failover:?}");
    for kind in [RecordKind::MemberLost, RecordKind::Fenced, RecordKind::Released, RecordKind::Replacing] {
        let count = history[told..].iter().filter(|record| record.kind == kind).count();
        ensure!(count == 1, "{kind:?} {count} times: {:#?}", &history[told..]);
    }
    let report = load.stop();
    answered_within(LATCH, &report)?;
    ensure!(report.answerers() == [old.by(), survivor.by()], "{:?}", report.answerers());
    ensure!(lab.volumes()?.len() == 2, "{:?}", lab.volumes()?);
    Ok(())
}

#[test]
fn a_standby_that_died_while_the_controller_was_dead_is_replaced_when_it_is_back() -> Result<()> {
    let name = "a_standby_that_died_while_the_controller_was_dead_is_replaced_when_it_is_back";
    let Some(mut lab) = protected(name, patient())? else { return Ok(()) };
    let (primary, standby) = (lab.primary()?, lab.standby()?);
    let before = lab.pair()?;
    let load = steady_load(&lab)?;
    lab.kill_controller();
    standby.kill()?;
    wait_until("its end", Duration::from_secs(5), || !standby.is_alive())?;
    lab.start_controller()?;
    // At first it tells what it has adopted.
    let generation = |pair: &PairStatus| pair.members[usize::from(standby.slot())].generation;
    let after = lab.wait_pair("the pair to be protected by another standby", |pair| {
        pair.protection == Protection::Protected && generation(pair) > generation(&before)
    })?;
    ensure!((after.epoch, after.primary) == (before.epoch, before.primary), "{before:?} {after:?}");
    ensure!([&primary].into_iter().all(Machine::is_alive));
    let lost = lab.history()?.into_iter().find(|record| record.kind == RecordKind::MemberLost);
    let lost = lost.context("the history does not tell of the loss")?;
    ensure!(
        lost.slot == Some(standby.slot()) && lost.text.contains("when the controller started"),
        "{lost:?}"
    );
    let report = load.stop();
    ensure!(report.lost().count() == 0 && report.doubled().count() == 0, "{}", report.line());
    ensure!(lab.volumes()?.len() == 2, "{:?}", lab.volumes()?);
    Ok(())
}
