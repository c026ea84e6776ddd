//! How a drill went: for people, and as the documented JSON.

use std::fmt::Write as _;
use std::time::Duration;

use serde::Serialize;

use super::super::finding::Findings;
use super::super::time::short;
use crate::api::types::{Protection, Record, Show};

/// `drill -o json`; docs/cli.md has the schema.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Report {
    pair: String,
    began_at_ms: u64,
    packets_per_second: f64,
    pub(super) readiness: Findings,
    /// None if nothing was done.
    pub(super) failover: Option<Failover>,
    /// From the failover until the pair was protected again; none if it was not in time.
    protected_after_ms: Option<f64>,
    /// Whether it was ever seen down.
    was_down: bool,
    /// How it was at the end.
    protection: Protection,
    why: Option<String>,
}

/// What was measured of the failover.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Failover {
    pub(super) at_ms: u64,
    slot: Option<u8>,
    generation: Option<u64>,
    epoch_before: u64,
    epoch_after: u64,
    detect_us: Option<u64>,
    flip_us: Option<f64>,
    first_answer_us: Option<f64>,
    text: String,
}

impl Failover {
    pub(super) fn new(record: &Record, answered: Option<Duration>) -> Failover {
        Failover {
            at_ms: record.at_ms,
            slot: record.slot,
            generation: record.generation,
            epoch_before: record.epoch_before,
            epoch_after: record.epoch_after,
            detect_us: record.detect_us,
            flip_us: record.flip_us,
            first_answer_us: answered.map(|after| after.as_secs_f64() * 1e6),
            text: record.text.clone(),
        }
    }
}

impl Report {
    pub(super) fn new(show: &Show, began_at_ms: u64, packets_per_second: f64, readiness: Findings) -> Report {
        Report {
            pair: show.pair.name.clone(),
            began_at_ms,
            packets_per_second,
            readiness,
            failover: None,
            protected_after_ms: None,
            was_down: false,
            protection: show.pair.protection,
            why: show.pair.why.clone(),
        }
    }

    /// Takes in how the pair is.
    pub(super) fn see(&mut self, show: &Show) {
        self.protection = show.pair.protection;
        self.why.clone_from(&show.pair.why);
        self.was_down |= show.pair.protection == Protection::Down;
    }

    /// It was protected again so long after the failover.
    pub(super) fn protected_again(&mut self, after: Duration) {
        self.protected_after_ms = Some(after.as_secs_f64() * 1e3);
    }

    pub(super) fn text(&self) -> String {
        let Some(failover) = &self.failover else { return String::new() };
        let mut out = format!(
            "\n{} (epoch {} -> {}): {}\n",
            self.pair, failover.epoch_before, failover.epoch_after, failover.text
        );
        let mut line = |what: &str, value: Option<String>, means: &str| {
            let _ = writeln!(out, "  {what:<16} {:<10} {means}", value.unwrap_or_else(|| "-".to_owned()));
        };
        line("flip", failover.flip_us.map(short), "from the decision to the changed word in the data plane");
        let seen = match failover.first_answer_us {
            Some(_) => "at most, from the request until an answer of the new primary had left",
            None => "no answer was seen leaving within 2 s: did anybody ask?",
        };
        line("first answer", failover.first_answer_us.map(short), seen);
        let back = self.protected_after_ms.map(|ms| short(ms * 1e3));
        let seen = match (&self.protected_after_ms, &self.why) {
            (Some(_), _) => "from the failover until a new standby served",
            (None, Some(why)) => why,
            (None, None) => "not in time",
        };
        line("protected again", back, seen);
        if self.was_down {
            out += "  The pair was down meanwhile: `hotpair history` says why.\n";
        }
        out
    }
}
