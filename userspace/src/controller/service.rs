//! What the service manager is told: ready, alive, and in one line how things are. Nothing of it happens where there is
//! no service manager.

use std::sync::Arc;
use std::sync::atomic::Ordering;
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
    let mut tick = tokio::time::interval(period.max(Duration::from_millis(100)));
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut seen = u64::MAX;
    loop {
        tick.tick().await;
        let pulse = shared.pulse.load(Ordering::Relaxed);
        if pulse == seen {
            tracing::error!("the engine does not go round: the watchdog is not fed");
            continue;
        }
        seen = pulse;
        tell(&[NotifyState::Watchdog]);
        if let Ok(Tally { protected, unprotected, down }) = controller.tally().await {
            let pairs = protected + unprotected + down;
            let noun = if pairs == 1 { "pair" } else { "pairs" };
            let text =
                format!("{pairs} {noun}: {protected} protected, {unprotected} unprotected, {down} down");
            tell(&[NotifyState::Status(&text)]);
        }
    }
}
