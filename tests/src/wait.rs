//! Waiting with a deadline, and saying what was waited for when it passes.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Calls `look` every few milliseconds until it returns something.
///
/// # Errors
/// When `deadline` passes, with `what` and the last reason `look` gave; at Ctrl-C.
pub fn wait_for<T>(what: &str, deadline: Duration, mut look: impl FnMut() -> Result<T>) -> Result<T> {
    let end = Instant::now() + deadline;
    loop {
        crate::interrupt::check()?;
        match look() {
            Ok(found) => return Ok(found),
            Err(error) if Instant::now() >= end => {
                bail!("waited {} for {what} in vain: {error:#}", humantime::format_duration(deadline))
            }
            Err(_) => thread::sleep(Duration::from_millis(5)),
        }
    }
}

/// Calls `look` every few milliseconds until it is true.
///
/// # Errors
/// When `deadline` passes, with `what`.
pub fn wait_until(what: &str, deadline: Duration, mut look: impl FnMut() -> bool) -> Result<()> {
    wait_for(what, deadline, || if look() { Ok(()) } else { bail!("it is still not so") })
}
