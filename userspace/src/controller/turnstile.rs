//! How many of the slow things are begun at once: a host with a thousand pairs must not run a thousand commands at a time,
//! and one of them that hangs must not keep the others from theirs.
//!
//! Each kind has its own places, so that starts do not keep fences waiting. Whatever has not ended after [`LONG`] gives its
//! place back and goes on without: with every command hanging, the next ones still get their turn.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Semaphore;

/// So long something may hold its place.
const LONG: Duration = Duration::from_secs(1);

/// The places of one kind.
#[derive(Debug)]
pub(super) struct Turnstile(Arc<Semaphore>);

impl Turnstile {
    pub(super) fn new(places: usize) -> Turnstile {
        Turnstile(Arc::new(Semaphore::new(places)))
    }

    /// Waits for a place, then does it.
    pub(super) async fn pass<T>(&self, what: impl Future<Output = T>) -> T {
        // Never closed.
        let place = Arc::clone(&self.0).acquire_owned().await.ok();
        let mut what = std::pin::pin!(what);
        if let Ok(done) = tokio::time::timeout(LONG, &mut what).await {
            return done;
        }
        drop(place);
        what.await
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn no_more_than_there_are_places_are_begun_at_once() {
        let turnstile = Turnstile::new(3);
        let (now, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let one = || {
            turnstile.pass(async {
                most.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
                tokio::time::sleep(Duration::from_millis(10)).await;
                now.fetch_sub(1, Ordering::Relaxed);
            })
        };
        tokio::join!(one(), one(), one(), one(), one(), one(), one());
        assert_eq!(most.into_inner(), 3);
    }

    #[tokio::test(start_paused = true)]
    async fn what_hangs_does_not_keep_the_next_one_waiting_for_ever() {
        let turnstile = Arc::new(Turnstile::new(1));
        let hangs = Arc::clone(&turnstile);
        let hanging = tokio::spawn(async move { hangs.pass(std::future::pending::<()>()).await });
        tokio::task::yield_now().await;
        let began = tokio::time::Instant::now();
        turnstile.pass(async {}).await;
        assert!(began.elapsed() >= LONG && began.elapsed() < LONG * 2, "{:?}", began.elapsed());
        hanging.abort();
    }
}
