//! The controller comes and goes; the data plane does not care, and nothing is forgotten.

use std::io::Write as _;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use aya::maps::Array;
use hotpair_abi::RoleWord;
use hotpair_abi::maps::{Host, Pair};
use hotpair_tests::lab::{Lab, Latch, PAIR};
use hotpair_tests::netns::run;
use hotpair_tests::wait::wait_until;

use crate::scenario::{SOON, answered_within, fail_over, load, patient, protected};
use crate::takeover::{hasty, open};

#[test]
fn a_killed_controller_costs_no_packet_and_finds_everything_again() -> Result<()> {
    let name = "a_killed_controller_costs_no_packet_and_finds_everything_again";
    let Some(mut lab) = protected(name, patient())? else { return Ok(()) };
    fail_over(&lab, |old| old.kill())?;
    let before = lab.pair()?;
    let members = [lab.machine(0)?, lab.machine(1)?];
    let load = load(&lab)?;
    lab.kill_controller();
    std::thread::sleep(Duration::from_millis(300));
    lab.start_controller()?;
    let after = lab.wait_protected()?;
    let host = Array::<_, Host>::try_from(lab.array("HOST")?)?.get(&0, 0)?;
    ensure!(host.spread.mask != 0, "entry addresses are not indexed: {host:?}");
    lab.stop_controller()?;
    lab.start_controller()?;
    lab.wait_protected()?;
    std::thread::sleep(Duration::from_millis(100));
    let report = load.stop();
    ensure!(report.lost().count() == 0 && report.doubled().count() == 0, "{}", report.line());
    ensure!(after.primary == before.primary, "roles: {before:?} {after:?}");
    ensure!(after.epoch >= before.epoch, "epoch: {} -> {}", before.epoch, after.epoch);
    ensure!(members.iter().all(hotpair_tests::lab::Machine::is_alive), "nobody was replaced");
    ensure!(lab.history()?.iter().any(|r| r.kind == hotpair::api::types::RecordKind::Failover), "history");
    fail_over(&lab, |old| old.kill())?;
    Ok(())
}

#[test]
fn the_kernel_fails_over_without_a_controller() -> Result<()> {
    let name = "the_kernel_fails_over_without_a_controller";
    let Some(mut lab) = protected(name, Lab::builder())? else { return Ok(()) };
    let (old, survivor) = (lab.primary()?, lab.standby()?);
    let before = lab.pair()?;
    let load = load(&lab)?;
    lab.kill_controller();
    old.freeze()?;
    wait_until("the survivor's answers", Duration::from_secs(5), || {
        load.so_far().answerers().contains(&survivor.by())
    })?;
    std::thread::sleep(Duration::from_millis(100));
    // Thawed, the old one is not heard: the latch holds.
    let thawed_at = load.elapsed();
    old.thaw()?;
    std::thread::sleep(Duration::from_millis(300));
    let so_far = load.so_far();
    let late = so_far.requests.iter().filter(|r| r.sent_at > thawed_at && r.by == Some(old.by())).count();
    ensure!(late == 0, "{late} requests were answered by the old primary");
    answered_within(SOON, &so_far)?;

    lab.start_controller()?;
    let after = lab.wait_pair("the latch to be followed", |pair| pair.primary == Some(survivor.slot()))?;
    ensure!(after.epoch > before.epoch);
    lab.wait_protected()?;
    let report = load.stop();
    ensure!(report.answerers() == [old.by(), survivor.by()], "{:?}", report.answerers());
    answered_within(SOON, &report)?;
    Ok(())
}

#[test]
fn after_a_power_cut_the_epoch_has_not_gone_back() -> Result<()> {
    let name = "after_a_power_cut_the_epoch_has_not_gone_back";
    let Some(mut lab) = protected(name, patient())? else { return Ok(()) };
    fail_over(&lab, |old| old.kill())?;
    let before = lab.pair()?;
    lab.power_cut()?;
    lab.start_controller()?;
    let after = lab.wait_protected()?;
    ensure!(after.epoch > before.epoch, "epoch: {} -> {}", before.epoch, after.epoch);
    for (now, then) in after.members.iter().zip(&before.members) {
        ensure!(now.generation > then.generation, "no generation is used twice: {then:?} {now:?}");
    }
    ensure!(lab.volumes()?.len() == 2, "nothing is left of the dead: {:?}", lab.volumes()?);
    load(&lab)?;
    fail_over(&lab, |old| old.kill())?;
    Ok(())
}

#[test]
fn a_second_controller_is_refused() -> Result<()> {
    let name = "a_second_controller_is_refused";
    let Some(lab) = protected(name, Lab::builder())? else { return Ok(()) };
    let load = load(&lab)?;
    let spoken = lab.hotpair(&["run"])?;
    ensure!(spoken.code == 2 && spoken.stderr.contains("another controller"), "{spoken:?}");
    std::thread::sleep(Duration::from_millis(100));
    ensure!(load.stop().lost().count() == 0);
    Ok(())
}

#[test]
fn without_a_controller_the_verbs_say_so() -> Result<()> {
    let name = "without_a_controller_the_verbs_say_so";
    let Some(mut lab) = protected(name, Lab::builder())? else { return Ok(()) };
    lab.stop_controller()?;
    for verb in [&["status"][..], &["show", PAIR], &["switchover", PAIR], &["history"]] {
        let spoken = lab.hotpair(verb)?;
        ensure!(spoken.code == 4, "{verb:?}: {spoken:?}");
    }
    Ok(())
}

#[test]
fn cleanup_leaves_nothing_in_the_kernel() -> Result<()> {
    let name = "cleanup_leaves_nothing_in_the_kernel";
    let Some(mut lab) = protected(name, Lab::builder())? else { return Ok(()) };
    let spoken = lab.hotpair(&["cleanup"])?;
    ensure!(spoken.code == 2, "refused while a controller runs: {spoken:?}");
    lab.stop_controller()?;
    for slot in [0, 1] {
        lab.machine(slot)?.kill()?;
    }
    lab.must(&["cleanup"])?;
    ensure!(!lab.dir().join("bpf/hotpair").exists(), "pins");
    let links = run(lab.host().command("ip").args(["-d", "link", "show"]))?;
    ensure!(!links.contains("hpweb"), "taps: {links}");
    ensure!(!links.contains("xdp"), "programs: {links}");
    // And it can begin again.
    lab.start_controller()?;
    lab.wait_protected()?;
    Ok(())
}

#[test]
fn a_controller_that_dies_within_a_switchover_leaves_no_client_waiting() -> Result<()> {
    let name = "a_controller_that_dies_within_a_switchover_leaves_no_client_waiting";
    let builder = hasty().handover(Duration::from_secs(1));
    let Some(mut lab) = protected(name, builder)? else { return Ok(()) };
    let (old, new) = (lab.primary()?, lab.standby()?);
    let mut conversation = open(&lab, false)?;
    conversation.upload(1 << 20)?;
    let mut asked = UnixStream::connect(lab.socket())?;
    write!(asked, "POST /v1/pairs/{PAIR}/switchover HTTP/1.1\r\nHost: hotpair\r\nContent-Length: 0\r\n\r\n")?;
    let pairs = Array::<_, Pair>::try_from(lab.array("PAIRS")?)?;
    let word = || pairs.get(&0, 0).map(|pair| RoleWord(pair.role)).unwrap_or_default();
    wait_until("the switchover to begin", SOON, || word().handover())?;
    lab.kill_controller();
    ensure!(word().handover(), "it was over before the controller died");
    // The gate's watchdog is off in a switchover, and so is the latch; nobody is there to end it.
    new.freeze()?;
    let begun = Instant::now();
    conversation.upload(1 << 20).context("while the new one stands still")?;
    open(&lab, true)?.upload(1000)?;
    ensure!(begun.elapsed() < Duration::from_secs(6), "it took {:?}", begun.elapsed());
    ensure!(word().handover(), "the word is as its writer has left it");
    // And now the latch.
    new.thaw()?;
    let latch = Latch::watch(&lab)?;
    std::thread::sleep(Duration::from_secs(1));
    old.freeze()?;
    wait_until("the latch to trip", Duration::from_secs(10), || latch.has_tripped())?;
    open(&lab, false)?.increment()?;
    lab.start_controller()?;
    lab.wait_protected()?;
    Ok(())
}
