//! What was measured, and on what.

use std::fs;

/// Revision, kernel and processor: without them a figure says nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// The source's, as `git describe --always --dirty` says it.
    pub revision: String,
    /// As `uname -r` says it.
    pub kernel: String,
    /// Number and model.
    pub cpu: String,
}

impl Machine {
    /// This one.
    #[must_use]
    pub fn here(revision: &str) -> Machine {
        let info = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let models: Vec<&str> = info
            .lines()
            .filter_map(|line| line.split_once(':').filter(|(key, _)| key.trim() == "model name"))
            .map(|(_, model)| model.trim())
            .collect();
        // Some architectures name no model.
        let count = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        let cpu = format!("{count} x {}", models.first().unwrap_or(&std::env::consts::ARCH));
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned();
        Machine { revision: revision.to_owned(), kernel, cpu }
    }
}
