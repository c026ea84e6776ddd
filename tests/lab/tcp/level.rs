//! A switchover is asked for while the standby is behind: it waits until the standby has what the client believes to have
//! arrived.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hotpair_tests::lab::{Builder, Lab, PAIR};
use hotpair_tests::stream::Conversation;

use super::chain::said_to_be;
use super::soaking;
use crate::scenario::protected;
use crate::takeover::open;

/// So long the standby stands still after the switchover was asked for: far less than the second that this waits at most.
const STILL: Duration = Duration::from_millis(300);
/// A standby that stands still for so long as this test needs is not taken for lost.
const TIMEOUT: Duration = Duration::from_secs(3);

type Talk = fn(&mut Conversation) -> Result<()>;

/// What the clients do while the standby stands still, and again when the other member serves.
const KINDS: [(&str, Talk); 3] = [
    ("download", |c| c.download(64 << 10)),
    ("upload", |c| c.upload(64 << 10)),
    ("requests", |c| (0..10).try_for_each(|_| c.increment())),
];

fn waits_until_level(name: &str, builder: Builder) -> Result<()> {
    let builder = builder.heartbeat(Duration::from_millis(5), TIMEOUT);
    let Some(lab) = protected(name, builder)? else { return Ok(()) };
    for round in 0..if soaking() { 20 } else { 3 } {
        one_round(&lab).with_context(|| format!("round {round}"))?;
        lab.wait_protected()?;
    }
    Ok(())
}

fn one_round(lab: &Lab) -> Result<()> {
    let (mut conversations, mut clients) = (Vec::new(), Vec::new());
    for v6 in [false, true] {
        for (kind, talk) in KINDS {
            let mut conversation = open(lab, v6)?;
            talk(&mut conversation)?;
            clients.push(conversation.local()?.to_string());
            conversations.push((format!("{kind} over IPv{}", if v6 { 6 } else { 4 }), talk, conversation));
        }
    }
    said_to_be(lab, &clients, "in_sync", "")?;
    let standby = lab.standby()?;
    standby.freeze()?;
    for (what, talk, conversation) in &mut conversations {
        talk(conversation).with_context(|| format!("{what}, beside a standby that stands still"))?;
    }
    // Nobody is owed anything from here on: only what the standby has not received is to be waited for.
    let asked = Instant::now();
    let (spoken, took) = thread::scope(|scope| {
        let switchover = scope.spawn(|| (lab.hotpair(&["switchover", PAIR]), asked.elapsed()));
        thread::sleep(STILL);
        let thawed = standby.thaw();
        let (spoken, took) = switchover.join().expect("no panic");
        thawed?;
        anyhow::Ok((spoken?, took))
    })?;
    ensure!(spoken.code == 0, "{spoken:?}");
    eprintln!("the switchover took {took:?}");
    for (what, talk, conversation) in &mut conversations {
        talk(conversation).with_context(|| format!("{what}, after a switchover that took {took:?}"))?;
    }
    ensure!(took >= STILL, "it took {took:?}, and the standby was behind for longer");
    ensure!(lab.pair()?.primary == Some(standby.slot()), "{:?}", lab.pair()?);
    Ok(())
}

#[test]
fn a_switchover_waits_for_a_standby_that_nobody_else_waits_for() -> Result<()> {
    let name = "a_switchover_waits_for_a_standby_that_nobody_else_waits_for";
    waits_until_level(name, Lab::builder().carries_tcp())
}

#[test]
fn without_the_gate_a_switchover_waits_for_a_standby_that_is_behind() -> Result<()> {
    let name = "without_the_gate_a_switchover_waits_for_a_standby_that_is_behind";
    waits_until_level(name, Lab::builder().carries_tcp_ungated())
}
