//! A primary that falls silent while connections are open: the rounds of such failures, and when each was decided.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hotpair::api::types::{PairStatus, Record, RecordKind};

use crate::bench::failover::last_beat;
use crate::bench::{Series, say};
use crate::interrupt;
use crate::lab::{Lab, Machine, boottime};

/// When something happened, by this process's clock and by the data plane's.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment {
    pub(super) at: Instant,
    ns: u64,
}

impl Moment {
    pub(super) fn now() -> Moment {
        Moment { at: Instant::now(), ns: boottime() }
    }
}

/// What became of a failure.
#[derive(Clone, Copy, Debug)]
pub(super) struct Failure {
    pub(super) at: Instant,
    /// Until the controller decided.
    pub(super) detection: Duration,
}

impl Failure {
    pub(super) fn decided(&self) -> Instant {
        self.at + self.detection
    }
}

/// A protected pair, whose primary is about to fail.
pub(super) struct Failing<'a> {
    lab: &'a Lab,
    before: PairStatus,
    old: Machine,
    survivor: Machine,
}

impl<'a> Failing<'a> {
    pub(super) fn new(lab: &'a Lab) -> Result<Failing<'a>> {
        let before = lab.wait_protected()?;
        let primary = before.primary.context("a protected pair has a primary")?;
        Ok(Failing { lab, before, old: lab.machine(primary)?, survivor: lab.machine(1 - primary)? })
    }

    /// Freezes the primary by `freeze`, which says when it began to, and waits until the survivor has served for a while; `None`
    /// if a member had failed by itself before.
    pub(super) fn fail(
        self,
        number: u32,
        freeze: impl FnOnce(&Machine) -> Result<Moment>,
    ) -> Result<Option<Failure>> {
        let Failing { lab, before, old, survivor } = self;
        // Another phase of the heartbeat each time.
        interrupt::pause(Duration::from_millis(100) + Duration::from_micros(u64::from(number) * 137 % 5000))?;
        if lab.pair()?.epoch != before.epoch {
            return Ok(None);
        }
        let fault = match freeze(&old) {
            Ok(fault) => fault,
            Err(error) => {
                // It has failed by itself in this very moment, and is gone.
                ensure!(lab.pair()?.epoch != before.epoch, error);
                return Ok(None);
            }
        };
        let last_beat = last_beat(lab, old.slot())?;
        // Or it is another one's already, on a machine that is busy.
        let another = |machine: &Machine| {
            lab.machine(machine.slot()).is_ok_and(|present| present.generation() != machine.generation())
        };
        let replaced = another(&old);
        let after = lab.wait_pair("the survivor to serve", |pair| pair.epoch > before.epoch)?;
        // What comes after the first sign of life is the connection's life, too: a second pause counts.
        interrupt::pause(Duration::from_millis(250))?;
        // A standby that came after the connections is another one, too.
        if replaced || another(&survivor) || after.primary != Some(survivor.slot()) {
            return Ok(None);
        }
        let history = lab.history()?;
        let told =
            |record: &&Record| record.kind == RecordKind::Connections && record.epoch_after > before.epoch;
        for record in history.iter().filter(told).filter(|record| record.text.contains("reset")) {
            say(&record.text);
        }
        let record = history.into_iter().rev().find(|record| {
            record.kind == RecordKind::Failover
                && record.epoch_after > before.epoch
                && record.epoch_after <= after.epoch
        });
        let detected =
            record.and_then(|record| record.detect_us).context("the history does not tell of it")?;
        let detection = Duration::from_nanos((last_beat + detected * 1000).saturating_sub(fault.ns));
        Ok(Some(Failure { at: fault.at, detection }))
    }
}

/// So many rounds, each of them done again if it was none, and how often that was.
pub(super) fn rounds<R>(
    name: &str,
    of: u32,
    round: impl Fn(u32) -> Result<Option<R>>,
    line: impl Fn(&R) -> String,
) -> Result<(Vec<R>, u32)> {
    let (mut rounds, mut again) = (Vec::new(), 0);
    while rounds.len() < of as usize {
        let number = rounds.len() as u32 + 1;
        let Some(round) = round(number).with_context(|| format!("{name}: round {number}"))? else {
            again += 1;
            ensure!(again <= 10 + of, "this machine is too busy: members fall silent by themselves");
            say("this machine is so busy that a member fell silent by itself; the round is done again");
            continue;
        };
        if number == 1 || number == of || number.is_multiple_of(10) {
            say(format_args!("{name}: round {number} of {of}: {}", line(&round)));
        }
        rounds.push(round);
    }
    Ok((rounds, again))
}

/// The figure of rounds that were done again, if there were any.
pub(super) fn again(name: &str, again: u32) -> Option<Series> {
    let series = || Series {
        values: vec![again.into()],
        ..Series::new(format!("{name}: rounds done again"), "rounds")
    };
    (again > 0).then(series)
}

pub(super) fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// Anything else that ends a connection is a broken promise.
pub(super) fn was_reset(error: &anyhow::Error) -> bool {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>());
    io.is_some_and(|io| io.kind() == std::io::ErrorKind::ConnectionReset)
}
