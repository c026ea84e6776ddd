//! The hypervisor's commands hang, fail, crash, lie and babble: it is bounded, it is told, and it stays that pair's affair.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hotpair::api::types::{Protection, RecordKind};
use hotpair_tests::lab::{Lab, Machine, SECOND};
use hotpair_tests::load::Plan;
use hotpair_tests::vm::fault::Fault;
use hotpair_tests::wait::{wait_for, wait_until};

use crate::scenario::{SOON, answered_within, patient, protected, steady_load};

/// Waits for a line of the history, from that line on, that says this.
fn wait_told(lab: &Lab, from: usize, kind: RecordKind, words: &str) -> Result<()> {
    wait_for(&format!("the history to say {kind:?}: {words}"), Duration::from_secs(15), || {
        let history = lab.history()?;
        let told =
            history.iter().skip(from).find(|record| record.kind == kind && record.text.contains(words));
        told.map(drop).with_context(|| format!("it says {:#?}", &history[from.min(history.len())..]))
    })
}

/// Waits until the status says this of the machine's slot.
fn wait_said(lab: &Lab, of: &Machine, words: &str) -> Result<()> {
    wait_for(&format!("the status to say {words}"), Duration::from_secs(45), || {
        let why = lab.pair()?.members[usize::from(of.slot())].why.clone().unwrap_or_default();
        ensure!(why.contains(words), "it says {why}");
        Ok(())
    })
}

#[test]
fn a_start_that_hangs_fails_or_lies_is_told_and_tried_again() -> Result<()> {
    let name = "a_start_that_hangs_fails_or_lies_is_told_and_tried_again";
    let Some(lab) = protected(name, patient().start_within(Duration::from_secs(1)))? else {
        return Ok(());
    };
    let load = steady_load(&lab)?;
    let faults = [
        (Fault::Slow(120_000), "did not finish within 1s"),
        (Fault::Fail, "the hypervisor refuses, by order"),
        (Fault::Crash, "signal: 6"),
    ];
    for (fault, words) in faults {
        let from = lab.history()?.len();
        lab.fault("start", Some(fault))?;
        lab.standby()?.kill()?;
        wait_told(&lab, from, RecordKind::ReplaceFailed, words)?;
        let pair = lab.pair()?;
        ensure!(pair.protection == Protection::Unprotected, "{fault:?}: {pair:?}");
        ensure!(pair.why.as_ref().is_some_and(|why| why.contains(words)), "{fault:?}: {:?}", pair.why);
        lab.fault("start", None)?;
        lab.wait_protected()?;
    }
    // One that says it has started the member, and has not.
    let from = lab.history()?.len();
    lab.fault("start", Some(Fault::Garbage))?;
    lab.standby()?.kill()?;
    wait_told(&lab, from, RecordKind::MemberLost, "it does not run any more")?;
    lab.fault("start", None)?;
    lab.wait_protected()?;
    let report = load.stop();
    ensure!(report.lost().count() == 0 && report.doubled().count() == 0, "{}", report.line());
    ensure!(lab.machines_alive() == 2 && lab.volumes()?.len() == 2, "{:?}", lab.volumes()?);
    Ok(())
}

#[test]
fn a_stop_or_release_that_fails_or_lies_is_told_and_tried_again() -> Result<()> {
    let name = "a_stop_or_release_that_fails_or_lies_is_told_and_tried_again";
    let Some(lab) = protected(name, patient())? else { return Ok(()) };
    let mut faults = vec![
        ("stop", Fault::Fail, "it cannot be ended: ", "by order"),
        ("stop", Fault::Crash, "it cannot be ended: ", "signal: 6"),
        ("stop", Fault::Garbage, "it cannot be ended: ", "still runs"),
        ("release", Fault::Fail, "its storage cannot be released: ", "by order"),
    ];
    // What a command may take is not a setting: half a minute.
    if std::env::var_os("HOTPAIR_SOAK").is_some() {
        faults.push(("stop", Fault::Slow(600_000), "it cannot be ended: ", "did not finish within 30s"));
    }
    for (verb, fault, what, words) in faults {
        let from = lab.history()?.len();
        lab.fault(verb, Some(fault))?;
        let (old, survivor) = (lab.primary()?, lab.standby()?);
        old.freeze()?;
        lab.wait_pair("the failover", |pair| pair.primary == Some(survivor.slot()))?;
        wait_said(&lab, &old, what)?;
        wait_said(&lab, &old, words)?;
        wait_told(&lab, from, RecordKind::Delayed, what)?;
        ensure!(lab.pair()?.protection == Protection::Unprotected, "{verb} {fault:?}");
        lab.fault(verb, None)?;
        // The next try may have begun to hang already.
        wait_for("the pair to be protected", Duration::from_secs(60), || {
            ensure!(lab.pair()?.protection == Protection::Protected);
            Ok(())
        })?;
        ensure!(
            lab.machines_alive() == 2 && lab.volumes()?.len() == 2,
            "{verb} {fault:?}: {:?}",
            lab.volumes()?
        );
    }
    Ok(())
}

#[test]
fn megabytes_of_output_are_neither_kept_nor_waited_for() -> Result<()> {
    let name = "megabytes_of_output_are_neither_kept_nor_waited_for";
    let Some(lab) = protected(name, patient())? else { return Ok(()) };
    for verb in ["start", "stop", "release"] {
        lab.fault(verb, Some(Fault::Flood(16)))?;
    }
    let memory = || -> Result<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", lab.status()?.pid))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    };
    let before = memory()?;
    crate::scenario::fail_over(&lab, |old| old.kill())?;
    let grown = memory()?.saturating_sub(before);
    ensure!(grown < 16 << 10, "it has grown by {grown} kB");
    Ok(())
}

#[test]
fn a_status_command_that_is_of_no_use_is_told_and_failovers_go_on() -> Result<()> {
    let name = "a_status_command_that_is_of_no_use_is_told_and_failovers_go_on";
    let Some(mut lab) = protected(name, patient())? else { return Ok(()) };
    lab.fault("status", Some(Fault::Slow(3_000)))?;
    lab.kill_controller();
    let earlier = lab.asked()?.len();
    lab.start_controller()?;
    // Time for questions to pile up in.
    std::thread::sleep(Duration::from_millis(2_500));
    let asked = lab.asked()?;
    let open = asked[earlier..].iter().filter(|asked| asked.verb == "status" && asked.end.is_none()).count();
    ensure!(open <= 1, "{open} questions at a time");

    // Nobody knows what runs, and yet: who beats is taken over from and to.
    lab.fault("status", Some(Fault::Garbage))?;
    wait_until("the trouble to be told", Duration::from_secs(10), || {
        lab.status().is_ok_and(|status| {
            !status.hypervisor.reachable
                && status.hypervisor.why.is_some_and(|why| why.contains("it must write the generation"))
        })
    })?;
    let spoken = lab.hotpair(&["status"])?;
    ensure!(spoken.stdout.contains("what runs of web cannot be told"), "{spoken:?}");
    let (old, survivor) = (lab.primary()?, lab.standby()?);
    let load = steady_load(&lab)?;
    old.kill()?;
    lab.wait_pair("the failover", |pair| pair.primary == Some(survivor.slot()))?;
    ensure!(lab.pair()?.protection == Protection::Unprotected);
    lab.fault("status", None)?;
    lab.wait_protected()?;
    let report = load.stop();
    answered_within(SOON, &report)?;
    wait_until("the trouble to be over", Duration::from_secs(10), || {
        lab.status().is_ok_and(|status| status.hypervisor.reachable)
    })?;
    ensure!(lab.hotpair(&["status"])?.code == 0);
    Ok(())
}

#[test]
fn a_pair_whose_commands_hang_does_not_delay_another_one() -> Result<()> {
    let name = "a_pair_whose_commands_hang_does_not_delay_another_one";
    let Some(lab) = protected(name, patient().second_pair())? else { return Ok(()) };
    let other = || lab.pair_named(SECOND.0);
    wait_until("the second pair to be protected", Duration::from_secs(20), || {
        other().is_ok_and(|pair| pair.protection == Protection::Protected)
    })?;
    for verb in ["start", "stop", "release", "status"] {
        lab.fault(verb, Some(Fault::Slow(5_000)))?;
    }
    let first = lab.primary()?;
    first.kill()?;
    lab.wait_pair("the first pair's failover", |pair| pair.primary == Some(1 - first.slot()))?;
    wait_until("its stop command to hang", Duration::from_secs(5), || {
        lab.asked().is_ok_and(|asked| asked.iter().any(|asked| asked.verb == "stop" && asked.end.is_none()))
    })?;

    let before = other()?;
    let slot = before.primary.context("it serves")?;
    let load = lab.client().load(Plan::udp(format!("{}:7", SECOND.1).parse()?).rate(200))?;
    wait_until("answers", Duration::from_secs(10), || load.so_far().answered() > 20)?;
    let began = Instant::now();
    lab.machine_of(SECOND.0, slot)?.kill()?;
    wait_until("the second pair to be protected again", Duration::from_secs(10), || {
        other().is_ok_and(|pair| pair.epoch > before.epoch && pair.protection == Protection::Protected)
    })?;
    ensure!(
        lab.asked()?.iter().any(|asked| asked.verb == "stop" && asked.pair == "web" && asked.end.is_none()),
        "all of it while the first pair's command was hanging; it took {:?}",
        began.elapsed()
    );
    let report = load.stop();
    answered_within(SOON, &report)?;
    ensure!(lab.pair()?.protection == Protection::Unprotected);
    // Time for the questions to pile up in, one a second.
    std::thread::sleep(Duration::from_secs(2));
    let questions =
        lab.asked()?.into_iter().filter(|a| a.pair == "web" && a.verb == "status" && a.end.is_none());
    ensure!(questions.count() <= 1, "one question at a time");
    for verb in ["start", "stop", "release", "status"] {
        lab.fault(verb, None)?;
    }
    // The one that hangs, hangs on; from then on all goes well.
    lab.wait_protected()?;
    Ok(())
}
