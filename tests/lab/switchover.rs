//! Planned changes: nothing is lost, nothing is answered twice.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hotpair::api::types::Protection;
use hotpair_tests::lab::{Lab, Machine, PAIR};
use hotpair_tests::load::Plan;
use hotpair_tests::wait::wait_until;

use crate::scenario::{load, patient, protected, steady_load};

#[test]
fn there_and_back_without_a_lost_or_doubled_answer() -> Result<()> {
    let name = "there_and_back_without_a_lost_or_doubled_answer";
    let Some(lab) = protected(name, Lab::builder())? else { return Ok(()) };
    let (first, second) = (lab.primary()?, lab.standby()?);
    let epoch = lab.pair()?.epoch;
    let load = load(&lab)?;
    let web = lab.client().load(Plan::http(lab.client().web()?, "/?{}").rate(50))?;
    let mut switchovers = Vec::new();
    for round in 1..=4 {
        std::thread::sleep(Duration::from_millis(300));
        let from = web.elapsed();
        lab.must(&["switchover", PAIR])?;
        switchovers.push((from, web.elapsed() + Duration::from_millis(50)));
        let pair = lab.pair()?;
        let expected = if round % 2 == 1 { &second } else { &first };
        ensure!(pair.primary == Some(expected.slot()), "round {round}: {pair:?}");
    }
    std::thread::sleep(Duration::from_millis(300));
    let report = load.stop();
    let web = web.stop();
    eprintln!("{}; {}", report.line(), web.line());
    ensure!(report.answerers() == [first.by(), second.by()], "{:?}", report.answerers());
    ensure!(report.lost().count() == 0, "{}: first {:?}", report.line(), report.lost().next());
    ensure!(report.doubled().count() == 0, "{}: first {:?}", report.line(), report.doubled().next());
    ensure!(first.is_alive() && second.is_alive(), "nobody is replaced");
    ensure!(lab.pair()?.epoch > epoch);
    // Connections of that very moment belong to the old primary; all others are answered.
    for lost in web.lost() {
        let until = lost.failed_at.unwrap_or(web.duration);
        let in_flight = switchovers.iter().any(|(from, to)| lost.sent_at <= *to && until >= *from);
        ensure!(in_flight, "{lost:?} failed, and no switchover was on: {switchovers:?}");
    }
    lab.wait_protected()?;
    Ok(())
}

/// Lets a machine stand still again and again, for moments, while something is done.
fn stuttering<T>(machine: &Machine, meanwhile: impl FnOnce() -> Result<T>) -> Result<T> {
    let over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let stutter = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                machine.freeze()?;
                std::thread::sleep(Duration::from_millis(30));
                machine.thaw()?;
                std::thread::sleep(Duration::from_millis(15));
            }
            anyhow::Ok(())
        });
        let done = meanwhile();
        over.store(true, Ordering::Relaxed);
        stutter.join().expect("no panic")?;
        done
    })
}

#[test]
fn a_second_switchover_does_not_spoil_the_first_ones_count() -> Result<()> {
    let name = "a_second_switchover_does_not_spoil_the_first_ones_count";
    // Until the end of the handover there is a moment in which a standby that is late has caught up.
    let builder = patient().handover(Duration::from_millis(200));
    let Some(lab) = protected(name, builder)? else { return Ok(()) };
    let load = steady_load(&lab)?;
    // Most of these nobody answers: so no moment is quiet, and a switchover begins at any.
    let nobody = SocketAddr::new(lab.client().entry(false)?, 9);
    let unanswered = lab.client().load(Plan::udp(nobody).rate(200))?;
    for round in 0..8 {
        let standby = lab.standby()?;
        // While one waits for its moment, and while it drains.
        let pause = Duration::from_millis([5, 1_100][round % 2]);
        let spoken = stuttering(&standby, || {
            std::thread::scope(|scope| {
                let first = scope.spawn(|| lab.hotpair(&["switchover", PAIR]));
                std::thread::sleep(pause);
                let second = lab.hotpair(&["switchover", PAIR])?;
                Ok([first.join().expect("no panic")?, second])
            })
        })?;
        let refused: Vec<_> = spoken.iter().filter(|spoken| spoken.code == 2).collect();
        ensure!(refused.len() == 1 && refused[0].stderr.contains("another one is under way"), "{spoken:?}");
        ensure!(lab.pair()?.primary == Some(standby.slot()), "round {round}: {spoken:?}");
        lab.wait_protected()?;
    }
    drop(unanswered);
    let report = load.stop();
    eprintln!("{}", report.line());
    ensure!(report.lost().count() == 0, "{}: first {:?}", report.line(), report.lost().next());
    ensure!(report.doubled().count() == 0, "{}: first {:?}", report.line(), report.doubled().next());
    Ok(())
}

#[test]
fn a_primary_that_shuts_down_hands_over_before_it_goes() -> Result<()> {
    let name = "a_primary_that_shuts_down_hands_over_before_it_goes";
    let Some(lab) = protected(name, Lab::builder())? else { return Ok(()) };
    let (first, second) = (lab.primary()?, lab.standby()?);
    let load = load(&lab)?;
    first.shut_down()?;
    lab.wait_pair("the standby to serve", |pair| pair.primary == Some(second.slot()))?;
    std::thread::sleep(Duration::from_millis(200));
    let report = load.stop();
    ensure!(report.lost().count() == 0, "{}", report.line());
    ensure!(report.doubled().count() == 0, "{}", report.line());
    let kinds: Vec<_> = lab.history()?.iter().map(|record| record.kind).collect();
    ensure!(
        !kinds.contains(&hotpair::api::types::RecordKind::Failover),
        "no detection was needed: {kinds:?}"
    );
    Ok(())
}

#[test]
fn a_primary_that_shuts_down_waits_for_a_standby_that_is_late() -> Result<()> {
    let name = "a_primary_that_shuts_down_waits_for_a_standby_that_is_late";
    let builder = patient().handover(Duration::from_millis(200));
    let Some(lab) = protected(name, builder)? else { return Ok(()) };
    let load = steady_load(&lab)?;
    for round in 0..4 {
        let (old, standby) = (lab.primary()?, lab.standby()?);
        stuttering(&standby, || {
            // It stands still just then.
            std::thread::sleep(Duration::from_millis(20));
            old.shut_down()?;
            lab.wait_pair("the standby to serve", |pair| pair.primary == Some(standby.slot()))
        })?;
        // Its guest comes up again, when the agent has ended.
        wait_until("the old primary to stand by", Duration::from_secs(30), || {
            old.start_agent().is_ok() && lab.pair().is_ok_and(|pair| pair.protection == Protection::Protected)
        })
        .with_context(|| format!("round {round}"))?;
    }
    let report = load.stop();
    eprintln!("{}", report.line());
    ensure!(report.lost().count() == 0, "{}: first {:?}", report.line(), report.lost().next());
    ensure!(report.doubled().count() == 0, "{}: first {:?}", report.line(), report.doubled().next());
    Ok(())
}

#[test]
fn a_switchover_without_a_ready_standby_is_refused_with_the_reason() -> Result<()> {
    let name = "a_switchover_without_a_ready_standby_is_refused_with_the_reason";
    let Some(lab) = protected(name, Lab::builder().no_replacement())? else { return Ok(()) };
    let (primary, epoch) = (lab.primary()?, lab.pair()?.epoch);
    lab.standby()?.kill()?;
    lab.wait_pair("the loss of the standby", |pair| pair.why.is_some())?;
    for verb in ["switchover", "failover"] {
        let spoken = lab.hotpair(&[verb, PAIR])?;
        ensure!(spoken.code == 2, "{spoken:?}");
        ensure!(spoken.stderr.contains("not ready"), "{spoken:?}");
    }
    let pair = lab.pair()?;
    ensure!((pair.primary, pair.epoch) == (Some(primary.slot()), epoch), "nothing has changed: {pair:?}");
    // `replace` is what helps.
    lab.must(&["replace", PAIR])?;
    lab.wait_protected()?;
    lab.must(&["switchover", PAIR])?;
    Ok(())
}

#[test]
fn nothing_is_failed_over_while_paused_and_all_is_after_resume() -> Result<()> {
    let name = "nothing_is_failed_over_while_paused_and_all_is_after_resume";
    let Some(lab) = protected(name, Lab::builder())? else { return Ok(()) };
    let (primary, epoch) = (lab.primary()?, lab.pair()?.epoch);
    lab.must(&["pause", PAIR])?;
    primary.kill_agent()?;
    // Ten times the timeout.
    std::thread::sleep(Duration::from_millis(500));
    let pair = lab.pair()?;
    ensure!(pair.paused && pair.epoch == epoch, "{pair:?}");
    ensure!(pair.members[usize::from(primary.slot())].role == "primary", "{pair:?}");
    lab.must(&["resume", PAIR])?;
    lab.wait_pair("the failover", |pair| pair.epoch > epoch && pair.primary != Some(primary.slot()))?;
    lab.wait_protected()?;
    Ok(())
}
