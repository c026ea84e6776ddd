//! The thread that writes, and keeps what cannot be written.

use std::collections::{BTreeMap, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::Duration;

use redb::{Database, ReadableTable};
use tokio::sync::oneshot;

use super::HISTORY_LINES;
use super::file::{self, HISTORY, PAIRS};
use crate::api::types::Record;
use crate::pair::Saved;

/// Lines that wait for a disk that cannot be written, of all pairs together; the oldest make room.
const WAITING_LINES: usize = 100_000;
/// Pause before what could not be written is tried again.
const RETRY: Duration = Duration::from_secs(2);

pub(super) enum Job {
    Save(String, Saved),
    Record(Arc<Record>),
    /// Answered with the trouble, if what came before could not be written.
    Flush(oneshot::Sender<Result<(), String>>),
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

pub(super) struct Writer {
    path: PathBuf,
    /// None while the file cannot be written: after an error redb takes nothing more until it is opened anew.
    database: Option<Database>,
    /// The last of each pair, written or not: what a new file must hold if somebody has moved the old one away.
    known: BTreeMap<String, Saved>,
    pending: Pending,
}

impl Writer {
    pub(super) fn new(path: PathBuf, database: Option<Database>, known: BTreeMap<String, Saved>) -> Writer {
        Writer { path, database, known, pending: Pending::default() }
    }

    /// Until the last handle is gone.
    pub(super) fn run(&mut self, inbox: &mpsc::Receiver<Job>, trouble: &impl Fn(Option<String>)) {
        let mut failed = false;
        loop {
            let job = if self.pending.is_clean() && self.database.is_some() {
                inbox.recv().map_err(|_| RecvTimeoutError::Disconnected)
            } else if failed {
                inbox.recv_timeout(RETRY)
            } else {
                inbox.recv_timeout(Duration::ZERO)
            };
            match job {
                Ok(job) => self.pending.add(job),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while let Ok(job) = inbox.try_recv() {
                self.pending.add(job);
            }
            let said = self.write().err().map(|error| {
                format!(
                    "the state cannot be saved in {} ({error}); it is kept in memory and tried again every {RETRY:?}",
                    self.path.display()
                )
            });
            if said.is_some() || failed {
                trouble(said.clone());
            }
            failed = said.is_some();
            for flush in self.pending.flushes.drain(..) {
                let _ = flush.send(said.clone().map_or(Ok(()), Err));
            }
        }
    }

    fn write(&mut self) -> Result<(), redb::Error> {
        for (pair, saved) in &self.pending.saves {
            self.known.insert(pair.clone(), saved.clone());
        }
        let database = match self.database.take() {
            Some(database) => database,
            None => self.open_again()?,
        };
        if !self.pending.is_clean() {
            // On an error the database is dropped here, and opened again next time.
            file::guarded(|| commit(&database, &self.pending))?;
        }
        self.pending.saves.clear();
        self.pending.records.clear();
        self.database = Some(database);
        Ok(())
    }

    fn open_again(&mut self) -> Result<Database, redb::Error> {
        if !self.path.try_exists()? {
            file::create(&self.path)?;
            self.pending.saves = self.known.clone();
        }
        file::reopen(&self.path)
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
