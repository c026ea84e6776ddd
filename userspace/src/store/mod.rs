//! What must survive a restart and a power cut: each pair's epoch ceiling and generations, and its history.
//!
//! One embedded database file, written by a thread of its own so that no flip ever waits for a disk. What cannot be
//! written is kept and tried again, and the trouble is said; it never stops a service.
//!
//! | file | about |
//! | --- | --- |
//! | `file.rs` | opening: a file that is not as it should be is refused and left alone |
//! | `shadow.rs` | looking into a file without touching it |
//! | `writer.rs` | the thread that writes |

mod file;
mod shadow;
#[cfg(test)]
mod tests;
mod writer;

use std::collections::{BTreeMap, VecDeque};
use std::path::Path;
use std::sync::{Arc, mpsc};

use tokio::sync::oneshot;

use crate::api::types::Record;
use crate::pair::Saved;

pub use file::StoreError;
use writer::Job;

/// Lines of history kept of each pair.
pub const HISTORY_LINES: usize = 1000;

/// What was found in the file.
#[derive(Debug, Default)]
pub struct Loaded {
    /// By pair.
    pub saved: BTreeMap<String, Saved>,
    /// By pair, oldest first.
    pub history: BTreeMap<String, VecDeque<Record>>,
}

/// A handle to the writing thread.
#[derive(Clone)]
pub struct Store {
    jobs: mpsc::Sender<Job>,
}

impl Store {
    /// Opens or creates `hotpair.redb` in the state directory. `trouble` is told when writing fails (why) and when it
    /// works again (`None`). A disk that is full, or cannot be written for another reason, is such a trouble; what is
    /// in the file is read all the same.
    ///
    /// # Errors
    /// When the file cannot be read; nothing is changed then.
    pub fn open(
        directory: &Path,
        trouble: impl Fn(Option<String>) + Send + 'static,
    ) -> Result<(Store, Loaded), StoreError> {
        std::fs::create_dir_all(directory)
            .map_err(|source| StoreError::Directory { path: directory.to_owned(), source })?;
        let path = directory.join("hotpair.redb");
        let (database, loaded) = file::open(&path)?;
        let lines = loaded.history.values().map(VecDeque::len).sum::<usize>();
        tracing::debug!(path = %path.display(), lines, "state read");
        let (jobs, inbox) = mpsc::channel();
        let mut writer = writer::Writer::new(path, database, loaded.saved.clone());
        std::thread::Builder::new()
            .name("store".into())
            .spawn(move || writer.run(&inbox, &trouble))
            .map_err(|source| StoreError::Directory { path: directory.to_owned(), source })?;
        Ok((Store { jobs }, loaded))
    }

    /// Queues what must survive of a pair.
    pub fn save(&self, pair: &str, saved: Saved) {
        // The thread ends only with the last handle.
        let _ = self.jobs.send(Job::Save(pair.to_owned(), saved));
    }

    /// Queues a line of history.
    pub fn record(&self, record: Arc<Record>) {
        let _ = self.jobs.send(Job::Record(record));
    }

    /// Waits until all that was queued before is on the disk.
    ///
    /// # Errors
    /// Why it is not.
    pub async fn flush(&self) -> Result<(), String> {
        let (answer, answered) = oneshot::channel();
        let _ = self.jobs.send(Job::Flush(answer));
        answered.await.unwrap_or_else(|_| Err("the state's writer has ended".into()))
    }
}
