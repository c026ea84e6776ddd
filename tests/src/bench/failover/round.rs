//! One fault, and what became of it.

use std::time::Duration;

use crate::load::Report;

/// What a round has shown.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Round {
    /// From the fault to the decision to flip.
    pub(super) detection: Option<Duration>,
    /// From the decision to the changed word.
    pub(super) flip_us: Option<f64>,
    /// The client's longest time without an answer, that was not over when the fault came.
    pub(super) gap: Duration,
    /// Datagrams without an answer.
    pub(super) lost: usize,
    /// Datagrams with more than one.
    pub(super) doubled: usize,
}

impl Round {
    /// What the client saw.
    pub(super) fn seen(report: &Report, fault_at: Duration) -> Round {
        Round {
            detection: None,
            flip_us: None,
            gap: report.gap_since(fault_at),
            lost: report.lost().count(),
            doubled: report.doubled().count(),
        }
    }

    pub(super) fn line(&self) -> String {
        let ms = |time: Duration| format!("{:.2} ms", time.as_secs_f64() * 1e3);
        format!(
            "gap {}, lost {}, doubled {}{}{}",
            ms(self.gap),
            self.lost,
            self.doubled,
            self.detection.map(|time| format!(", detected after {}", ms(time))).unwrap_or_default(),
            self.flip_us.map(|us| format!(", flip {us:.1} us")).unwrap_or_default(),
        )
    }
}
