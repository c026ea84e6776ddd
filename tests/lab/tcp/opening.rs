//! Handshakes that go wrong in every way, and numbers and ports that come again. The members' answers differ as SYN cookies
//! (slot 1) do from ordinary ones, with either of them as primary.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hotpair_tests::dice::Dice;
use hotpair_tests::lab::{CLIENT_V4, Lab};
use hotpair_tests::late::Lateness;
use hotpair_tests::line::Faults;
use hotpair_tests::stream::{Conversation, PORT};
use hotpair_tests::wait::wait_for;

use super::chain::verdicts;
use super::{Busy, kill_primary, soaking};
use crate::scenario::protected;
use crate::takeover::{open, patient};

/// Connections that are opened over each bad line: between client and host, to and from the standby, and the primary.
const EACH: usize = 16;

/// A handshake over a line as bad as the ones here takes a few of the kernel's timers, the first of a second.
const SLOW: Duration = Duration::from_secs(30);

fn slowly(lab: &Lab, v6: bool) -> Result<Conversation> {
    let _inside = lab.client().netns().enter()?;
    Conversation::open(SocketAddr::new(lab.client().entry(v6)?, PORT), SLOW)
}

#[test]
fn handshakes_that_lose_segments_end_as_flows_says() -> Result<()> {
    let name = "handshakes_that_lose_segments_end_as_flows_says";
    let Some(lab) = protected(name, patient().cable())? else { return Ok(()) };
    let lab = Arc::new(lab);
    let bad = Faults { lost: 150, twice: 100, late: 50 };
    let good = Faults::NONE;
    // With each slot as primary.
    for _ in 0..if soaking() { 20 } else { 2 } {
        let (primary, standby) = (lab.primary()?, lab.standby()?);
        let lateness = Lateness::watch();
        let mut opened = Vec::new();
        for leg in 0..3 {
            let is = |bad_leg| if leg == bad_leg { bad } else { good };
            lab.set_lines(is(0), is(0))?;
            standby.set_lines(is(1), is(1))?;
            primary.set_lines(is(2), is(2))?;
            let opening: Vec<JoinHandle<Result<Conversation>>> = (0..EACH)
                .map(|number| {
                    let lab = Arc::clone(&lab);
                    thread::spawn(move || slowly(&lab, number % 2 == 1))
                })
                .collect();
            for conversation in opening {
                opened.push((leg, conversation.join().expect("no panic").context("opening")?));
            }
        }
        lab.set_lines(good, good)?;
        standby.set_lines(good, good)?;
        primary.set_lines(good, good)?;
        let late = lateness.take();
        for (leg, conversation) in &mut opened {
            conversation.increment().with_context(|| format!("leg {leg}"))?;
        }
        let said = verdicts(&lab)?;
        kill_primary(&lab)?;
        let mut tally = [[0; 2]; 3];
        let mut why_not = Vec::new();
        for (leg, mut conversation) in opened {
            let client = conversation.local()?.to_string();
            let (verdict, why) = said.get(&client).with_context(|| format!("{client} is not listed"))?;
            let went_on = conversation.increment();
            let well = verdict == "in_sync";
            tally[leg][usize::from(well)] += 1;
            if !well {
                why_not.push((leg, why));
            }
            match went_on {
                Ok(()) => ensure!(well, "leg {leg}: it went on, and was said to be {verdict}: {why}"),
                Err(error) => {
                    let error = format!("{error:#}");
                    ensure!(!well, "leg {leg}: it was said to be in sync: {error}");
                    ensure!(error.contains("reset"), "leg {leg}: reset, not a silence: {error}");
                }
            }
        }
        eprintln!("unprotected and in sync, by leg: {tally:?}");
        // Whatever was lost between client and host, both members have seen the same of it. But a standby that is given no
        // time for as long as it takes a primary to repeat its SYN-ACK is not waited for any longer.
        let no_time = late > Duration::from_millis(200);
        let excused = |why: &str| no_time && why == "the standby did not answer the handshake";
        let of_leg_0 = why_not.iter().filter(|(leg, _)| *leg == 0);
        let unexcused: Vec<_> = of_leg_0.filter(|(_, why)| !excused(why)).collect();
        ensure!(unexcused.is_empty(), "{unexcused:?}; this machine was late by {late:?}");
        lab.wait_protected()?;
    }
    Ok(())
}

#[test]
fn a_failover_in_the_middle_of_handshakes_leaves_nobody_hanging() -> Result<()> {
    let name = "a_failover_in_the_middle_of_handshakes_leaves_nobody_hanging";
    let Some(lab) = protected(name, patient())? else { return Ok(()) };
    let lab = Arc::new(lab);
    let mut dice = Dice::new(name)?;
    for _ in 0..if soaking() { 50 } else { 2 } {
        let over = Arc::<AtomicBool>::default();
        let opening: Vec<JoinHandle<Result<(String, bool, Duration)>>> = (0..48)
            .map(|number| {
                let (lab, over, wait) = (Arc::clone(&lab), Arc::clone(&over), dice.below(30_000));
                thread::spawn(move || {
                    thread::sleep(Duration::from_micros(wait));
                    let begun = Instant::now();
                    let mut conversation = open(&lab, number % 2 == 1)?;
                    // Only what is not in sync may be reset, and then at once.
                    let client = conversation.local()?.to_string();
                    let talk = |conversation: &mut Conversation| -> Result<()> {
                        conversation.increment()?;
                        while !over.load(Ordering::Relaxed) {
                            thread::sleep(Duration::from_millis(2));
                            conversation.increment()?;
                        }
                        conversation.increment()
                    };
                    let went_on = match talk(&mut conversation) {
                        Ok(()) => true,
                        Err(error) if format!("{error:#}").contains("reset") => false,
                        Err(error) => return Err(error),
                    };
                    Ok((client, went_on, begun.elapsed()))
                })
            })
            .collect();
        dice.wait(30);
        // Of that very moment, as near as it gets: what is in sync before the primary dies goes on.
        let said = verdicts(&lab);
        let killed = kill_primary(&lab);
        // Whatever has become of it, nobody talks for ever.
        over.store(true, Ordering::Relaxed);
        killed?;
        let said: BTreeMap<String, (String, String)> = said?;
        let mut ended = Vec::new();
        for one in opening {
            ended.push(one.join().expect("no panic")?);
        }
        let slowest = ended.iter().map(|(_, _, took)| *took).max().unwrap_or_default();
        let reset: Vec<&String> =
            ended.iter().filter(|(_, went_on, _)| !went_on).map(|(client, ..)| client).collect();
        let in_sync = said.values().filter(|(verdict, _)| verdict == "in_sync").count();
        eprintln!(
            "{} of {} reset, {in_sync} were in sync before, the slowest took {slowest:?}",
            reset.len(),
            ended.len()
        );
        for client in reset {
            let before = said.get(client);
            ensure!(
                before.is_none_or(|(verdict, _)| verdict != "in_sync"),
                "{client} was reset, and had been in sync: {}",
                lab.log()
            );
        }
        ensure!(slowest < Duration::from_secs(8), "{slowest:?}");
        lab.wait_protected()?;
    }
    Ok(())
}

#[test]
fn sequence_numbers_that_wrap_go_on() -> Result<()> {
    let Some(lab) = protected("sequence_numbers_that_wrap_go_on", patient())? else { return Ok(()) };
    // The wrap comes in the handshake, with the first request, and in the middle of uploads before and after the failover.
    let firsts = [u32::MAX, u32::MAX - 3, u32::MAX - (1 << 20), u32::MAX - (20 << 20), u32::MAX - (60 << 20)];
    let mut busy = Vec::new();
    for (number, first) in firsts.into_iter().enumerate() {
        let conversation = {
            let _inside = lab.client().netns().enter()?;
            let to = SocketAddr::new(lab.client().entry(number % 2 == 1)?, PORT);
            Conversation::open_numbered(first, to)?
        };
        busy.push(Busy::start(&format!("upload from {first:#x}"), conversation, |c| {
            c.upload(1 << 20)?;
            c.increment()
        }));
    }
    for client in &busy {
        client.goes_on(2)?;
    }
    kill_primary(&lab)?;
    for client in busy {
        client.goes_on(8)?;
        client.stop()?;
    }
    Ok(())
}

#[test]
fn a_port_is_used_again_while_the_servers_still_wait_for_stragglers() -> Result<()> {
    let name = "a_port_is_used_again_while_the_servers_still_wait_for_stragglers";
    let Some(lab) = protected(name, patient())? else { return Ok(()) };
    let from = SocketAddr::new(CLIENT_V4.parse()?, 40_000);
    let again = || -> Result<Conversation> {
        let _inside = lab.client().netns().enter()?;
        let to = SocketAddr::new(lab.client().entry(false)?, PORT);
        // Until the client's own FIN is acknowledged, its kernel has the port in use (LAST-ACK).
        let soon = Duration::from_secs(1);
        let mut conversation = wait_for("the client's own port", soon, || Conversation::open_from(from, to))?;
        conversation.increment()?;
        Ok(conversation)
    };
    for round in 0..6 {
        let mut conversation = again().with_context(|| format!("round {round}"))?;
        if round == 3 {
            kill_primary(&lab)?;
            lab.wait_protected()?;
        }
        conversation.download(100_000)?;
        // The servers close first, and stay in TIME_WAIT.
        conversation.ask("BYE", 10)?;
        conversation.receive(10)?;
        conversation.ended()?;
    }
    // And one of those is carried over.
    let mut conversation = again()?;
    kill_primary(&lab)?;
    conversation.increment()
}
