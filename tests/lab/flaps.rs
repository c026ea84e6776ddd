//! Signs that come and go a hundred times: at most one failover comes of it, and no back and forth.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hotpair::api::types::{Protection, RecordKind};
use hotpair_tests::lab::{Lab, UPLINK};

use crate::scenario::{SOON, answered_within, fail_over, patient, protected, steady_load};

const FLAPS: usize = 100;

#[test]
fn a_primary_whose_tap_flaps_is_failed_over_once() -> Result<()> {
    let name = "a_primary_whose_tap_flaps_is_failed_over_once";
    let Some(lab) = protected(name, patient())? else { return Ok(()) };
    let before = lab.pair()?;
    let (old, survivor) = (lab.primary()?, lab.standby()?);
    let load = steady_load(&lab)?;
    for _ in 0..FLAPS {
        // The controller may be making it anew just now.
        let _ = lab.host().ip(&format!("link set hpwebs{} down", old.slot()));
        std::thread::sleep(Duration::from_millis(10));
        let _ = lab.host().ip(&format!("link set hpwebs{} up", old.slot()));
        std::thread::sleep(Duration::from_millis(10));
    }
    let after = lab.wait_protected()?;
    ensure!(
        (after.epoch, after.primary) == (before.epoch + 1, Some(survivor.slot())),
        "{before:?} {after:?}"
    );
    let failovers = lab.history()?.iter().filter(|record| record.kind == RecordKind::Failover).count();
    ensure!(failovers == 1, "{failovers} failovers");
    let report = load.stop();
    answered_within(SOON, &report)?;
    ensure!(report.answerers() == [old.by(), survivor.by()], "{:?}", report.answerers());
    ensure!(lab.machines_alive() == 2 && lab.volumes()?.len() == 2, "{:?}", lab.volumes()?);
    fail_over(&lab, |old| old.kill())?;
    Ok(())
}

#[test]
fn a_standby_whose_service_flaps_is_neither_replaced_nor_told_of_each_time() -> Result<()> {
    let name = "a_standby_whose_service_flaps_is_neither_replaced_nor_told_of_each_time";
    let Some(lab) = protected(name, patient())? else { return Ok(()) };
    let before = lab.pair()?;
    let (primary, standby) = (lab.primary()?, lab.standby()?);
    let told = lab.history()?.len();
    let load = steady_load(&lab)?;
    for flap in 0..FLAPS {
        standby.set_health(false)?;
        // Each time it is said for as long as it lasts; every other time it is over before anybody can have asked.
        if flap % 2 == 0 {
            lab.wait_pair("the status to say so", |pair| pair.protection == Protection::Unprotected)?;
        } else {
            std::thread::sleep(Duration::from_millis(18));
        }
        standby.set_health(true)?;
        std::thread::sleep(Duration::from_millis(18));
    }
    let after = lab.wait_protected()?;
    ensure!((after.epoch, after.primary) == (before.epoch, before.primary), "{before:?} {after:?}");
    ensure!(standby.is_alive() && primary.is_alive(), "nobody was replaced");
    ensure!(lab.history()?.len() <= told + 1, "{:#?}", &lab.history()?[told..]);
    let report = load.stop();
    ensure!(report.lost().count() == 0 && report.doubled().count() == 0, "{}", report.line());
    Ok(())
}

#[test]
fn a_primary_whose_service_flaps_is_failed_over_once() -> Result<()> {
    let name = "a_primary_whose_service_flaps_is_failed_over_once";
    let Some(lab) = protected(name, patient())? else { return Ok(()) };
    let before = lab.pair()?;
    let (old, survivor) = (lab.primary()?, lab.standby()?);
    let load = steady_load(&lab)?;
    for _ in 0..FLAPS {
        // It is ended in the middle of this.
        if old.set_health(false).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(15));
        let _ = old.set_health(true);
        std::thread::sleep(Duration::from_millis(15));
    }
    let after = lab.wait_protected()?;
    ensure!(
        (after.epoch, after.primary) == (before.epoch + 1, Some(survivor.slot())),
        "{before:?} {after:?}"
    );
    ensure!(!old.is_alive(), "it was fenced, well or not");
    let report = load.stop();
    answered_within(SOON, &report)?;
    Ok(())
}

#[test]
fn members_that_stutter_within_the_timeout_are_left_alone() -> Result<()> {
    let name = "members_that_stutter_within_the_timeout_are_left_alone";
    let builder = Lab::builder().heartbeat(Duration::from_millis(5), Duration::from_millis(600));
    let Some(lab) = protected(name, builder)? else { return Ok(()) };
    let before = lab.pair()?;
    let (primary, standby) = (lab.primary()?, lab.standby()?);
    let load = steady_load(&lab)?;
    for round in 0..FLAPS {
        let machine = if round % 2 == 0 { &primary } else { &standby };
        machine.freeze()?;
        std::thread::sleep(Duration::from_millis(20));
        machine.thaw()?;
        std::thread::sleep(Duration::from_millis(5));
    }
    let after = lab.wait_protected()?;
    ensure!((after.epoch, after.primary) == (before.epoch, before.primary), "{before:?} {after:?}");
    ensure!(primary.is_alive() && standby.is_alive(), "nobody was replaced");
    let report = load.stop();
    ensure!(report.doubled().count() == 0 && report.answerers() == [primary.by()], "{}", report.line());
    Ok(())
}

#[test]
fn an_uplink_that_flaps_moves_nobody_and_makes_no_storm() -> Result<()> {
    let name = "an_uplink_that_flaps_moves_nobody_and_makes_no_storm";
    let Some(lab) = protected(name, patient())? else { return Ok(()) };
    let before = lab.pair()?;
    let (primary, standby) = (lab.primary()?, lab.standby()?);
    let capture = lab.client().capture()?;
    for _ in 0..FLAPS {
        lab.host().ip(&format!("link set {UPLINK} down"))?;
        std::thread::sleep(Duration::from_millis(5));
        lab.host().ip(&format!("link set {UPLINK} up"))?;
        std::thread::sleep(Duration::from_millis(5));
    }
    let load = steady_load(&lab)?;
    std::thread::sleep(Duration::from_millis(1_500));
    let after = lab.wait_protected()?;
    ensure!((after.epoch, after.primary) == (before.epoch, before.primary), "{before:?} {after:?}");
    ensure!(primary.is_alive() && standby.is_alive(), "nobody was replaced");
    ensure!(lab.status()?.troubles.is_empty(), "{:?}", lab.status()?.troubles);
    let entry: [u8; 4] = lab.client().entry(false)?.to_string().parse::<std::net::Ipv4Addr>()?.octets();
    // ARP for the entry address by its holder: gratuitous (RFC 5227, section 3).
    let is_announcement =
        |frame: &[u8]| frame.get(12..14) == Some(&[8, 6]) && frame.get(28..32) == Some(&entry);
    let announcements = capture.stop()?.iter().filter(|frame| is_announcement(&frame.bytes)).count();
    // Two frames at once for each time that it came up, and one series to the end.
    ensure!(announcements > 0 && announcements < 4 * FLAPS, "{announcements} announcements");
    let report = load.stop();
    ensure!(report.lost().count() == 0, "{}", report.line());
    let last = lab.history()?.pop().context("nothing has happened")?;
    ensure!(last.kind == RecordKind::Protected, "{last:?}");
    Ok(())
}
