//! Redundancy comes back by itself, and until it is back the pair says so.

use std::time::Duration;

use anyhow::{Result, ensure};
use hotpair::api::types::{Protection, RecordKind};
use hotpair_tests::lab::PAIR;
use hotpair_tests::load::By;
use hotpair_tests::wait::wait_until;

use crate::scenario::{SOON, answered_within, fail_over, load, patient, protected, steady_load};

#[test]
fn a_dead_standby_is_replaced_without_touching_the_service() -> Result<()> {
    let name = "a_dead_standby_is_replaced_without_touching_the_service";
    let Some(lab) = protected(name, patient())? else { return Ok(()) };
    let (primary, standby) = (lab.primary()?, lab.standby()?);
    let epoch = lab.pair()?.epoch;
    let load = load(&lab)?;
    standby.kill()?;
    lab.wait_pair("the pair to say that it is unprotected", |pair| {
        pair.protection == Protection::Unprotected
    })?;
    let pair = lab.wait_protected()?;
    std::thread::sleep(Duration::from_millis(200));
    let report = load.stop();
    ensure!(report.lost().count() == 0 && report.doubled().count() == 0, "{}", report.line());
    ensure!(report.answerers() == [primary.by()], "{:?}", report.answerers());
    ensure!((pair.primary, pair.epoch) == (Some(primary.slot()), epoch), "no role has changed: {pair:?}");
    ensure!(lab.machine(standby.slot())?.generation() > standby.generation());
    ensure!(lab.volumes()?.len() == 2, "{:?}", lab.volumes()?);
    Ok(())
}

#[test]
fn without_an_image_the_service_goes_on_unprotected_and_heals_by_itself() -> Result<()> {
    let name = "without_an_image_the_service_goes_on_unprotected_and_heals_by_itself";
    let Some(lab) = protected(name, patient())? else { return Ok(()) };
    let (old, survivor) = (lab.primary()?, lab.standby()?);
    let load = load(&lab)?;
    lab.lose_image()?;
    old.kill()?;
    let pair = lab.wait_pair("the failed attempt to be told", |pair| {
        pair.primary == Some(survivor.slot())
            && format!("{pair:?}").contains("cannot make a volume from the image")
    })?;
    ensure!(pair.protection == Protection::Unprotected, "{pair:?}");
    let spoken = lab.hotpair(&["status"])?;
    ensure!(spoken.code == 1, "degraded: {spoken:?}");
    let first = spoken.stdout.lines().next().unwrap_or_default();
    ensure!(
        first.contains("UNPROTECTED") && first.contains("image"),
        "the first line says what and why: {first}"
    );
    let kept_trying_from = load.elapsed();
    std::thread::sleep(Duration::from_millis(700));
    ensure!(
        load.so_far().requests.iter().any(|r| r.answered_at.is_some_and(|at| at > kept_trying_from)),
        "it serves"
    );
    lab.restore_image()?;
    lab.wait_protected()?;
    let report = load.stop();
    answered_within(SOON, &report)?;
    ensure!(lab.hotpair(&["status"])?.code == 0);
    fail_over(&lab, |old| old.kill())?;
    Ok(())
}

#[test]
fn a_replacement_that_never_serves_is_given_up_and_tried_again() -> Result<()> {
    let name = "a_replacement_that_never_serves_is_given_up_and_tried_again";
    let Some(lab) = protected(name, patient().start_within(Duration::from_secs(3)))? else {
        return Ok(());
    };
    let (old, survivor) = (lab.primary()?, lab.standby()?);
    let slot = old.slot();
    old.kill()?;
    lab.wait_pair("the survivor to serve", |pair| pair.primary == Some(survivor.slot()))?;
    lab.sabotage_agents(true)?;
    // The one that is being made just now may have escaped it.
    let _ = lab.machine(slot).and_then(|machine| machine.kill());
    lab.wait_pair("one to be given up", |pair| {
        format!("{:?}", pair.members[usize::from(slot)].why).contains("did not serve")
    })?;
    ensure!(lab.pair()?.protection == Protection::Unprotected);
    lab.sabotage_agents(false)?;
    lab.wait_protected()?;
    ensure!(lab.pair()?.primary == Some(survivor.slot()));
    Ok(())
}

#[test]
fn replacement_waits_to_be_asked_if_the_pair_says_so() -> Result<()> {
    let name = "replacement_waits_to_be_asked_if_the_pair_says_so";
    let Some(lab) = protected(name, patient().no_replacement())? else { return Ok(()) };
    let (old, survivor) = (lab.primary()?, lab.standby()?);
    old.kill()?;
    lab.wait_pair("the survivor to serve", |pair| pair.primary == Some(survivor.slot()))?;
    std::thread::sleep(Duration::from_millis(500));
    let pair = lab.pair()?;
    ensure!(pair.protection == Protection::Unprotected && pair.why.is_some(), "{pair:?}");
    ensure!(lab.machine(old.slot()).is_err(), "nobody was asked for");
    lab.must(&["replace", PAIR])?;
    lab.wait_protected()?;
    Ok(())
}

#[test]
fn when_both_die_the_service_comes_back() -> Result<()> {
    let name = "when_both_die_the_service_comes_back";
    let Some(lab) = protected(name, patient())? else { return Ok(()) };
    let before = lab.pair()?;
    let (primary, standby) = (lab.primary()?, lab.standby()?);
    let told = lab.history()?.len();
    let load = steady_load(&lab)?;
    // Nobody is made in their places before what there is to see has been seen.
    lab.lose_image()?;
    let died = load.elapsed();
    standby.kill()?;
    primary.kill()?;
    let down = lab.wait_pair("the pair to be down", |pair| pair.protection == Protection::Down)?;
    let why = down.why.clone().unwrap_or_default();
    ensure!(why.contains("the primary (slot") && why.contains("cannot take over: "), "{why}");
    let spoken = lab.hotpair(&["status"])?;
    let first = spoken.stdout.lines().next().unwrap_or_default();
    ensure!(spoken.code == 2 && first.starts_with("DOWN: "), "{spoken:?}");
    ensure!(first.contains("cannot take over: "), "and why: {first}");
    let seen = load.elapsed();
    lab.restore_image()?;
    let after = lab.wait_protected()?;
    let new: Vec<By> = [lab.machine(0)?.by(), lab.machine(1)?.by()].into();
    wait_until("answers of a new member", Duration::from_secs(20), || {
        load.so_far().answerers().iter().any(|by| new.contains(by))
    })?;
    let report = load.stop();

    // What the client saw: one time without answers, from their deaths until a new member serves, and nothing twice.
    eprintln!("{}", report.line());
    let (gone, back) = (report.gap_at, report.gap_at + report.gap);
    ensure!(report.doubled().count() == 0, "{}", report.line());
    ensure!(back > seen, "answered from {back:?} on, while all were dead until {seen:?} at least");
    let margin = Duration::from_millis(20) + report.in_flight_at(died);
    for lost in report.lost() {
        ensure!(
            lost.sent_at + margin > died && lost.sent_at < back + margin,
            "{lost:?} was lost; they died at {died:?}, and were missed from {gone:?} to {back:?}"
        );
    }
    let answerers = report.answerers();
    ensure!(answerers[0] == primary.by() && !answerers.contains(&standby.by()), "{answerers:?}");
    ensure!(answerers.len() >= 2 && answerers[1..].iter().all(|by| new.contains(by)), "{answerers:?}");

    // What is told: each was lost, ended, released and made anew, and it ended well.
    ensure!(after.epoch >= before.epoch, "{before:?} {after:?}");
    let history = lab.history()?.split_off(told);
    for slot in [0, 1] {
        for kind in [RecordKind::MemberLost, RecordKind::Fenced, RecordKind::Released, RecordKind::Replacing]
        {
            let of = history.iter().any(|record| record.kind == kind && record.slot == Some(slot));
            ensure!(of, "{kind:?} of slot {slot} is not told: {history:#?}");
        }
    }
    let last = history.last().map(|record| record.kind);
    ensure!(last == Some(RecordKind::Protected), "{history:#?}");
    ensure!(lab.machines_alive() == 2 && lab.volumes()?.len() == 2, "{:?}", lab.volumes()?);
    fail_over(&lab, |old| old.kill())?;
    Ok(())
}
