//! Opening the state file, and refusing one that is not as it should be: by name, with a way out, and untouched.

use std::fs::{self, File};
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use redb::{Database, ReadableDatabase, ReadableTable, TableDefinition, TableError};

use super::Loaded;
use super::shadow::Shadow;
use crate::api::types::Record;

/// Version of what is in the file.
pub(super) const FORMAT: u64 = 1;

pub(super) const META: TableDefinition<&str, u64> = TableDefinition::new("meta");
pub(super) const PAIRS: TableDefinition<&str, &[u8]> = TableDefinition::new("pairs");
pub(super) const HISTORY: TableDefinition<(&str, u64), &[u8]> = TableDefinition::new("history");

/// Why the state cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The directory cannot be made.
    #[error(
        "the state directory {path} cannot be made: {source}; make it, or name another one with host.state_dir"
    )]
    Directory {
        /// The directory.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// There is no file yet, and none can be made.
    #[error(
        "the state file {path} cannot be made: {source}; make room, or make the directory writable for the user that \
         hotpair runs as"
    )]
    Create {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// It may not be read or written.
    #[error(
        "the state file {path} cannot be opened: {source}; make it an ordinary file that the user who runs hotpair owns \
         (`ls -l {path}`)"
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Somebody else has it open.
    #[error(
        "the state file {0} is in use by another process (`fuser {0}` names it): end that one, or give this hotpair its \
         own host.state_dir"
    )]
    InUse(PathBuf),
    /// What is in it is no state.
    #[error(
        "the state file {path} is damaged ({what}) and was left as it is; move it away (`mv {path} {path}.damaged`) and \
         start again: running members are found again through the hypervisor and the pinned data plane, only the \
         history is lost"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// In which way.
        what: String,
    },
    /// Written by another version.
    #[error(
        "the state file {path} is of format {found}, this version of hotpair reads format {FORMAT}: run the version that \
         wrote it, or move the file away (`mv {path} {path}.{found}`), which loses the history"
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// Its format.
        found: u64,
    },
}

/// Opens the file, or makes one where there is none. No database: it was read, but cannot be written just now.
pub(super) fn open(path: &Path) -> Result<(Option<Database>, Loaded), StoreError> {
    let unreadable = |source| StoreError::Open { path: path.to_owned(), source };
    match fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            create(path).map_err(|error| match io_error(error) {
                Ok(source) => StoreError::Create { path: path.to_owned(), source },
                Err(what) => StoreError::Create { path: path.to_owned(), source: io::Error::other(what) },
            })?;
        }
        Err(error) => return Err(unreadable(error)),
        Ok(found) if !found.is_file() => {
            return Err(unreadable(io::Error::other("it is not an ordinary file")));
        }
        Ok(_) => {}
    }
    let loaded = look(path)?;
    let mut opened = reopen(path);
    // A child that a killed controller has just forked has its files open until it executes.
    for _ in 0..25 {
        if !matches!(opened, Err(redb::Error::DatabaseAlreadyOpen)) {
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
        opened = reopen(path);
    }
    match opened {
        Ok(database) => Ok((Some(database), loaded)),
        Err(redb::Error::DatabaseAlreadyOpen) => Err(StoreError::InUse(path.to_owned())),
        Err(error) => match io_error(error) {
            Ok(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(unreadable(error)),
            // What is in it was just read: it is the disk that does not take anything.
            Ok(error) => {
                tracing::warn!(path = %path.display(), %error, "the state file can be read, but not be written");
                Ok((None, loaded))
            }
            Err(what) => Err(StoreError::Damaged { path: path.to_owned(), what }),
        },
    }
}

/// Opens the file that is there for writing.
pub(super) fn reopen(path: &Path) -> Result<Database, redb::Error> {
    guarded(|| Ok(Database::open(path)?))
}

/// Makes a new, empty file. It has its name only when it is whole, so that a file of no length is never of our making.
pub(super) fn create(path: &Path) -> Result<(), redb::Error> {
    let new = path.with_extension("redb.new");
    let made = guarded(|| {
        match fs::remove_file(&new) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error.into()),
            _ => {}
        }
        let database = Database::create(&new)?;
        let write = database.begin_write()?;
        write.open_table(META)?.insert("format", FORMAT)?;
        write.open_table(PAIRS)?;
        write.open_table(HISTORY)?;
        write.commit()?;
        drop(database);
        fs::rename(&new, path)?;
        // So that it is still there after a power cut.
        File::open(path.parent().unwrap_or(Path::new("/")))?.sync_all()?;
        Ok(())
    });
    if made.is_err() {
        let _ = fs::remove_file(&new);
    }
    made
}

/// Does something to a database. Of a damaged one, redb may panic.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, redb::Error>) -> Result<T, redb::Error> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let words = panic.downcast_ref::<String>().map(String::as_str);
        let words = words.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it makes no sense");
        Err(redb::Error::Corrupted(words.to_owned()))
    })
}

/// What the disk says, or in words what is wrong with the file itself.
fn io_error(error: redb::Error) -> Result<io::Error, String> {
    match error {
        // What should be there is not: that is the file's own affair.
        redb::Error::Io(error)
            if matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::InvalidData) =>
        {
            Err(error.to_string())
        }
        redb::Error::Io(error) => Ok(error),
        other => Err(other.to_string()),
    }
}

/// Format, pairs by name, lines of history: as in the file.
type Raw = (u64, Vec<(String, Vec<u8>)>, Vec<Vec<u8>>);

/// Reads all that is in the file, and does not touch it.
fn look(path: &Path) -> Result<Loaded, StoreError> {
    let damaged = |what: String| StoreError::Damaged { path: path.to_owned(), what };
    let file = File::open(path).map_err(|source| StoreError::Open { path: path.to_owned(), source })?;
    let shadow = Shadow::of(file).map_err(|source| StoreError::Open { path: path.to_owned(), source })?;
    let raw = guarded(|| {
        if redb::StorageBackend::len(&shadow)? == 0 {
            return Err(redb::Error::Corrupted("it is empty".into()));
        }
        read(&redb::Builder::new().set_check_integrity_on_open(true).create_with_backend(shadow)?)
    });
    let (format, pairs, lines) = raw.map_err(|error| match io_error(error) {
        Ok(source) => StoreError::Open { path: path.to_owned(), source },
        Err(what) => damaged(what),
    })?;
    if format != FORMAT {
        return Err(StoreError::Format { path: path.to_owned(), found: format });
    }
    let mut loaded = Loaded::default();
    for (pair, json) in pairs {
        let saved = serde_json::from_slice(&json)
            .map_err(|error| damaged(format!("the entry of pair `{pair}`: {error}")))?;
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

fn read(database: &Database) -> Result<Raw, redb::Error> {
    let read = database.begin_read()?;
    let format = match read.open_table(META) {
        Ok(meta) => meta.get("format")?.map(|value| value.value()),
        Err(TableError::TableDoesNotExist(_)) => None,
        Err(error) => return Err(error.into()),
    };
    let format = format.ok_or_else(|| redb::Error::Corrupted("it does not say its format".into()))?;
    // Of another format, nothing else may be believed.
    if format != FORMAT {
        return Ok((format, Vec::new(), Vec::new()));
    }
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
}
