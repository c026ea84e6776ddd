//! Redundancy comes back by itself, and until it is back the pair says so.

use std::time::Duration;

use anyhow::{Result, ensure};
use hotpair::api::types::Protection;
use hotpair_tests::lab::{Lab, PAIR};

use crate::scenario::{fail_over, load, protected};

#[test]
fn a_dead_standby_is_replaced_without_touching_the_service() -> Result<()> {
    let name = "a_dead_standby_is_replaced_without_touching_the_service";
    let Some(lab) = protected(name, Lab::builder())? else { return Ok(()) };
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
    let Some(lab) = protected(name, Lab::builder())? else { return Ok(()) };
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
    ensure!(report.gap < Duration::from_secs(1), "{}", report.line());
    ensure!(lab.hotpair(&["status"])?.code == 0);
    fail_over(&lab, |old| old.kill())?;
    Ok(())
}

#[test]
fn a_replacement_that_never_serves_is_given_up_and_tried_again() -> Result<()> {
    let name = "a_replacement_that_never_serves_is_given_up_and_tried_again";
    let Some(lab) = protected(name, Lab::builder().start_within(Duration::from_secs(1)))? else {
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
    let Some(lab) = protected(name, Lab::builder().no_replacement())? else { return Ok(()) };
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
    let Some(lab) = protected(name, Lab::builder())? else { return Ok(()) };
    let (primary, standby) = (lab.primary()?, lab.standby()?);
    standby.kill()?;
    primary.kill()?;
    lab.wait_pair("the trouble to be seen", |pair| pair.protection != Protection::Protected)?;
    lab.wait_protected()?;
    load(&lab)?;
    Ok(())
}
