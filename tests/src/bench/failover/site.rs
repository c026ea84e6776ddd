//! hotpair's side: the namespace lab with the real controller, and what is done to it.

use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use aya::maps::Array;
use hotpair::api::types::RecordKind;
use hotpair_abi::maps::Member;

use super::round::Round;
use super::{Options, client, tell};
use crate::bench::say;
use crate::interrupt;
use crate::lab::{Lab, Latch, PAIR, boottime};

/// What is done to the pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL to the primary's machine.
    Kill,
    /// SIGSTOP to it.
    Freeze,
    /// `hotpair switchover`.
    Switchover,
    /// SIGSTOP to the primary's machine while the controller is dead: the kernel fails over by itself.
    Latch,
}

impl Fault {
    /// In the order of the table.
    pub const ALL: [Fault; 4] = [Fault::Kill, Fault::Freeze, Fault::Switchover, Fault::Latch];

    /// As on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Fault::Kill => "kill",
            Fault::Freeze => "freeze",
            Fault::Switchover => "switchover",
            Fault::Latch => "latch",
        }
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Fault, String> {
        let named = Fault::ALL.into_iter().find(|fault| fault.name() == text);
        named.ok_or_else(|| format!("no fault `{text}`: kill, freeze, switchover or latch"))
    }
}

/// All rounds of a fault, in a lab of their own.
///
/// On a machine that is starved the pair fails over by itself before the fault: such a round is done again, and that is
/// counted.
pub(super) fn measure(options: &Options, fault: Fault) -> Result<(Vec<Round>, u32)> {
    let mut unplanned = 0;
    let mut lab = Lab::builder().quiet().heartbeat(options.interval, options.timeout).start()?;
    let mut rounds = Vec::new();
    while rounds.len() < options.rounds as usize {
        let number = rounds.len() as u32 + 1;
        let round = round(&mut lab, fault, number).with_context(|| {
            let log = lab.log();
            let last: Vec<_> = log.lines().rev().take(15).collect();
            format!(
                "round {number}; the controller's last words:\n{}",
                last.into_iter().rev().collect::<Vec<_>>().join("\n")
            )
        })?;
        let Some(round) = round else {
            unplanned += 1;
            ensure!(
                unplanned <= 10 + options.rounds,
                "this machine is too busy: members fall silent by themselves"
            );
            say("this machine is so busy that a member fell silent by itself; the round is done again");
            continue;
        };
        tell(&format!("hotpair, {}", fault.name()), number, options.rounds, &round);
        rounds.push(round);
    }
    Ok((rounds, unplanned))
}

/// One round; `None` if the pair has failed over by itself before the fault.
fn round(lab: &mut Lab, fault: Fault, number: u32) -> Result<Option<Round>> {
    let before = lab.wait_protected()?;
    let primary = before.primary.context("a protected pair has a primary")?;
    let (old, survivor) = (lab.machine(primary)?, lab.machine(1 - primary)?);
    let latch = (fault == Fault::Latch).then(|| Latch::watch(lab)).transpose()?;
    if fault == Fault::Latch {
        lab.kill_controller();
    }
    let load = client::start(lab.client().netns(), lab.client().echo()?)?;
    // Another phase of the heartbeat each time.
    interrupt::pause(Duration::from_millis(100) + Duration::from_micros(u64::from(number) * 137 % 5000))?;
    let undisturbed = match &latch {
        Some(latch) => !latch.has_tripped(),
        None => lab.pair()?.epoch == before.epoch,
    };
    if !undisturbed {
        drop((load, latch));
        if fault == Fault::Latch {
            lab.start_controller()?;
        }
        return Ok(None);
    }

    let (fault_at, fault_ns) = (load.elapsed(), boottime());
    match fault {
        Fault::Kill => old.kill()?,
        Fault::Freeze | Fault::Latch => old.freeze()?,
        Fault::Switchover => lab.must(&["switchover", PAIR]).map(drop)?,
    }
    let last_beat = last_beat(lab, old.slot())?;
    client::wait_for_answers(&load, survivor.by(), Duration::from_secs(10))?;
    let report = load.stop();
    let mut round = Round::seen(&report, fault_at);
    if fault == Fault::Latch {
        lab.start_controller()?;
    }
    // By itself, in the moment between the look and the fault.
    let answered = report.requests.iter().filter(|request| request.by == Some(survivor.by()));
    if answered.filter_map(|request| request.answered_at).any(|at| at < fault_at) {
        return Ok(None);
    }
    let after = lab.wait_pair("the survivor to serve", |pair| {
        let failed_over = pair.last.as_ref().is_some_and(|last| last.kind == RecordKind::Failover);
        pair.epoch > before.epoch && (pair.primary == Some(survivor.slot()) || failed_over)
    })?;
    // And back by itself, in the moment after.
    if after.primary != Some(survivor.slot()) {
        return Ok(None);
    }
    ensure!(report.answerers() == [old.by(), survivor.by()], "answers by {:?}", report.answerers());
    let wanted = if fault == Fault::Switchover { RecordKind::Switchover } else { RecordKind::Failover };
    let record = lab.history()?.into_iter().rev().find(|record| record.kind == wanted);
    let record =
        record.filter(|record| record.epoch_after > before.epoch && record.epoch_after <= after.epoch);
    let record = record.context("the history does not tell of it")?;
    match fault {
        Fault::Kill | Fault::Freeze => {
            let decided = record.detect_us.map(|us| last_beat + us * 1000);
            round.detection = decided.map(|at| Duration::from_nanos(at.saturating_sub(fault_ns)));
            round.flip_us = record.flip_us;
        }
        Fault::Switchover => round.flip_us = record.flip_us,
        Fault::Latch => {
            let (_, tripped) = latch.context("it was watched")?.tripped()?;
            round.detection = Some(Duration::from_nanos(tripped.saturating_sub(fault_ns)));
        }
    }
    Ok(Some(round))
}

/// When a member has last beaten, as the data plane has noted it; to be asked before another one is in its place.
pub(in crate::bench) fn last_beat(lab: &Lab, slot: u8) -> Result<u64> {
    let members = Array::<_, Member>::try_from(lab.array("MEMBERS")?)?;
    Ok(members.get(&u32::from(slot), 0)?.last_beat_ns)
}
