//! How much of a measured time is the machine's doing: what has other things to do is late, whoever is tested.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// A thread of ordinary priority that wants to be woken every few milliseconds. Gone when dropped.
#[derive(Debug)]
pub struct Lateness {
    stop: Arc<AtomicBool>,
    /// Nanoseconds.
    worst: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Lateness {
    /// Begins to look at the clock.
    #[must_use]
    pub fn watch() -> Lateness {
        const NAP: Duration = Duration::from_millis(2);
        let (stop, worst) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (stopped, seen) = (Arc::clone(&stop), Arc::clone(&worst));
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                let slept = Instant::now();
                thread::sleep(NAP);
                let late = slept.elapsed().saturating_sub(NAP);
                seen.fetch_max(u64::try_from(late.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
            }
        });
        Lateness { stop, worst, thread: Some(thread) }
    }

    /// How late it was woken at most since this was last asked.
    #[must_use]
    pub fn take(&self) -> Duration {
        Duration::from_nanos(self.worst.swap(0, Ordering::Relaxed))
    }
}

impl Drop for Lateness {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// How many times as long as it works does a thread take that only works: 1 on a machine that has nothing else to do, 2
/// where it has to share a core with another one.
#[must_use]
pub fn slowness() -> f64 {
    const WORK: Duration = Duration::from_millis(30);
    let worked = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0))
    };
    let (begun, before) = (Instant::now(), worked());
    while worked() - before < WORK {
        std::hint::spin_loop();
    }
    (begun.elapsed().as_secs_f64() / WORK.as_secs_f64()).max(1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_shares_a_core_is_slow() {
        assert!(slowness() >= 1.0);
        // Of this many on as many cores as there are, somebody has half a core at most.
        let many = 2 * thread::available_parallelism().map_or(1, usize::from);
        let all: Vec<_> = (0..many).map(|_| thread::spawn(slowness)).collect();
        let slowest = all.into_iter().map(|one| one.join().expect("no panic")).fold(0.0, f64::max);
        assert!(slowest > 1.3, "{slowest}");
    }

    #[test]
    fn lateness_is_told_once() {
        let lateness = Lateness::watch();
        thread::sleep(Duration::from_millis(50));
        assert!(lateness.take() > Duration::ZERO, "nobody is woken to the nanosecond");
    }
}
