//! Taps and the uplink are taken away, come back, and change under the controller.

use std::time::Duration;

use anyhow::{Result, ensure};
use hotpair::api::types::{Record, RecordKind};
use hotpair_tests::lab::{CLIENT_LINK, Lab, Machine, UPLINK};
use hotpair_tests::wait::wait_until;

use crate::scenario::{LATCH, SOON, answered_within, fail_over, patient, protected, steady_load};

fn tap(slot: u8) -> String {
    format!("hpwebs{slot}")
}

/// Waits until the history, from that line on, tells of the loss of the member in this slot.
fn told_lost(lab: &Lab, slot: u8, from: usize) -> Result<()> {
    wait_until("the loss to be told", Duration::from_secs(10), || {
        lab.history().is_ok_and(|history| {
            let told = |record: &Record| record.kind == RecordKind::MemberLost && record.slot == Some(slot);
            history.iter().skip(from).any(told)
        })
    })
}

#[test]
fn taps_removed_while_no_controller_runs_are_made_again() -> Result<()> {
    let name = "taps_removed_while_no_controller_runs_are_made_again";
    let Some(mut lab) = protected(name, patient())? else { return Ok(()) };
    // The standby's: nobody notices.
    let (primary, standby) = (lab.primary()?, lab.standby()?);
    let before = lab.pair()?;
    let load = steady_load(&lab)?;
    lab.kill_controller();
    lab.host().ip(&format!("link del {}", tap(standby.slot())))?;
    lab.start_controller()?;
    told_lost(&lab, standby.slot(), 0)?;
    let after = lab.wait_protected()?;
    ensure!((after.epoch, after.primary) == (before.epoch, before.primary), "{before:?} {after:?}");
    ensure!(lab.machine(standby.slot())?.generation() > standby.generation());
    let so_far = load.so_far();
    ensure!(so_far.answerers() == [primary.by()], "{}", so_far.line());

    // The primary's: the kernel fails over, the controller finishes it.
    let survivor = lab.standby()?;
    lab.kill_controller();
    lab.host().ip(&format!("link del {}", tap(primary.slot())))?;
    wait_until("the survivor's answers", Duration::from_secs(5), || {
        load.so_far().answerers().contains(&survivor.by())
    })?;
    lab.start_controller()?;
    let last = lab.wait_protected()?;
    ensure!(last.primary == Some(survivor.slot()) && last.epoch == after.epoch + 1, "{last:?}");
    let told = lab.history()?.into_iter().find(|record| record.kind == RecordKind::Failover);
    ensure!(told.as_ref().and_then(|record| record.detected_by.as_deref()) == Some("latch"), "{told:?}");
    let report = load.stop();
    answered_within(LATCH, &report)?;
    ensure!(report.answerers() == [primary.by(), survivor.by()], "{}", report.line());
    ensure!(lab.machines_alive() == 2 && lab.volumes()?.len() == 2, "{:?}", lab.volumes()?);
    fail_over(&lab, |old| old.kill())?;
    Ok(())
}

#[test]
fn a_tap_that_somebody_has_made_again_is_put_right_and_used() -> Result<()> {
    let name = "a_tap_that_somebody_has_made_again_is_put_right_and_used";
    let Some(mut lab) = protected(name, patient())? else { return Ok(()) };
    for slot in [lab.standby()?.slot(), lab.primary()?.slot()] {
        let before = lab.wait_protected()?;
        let told = lab.history()?.len();
        let load = steady_load(&lab)?;
        // In one go, so that the controller finds another tap of that name, and nothing as it should be.
        lab.suspend_controller(true)?;
        lab.host().ip(&format!(
            "link del {0}\ntuntap add {0} mode tap\nlink set {0} mtu 600 address 02:00:00:00:00:99",
            tap(slot)
        ))?;
        lab.suspend_controller(false)?;
        if before.primary == Some(slot) {
            lab.wait_pair("the failover", |pair| pair.primary == Some(1 - slot))?;
        } else {
            told_lost(&lab, slot, told)?;
        }
        let after = lab.wait_protected()?;
        ensure!(
            after.epoch == before.epoch + u64::from(before.primary == Some(slot)),
            "{before:?} {after:?}"
        );
        let link = hotpair_tests::netns::run(lab.host().command("ip").args(["link", "show", &tap(slot)]))?;
        ensure!(link.contains("mtu 1500") && !link.contains("02:00:00:00:00:99"), "{link}");
        let show = ["-6", "addr", "show", "dev", &tap(slot)];
        let addresses = hotpair_tests::netns::run(lab.host().command("ip").args(show))?;
        ensure!(addresses.contains("fe80::77:3"), "too small for IPv6 before, it has it again: {addresses}");
        ensure!(!lab.log().contains("no IPv6"), "it was not taken for a host without");
        let report = load.stop();
        answered_within(SOON, &report)?;
    }
    fail_over(&lab, |old| old.kill())?;
    Ok(())
}

#[test]
fn something_else_with_a_taps_name_is_refused_and_the_data_plane_goes_on() -> Result<()> {
    let name = "something_else_with_a_taps_name_is_refused_and_the_data_plane_goes_on";
    let Some(mut lab) = protected(name, patient())? else { return Ok(()) };
    let (primary, standby) = (lab.primary()?, lab.standby()?);
    let load = steady_load(&lab)?;
    lab.stop_controller()?;
    let tap = tap(standby.slot());
    lab.host().ip(&format!("link del {tap}\nlink add {tap} type bridge"))?;
    let spoken = lab.hotpair(&["run"])?;
    ensure!(
        spoken.code == 2 && spoken.stderr.contains(&tap) && spoken.stderr.contains("bridge"),
        "{spoken:?}"
    );
    let links = hotpair_tests::netns::run(lab.host().command("ip").args(["-d", "link", "show", &tap]))?;
    ensure!(links.contains("bridge"), "it was left alone: {links}");
    lab.host().ip(&format!("link del {tap}"))?;
    lab.start_controller()?;
    lab.wait_protected()?;
    let report = load.stop();
    ensure!(report.lost().count() == 0 && report.doubled().count() == 0, "{}", report.line());
    ensure!(report.answerers() == [primary.by()], "{}", report.line());
    Ok(())
}

/// Whether the status says that no client is reached, because of this.
fn says(lab: &Lab, why: &str) -> bool {
    let said = |trouble: &String| trouble.contains(why) && trouble.contains("no client is reached");
    lab.status().is_ok_and(|status| status.troubles.iter().any(said))
}

#[test]
fn an_uplink_that_was_replaced_is_said_and_taken_by_the_next_controller() -> Result<()> {
    let name = "an_uplink_that_was_replaced_is_said_and_taken_by_the_next_controller";
    let Some(mut lab) = protected(name, patient())? else { return Ok(()) };
    let before = lab.pair()?;
    let machines = [lab.machine(0)?, lab.machine(1)?];
    lab.replace_uplink(|lab| {
        wait_until("it to be said", Duration::from_secs(5), || says(lab, "was removed"))
    })?;
    wait_until("the way out", Duration::from_secs(5), || says(&lab, "systemctl restart hotpair"))?;
    lab.stop_controller()?;
    lab.start_controller()?;
    steady_load(&lab)?;
    let after = lab.wait_protected()?;
    ensure!((after.epoch, after.primary) == (before.epoch, before.primary), "{before:?} {after:?}");
    ensure!(machines.iter().all(Machine::is_alive), "nobody was replaced");
    ensure!(lab.status()?.troubles.is_empty(), "{:?}", lab.status()?.troubles);
    fail_over(&lab, |old| old.kill())?;
    Ok(())
}

#[test]
fn an_uplink_that_is_down_is_said_and_nobody_is_failed_over_for_it() -> Result<()> {
    let name = "an_uplink_that_is_down_is_said_and_nobody_is_failed_over_for_it";
    let Some(mut lab) = protected(name, patient())? else { return Ok(()) };
    let before = lab.pair()?;
    let (primary, survivor) = (lab.primary()?, lab.standby()?);
    let load = steady_load(&lab)?;
    let answers = |lab: &Lab, by| {
        let from = load.elapsed();
        wait_until("answers again", Duration::from_secs(10), || {
            load.so_far().requests.iter().any(|r| r.sent_at > from && r.by == Some(by))
        })?;
        wait_until("the trouble to be over", Duration::from_secs(10), || {
            lab.status().is_ok_and(|status| status.troubles.is_empty())
        })
    };

    // Down, and a controller that begins meanwhile.
    lab.host().ip(&format!("link set {UPLINK} down"))?;
    wait_until("it to be said", Duration::from_secs(5), || says(&lab, "is down"))?;
    ensure!(lab.hotpair(&["status"])?.stdout.contains("no client is reached"));
    std::thread::sleep(Duration::from_millis(300));
    lab.kill_controller();
    lab.host().ip(&format!("link set {UPLINK} up"))?;
    lab.client().netns().ip(&format!("link set {CLIENT_LINK} down"))?;
    lab.start_controller()?;
    wait_until("it to be said from the beginning", Duration::from_secs(5), || says(&lab, "has no carrier"))?;
    let pair = lab.pair()?;
    ensure!((pair.epoch, pair.primary) == (before.epoch, before.primary), "{before:?} {pair:?}");
    lab.client().netns().ip(&format!("link set {CLIENT_LINK} up"))?;
    answers(&lab, primary.by())?;
    ensure!(primary.is_alive() && survivor.is_alive(), "nobody was replaced");

    // A failover is due while it is down.
    lab.host().ip(&format!("link set {UPLINK} down"))?;
    primary.kill()?;
    lab.wait_pair("the failover", |pair| pair.primary == Some(survivor.slot()))?;
    lab.wait_protected()?;
    lab.host().ip(&format!("link set {UPLINK} up"))?;
    answers(&lab, survivor.by())?;
    let after = lab.pair()?;
    ensure!(after.epoch == before.epoch + 1, "{before:?} {after:?}");
    let report = load.stop();
    ensure!(
        report.doubled().count() == 0 && report.answerers() == [primary.by(), survivor.by()],
        "{}",
        report.line()
    );
    Ok(())
}
