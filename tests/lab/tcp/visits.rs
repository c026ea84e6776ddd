//! Connections that come and go, many in a second, across failovers.

use std::net::SocketAddr;
use std::ops::Range;
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hotpair_tests::lab::Lab;
use hotpair_tests::load::{Load, Plan, Report};
use hotpair_tests::stream::PORT;
use hotpair_tests::wait::wait_for;

use super::chain::verdicts;
use super::{kill_primary, soaking};
use crate::diverging::counter;
use crate::scenario::protected;
use crate::takeover::patient;

/// A SYN or SYN-ACK that is lost with the primary is repeated after a second, then after two more (RFC 6298 section 2).
const SLOWEST: Duration = Duration::from_secs(4);

/// Connections a second over each of IPv4 and IPv6. The members, which are none of hotpair, have little more than a processor
/// for them here.
fn rate() -> u32 {
    if soaking() { 1000 } else { 250 }
}

fn visits(lab: &Lab, v6: bool) -> Result<Load> {
    let to = SocketAddr::new(lab.client().entry(v6)?, PORT);
    lab.client().load(Plan::visits(to).rate(rate()))
}

/// What must be so of each visit; the failovers are times in which the dead primary was still waited for.
fn check(report: &Report, failovers: &[Range<Duration>]) -> Result<()> {
    let mut reset = 0;
    for visit in &report.requests {
        let Some(error) = &visit.error else { continue };
        // Only what was there at a failover may be reset, and is at once.
        let (begun, ended) = (visit.sent_at, visit.failed_at.context("it has ended")?);
        let there = |failover: &&Range<Duration>| begun < failover.end && ended > failover.start;
        let failover = failovers.iter().find(there);
        ensure!(
            error.contains("reset") && failover.is_some(),
            "{visit:?}, the failovers were at {failovers:?}"
        );
        reset += 1;
    }
    let took = report.requests.iter().filter_map(|visit| Some(visit.answered_at? - visit.sent_at));
    let slowest = took.max().unwrap_or_default();
    let outside = |at: Duration| !failovers.iter().any(|failover| failover.contains(&at));
    let well = report.requests.iter().filter(|visit| visit.error.is_none() && outside(visit.sent_at)).count();
    let time =
        report.duration - failovers.iter().map(|failover| failover.end - failover.start).sum::<Duration>();
    let rate = well as f64 / time.as_secs_f64();
    eprintln!("{}; {rate:.0} a second, {reset} reset, the slowest took {slowest:?}", report.line());
    ensure!(slowest < SLOWEST, "one took {slowest:?}");
    ensure!(rate > 0.95 * f64::from(report.rate), "only {rate:.0} a second");
    Ok(())
}

#[test]
fn connections_that_come_and_go_across_failovers_do_not_hang() -> Result<()> {
    let name = "connections_that_come_and_go_across_failovers_do_not_hang";
    let Some(lab) = protected(name, patient())? else { return Ok(()) };
    // One client for many: without this it would soon have no port that does not wait for stragglers.
    lab.client().set("ipv4/ip_local_port_range", "1024 65000")?;
    lab.client().set("ipv4/tcp_tw_reuse", "1")?;
    let loads = [visits(&lab, false)?, visits(&lab, true)?];
    let mut failovers: [Vec<Range<Duration>>; 2] = Default::default();
    for _ in 0..if soaking() { 20 } else { 3 } {
        thread::sleep(Duration::from_millis(800));
        let before = loads.each_ref().map(Load::elapsed);
        kill_primary(&lab)?;
        for ((load, before), failovers) in loads.iter().zip(before).zip(&mut failovers) {
            failovers.push(before..load.elapsed());
        }
        lab.wait_protected()?;
    }
    thread::sleep(Duration::from_millis(800));
    for (load, failovers) in loads.into_iter().zip(&failovers) {
        check(&load.stop(), failovers)?;
    }
    // All of them have ended, and that is known of each: what is not known to be over stays for days.
    wait_for("their ends to be known", Duration::from_secs(3), || {
        let mut open = verdicts(&lab)?;
        open.retain(|_, (verdict, _)| verdict != "lost");
        ensure!(open.is_empty(), "{} are not over: {open:?}", open.len());
        Ok(())
    })?;
    let rows = lab.connections()?.len();
    ensure!(counter(&lab, "tcp_table_full")? == 0, "{rows} rows, and the table was full");
    eprintln!("{rows} rows are still kept");
    if soaking() {
        // A minute after their ends, and what the controller takes to get round to it.
        wait_for("them to be forgotten", Duration::from_secs(75), || {
            let rows = lab.connections()?.len();
            ensure!(rows == 0, "{rows} are left");
            Ok(())
        })?;
    }
    Ok(())
}
