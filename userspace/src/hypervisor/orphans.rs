//! Commands of a controller that has ended, which go on without it.
//!
//! Each command that runs has a file in `host.run_dir/commands`, named by its process. A controller that finds one whose
//! process lives waits for it to end before it asks what runs: a `start` may yet make a member and a volume that nobody
//! would know of, and a `stop` may yet end a member that was made meanwhile. It never guesses: a process is the one of
//! the file only if it began when the file says.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::HypervisorError;

/// How long a question waits for them before it is answered with who is being waited for.
const PATIENCE: Duration = Duration::from_secs(3);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(5);

/// A command that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Running {
    /// Its process, which leads its group.
    pid: i32,
    /// When that began, in the unit of `/proc/PID/stat`.
    began: u64,
    /// The pair it is for.
    pair: String,
    /// What it does, in words.
    what: String,
    /// When it is past its deadline: CLOCK_BOOTTIME, milliseconds.
    until_ms: u64,
}

impl Running {
    fn lives(&self) -> bool {
        began(self.pid) == Some(self.began)
    }
}

/// The files, and what was found in them at the beginning.
#[derive(Debug)]
pub(super) struct Orphans {
    directory: PathBuf,
    found: Mutex<Vec<Running>>,
}

/// A command's file; removed when the command has ended and this is dropped.
#[derive(Debug)]
pub(super) struct Noted(Option<PathBuf>);

impl Noted {
    /// The command goes on: so does its file.
    pub(super) fn leave(mut self) {
        self.0 = None;
    }
}

impl Drop for Noted {
    fn drop(&mut self) {
        if let Some(path) = &self.0 {
            let _ = fs::remove_file(path);
        }
    }
}

impl Orphans {
    /// Reads what an earlier controller has left in its run directory.
    pub(super) fn of(run_dir: &Path) -> Orphans {
        let directory = run_dir.join("commands");
        let mut found = Vec::new();
        for entry in fs::read_dir(&directory).into_iter().flatten().flatten() {
            let running = fs::read(entry.path()).ok().and_then(|text| serde_json::from_slice(&text).ok());
            match running.filter(Running::lives) {
                Some(running) => {
                    tracing::warn!(
                        pid = running.pid,
                        "of an earlier controller: {} still runs",
                        running.what
                    );
                    found.push(running);
                }
                None => {
                    let _ = fs::remove_file(entry.path());
                }
            }
        }
        Orphans { directory, found: Mutex::new(found) }
    }

    /// Notes a command that has just been started. Not being able to is no reason not to run it.
    pub(super) fn note(&self, pid: i32, pair: &str, what: &str, deadline: Duration) -> Noted {
        let path = self.directory.join(pid.to_string());
        let until = crate::controller::boottime() / 1_000_000 + deadline.as_millis() as u64;
        let running = Running {
            pid,
            began: began(pid).unwrap_or(0),
            pair: pair.to_owned(),
            what: what.to_owned(),
            until_ms: until,
        };
        let write = || -> io::Result<()> {
            fs::create_dir_all(&self.directory)?;
            fs::write(&path, serde_json::to_vec(&running)?)
        };
        if let Err(error) = write() {
            tracing::warn!(path = %path.display(), %error, "a command cannot be noted: a restart will not wait for it");
        }
        Noted(Some(path))
    }

    /// Waits until no command of an earlier controller works on this pair any more, for a moment. One that is past its
    /// deadline is killed, with its group.
    ///
    /// # Errors
    /// [`HypervisorError::Failed`] while one runs.
    pub(super) async fn gone(&self, pair: &str) -> Result<(), HypervisorError> {
        let asked = tokio::time::Instant::now();
        loop {
            let Some(running) = self.one_of(pair) else { return Ok(()) };
            let now_ms = crate::controller::boottime() / 1_000_000;
            if now_ms > running.until_ms
                && let Some(group) = rustix::process::Pid::from_raw(running.pid)
            {
                tracing::warn!(pid = running.pid, "{} is past its deadline and is killed", running.what);
                // It may have ended just now.
                let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
            }
            if asked.elapsed() > PATIENCE {
                let left = Duration::from_secs(running.until_ms.saturating_sub(now_ms) / 1000);
                return Err(HypervisorError::Failed(format!(
                    "an earlier controller's command still runs (process {}: {}): it is waited for, and killed in {}",
                    running.pid,
                    running.what,
                    humantime::format_duration(left)
                )));
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// One that works on the pair still; those that have ended are forgotten.
    fn one_of(&self, pair: &str) -> Option<Running> {
        let mut found = self.found.lock().unwrap_or_else(PoisonError::into_inner);
        found.retain(|running| {
            let lives = running.lives();
            if !lives {
                let _ = fs::remove_file(self.directory.join(running.pid.to_string()));
            }
            lives
        });
        found.iter().find(|running| running.pair == pair).cloned()
    }
}

/// When a process began, in clock ticks since boot (`/proc/PID/stat`, field 22); `None` once it has ended.
fn began(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The name in parentheses may contain anything; what follows its last `)` is fields from number 3 on.
    let mut fields = stat[stat.rfind(')')? + 1..].split_whitespace();
    if matches!(fields.next()?, "Z" | "X") {
        return None;
    }
    fields.nth(18)?.parse().ok()
}
