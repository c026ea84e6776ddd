//! The figures of a demo, for people and as JSON.

use std::fmt::Write as _;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use super::Kept;
use super::round::Moment;

/// Numbered requests of a round, HTTP and UDP together.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Requests {
    /// Sent.
    pub sent: usize,
    /// Answered.
    pub answered: usize,
    /// Without an answer.
    pub failed: usize,
}

/// One fault and what became of it.
#[derive(Clone, Debug, Serialize)]
pub struct Round {
    /// As on the command line.
    pub fault: String,
    /// What gave it away.
    pub detected_by: String,
    /// From the old primary's last sign of life to the decision.
    pub detect_ms: f64,
    /// From the decision to the changed map word.
    pub flip_us: f64,
    /// The client's longest time without an answer to its datagrams, in the whole round.
    pub gap_ms: f64,
    /// The one at the failover: without KVM the boot of the third VM may make the client wait for longer than that.
    pub failover_gap_ms: f64,
    /// Of the whole round.
    pub requests: Requests,
    /// Requests without an answer that were neither in flight when the fault struck nor sent between then and the end of
    /// the gap or the failover (50 ms of grace on either side).
    pub failed_outside_gap: usize,
    /// Epoch before the failover.
    pub epoch_before: u64,
    /// And after.
    pub epoch_after: u64,
    /// Its domain does not exist any more.
    pub old_primary_fenced: bool,
    /// Its volume does not exist any more.
    pub storage_released: bool,
    /// From the fault until the third VM serves as the new standby.
    pub replaced_after_s: f64,
    /// The new standby receives duplicates: its answers are there to be suppressed.
    pub new_standby_receives: bool,
    /// Failovers before the fault that nobody asked for: an emulated member did not get its CPU for a whole timeout.
    pub unplanned_failovers: u32,
    /// The pair says so, and a new generation stands by.
    pub protected_again: bool,
    /// The connections that were held through it.
    #[serde(flatten)]
    pub kept: Kept,
    /// Unix milliseconds.
    pub fault_at_ms: f64,
    /// What happened when.
    pub moments: Vec<Moment>,
    /// Slot of the primary that the fault hit.
    pub primary_before: u8,
}

impl Round {
    /// One line.
    #[must_use]
    pub fn line(&self) -> String {
        format!(
            "gap {:.1} ms, {:.1} ms at the failover (detection {:.1} ms by {}), {} requests sent, {} failed ({} outside the gap)",
            self.gap_ms,
            self.failover_gap_ms,
            self.detect_ms,
            self.detected_by,
            self.requests.sent,
            self.requests.failed,
            self.failed_outside_gap
        )
    }
}

/// All rounds.
#[derive(Clone, Debug)]
pub struct DemoReport {
    /// `kvm` or `tcg`.
    pub accel: String,
    /// At least one.
    pub rounds: Vec<Round>,
}

/// Minimum, median, maximum.
fn spread(values: impl Iterator<Item = f64>) -> (f64, f64, f64) {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = match values.len() {
        0 => return (0.0, 0.0, 0.0),
        n if n % 2 == 1 => values[n / 2],
        n => f64::midpoint(values[n / 2 - 1], values[n / 2]),
    };
    (values[0], middle, values[values.len() - 1])
}

impl DemoReport {
    /// What a person reads at the end.
    #[must_use]
    pub fn summary(&self, out: &Path) -> String {
        let mut text = String::new();
        let n = self.rounds.len();
        let _ = writeln!(
            text,
            "hotpair demo: {n} round{} of `{}` on {}",
            if n == 1 { "" } else { "s" },
            self.rounds[0].fault,
            self.accel
        );
        type Figure = fn(&Round) -> f64;
        let rows: [(&str, Figure, &str); 8] = [
            ("client's longest gap", |r| r.gap_ms, "ms"),
            ("gap at the failover", |r| r.failover_gap_ms, "ms"),
            ("detection", |r| r.detect_ms, "ms"),
            ("flip", |r| r.flip_us, "us"),
            ("protected again after", |r| r.replaced_after_s, "s"),
            ("stall of the download", |r| r.kept.download.failover_stall_ms, "ms"),
            ("stall of the upload", |r| r.kept.upload.failover_stall_ms, "ms"),
            ("stall of the key-value", |r| r.kept.key_value.failover_stall_ms, "ms"),
        ];
        let _ = writeln!(text, "  {:24}{:>10}{:>10}{:>10}", "", "min", "median", "max");
        for (name, value, unit) in rows {
            let (min, median, max) = spread(self.rounds.iter().map(value));
            let _ = writeln!(text, "  {name:24}{min:>10.1}{median:>10.1}{max:>10.1}  {unit}");
        }
        let sum = |f: fn(&Round) -> usize| self.rounds.iter().map(f).sum::<usize>();
        let _ = writeln!(
            text,
            "  requests: {} sent, {} answered, {} failed, of these {} outside the gap",
            sum(|r| r.requests.sent),
            sum(|r| r.requests.answered),
            sum(|r| r.requests.failed),
            sum(|r| r.failed_outside_gap)
        );
        let connections = |f: fn(&Kept) -> usize| self.rounds.iter().map(|r| f(&r.kept)).sum::<usize>();
        let _ = writeln!(
            text,
            "  connections: {} open at the fault, {} survived, {} reset, {} diverged; none is ever opened again",
            connections(|k| k.connections.open),
            connections(|k| k.connections.survived),
            connections(|k| k.connections.reset),
            connections(|k| k.connections.diverged)
        );
        let all = |f: fn(&Round) -> bool| if self.rounds.iter().all(f) { "yes" } else { "NO" };
        let writes = |f: fn(&Kept) -> u64| self.rounds.iter().map(|r| f(&r.kept)).sum::<u64>();
        let _ = writeln!(
            text,
            "  download's SHA-256 right: {}   upload's: {}   writes: {} answered, {} of these lost",
            all(|r| r.kept.download_sha256_ok),
            all(|r| r.kept.upload_sha256_ok),
            writes(|k| k.key_value.done),
            writes(|k| k.acked_writes_lost)
        );
        let longest = |f: fn(&Kept) -> f64| self.rounds.iter().map(|r| f(&r.kept)).fold(0.0, f64::max);
        let _ = writeln!(
            text,
            "  longest stall from the first byte to the last: download {:.1} ms, upload {:.1} ms, key-value {:.1} ms",
            longest(|k| k.download.stall_ms),
            longest(|k| k.upload.stall_ms),
            longest(|k| k.key_value.stall_ms)
        );
        let _ = writeln!(
            text,
            "  old primary fenced: {}   storage released: {}   new standby receives: {}   protected again: {}",
            all(|r| r.old_primary_fenced),
            all(|r| r.storage_released),
            all(|r| r.new_standby_receives),
            all(|r| r.protected_again)
        );
        let _ = write!(
            text,
            "  picture: {}   figures: {}",
            out.join("timeline.svg").display(),
            out.join("report.json").display()
        );
        text
    }

    /// Whether it was what it should be.
    ///
    /// # Errors
    /// What was not.
    pub fn verdict(&self) -> Result<()> {
        for (round, number) in self.rounds.iter().zip(1..) {
            let checks = [
                (round.old_primary_fenced, "the old primary's domain still exists"),
                (round.storage_released, "the old primary's volume still exists"),
                (round.new_standby_receives, "the new standby receives nothing"),
                (round.protected_again, "the pair is not protected again"),
                (round.failed_outside_gap == 0, "requests failed outside the gap"),
                (round.epoch_after > round.epoch_before, "the epoch did not rise"),
            ];
            for (well, what) in checks {
                if !well {
                    bail!("round {number}: {what}");
                }
            }
            let faults = round.kept.faults();
            if !faults.is_empty() {
                bail!("round {number}: {}", faults.join("; "));
            }
        }
        Ok(())
    }
}

/// Writes `report.json`: one round's fields at the top level, several under `rounds`.
pub(super) fn write(path: &Path, accel: &str, rounds: &[Round]) -> Result<()> {
    let with_accel = |round: &Round| -> Result<serde_json::Value> {
        let mut value = serde_json::to_value(round)?;
        if let Some(object) = value.as_object_mut() {
            object.insert("accel".into(), accel.into());
        }
        Ok(value)
    };
    let value = match rounds {
        [one] => with_accel(one)?,
        many => serde_json::json!({
            "accel": accel,
            "rounds": many.iter().map(with_accel).collect::<Result<Vec<_>>>()?,
        }),
    };
    std::fs::write(path, serde_json::to_string_pretty(&value)? + "\n")
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_of_an_even_number_lies_between() {
        assert_eq!(spread([4.0, 1.0, 3.0, 2.0].into_iter()), (1.0, 2.5, 4.0));
        assert_eq!(spread([7.0].into_iter()), (7.0, 7.0, 7.0));
    }
}
