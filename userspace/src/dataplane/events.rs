//! The ring buffer's reader.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use aya::maps::{MapData, RingBuf};
use hotpair_abi::event::Event;
use tokio::io::unix::AsyncFd;

/// What the data plane reports at once.
pub struct Events {
    ring: AsyncFd<RingBuf<MapData>>,
    taken: Arc<AtomicBool>,
}

impl Events {
    /// `taken` has been set by the caller and is cleared when the reader is gone.
    pub(super) fn new(ring: RingBuf<MapData>, taken: Arc<AtomicBool>) -> std::io::Result<Events> {
        // SAFETY: the ring buffer owns its descriptor and hands out the same one for as long as it lives.
        match unsafe { AsyncFd::register(ring) } {
            Ok(ring) => Ok(Events { ring, taken }),
            Err(error) => {
                taken.store(false, Ordering::Release);
                Err(error.into())
            }
        }
    }

    /// The next event; waits for one. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Event {
        loop {
            let Ok(mut ready) = self.ring.readable_mut().await else {
                // Only when the runtime shuts down: nobody is there any more to take an event.
                return std::future::pending().await;
            };
            if let Some(item) = ready.get_inner_mut().next() {
                if item.len() >= size_of::<Event>() {
                    // SAFETY: long enough, and every bit pattern is an event (its kind is a plain number).
                    return unsafe { item.as_ptr().cast::<Event>().read_unaligned() };
                }
                continue;
            }
            ready.clear_ready();
        }
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.taken.store(false, Ordering::Release);
    }
}
