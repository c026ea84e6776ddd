//! The controller makes the other member the speaker, by itself or because somebody asks: it tells each connection, and no
//! client waits for a timer.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hotpair_tests::lab::{Lab, Latch, Machine};
use hotpair_tests::stream::Conversation;
use hotpair_tests::wait::wait_until;

use super::{Busy, soaking};
use crate::scenario::protected;
use crate::takeover::{open, patient};

/// So long a request is in the works: one is under way whenever the other member begins to speak.
const WORK: u64 = 10;
/// Half of the rounds must be far below what the shortest of all timers takes, Linux's 200 ms: the new speaker's that asks
/// for a window, or the client's that sends again.
const SHORT: Duration = Duration::from_millis(80);

type Round = fn(&mut Conversation) -> Result<()>;

const KINDS: [(&str, Round); 3] = [
    ("a request", |c| {
        c.ask("SLEEP", WORK)?;
        c.increment()
    }),
    ("a download", |c| c.download(256 << 10)),
    ("an upload", |c| c.upload(256 << 10)),
];

/// Over IPv4, then over IPv6.
fn at_work(lab: &Lab, round: usize) -> Result<Vec<Busy>> {
    let mut busy = Vec::new();
    for v6 in [false, true] {
        for (what, talk) in KINDS {
            let mut conversation = open(lab, v6)?;
            // The members must still have time for their heartbeats.
            conversation.pace(4 << 20)?;
            // A deep buffer hides that nothing is sent; and who still has something to send learns by it where he is.
            conversation.hold_little(16 << 10)?;
            let name = format!("{what} over IPv{}, round {round}", if v6 { 6 } else { 4 });
            busy.push(Busy::start(&name, conversation, talk));
        }
    }
    Ok(busy)
}

fn nobody_waits_for_a_timer(lab: &Lab, turn: fn(&Lab, &Machine) -> Result<()>) -> Result<()> {
    // A client that asks again at once (tail loss probes, RFC 8985 section 7) finds out by itself; not all do.
    lab.client().set("ipv4/tcp_early_retrans", "0")?;
    let mut stalls: Vec<Vec<Duration>> = vec![Vec::new(); 2 * KINDS.len()];
    for round in 0..if soaking() { 21 } else { 7 } {
        lab.wait_protected()?;
        let busy = at_work(lab, round)?;
        for client in &busy {
            client.goes_on(3)?;
        }
        let old = lab.primary()?;
        let flip = Latch::watch_controller(lab)?;
        turn(lab, &old)?;
        wait_until("the survivor to serve", Duration::from_secs(10), || flip.has_tripped())?;
        let flipped = flip.tripped()?.0;
        // Another machine is made meanwhile: what that costs is not counted.
        let until = flipped + Duration::from_millis(20);
        for client in &busy {
            client.goes_on(2).with_context(|| format!("round {round}"))?;
        }
        for (client, stalls) in busy.into_iter().zip(&mut stalls) {
            stalls.push(client.end()?.0.gap_between(flipped, until));
        }
    }
    let mut slow = Vec::new();
    for (index, stalls) in stalls.iter_mut().enumerate() {
        let what = format!("{} over IPv{}", KINDS[index % KINDS.len()].0, 4 + 2 * (index / KINDS.len()));
        eprintln!("{what}: stalls after the flip {stalls:.1?}");
        stalls.sort_unstable();
        if stalls[stalls.len() / 2] >= SHORT {
            slow.push(format!("{what}: {stalls:.1?}"));
        }
    }
    ensure!(slow.is_empty(), "{slow:#?}");
    Ok(())
}

#[test]
fn when_the_primary_dies_nobody_waits_for_a_timer() -> Result<()> {
    let Some(lab) = protected("when_the_primary_dies_nobody_waits_for_a_timer", patient())? else {
        return Ok(());
    };
    nobody_waits_for_a_timer(&lab, |_, old| old.kill())
}

#[test]
fn when_somebody_asks_for_a_failover_nobody_waits_for_a_timer() -> Result<()> {
    let name = "when_somebody_asks_for_a_failover_nobody_waits_for_a_timer";
    let Some(lab) = protected(name, patient())? else { return Ok(()) };
    nobody_waits_for_a_timer(&lab, |lab, _| lab.must(&["failover", "web"]).map(drop))
}

#[test]
fn when_somebody_asks_for_it_because_the_primary_stands_still_nobody_waits_for_a_timer() -> Result<()> {
    let name = "when_somebody_asks_for_it_because_the_primary_stands_still_nobody_waits_for_a_timer";
    let Some(lab) = protected(name, patient())? else { return Ok(()) };
    nobody_waits_for_a_timer(&lab, |lab, old| {
        old.freeze()?;
        lab.must(&["failover", "web"]).map(drop)
    })
}
