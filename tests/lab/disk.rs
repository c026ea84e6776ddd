//! The disk under the state is full: pairs go on from memory, it is said loudly, and it heals when there is room again.

use std::fs;
use std::time::Duration;

use anyhow::{Result, ensure};
use hotpair::api::types::{Protection, RecordKind};
use hotpair_tests::lab::{Lab, PAIR, fill};
use hotpair_tests::wait::wait_until;

use crate::scenario::{SOON, answered_within, patient, steady_load};

/// Whether the status says that the state cannot be saved, and why.
fn says_so(lab: &Lab) -> bool {
    lab.status().is_ok_and(|status| {
        status
            .troubles
            .iter()
            .any(|trouble| trouble.contains("the state cannot be saved") && trouble.contains("No space"))
    })
}

/// Gives the controller something to write until it cannot: what fits into pages that the file has already is no trouble.
fn write_until_it_says_so(lab: &Lab) -> Result<()> {
    for _ in 0..1000 {
        if says_so(lab) {
            return Ok(());
        }
        lab.must(&["pause", PAIR])?;
        lab.must(&["resume", PAIR])?;
    }
    anyhow::bail!("the status does not say that the state cannot be saved")
}

#[test]
fn on_a_full_disk_pairs_go_on_from_memory_and_heal_when_there_is_room() -> Result<()> {
    let name = "on_a_full_disk_pairs_go_on_from_memory_and_heal_when_there_is_room";
    if !crate::may_run(name) {
        return Ok(());
    }
    let mut lab = patient().without_controller()?;
    let disk = lab.small_disk(8192)?;
    lab.start_controller()?;
    lab.wait_protected()?;
    lab.must(&["switchover", PAIR])?;
    let before = lab.wait_protected()?;
    let ballast = fill(&disk)?;
    write_until_it_says_so(&lab)?;

    // Switchover and failover need no disk.
    let load = steady_load(&lab)?;
    lab.must(&["switchover", PAIR])?;
    let (old, survivor) = (lab.primary()?, lab.standby()?);
    old.kill()?;
    lab.wait_pair("the failover", |pair| pair.primary == Some(survivor.slot()))?;
    ensure!(says_so(&lab), "{:?}", lab.status()?.troubles);
    let spoken = lab.hotpair(&["status"])?;
    ensure!(spoken.code == 1 && spoken.stdout.contains("trouble: the state cannot be saved"), "{spoken:?}");
    // A member whose generation is not on the disk is not made.
    let pair = lab.wait_pair("it to say what it waits for", |pair| {
        pair.why.as_ref().is_some_and(|why| why.contains("the state cannot be saved"))
    })?;
    ensure!(pair.protection == Protection::Unprotected, "{pair:?}");

    // Killed and started on the full disk, it goes on with what it can know.
    lab.kill_controller();
    lab.start_controller()?;
    let after = lab.wait_pair("the survivor to serve on", |pair| pair.primary == Some(survivor.slot()))?;
    ensure!(after.epoch == pair.epoch && after.epoch > before.epoch, "{after:?}");
    write_until_it_says_so(&lab)?;

    fs::remove_file(ballast)?;
    lab.wait_protected()?;
    wait_until("the trouble to be over", Duration::from_secs(10), || {
        lab.status().is_ok_and(|status| status.troubles.is_empty())
    })?;
    let report = load.stop();
    answered_within(SOON, &report)?;

    // All that was kept in memory is there after a restart, and whole.
    let told = lab.history()?;
    lab.stop_controller()?;
    lab.start_controller()?;
    lab.wait_protected()?;
    let read = lab.history()?;
    ensure!(read.starts_with(&told), "{told:#?}\n{read:#?}");
    ensure!(told.iter().any(|record| record.kind == RecordKind::Switchover));
    Ok(())
}
