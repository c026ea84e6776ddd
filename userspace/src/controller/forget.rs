//! Rows of TCP connections that are over make room for new ones. Never stands in the way of anything: it reads the table
//! as it is and removes what nobody will speak of any more.
//!
//! After the host was suspended all have been silent for long, by the data plane's clock. Those that live are left until
//! they could be heard.

use std::sync::Arc;
use std::time::Duration;

use hotpair_abi::PairId;
use rustix::time::{ClockId, clock_gettime};

use super::{Shared, boottime};
use crate::pair::Nanos;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(5);

const SECOND: Nanos = 1_000_000_000;
/// A shorter one makes nobody look as if he had been silent for long.
const NAP: Nanos = 60 * SECOND;
/// Until who waits for an acknowledgement has repeated himself, which Linux does every two minutes at least (`TCP_RTO_MAX`):
/// twice, and a minute for the uplink to come back.
const GRACE: Nanos = 300 * SECOND;

/// How long the host was suspended, all in all.
fn suspended() -> Nanos {
    let awake = clock_gettime(ClockId::Monotonic);
    let awake = u64::try_from(awake.tv_sec).unwrap_or(0) * SECOND + u64::try_from(awake.tv_nsec).unwrap_or(0);
    boottime().saturating_sub(awake)
}

/// When nothing is forgotten.
#[derive(Debug, Default)]
struct Patience {
    suspended: Nanos,
    until: Nanos,
}

impl Patience {
    /// Whether the host has been awake for long enough; `suspended` is for how long it was not, all in all.
    fn is_over(&mut self, suspended: Nanos, now: Nanos) -> bool {
        if suspended.saturating_sub(self.suspended) > NAP {
            self.until = now + GRACE;
        }
        self.suspended = suspended;
        now >= self.until
    }
}

/// Forgets what is past, for ever.
pub(super) async fn forget(shared: Arc<Shared>) {
    let mut moments = tokio::time::interval(EVERY);
    moments.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    // Of a suspension before the controller's time it is not known how long ago that was.
    let mut patience = Patience::default();
    loop {
        moments.tick().await;
        // Before all that follows: nobody is older by a suspension that comes in between.
        let now = boottime();
        if !patience.is_over(suspended(), boottime()) {
            continue;
        }
        let plane = Arc::clone(&shared.plane);
        let swept = tokio::task::spawn_blocking(move || {
            plane.forget_connections(|connection| {
                connection.is_past(&plane.scene(PairId(connection.pair), now))
            })
        });
        if let Ok(Err(error)) = swept.await {
            tracing::warn!(%error, "the table of TCP connections cannot be tidied up: it may fill");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nobody_is_forgotten_before_he_could_be_heard_after_the_host_was_suspended() {
        let mut patience = Patience::default();
        let mut now = 1000 * SECOND;
        assert!(patience.is_over(7 * SECOND, now));
        // A nap of a minute changes nothing.
        now += 65 * SECOND;
        assert!(patience.is_over(67 * SECOND, now));
        now += 7200 * SECOND;
        let suspended = 7267 * SECOND;
        assert!(!patience.is_over(suspended, now));
        assert!(!patience.is_over(suspended, now + GRACE - 1));
        assert!(patience.is_over(suspended, now + GRACE));
        // Before the controller began.
        assert!(!Patience::default().is_over(suspended, now));
        // Suspended again meanwhile: from then on.
        now += 3 * 3600 * SECOND;
        assert!(!patience.is_over(suspended + 3600 * SECOND, now));
        now += 2 * 3600 * SECOND;
        assert!(!patience.is_over(suspended + 2 * 3600 * SECOND, now));
        assert!(patience.is_over(suspended + 2 * 3600 * SECOND, now + GRACE));
    }
}
