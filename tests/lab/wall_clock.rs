//! The wall clock is set forth and back by an hour (for the controller alone: a library before libc's shifts what it is
//! told). Nobody is failed over for it, and the history stays in order.

use std::fs;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Result, ensure};
use hotpair::api::types::RecordKind;
use hotpair_tests::lab::PAIR;
use hotpair_tests::netns::run;

use crate::scenario::{patient, steady_load};

const HOUR_MS: i64 = 3_600_000;

/// How far a time of the controller's is from now.
fn off(at_ms: u64) -> Result<i64> {
    Ok(at_ms as i64 - i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis())?)
}

#[test]
fn a_clock_set_by_an_hour_moves_nobody_and_keeps_the_history_in_order() -> Result<()> {
    let name = "a_clock_set_by_an_hour_moves_nobody_and_keeps_the_history_in_order";
    if !crate::may_run(name) {
        return Ok(());
    }
    let mut lab = patient().without_controller()?;
    let library = lab.dir().join("wall_clock.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/lab/wall_clock.c");
    run(Command::new("cc").args(["-shared", "-fPIC", "-O1", "-o"]).arg(&library).arg(source))?;
    let shift = lab.dir().join("shift");
    let set = |hours: i64| fs::write(&shift, (hours * HOUR_MS / 1000).to_string());
    set(0)?;
    lab.run_controller_under(vec![
        "env".to_owned(),
        format!("LD_PRELOAD={}", library.display()),
        format!("WALL_CLOCK_SHIFT={}", shift.display()),
    ]);
    lab.start_controller()?;
    lab.wait_protected()?;
    let load = steady_load(&lab)?;

    for hours in [1, 0, -1, 0] {
        let before = lab.wait_protected()?;
        let members = [lab.machine(0)?.by(), lab.machine(1)?.by()];
        set(hours)?;
        std::thread::sleep(Duration::from_millis(400));
        let after = lab.wait_protected()?;
        ensure!(
            (after.epoch, after.primary) == (before.epoch, before.primary),
            "{hours}: {before:?} {after:?}"
        );
        ensure!([lab.machine(0)?.by(), lab.machine(1)?.by()] == members, "{hours}: somebody was replaced");
        // Something that is told, with the time that the clock shows.
        lab.must(&["switchover", PAIR])?;
        let last = lab.history()?.pop().expect("something has happened");
        ensure!((off(last.at_ms)? - hours * HOUR_MS).abs() < 60_000, "{hours}: {last:?}");
        // How long something has lasted does not come from the wall clock.
        let since = lab.pair()?.primary_since_at_ms.expect("it serves");
        ensure!((off(since)? - hours * HOUR_MS).abs() < 60_000, "{hours}: since {since}");
        let started = lab.status()?.started_at_ms;
        ensure!((off(started)? - hours * HOUR_MS).abs() < 60_000, "{hours}: started at {started}");
    }
    let report = load.stop();
    ensure!(report.lost().count() == 0 && report.doubled().count() == 0, "{}", report.line());

    // In the order in which it happened, also of all pairs together and after a restart.
    for restarted in [false, true] {
        if restarted {
            lab.stop_controller()?;
            lab.start_controller()?;
        }
        let text = lab.must(&["history"])?;
        let history = lab.history()?;
        let epochs: Vec<_> = history.iter().map(|record| record.epoch_after).collect();
        ensure!(epochs.is_sorted(), "restarted {restarted}: {epochs:?}");
        let switchovers = history.iter().filter(|record| record.kind == RecordKind::Switchover).count();
        ensure!(switchovers == 4, "{switchovers}");
        let texts: Vec<_> = history.iter().map(|record| record.text.as_str()).collect();
        let mut lines = text.lines();
        for expected in texts {
            ensure!(lines.any(|line| line.contains(expected)), "{expected:?} is not in its place: {text}");
        }
    }
    Ok(())
}
