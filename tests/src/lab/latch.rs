//! Looking at the data plane itself: it tells nobody of the kernel's latch when there is no controller, and when exactly
//! another member was made the speaker it tells nobody either.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use aya::maps::{Array, Map, MapData};
use hotpair_abi::RoleWord;
use hotpair_abi::maps::Pair;

use super::Lab;

/// The data plane's clock, in nanoseconds.
#[must_use]
pub fn boottime() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

impl Lab {
    /// One of the pinned arrays.
    ///
    /// # Errors
    /// When there is no data plane.
    pub fn array(&self, name: &str) -> Result<Map> {
        let path = self.dir().join("bpf/hotpair/maps").join(name);
        Ok(Map::Array(MapData::from_pin(&path).with_context(|| format!("cannot open {}", path.display()))?))
    }
}

/// Looks out for the latch of a lab's first pair, or for another speaker of the controller's choice.
#[derive(Debug)]
pub struct Latch {
    over: Arc<AtomicBool>,
    thread: JoinHandle<Option<(Instant, u64)>>,
}

impl Latch {
    /// Between two looks: as exact as the figure is.
    const PERIOD: Duration = Duration::from_micros(100);

    /// From now on.
    ///
    /// # Errors
    /// When there is no data plane.
    pub fn watch(lab: &Lab) -> Result<Latch> {
        Self::watch_for(lab, |pair| pair.tripped_epoch)
    }

    /// From now on, for the moment in which the controller makes the other member the speaker.
    ///
    /// # Errors
    /// When there is no data plane.
    pub fn watch_controller(lab: &Lab) -> Result<Latch> {
        Self::watch_for(lab, |pair| RoleWord(pair.role).active().index() as u64)
    }

    fn watch_for(lab: &Lab, what: fn(&Pair) -> u64) -> Result<Latch> {
        let pairs = Array::<_, Pair>::try_from(lab.array("PAIRS")?)?;
        let over = Arc::new(AtomicBool::new(false));
        let ended = Arc::clone(&over);
        let tripped = move || pairs.get(&0, 0).map(|pair| what(&pair)).ok();
        let before = tripped().context("no pair to look at")?;
        let until = Instant::now() + Duration::from_secs(30);
        let thread = std::thread::spawn(move || {
            while !ended.load(Ordering::Relaxed) && Instant::now() < until {
                if tripped().is_some_and(|now| now != before) {
                    return Some((Instant::now(), boottime()));
                }
                std::thread::sleep(Latch::PERIOD);
            }
            None
        });
        Ok(Latch { over, thread })
    }

    /// Whether it has tripped.
    #[must_use]
    pub fn has_tripped(&self) -> bool {
        self.thread.is_finished()
    }

    /// When it tripped, by this process's clock and by the data plane's.
    ///
    /// # Errors
    /// When it has not.
    pub fn tripped(self) -> Result<(Instant, u64)> {
        self.over.store(true, Ordering::Relaxed);
        self.thread.join().ok().flatten().context("the latch did not trip")
    }
}
