//! One controller for a run directory.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;
use std::time::Duration;

use super::RunError;

/// Exclusive use of a run directory, for as long as it lives. The kernel gives it up with the process.
#[derive(Debug)]
pub struct RunLock(#[expect(dead_code, reason = "held for its lock")] File);

impl RunLock {
    /// Takes it.
    ///
    /// # Errors
    /// [`RunError::AlreadyRunning`] while another process has it.
    pub fn take(run_dir: &Path) -> Result<RunLock, RunError> {
        let fail = |source| RunError::Directory { path: run_dir.to_owned(), source };
        std::fs::create_dir_all(run_dir).map_err(fail)?;
        let file = File::options()
            .create(true)
            .write(true)
            .truncate(false)
            .open(run_dir.join("lock"))
            .map_err(fail)?;
        let take = || rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive);
        let mut taken = take();
        // A child that a killed controller has just forked has its lock until it executes.
        for _ in 0..25 {
            if taken != Err(rustix::io::Errno::WOULDBLOCK) {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
            taken = take();
        }
        match taken {
            Ok(()) => {
                // Who has it, for people and for whoever wants to end it.
                file.set_len(0).map_err(fail)?;
                writeln!(&file, "{}", std::process::id()).map_err(fail)?;
                Ok(RunLock(file))
            }
            Err(rustix::io::Errno::WOULDBLOCK) => Err(RunError::AlreadyRunning(run_dir.to_owned())),
            Err(error) => Err(fail(error.into())),
        }
    }
}
