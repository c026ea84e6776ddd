//! How punctual a thread of the engine's priority is on this machine, and which heartbeat timeout that allows.

use std::time::{Duration, Instant};

use super::super::time::short;
use super::Finding;
use crate::controller::priority;

/// How often it wakes, as the engine does when a pair's timeout is short; and for how long.
const STEP: Duration = Duration::from_millis(1);
const DURING: Duration = Duration::from_secs(2);
/// The shortest timeout that the configuration accepts is twice the shortest interval.
const SHORTEST: Duration = Duration::from_millis(2);

/// How late a thread woke.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Lateness {
    median: Duration,
    p99: Duration,
    max: Duration,
    /// Whether it had the engine's priority.
    preferred: bool,
}

/// Blocks for two seconds.
pub(super) fn measure() -> Lateness {
    // A thread of its own: the priority must not stay with one of the runtime's.
    let thread = std::thread::spawn(|| {
        let preferred = priority::raise().is_ok();
        let mut late = Vec::new();
        let began = Instant::now();
        while began.elapsed() < DURING {
            let due = Instant::now() + STEP;
            std::thread::sleep(STEP);
            late.push(due.elapsed());
        }
        Lateness::of(late, preferred)
    });
    thread.join().unwrap_or_else(|_| Lateness::of(Vec::new(), false))
}

impl Lateness {
    fn of(mut late: Vec<Duration>, preferred: bool) -> Lateness {
        late.sort_unstable();
        let at = |share: f64| {
            let index = (late.len().saturating_sub(1) as f64 * share) as usize;
            late.get(index).copied().unwrap_or_default()
        };
        Lateness { median: at(0.5), p99: at(0.99), max: at(1.0), preferred }
    }

    /// The shortest timeout that this lateness does not make false alarms of: two intervals of 1 ms, so that one lost
    /// heartbeat is no alarm, and twice the worst lateness, once for the member and once for the host, in whole ms.
    fn allows(&self) -> Duration {
        let needed = SHORTEST + self.max * 2;
        Duration::from_millis(u64::try_from(needed.as_micros().div_ceil(1000)).unwrap_or(u64::MAX))
    }
}

pub(super) fn judge(late: &Lateness, shortest: Option<(&str, Duration)>) -> Finding {
    let time = |duration: Duration| short(duration.as_secs_f64() * 1e6);
    let allows = late.allows();
    let what = format!(
        "wakes {} late at the median, {} at p99, {} at most: as it is now, heartbeat.timeout can be {} ms or longer",
        time(late.median),
        time(late.p99),
        time(late.max),
        allows.as_millis()
    );
    if !late.preferred {
        return Finding::warn(
            "punctuality",
            format!("{what} (measured at ordinary priority)"),
            "run it as root: the engine needs CAP_SYS_NICE to come before ordinary threads",
        );
    }
    match shortest {
        Some((pair, timeout)) if timeout < allows => Finding::warn(
            "punctuality",
            format!("{what}; that of pair {pair} is {} ms", timeout.as_millis()),
            "lengthen it, or keep CPUs free for the host: no overcommitment, performance governor, no deep C-states",
        ),
        _ => Finding::ok("punctuality", what),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    fn late(max_us: u64) -> Lateness {
        Lateness::of((1..=100).map(|n| Duration::from_micros(max_us * n / 100)).collect(), true)
    }

    #[test]
    fn a_timeout_that_this_machine_cannot_keep_is_a_warning() {
        let calm = late(200);
        assert_eq!((calm.median, calm.max), (Duration::from_micros(100), Duration::from_micros(200)));
        assert_eq!(calm.allows(), Duration::from_millis(3));
        assert_eq!(judge(&calm, Some(("web", Duration::from_millis(3)))).level, Level::Ok);
        let tight = judge(&calm, Some(("web", Duration::from_millis(2))));
        assert!(tight.level == Level::Warn && tight.what.contains("pair web is 2 ms"), "{tight:?}");
        let busy = late(9_000);
        assert_eq!(busy.allows(), Duration::from_millis(20));
        assert_eq!(judge(&busy, None).level, Level::Ok, "nobody asks for less");
        assert_eq!(judge(&Lateness { preferred: false, ..calm }, None).level, Level::Warn);
    }

    #[test]
    fn nothing_measured_is_no_panic() {
        assert_eq!(Lateness::of(Vec::new(), false).max, Duration::ZERO);
    }
}
