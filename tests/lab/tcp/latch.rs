//! The controller is dead, and so is the primary: the kernel's latch gives the entry address to the standby, and the data
//! plane tells each connection of it.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hotpair_tests::lab::{Builder, Lab, Latch};

use super::chain::{at_work, said_to_be};
use super::soaking;
use crate::scenario::protected;
use crate::takeover::{open, patient};

/// The latch trips after twice this. By then Linux's timers of 200 ms, which double each time, have run out at 200 and at
/// 600 ms and would do so again at 1,400 ms: who waits for them stands still for 700 ms more.
const TIMEOUT: Duration = Duration::from_millis(350);
/// Half of the rounds must be far below what the shortest of all timers would take.
const SHORT: Duration = Duration::from_millis(150);
/// Who waits for a timer that was running when the primary died stands still for longer than this.
const TIMER: Duration = Duration::from_millis(650);

fn lab() -> Builder {
    // Patient: who is late with a connection for a moment, on a busy machine, is not to be taken for lost.
    patient().heartbeat(Duration::from_millis(5), TIMEOUT)
}

/// SIGKILL to the controller, SIGSTOP to the primary's machine. When the latch has tripped.
fn freeze_without_controller(lab: &mut Lab) -> Result<Instant> {
    let old = lab.primary()?;
    let latch = Latch::watch(lab)?;
    lab.kill_controller();
    old.freeze()?;
    hotpair_tests::wait::wait_until("the latch to trip", Duration::from_secs(10), || latch.has_tripped())?;
    Ok(latch.tripped()?.0)
}

#[test]
fn without_a_controller_nobody_waits_for_a_timer() -> Result<()> {
    let Some(mut lab) = protected("without_a_controller_nobody_waits_for_a_timer", lab())? else {
        return Ok(());
    };
    stalls_are_short(&mut lab, if soaking() { 20 } else { 3 })
}

fn stalls_are_short(lab: &mut Lab, rounds: usize) -> Result<()> {
    let (mut stalls, mut resets, mut fresh) = (vec![Vec::new(); 3], Vec::new(), Vec::new());
    for round in 0..rounds {
        let before = lab.wait_protected()?;
        let v6 = round % 2 == 1;
        let (busy, clients) = at_work(lab, &format!("round {round}"), v6)?;
        // The members say different things to this client, which only listens.
        let mut listener = open(lab, v6)?;
        listener.random(1000)?;
        listener.random(1000)?;
        said_to_be(lab, &[listener.local()?.to_string()], "diverged", "the members send different bytes")?;
        let listening = thread::spawn(move || {
            let error = listener.ended().expect_err("a reset");
            (Instant::now(), format!("{error:#}"))
        });
        for client in &busy {
            client.goes_on(2)?;
        }
        said_to_be(lab, &clients, "in_sync", "")?;
        let survivor = lab.standby()?.slot();

        let tripped = freeze_without_controller(lab)?;
        for client in &busy {
            client.goes_on(2).with_context(|| format!("round {round}"))?;
        }
        let (reset, error) = listening.join().expect("no panic");
        ensure!(error.contains("reset"), "{error}");
        resets.push(reset.saturating_duration_since(tripped));
        // Who comes now waits for nobody either.
        let begun = Instant::now();
        open(lab, !v6)?.increment()?;
        fresh.push(begun.elapsed());
        thread::sleep(Duration::from_millis(200));
        let until = Instant::now();

        // The next controller finishes it, and tells everybody once more.
        lab.start_controller()?;
        lab.wait_pair("the latch to be followed", |pair| {
            pair.epoch > before.epoch && pair.primary == Some(survivor)
        })?;
        for (client, stalls) in busy.into_iter().zip(&mut stalls) {
            client.goes_on(2).with_context(|| format!("with a controller again, round {round}"))?;
            stalls.push(client.end()?.0.gap_between(tripped, until));
        }
    }
    let kinds = ["a download", "an upload", "requests", "what is reset", "a new connection"];
    let mut timers = Vec::new();
    for (what, mut stalls) in kinds.into_iter().zip(stalls.into_iter().chain([resets, fresh])) {
        eprintln!("{what}: stalls after the latch had tripped {stalls:?}");
        stalls.sort();
        ensure!(stalls[stalls.len() / 2] < SHORT, "{what}: {stalls:?}");
        timers.extend(stalls.into_iter().filter(|stall| *stall >= TIMER).map(|stall| (what, stall)));
    }
    // One may be this machine's doing.
    ensure!(timers.len() <= 1, "somebody waited for a timer more than once: {timers:?}");
    Ok(())
}
