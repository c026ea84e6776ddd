//! Log lines of the eBPF programs, for developers: what they drop, and why. Feature `log`; without it the programs have
//! no such lines.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aya_log::EbpfLogger;

/// Hands the lines on until it is dropped.
pub(super) struct Reader {
    stop: Arc<AtomicBool>,
}

/// From `log` to `tracing`.
struct ToTracing;

impl log::Log for ToTracing {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        tracing::debug!(target: "hotpair::ebpf", "{}", record.args());
    }

    fn flush(&self) {}
}

impl Reader {
    /// Begins to read what this object's programs say.
    pub(super) fn start(ebpf: &mut aya::Ebpf) -> Result<Reader, aya_log::Error> {
        let mut logger = EbpfLogger::init_with_logger(ebpf, ToTracing)?;
        let stop = Arc::new(AtomicBool::new(false));
        let theirs = Arc::clone(&stop);
        std::thread::spawn(move || {
            while !theirs.load(Ordering::Relaxed) {
                logger.flush();
                std::thread::sleep(Duration::from_millis(50));
            }
        });
        Ok(Reader { stop })
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
