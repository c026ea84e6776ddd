//! The controller is killed at moments that nobody chose, again and again, while datagrams flow.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use hotpair::api::types::{PairStatus, Protection};
use hotpair_tests::dice::Dice;
use hotpair_tests::lab::{Lab, Machine, PAIR};
use hotpair_tests::load::{By, Load, Report};
use hotpair_tests::vm::fault::Fault;
use hotpair_tests::wait::wait_for;

use crate::scenario::{LATCH, patient, protected, steady_load};

/// How long a command takes that the controller is killed in the middle of.
const SLOW: u64 = 500;

/// What a controller is killed in the middle of.
#[derive(Clone, Copy, Debug)]
enum Moment {
    /// Nothing.
    Rest,
    /// Its own beginning, several times in a row.
    Beginning,
    /// Its orderly end: the program behind another path is started in its place, as an upgrade does.
    Upgrade,
    /// A planned switchover.
    Switchover,
    /// What follows the primary's death: detection, flip, fence, release, replacement.
    Failover,
    /// This command, which follows the primary's or the standby's death.
    Command { verb: &'static str, primary: bool },
}

impl Moment {
    fn primary_dies(self) -> bool {
        matches!(self, Moment::Failover | Moment::Command { primary: true, .. })
    }
}

const MOMENTS: [Moment; 12] = [
    Moment::Rest,
    Moment::Command { verb: "start", primary: true },
    Moment::Beginning,
    Moment::Command { verb: "stop", primary: true },
    Moment::Failover,
    Moment::Command { verb: "start", primary: false },
    Moment::Upgrade,
    Moment::Command { verb: "release", primary: true },
    Moment::Switchover,
    Moment::Command { verb: "release", primary: false },
    Moment::Failover,
    Moment::Command { verb: "stop", primary: false },
];

/// A time in which packets may be lost or doubled, and why.
struct Window {
    from: Duration,
    until: Duration,
    why: String,
}

/// A time in which one member answers, and nobody else.
struct Reign {
    from: Duration,
    until: Duration,
    by: By,
}

#[test]
fn a_controller_killed_at_any_moment_loses_nothing_and_starts_nothing_twice() -> Result<()> {
    let name = "a_controller_killed_at_any_moment_loses_nothing_and_starts_nothing_twice";
    let Some(mut lab) = protected(name, patient())? else { return Ok(()) };
    let rounds = if std::env::var_os("HOTPAIR_SOAK").is_some() { 500 } else { 50 };
    let mut dice = Dice::new(name)?;
    let builds = [Lab::usual_controller(), lab.dir().join("hotpair-elsewhere")];
    std::fs::copy(&builds[0], &builds[1])?;
    let load = steady_load(&lab)?;
    let (mut windows, mut reigns) = (Vec::new(), Vec::new());
    let mut since = load.elapsed();
    for round in 0..rounds {
        let moment = MOMENTS[round % MOMENTS.len()];
        let before = lab.wait_protected()?;
        let (primary, standby) = (lab.primary()?, lab.standby()?);
        lab.controller_is(Some(builds[(dice.next() % 2) as usize].clone()));
        let began = load.elapsed();
        let told = || format!("round {round}, {moment:?}");
        let window = kill_and_restart(&mut lab, moment, &mut dice, &load).with_context(told)?;
        // A controller that has just begun may tell what it has adopted before it has missed who is dead.
        let after = lab.wait_pair("the pair to be protected, and who died to be missed", |pair| {
            pair.protection == Protection::Protected && (!moment.primary_dies() || pair.epoch > before.epoch)
        });
        let after = after.with_context(told)?;
        let survivor =
            if window.is_some() && after.primary == Some(standby.slot()) { &standby } else { &primary };
        // Whoever survives has answered by now.
        std::thread::sleep(Duration::from_millis(30));
        agree(&lab, moment, &before, &after, survivor).with_context(told)?;
        accounted(&lab).with_context(told)?;
        reigns.push(Reign { from: since, until: began, by: primary.by() });
        since = load.elapsed();
        if let Some(from) = window {
            let until = since;
            windows.push(Window { from, until, why: told() });
        }
    }
    let report = load.stop();
    eprintln!("{} kills: {}", rounds, report.line());
    flowed(&report, &windows, &reigns)
}

/// Kills the controller in the middle of something and starts it again. Returns since when a fault of a member, or a
/// switchover that nobody finishes, may have cost packets.
fn kill_and_restart(lab: &mut Lab, moment: Moment, dice: &mut Dice, load: &Load) -> Result<Option<Duration>> {
    let mut window = None;
    match moment {
        Moment::Rest => dice.wait(20),
        Moment::Beginning => {
            for _ in 0..3 {
                lab.kill_controller();
                lab.launch_controller()?;
                dice.wait(120);
            }
        }
        Moment::Upgrade => {
            lab.stop_controller()?;
            lab.launch_controller()?;
            dice.wait(200);
        }
        Moment::Switchover => {
            window = Some(load.elapsed());
            let mut asked = lab.host().command(&Lab::usual_controller().display().to_string());
            asked.arg("--config").arg(lab.config_file()).args(["switchover", PAIR]);
            let mut asked =
                asked.stderr(std::process::Stdio::null()).stdout(std::process::Stdio::null()).spawn()?;
            dice.wait(60);
            lab.kill_controller();
            asked.wait()?;
        }
        Moment::Failover => {
            window = Some(load.elapsed());
            lab.primary()?.kill()?;
            dice.wait(100);
        }
        Moment::Command { verb, primary } => {
            lab.fault(verb, Some(Fault::Slow(SLOW)))?;
            let known = lab.asked()?.len();
            if primary {
                window = Some(load.elapsed());
                lab.primary()?.kill()?;
            } else {
                lab.standby()?.kill()?;
            }
            wait_for("the command to begin", Duration::from_secs(10), || {
                let asked = lab.asked()?;
                asked[known..].iter().find(|asked| asked.verb == verb).map(drop).context("it has not")
            })?;
            dice.wait(SLOW);
        }
    }
    if let Moment::Command { verb, .. } = moment {
        // A stop in good order may come in the middle of it as well.
        if dice.next().is_multiple_of(4) {
            lab.stop_controller()?;
        }
        lab.fault(verb, None)?;
    }
    lab.kill_controller();
    if dice.next().is_multiple_of(2) {
        dice.wait(100);
    }
    lab.start_controller()?;
    Ok(window)
}

/// Roles and epoch are as they must be after such a moment.
fn agree(
    lab: &Lab,
    moment: Moment,
    before: &PairStatus,
    after: &PairStatus,
    survivor: &Machine,
) -> Result<()> {
    let moved = after.primary != before.primary;
    match moment {
        // Done, or taken back: then the roles are as they were.
        Moment::Switchover => ensure!(after.epoch > before.epoch || !moved, "roles: {before:?} {after:?}"),
        _ if moment.primary_dies() => ensure!(
            moved && after.epoch == before.epoch + 1,
            "the primary died: one failover, one epoch: {before:?} {after:?}"
        ),
        _ => ensure!(!moved && after.epoch == before.epoch, "nobody who serves died: {before:?} {after:?}"),
    }
    ensure!(survivor.is_alive(), "{survivor:?} was ended without need");
    let now = lab.primary()?;
    ensure!(now.by() == survivor.by(), "{:?} serves instead of {:?}", now.by(), survivor.by());
    let told = lab.history()?;
    ensure!(
        told.windows(2).all(|two| two[0].epoch_after <= two[1].epoch_after),
        "the epoch went back: {:?}",
        told.iter().map(|record| (record.epoch_before, record.epoch_after)).collect::<Vec<_>>()
    );
    Ok(())
}

/// Nothing was started twice, two machines run, and there are no other volumes than theirs.
fn accounted(lab: &Lab) -> Result<()> {
    let mut starts = BTreeMap::new();
    for asked in lab.asked()?.iter().filter(|asked| asked.verb == "start") {
        *starts.entry((asked.slot, asked.generation)).or_insert(0) += 1;
    }
    ensure!(starts.values().all(|count| *count == 1), "(slot, generation) and starts: {starts:?}");
    // What an earlier controller had asked for may be on its way still.
    wait_for("every volume to be a running machine's", Duration::from_secs(5), || {
        let mut wanted = Vec::new();
        for slot in [0, 1] {
            wanted.push(format!("{PAIR}-{slot}-{}.volume", lab.machine(slot)?.generation()));
        }
        let (there, alive) = (lab.volumes()?, lab.machines_alive());
        if there != wanted || alive != 2 {
            bail!("there are {there:?}, there should be {wanted:?}; {alive} machines run");
        }
        Ok(())
    })
}

/// What the client saw.
fn flowed(report: &Report, windows: &[Window], reigns: &[Reign]) -> Result<()> {
    // A client that was late itself is as late in telling what it saw.
    let margin = Duration::from_millis(20) + report.late(Duration::ZERO, report.duration);
    for request in &report.requests {
        let at = request.sent_at;
        let excused = windows.iter().find(|window| at + margin > window.from && at < window.until);
        if request.answered_at.is_none() || request.again > 0 {
            ensure!(
                excused.is_some(),
                "{request:?} was lost or doubled, and no member had died: {}",
                report.line()
            );
        }
        if let Some(reign) = reigns.iter().find(|reign| at > reign.from && at + margin < reign.until) {
            ensure!(request.by.is_none_or(|by| by == reign.by), "{request:?}: {:?} reigned", reign.by);
        }
    }
    for window in windows {
        let within =
            report.requests.iter().filter(|r| r.sent_at + margin > window.from && r.sent_at < window.until);
        let mut answers: Vec<_> = within.filter_map(|request| request.answered_at).collect();
        answers.sort_unstable();
        let gap = answers.windows(2).map(|two| two[1] - two[0]).max().unwrap_or_default();
        // The controller that would have acted may have been killed first: then the latch does.
        let late = report.late(window.from, window.until);
        ensure!(gap < LATCH + late, "{}: no answer for {gap:?}; it was late itself by {late:?}", window.why);
    }
    Ok(())
}

#[test]
fn a_first_start_killed_at_any_moment_is_begun_again() -> Result<()> {
    let name = "a_first_start_killed_at_any_moment_is_begun_again";
    if !crate::may_run(name) {
        return Ok(());
    }
    let rounds = if std::env::var_os("HOTPAIR_SOAK").is_some() { 100 } else { 4 };
    let mut dice = Dice::new(name)?;
    for round in 0..rounds {
        let mut lab = patient().quiet().without_controller()?;
        for _ in 0..6 {
            lab.launch_controller()?;
            dice.wait(200);
            lab.kill_controller();
        }
        lab.start_controller().with_context(|| format!("round {round}"))?;
        lab.wait_protected().with_context(|| format!("round {round}: {}", lab.log()))?;
        accounted(&lab).with_context(|| format!("round {round}: {}", lab.log()))?;
    }
    Ok(())
}
