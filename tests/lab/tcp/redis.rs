//! A real Redis on both members, and a client that pipelines: what it saw acknowledged is there after any failover.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hotpair_tests::dice::Dice;
use hotpair_tests::lab::Lab;
use hotpair_tests::late::Lateness;
use hotpair_tests::redis::{Reply, Session};
use hotpair_tests::vm::REDIS;
use hotpair_tests::wait::wait_for;

use super::{patient, soaking, taken_over};
use crate::scenario::protected;

/// Commands in a pipeline at most.
const DEPTH: u64 = 24;

fn session(lab: &Lab, v6: bool) -> Result<Session> {
    let _inside = lab.client().netns().enter()?;
    Session::open(SocketAddr::new(lab.client().entry(v6)?, REDIS))
}

fn value(number: u64) -> String {
    // Long enough that a pipeline takes several segments.
    format!("{number}:{}", "x".repeat(number as usize % 400))
}

/// Pipelines of INCR and SET on keys of this round's own, of any length, every reply checked, until told to stop.
/// `acknowledged` is the last counter that came back.
fn write(session: &mut Session, round: u64, stop: &AtomicBool, acknowledged: &AtomicU64) -> Result<u64> {
    let (counter, text) = (format!("counter:{round}"), format!("text:{round}"));
    let mut dice = Dice::any();
    let mut sent = 0;
    while !stop.load(Ordering::Relaxed) {
        let depth = 1 + dice.below(DEPTH);
        for number in sent + 1..=sent + depth {
            session.add(&["INCR", &counter]);
            session.add(&["SET", &text, &value(number)]);
        }
        session.send()?;
        for number in sent + 1..=sent + depth {
            let reply = session.reply().with_context(|| format!("INCR {number}"))?;
            ensure!(reply == Reply::Number(number as i64), "INCR {number} is answered with {reply:?}");
            acknowledged.store(number, Ordering::Relaxed);
            let reply = session.reply().with_context(|| format!("SET {number}"))?;
            ensure!(reply == Reply::Said("OK".to_owned()), "SET {number} is answered with {reply:?}");
        }
        sent += depth;
    }
    Ok(sent)
}

fn get(session: &mut Session, key: &str) -> Result<String> {
    let reply = session.ask(&["GET", key])?;
    let Reply::Value(Some(value)) = reply else { anyhow::bail!("GET {key} is answered with {reply:?}") };
    Ok(String::from_utf8(value)?)
}

#[test]
fn redis_keeps_every_acknowledged_write_and_its_connections() -> Result<()> {
    let name = "redis_keeps_every_acknowledged_write_and_its_connections";
    let Some(lab) = protected(name, patient().redis())? else { return Ok(()) };
    let mut dice = Dice::new(name)?;
    // Half of them are of machines, half of processes, and of each, half over IPv4 and half over IPv6.
    for round in 0..if soaking() { 400 } else { 6 } {
        one_round(&lab, round, &mut dice).with_context(|| format!("round {round}"))?;
        lab.wait_protected()?;
    }
    Ok(())
}

/// One failover in the middle of pipelines: of a machine that is killed, or of one whose Redis is.
fn one_round(lab: &Lab, round: u64, dice: &mut Dice) -> Result<()> {
    let of_process = round % 2 == 1;
    let v6 = round / 2 % 2 == 1;
    let mut writer = session(lab, v6)?;
    let stop = Arc::new(AtomicBool::new(false));
    let acknowledged = Arc::new(AtomicU64::new(0));
    let writing = {
        let (stop, acknowledged) = (Arc::clone(&stop), Arc::clone(&acknowledged));
        thread::spawn(move || {
            let sent = write(&mut writer, round, &stop, &acknowledged)?;
            anyhow::Ok((writer, sent))
        })
    };
    dice.wait(150);
    taken_over(lab, |old| if of_process { old.kill_redis() } else { old.kill() })?;
    let lateness = Lateness::watch();
    let seen = acknowledged.load(Ordering::Relaxed);
    let mut other = session(lab, v6)?;
    let counter = format!("counter:{round}");
    // The survivor may be some commands behind what the writer has seen answered, and serves others meanwhile; but not for
    // longer than it takes to carry out a pipeline, beside whatever else this machine does.
    let begun = Instant::now();
    wait_for("what was acknowledged", Duration::from_secs(5), || {
        let now: u64 = if seen == 0 { 0 } else { get(&mut other, &counter)?.parse()? };
        ensure!(now >= seen, "{seen} was acknowledged, and the survivor's counter is {now}");
        Ok(())
    })?;
    let (behind, late) = (begun.elapsed(), lateness.take());
    ensure!(
        behind < Duration::from_millis(500) + late * 4,
        "behind for {behind:?}, this machine late by {late:?}"
    );
    dice.wait(100);
    stop.store(true, Ordering::Relaxed);
    let (mut writer, sent) = writing.join().expect("no panic").context("the writer")?;
    ensure!(sent > 0);
    for session in [&mut writer, &mut other] {
        ensure!(get(session, &counter)? == sent.to_string());
        ensure!(get(session, &format!("text:{round}"))? == value(sent));
    }
    eprintln!(
        "round {round} ({} over IPv{}): {seen} before, there after {behind:?}, {sent} in all",
        if of_process { "process" } else { "machine" },
        if v6 { 6 } else { 4 }
    );
    Ok(())
}
