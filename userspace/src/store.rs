//! What must survive a restart and a power cut: each pair's epoch ceiling and generations, and its history.
//!
//! One embedded database file, written by a thread of its own so that no flip ever waits for a disk. What cannot be
//! written is kept and tried again, and the trouble is said; it never stops a service.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition};
use tokio::sync::oneshot;

use crate::api::types::Record;
use crate::pair::Saved;

/// Version of what is in the file.
const FORMAT: u64 = 1;
/// Lines of history kept of each pair.
pub const HISTORY_LINES: usize = 1000;
/// Lines that wait for a disk that cannot be written, of all pairs together; the oldest make room.
const WAITING_LINES: usize = 100_000;
/// Pause before what could not be written is tried again.
const RETRY: Duration = Duration::from_secs(2);

const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
const PAIRS: TableDefinition<&str, &[u8]> = TableDefinition::new("pairs");
const HISTORY: TableDefinition<(&str, u64), &[u8]> = TableDefinition::new("history");

/// Why the state cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory cannot be made.
    #[error("the state directory {path} cannot be made: {source}")]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file cannot be opened.
    #[error(
        "the state file {path} cannot be opened: {source}. If it is damaged, move it away: running members are found \
         again through the hypervisor and the pinned data plane, only the history is lost"
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: Box<redb::Error>,
    },
    /// Written by another version.
    #[error(
        "the state file {path} is of format {found}, this version of hotpair reads format {FORMAT}: run the version \
         that wrote it, or move the file away"
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
    /// A pair's entry makes no sense.
    #[error(
        "the state file {path} holds an entry for pair `{pair}` that cannot be read ({source}): move the file away"
    )]
    Entry {
        /// The file.
        path: PathBuf,
        /// The pair.
        pair: String,
        /// Why.
        source: serde_json::Error,
    },
}

/// What was found in the file.
#[derive(Debug, Default)]
pub struct Loaded {
    /// By pair.
    pub saved: BTreeMap<String, Saved>,
    /// By pair, oldest first.
    pub history: BTreeMap<String, VecDeque<Record>>,
}

enum Job {
    Save(String, Saved),
    Record(Arc<Record>),
    /// Answered with the trouble, if what came before could not be written.
    Flush(oneshot::Sender<Result<(), String>>),
}

/// A handle to the writing thread.
#[derive(Clone)]
pub struct Store {
    jobs: mpsc::Sender<Job>,
}

impl Store {
    /// Opens or creates `hotpair.redb` in the state directory. `trouble` is told when writing fails (why) and when it
    /// works again (`None`).
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
        let fail = |source: redb::Error| StoreError::Open { path: path.clone(), source: Box::new(source) };
        let database = Database::create(&path).map_err(|error| fail(error.into()))?;
        let loaded = load(&database, &path, &fail)?;
        let next = loaded.history.values().map(VecDeque::len).sum::<usize>();
        tracing::debug!(path = %path.display(), lines = next, "state read");
        let (jobs, inbox) = mpsc::channel();
        std::thread::Builder::new()
            .name("store".into())
            .spawn(move || write_all(&database, &inbox, &trouble))
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

/// Format, pairs by name, lines of history: as in the file.
type Raw = (u64, Vec<(String, Vec<u8>)>, Vec<Vec<u8>>);

fn load(
    database: &Database,
    path: &Path,
    fail: &impl Fn(redb::Error) -> StoreError,
) -> Result<Loaded, StoreError> {
    let begin = || -> Result<Raw, redb::Error> {
        let write = database.begin_write()?;
        {
            let mut meta = write.open_table(META)?;
            if meta.get("format")?.is_none() {
                meta.insert("format", FORMAT)?;
            }
            write.open_table(PAIRS)?;
            write.open_table(HISTORY)?;
        }
        write.commit()?;
        let read = database.begin_read()?;
        let format = read.open_table(META)?.get("format")?.map_or(0, |value| value.value());
        let mut pairs = Vec::new();
        for row in read.open_table(PAIRS)?.iter()? {
            let (name, value) = row?;
            pairs.push((name.value().to_owned(), value.value().to_vec()));
        }
        let mut lines = Vec::new();
        for row in read.open_table(HISTORY)?.iter()? {
            lines.push(row?.1.value().to_vec());
        }
        Ok((format, pairs, lines))
    };
    let (format, pairs, lines) = begin().map_err(fail)?;
    if format != FORMAT {
        return Err(StoreError::Format { path: path.to_owned(), found: format });
    }
    let mut loaded = Loaded::default();
    for (pair, json) in pairs {
        let saved = serde_json::from_slice(&json).map_err(|source| StoreError::Entry {
            path: path.to_owned(),
            pair: pair.clone(),
            source,
        })?;
        loaded.saved.insert(pair, saved);
    }
    for json in lines {
        // A line of history that cannot be read is no reason not to serve.
        if let Ok(record) = serde_json::from_slice::<Record>(&json) {
            loaded.history.entry(record.pair.clone()).or_default().push_back(record);
        }
    }
    Ok(loaded)
}

#[derive(Default)]
struct Pending {
    saves: BTreeMap<String, Saved>,
    records: VecDeque<Arc<Record>>,
    flushes: Vec<oneshot::Sender<Result<(), String>>>,
}

impl Pending {
    fn add(&mut self, job: Job) {
        match job {
            Job::Save(pair, saved) => {
                self.saves.insert(pair, saved);
            }
            Job::Record(record) => {
                self.records.push_back(record);
                if self.records.len() > WAITING_LINES {
                    self.records.pop_front();
                }
            }
            Job::Flush(answer) => self.flushes.push(answer),
        }
    }

    fn is_clean(&self) -> bool {
        self.saves.is_empty() && self.records.is_empty()
    }
}

fn write_all(database: &Database, inbox: &mpsc::Receiver<Job>, trouble: &impl Fn(Option<String>)) {
    let mut pending = Pending::default();
    let mut failed = false;
    loop {
        let first = if pending.is_clean() {
            inbox.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            inbox.recv_timeout(RETRY)
        };
        match first {
            Ok(job) => pending.add(job),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        while let Ok(job) = inbox.try_recv() {
            pending.add(job);
        }
        let result = if pending.is_clean() { Ok(()) } else { commit(database, &pending) };
        let said = result.as_ref().err().map(|error| {
            format!(
                "the state cannot be saved ({error}); it is kept in memory and tried again every {RETRY:?}"
            )
        });
        if said.is_some() || failed {
            trouble(said.clone());
        }
        failed = said.is_some();
        if !failed {
            pending.saves.clear();
            pending.records.clear();
        }
        for flush in pending.flushes.drain(..) {
            let _ = flush.send(said.clone().map_or(Ok(()), Err));
        }
    }
}

fn commit(database: &Database, pending: &Pending) -> Result<(), redb::Error> {
    let write = database.begin_write()?;
    {
        let mut pairs = write.open_table(PAIRS)?;
        for (pair, saved) in &pending.saves {
            pairs.insert(pair.as_str(), json(saved).as_slice())?;
        }
        let mut history = write.open_table(HISTORY)?;
        for record in &pending.records {
            let (pair, record) = (record.pair.as_str(), record.as_ref());
            let mut rows = history.range((pair, 0)..=(pair, u64::MAX))?;
            let first = rows.next().transpose()?.map(|(key, _)| key.value().1);
            let last = rows.next_back().transpose()?.map(|(key, _)| key.value().1).or(first);
            drop(rows);
            let number = last.map_or(0, |last| last + 1);
            history.insert((pair, number), json(record).as_slice())?;
            if let Some(first) = first
                && number - first >= HISTORY_LINES as u64
            {
                history.remove((pair, first))?;
            }
        }
    }
    write.commit()?;
    Ok(())
}

fn json(value: &impl serde::Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("plain structures of numbers and strings are always JSON")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::RecordKind;

    fn record(pair: &str, n: u64) -> Record {
        Record {
            at_ms: n,
            pair: pair.into(),
            kind: RecordKind::Failover,
            slot: Some(1),
            generation: Some(n),
            epoch_before: n,
            epoch_after: n + 1,
            detected_by: None,
            detect_us: None,
            flip_us: None,
            text: format!("line {n}"),
        }
    }

    #[tokio::test]
    async fn what_was_flushed_is_there_after_a_restart() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let saved = Saved { ceiling: 1007, active: 1, paused: true, generations: [3, 9] };
        {
            let (store, loaded) = Store::open(directory.path(), |_| {}).expect("a new store opens");
            assert!(loaded.saved.is_empty());
            store.save("web", Saved { ceiling: 1, ..saved.clone() });
            store.save("web", saved.clone());
            for n in 0..HISTORY_LINES as u64 + 5 {
                store.record(record("web", n).into());
                if n % 100 == 0 {
                    store.flush().await.expect("it is written");
                }
            }
            store.record(record("db", 7).into());
            store.flush().await.expect("it is written");
        }
        // The thread closes the file when the last handle is gone.
        for _ in 0..100 {
            match Store::open(directory.path(), |_| {}) {
                Ok((_store, loaded)) => {
                    assert_eq!(loaded.saved["web"], saved);
                    let web = &loaded.history["web"];
                    assert_eq!(web.len(), HISTORY_LINES, "old lines make room for new ones");
                    assert_eq!(web.back(), Some(&record("web", HISTORY_LINES as u64 + 4)));
                    assert_eq!(loaded.history["db"].len(), 1);
                    return;
                }
                Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
            }
        }
        panic!("the store cannot be opened again");
    }

    #[test]
    fn a_damaged_file_is_refused_with_a_way_out_and_left_alone() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let path = directory.path().join("hotpair.redb");
        std::fs::write(&path, vec![0x55; 8192]).expect("it is written");
        let Err(error) = Store::open(directory.path(), |_| {}) else { panic!("damage was accepted") };
        assert!(error.to_string().contains("move it away"), "{error}");
        assert_eq!(std::fs::read(&path).expect("it is still there"), vec![0x55; 8192]);
    }
}
