//! What the service manager is told: ready, alive, and in one line how things are. Nothing of it happens where there is
//! no service manager.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use sd_notify::NotifyState;

use super::{Controller, Shared};
use crate::api::types::Protection;

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
        if let Ok(status) = controller.status().await {
            let count = |state| status.pairs.iter().filter(|pair| pair.protection == state).count();
            let noun = if status.pairs.len() == 1 { "pair" } else { "pairs" };
            let text = format!(
                "{} {noun}: {} protected, {} unprotected, {} down",
                status.pairs.len(),
                count(Protection::Protected),
                count(Protection::Unprotected),
                count(Protection::Down)
            );
            tell(&[NotifyState::Status(&text)]);
        }
    }
}
