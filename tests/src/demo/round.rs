//! One fault, and what became of it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use hotpair::api::types::{MemberPhase, Record, RecordKind};

use super::{CALM, Fault, Kept, Requests, Round, Stage, Voice};
use crate::held::{Held, Story};
use crate::load::Report;

/// A round whose loads have not been counted yet.
pub(super) struct Outcome {
    round: Round,
    stories: Vec<Story>,
}

/// Clocks and schedulers are not exact.
const GRACE_MS: f64 = 50.0;

fn unix_ms() -> f64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() * 1e3
}

pub(super) fn play(
    stage: &Stage,
    fault: Fault,
    unplanned: u32,
    held: Held,
    voice: Voice,
    number: u32,
) -> Result<Outcome> {
    let before = stage.pair()?;
    let slot = before.primary.context("no member serves")?;
    let generation = before.members[usize::from(slot)].generation;
    voice.say(format!("round {number}: {} (slot {slot}, generation {generation})", fault.sentence()));

    let (_, diverged) = stage.not_carried(&held)?;
    let fault_at_ms = unix_ms();
    fault.strike(stage, slot, generation)?;
    let failover = stage.wait_record(Duration::from_secs(20), fault_at_ms, RecordKind::Failover)?;
    voice.say(format!(
        "failover: {} (detected by {}, {:.1} ms after its last sign of life; flip {:.1} us)",
        failover.text,
        failover.detected_by.as_deref().unwrap_or("?"),
        failover.detect_us.unwrap_or(0) as f64 / 1e3,
        failover.flip_us.unwrap_or(0.0),
    ));
    let carried = stage.wait_record(Duration::from_secs(20), fault_at_ms, RecordKind::Connections)?;
    voice.say(format!("hotpair says: {}", carried.text));
    let fenced = stage.wait_record(Duration::from_secs(180), fault_at_ms, RecordKind::Fenced)?;
    let released = stage.wait_record(Duration::from_secs(180), fault_at_ms, RecordKind::Released)?;
    voice.say("the old primary is gone, its storage is released; a third VM is being made");
    let fenced_for_sure = !stage.domain_exists(slot, generation)?;
    let storage_released = !stage.volume_exists(slot, generation);
    // Before there is a new standby: what the survivor has is what is asked for.
    let stories = held.finish()?;
    // A moment has whole milliseconds, and the first answer is a round trip later.
    let kept = Kept::new(&stories, diverged, fault_at_ms, failover.at_ms as f64 + 1.0);
    voice.say(kept.line());
    stage.wait_protected(Duration::from_secs(180), Some(fault_at_ms))?;
    let protected = stage.wait_record(Duration::from_secs(5), fault_at_ms, RecordKind::Protected)?;
    let replaced_after = (protected.at_ms as f64 - fault_at_ms) / 1e3;
    voice.say(format!("protected again {replaced_after:.1} s after the fault"));

    // The new standby receives what clients send: its answers are there to be suppressed.
    let suppressed = stage.counter("standby_suppressed")?;
    crate::interrupt::pause(CALM)?;
    let standby_receives = stage.counter("standby_suppressed")? > suppressed + 10;
    let after = stage.pair()?;
    let standby = &after.members[usize::from(slot)];
    let protected_again = after.protection == hotpair::api::types::Protection::Protected
        && standby.phase == MemberPhase::Serving
        && standby.generation > generation;
    Ok(Outcome {
        round: Round {
            fault: fault.name().to_owned(),
            detected_by: failover.detected_by.clone().unwrap_or_default(),
            detect_ms: failover.detect_us.unwrap_or(0) as f64 / 1e3,
            flip_us: failover.flip_us.unwrap_or(0.0),
            gap_ms: 0.0,
            failover_gap_ms: 0.0,
            requests: Requests::default(),
            failed_outside_gap: 0,
            epoch_before: failover.epoch_before,
            epoch_after: failover.epoch_after,
            old_primary_fenced: fenced_for_sure,
            storage_released,
            replaced_after_s: replaced_after,
            new_standby_receives: standby_receives,
            protected_again,
            unplanned_failovers: unplanned,
            fault_at_ms,
            kept,
            moments: [&failover, &fenced, &released, &protected].map(Moment::from).to_vec(),
            primary_before: slot,
        },
        stories,
    })
}

/// A moment of the story, for the picture.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Moment {
    /// Unix milliseconds.
    pub at_ms: u64,
    /// In a few words.
    pub what: String,
}

impl From<&Record> for Moment {
    fn from(record: &Record) -> Self {
        let what = match record.kind {
            RecordKind::Failover => "failover",
            RecordKind::Fenced => "old primary gone",
            RecordKind::Released => "storage released",
            RecordKind::Protected => "protected again",
            _ => "",
        };
        Moment { at_ms: record.at_ms, what: what.to_owned() }
    }
}

/// The longest time without an answer that has to do with what happened between two moments (Unix milliseconds).
fn gap_within(report: &Report, began: f64, from: f64, to: f64) -> f64 {
    let answers = report.requests.iter().filter_map(|request| request.answered_at);
    let mut answers: Vec<f64> = answers.map(|at| began + at.as_secs_f64() * 1e3).collect();
    answers.sort_by(f64::total_cmp);
    let gaps = answers.windows(2).filter(|gap| gap[1] >= from && gap[0] <= to);
    gaps.map(|gap| gap[1] - gap[0]).fold(0.0, f64::max)
}

impl Outcome {
    /// Counts the loads.
    pub(super) fn finish(self, loads: &[Report]) -> (Round, Vec<Story>) {
        let mut round = self.round;
        for report in loads {
            let began = report.began_at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() * 1e3;
            round.requests.sent += report.sent();
            round.requests.answered += report.answered();
            round.requests.failed += report.lost().count();
            // The gap: the datagrams' longest time without an answer, and with it what was in flight when it began.
            if report.kind == "udp" {
                round.gap_ms = report.gap.as_secs_f64() * 1e3;
                let failover_ms = round.moments.first().map_or(0.0, |moment| moment.at_ms as f64);
                // A moment has whole milliseconds, and the first answer is a round trip later.
                round.failover_gap_ms = gap_within(report, began, round.fault_at_ms, failover_ms + 1.0);
            }
            // What was in flight when the primary died is lost with it. An emulated guest that had no CPU just then has not
            // answered for a while, but not for seconds.
            let fault_at = Duration::from_secs_f64((round.fault_at_ms - began).max(0.0) / 1e3);
            let in_flight = report.in_flight_at(fault_at).min(Duration::from_secs(1)).as_secs_f64() * 1e3;
            let from = round.fault_at_ms - in_flight.max(GRACE_MS);
            // A primary whose service breaks goes on answering until its agent says so.
            let failover_ms = round.moments.first().map_or(0.0, |moment| moment.at_ms as f64);
            let to = (round.fault_at_ms + loads[0].gap.as_secs_f64() * 1e3).max(failover_ms) + GRACE_MS;
            round.failed_outside_gap += report
                .lost()
                .filter(|request| {
                    let at = began + request.sent_at.as_secs_f64() * 1e3;
                    at < from || at > to
                })
                .count();
        }
        (round, self.stories)
    }
}
