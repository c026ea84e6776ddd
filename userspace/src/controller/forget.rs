//! Rows of TCP connections that are over make room for new ones. Never stands in the way of anything: it reads the table
//! as it is and removes what nobody will speak of any more.

use std::sync::Arc;
use std::time::Duration;

use hotpair_abi::PairId;

use super::{Shared, boottime};

/// Between two looks.
const EVERY: Duration = Duration::from_secs(5);

/// Forgets what is past, for ever.
pub(super) async fn forget(shared: Arc<Shared>) {
    let mut moments = tokio::time::interval(EVERY);
    moments.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        moments.tick().await;
        let plane = Arc::clone(&shared.plane);
        let swept = tokio::task::spawn_blocking(move || {
            let now = boottime();
            plane.forget_connections(|connection| {
                connection.is_past(&plane.scene(PairId(connection.pair), now))
            })
        });
        if let Ok(Err(error)) = swept.await {
            tracing::warn!(%error, "the table of TCP connections cannot be tidied up: it may fill");
        }
    }
}
