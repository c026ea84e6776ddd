//! The new standby dies on its way: while it is made, before it has beaten, and just after.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hotpair::api::types::{Protection, RecordKind};
use hotpair_tests::lab::{Lab, Machine};
use hotpair_tests::vm::fault::Fault;
use hotpair_tests::wait::wait_for;

use crate::scenario::{fail_over, patient, protected, steady_load};

/// The next machine in the slot, as soon as it runs.
fn successor(lab: &Lab, old: &Machine) -> Result<Machine> {
    wait_for("the next machine", Duration::from_secs(10), || {
        let machine = lab.machine(old.slot())?;
        (machine.generation() > old.generation()).then_some(machine).context("it is the old one")
    })
}

#[test]
fn a_new_standby_that_dies_on_its_way_is_made_again() -> Result<()> {
    let name = "a_new_standby_that_dies_on_its_way_is_made_again";
    // So long that only what is found out at once is found out in time.
    let Some(lab) = protected(name, patient().start_within(Duration::from_secs(60)))? else {
        return Ok(());
    };
    let load = steady_load(&lab)?;
    let primary = lab.primary()?;
    let gone = |old: &Machine| {
        lab.wait_pair("its loss to be seen", |pair| {
            pair.members[usize::from(old.slot())].generation > old.generation()
        })
    };

    // While its start has not returned: it was up, and nobody is told of its end.
    lab.fault("start", Some(Fault::Slow(1_000)))?;
    let standby = lab.standby()?;
    standby.kill()?;
    let first = successor(&lab, &standby)?;
    wait_for("it to be up", Duration::from_secs(5), || first.set_health(true))?;
    std::thread::sleep(Duration::from_millis(100));
    first.kill()?;
    lab.fault("start", None)?;
    ensure!(lab.pair()?.protection == Protection::Unprotected);
    gone(&first)?;
    lab.wait_protected()?;

    // When it has not beaten yet.
    lab.sabotage_agents(true)?;
    let standby = lab.standby()?;
    standby.kill()?;
    let second = successor(&lab, &standby)?;
    lab.wait_pair("it to boot", |pair| {
        pair.members[usize::from(second.slot())].phase == hotpair::api::types::MemberPhase::Booting
    })?;
    lab.sabotage_agents(false)?;
    second.kill()?;
    gone(&second)?;
    lab.wait_protected()?;

    // When it has just begun to.
    let standby = lab.standby()?;
    standby.kill()?;
    let third = successor(&lab, &standby)?;
    lab.wait_pair("its first beat", |pair| pair.members[usize::from(third.slot())].sequence > 0)?;
    third.kill()?;
    gone(&third)?;
    lab.wait_protected()?;

    let report = load.stop();
    ensure!(report.lost().count() == 0 && report.doubled().count() == 0, "{}", report.line());
    ensure!(report.answerers() == [primary.by()], "{:?}", report.answerers());
    ensure!(lab.machines_alive() == 2 && lab.volumes()?.len() == 2, "{:?}", lab.volumes()?);
    let failures = lab.history()?.iter().filter(|record| record.kind == RecordKind::MemberLost).count();
    ensure!(failures >= 6, "each was told: {failures}");
    fail_over(&lab, |old| old.kill())?;
    Ok(())
}
