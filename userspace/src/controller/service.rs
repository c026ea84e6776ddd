//! What the service manager is told: ready, alive, and in one line how things are. Nothing of it happens where there is
//! no service manager.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use sd_notify::NotifyState;

use super::engine::Tally;
use super::{Controller, Shared};

fn tell(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!("the service manager cannot be told: {error}");
    }
}

/// The controller answers and the engine runs.
pub(super) fn ready() {
    tell(&[NotifyState::Ready]);
}

/// It is ending, in good order.
pub(super) fn stopping() {
    tell(&[NotifyState::Stopping]);
}

/// Feeds the watchdog for as long as the *engine* goes round: a controller whose tasks still run but which could not
/// fail over any more must be restarted. Does the same for the status line.
pub(super) async fn keep_telling(shared: Arc<Shared>, controller: Controller) {
    let period = sd_notify::watchdog_enabled().map_or(Duration::from_secs(5), |limit| limit / 3);
    let period = period.max(Duration::from_millis(100));
    feed(period, &shared.pulse, || async { controller.tally().await.ok() }, tell).await;
}

/// In every period in which the pulse has gone on, tells that it has, and the tally.
async fn feed<T: Future<Output = Option<Tally>>>(
    period: Duration,
    pulse: &AtomicU64,
    tally: impl Fn() -> T,
    tell: impl Fn(&[NotifyState<'_>]),
) {
    let mut tick = tokio::time::interval(period);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut seen = u64::MAX;
    loop {
        tick.tick().await;
        let pulse = pulse.load(Ordering::Relaxed);
        if pulse == seen {
            tracing::error!("the engine does not go round: the watchdog is not fed");
            continue;
        }
        seen = pulse;
        tell(&[NotifyState::Watchdog]);
        if let Some(Tally { protected, unprotected, down }) = tally().await {
            let pairs = protected + unprotected + down;
            let noun = if pairs == 1 { "pair" } else { "pairs" };
            let text =
                format!("{pairs} {noun}: {protected} protected, {unprotected} unprotected, {down} down");
            tell(&[NotifyState::Status(&text)]);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Mutex;

    const PERIOD: Duration = Duration::from_secs(10);

    /// What is told while this goes on, on a clock of its own.
    async fn told_while<T: Future<Output = Option<Tally>>>(
        pulse: &AtomicU64,
        tally: impl Fn() -> T,
        what: impl Future<Output = ()>,
    ) -> Vec<String> {
        let told = Mutex::new(Vec::new());
        let tell = |states: &[NotifyState<'_>]| {
            told.lock().expect("nobody panics with it").extend(states.iter().map(ToString::to_string));
        };
        tokio::select! {
            () = feed(PERIOD, pulse, tally, tell) => unreachable!("it does not end"),
            () = what => {}
        }
        told.into_inner().expect("nobody panics with it")
    }

    /// The engine goes round for so many periods.
    async fn turn(pulse: &AtomicU64, periods: u32) {
        for _ in 0..periods {
            tokio::time::sleep(PERIOD / 2).await;
            pulse.fetch_add(1, Ordering::Relaxed);
            tokio::time::sleep(PERIOD / 2).await;
        }
    }

    async fn well() -> Option<Tally> {
        Some(Tally { protected: 2, unprotected: 1, down: 0 })
    }

    fn feeds(told: &[String]) -> usize {
        told.iter().filter(|line| *line == "WATCHDOG=1").count()
    }

    #[tokio::test(start_paused = true)]
    async fn an_engine_that_is_stuck_starves_the_watchdog_until_it_goes_on() {
        let pulse = AtomicU64::new(7);
        let told = told_while(&pulse, well, turn(&pulse, 5)).await;
        assert!((5..=6).contains(&feeds(&told)), "{told:?}");
        assert!(told.contains(&"STATUS=3 pairs: 2 protected, 1 unprotected, 0 down".to_owned()), "{told:?}");
        // The tasks of the controller live on, the engine does not: the first look only learns where it stands.
        let told = told_while(&pulse, well, tokio::time::sleep(PERIOD * 20)).await;
        assert_eq!(feeds(&told), 1, "{told:?}");
        let told = told_while(&pulse, well, async {
            tokio::time::sleep(PERIOD * 20).await;
            turn(&pulse, 5).await;
        })
        .await;
        assert!((5..=7).contains(&feeds(&told)), "{told:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_engine_that_does_not_answer_starves_the_watchdog_too() {
        let pulse = AtomicU64::new(7);
        let told = told_while(&pulse, std::future::pending, turn(&pulse, 20)).await;
        assert_eq!(told, ["WATCHDOG=1"]);
    }
}
