//! What is written is there again, and what is damaged is refused and left alone.

use std::fs;
use std::path::Path;
use std::time::Duration;

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
        connections: None,
        text: format!("line {n}"),
    }
}

/// Opens a store that another one may be about to close.
async fn open_soon(directory: &Path) -> (Store, Loaded) {
    for _ in 0..200 {
        match Store::open(directory, |_| {}) {
            Ok(opened) => return opened,
            Err(StoreError::InUse(_)) => tokio::time::sleep(Duration::from_millis(10)).await,
            Err(error) => panic!("{error}"),
        }
    }
    panic!("the store cannot be opened again");
}

fn refusal(directory: &Path) -> String {
    match Store::open(directory, |_| {}) {
        Ok(_) => panic!("it was accepted"),
        Err(error) => error.to_string(),
    }
}

/// A file with something in it, closed.
async fn file_in(directory: &Path) -> (std::path::PathBuf, Saved) {
    let saved = Saved { ceiling: 1007, active: 1, paused: true, generations: [3, 9] };
    let (store, _) = Store::open(directory, |_| {}).expect("a new store opens");
    store.save("web", saved.clone());
    for n in 0..50 {
        store.record(record("web", n).into());
    }
    store.flush().await.expect("it is written");
    drop(store);
    drop(open_soon(directory).await);
    let path = directory.join("hotpair.redb");
    for _ in 0..200 {
        if file::reopen(&path).is_ok() {
            return (path, saved);
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("the store is not closed");
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
    let (_store, loaded) = open_soon(directory.path()).await;
    assert_eq!(loaded.saved["web"], saved);
    let web = &loaded.history["web"];
    assert_eq!(web.len(), HISTORY_LINES, "old lines make room for new ones");
    assert_eq!(web.back(), Some(&record("web", HISTORY_LINES as u64 + 4)));
    assert_eq!(loaded.history["db"].len(), 1);
}

#[tokio::test]
async fn a_file_cut_off_anywhere_is_refused_or_whole_and_left_alone() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (path, saved) = file_in(directory.path()).await;
    let whole = fs::read(&path).expect("it is there");
    let mut refused = 0;
    let lengths = (0..16).chain((0..whole.len()).step_by(whole.len() / 60)).chain([whole.len() - 1]);
    for length in lengths {
        fs::write(&path, &whole[..length]).expect("cut off");
        match Store::open(directory.path(), |_| {}) {
            // Nothing but free space was cut off.
            Ok((_store, loaded)) => assert_eq!(loaded.saved["web"], saved, "{length}"),
            Err(error) => {
                let text = error.to_string();
                assert!(text.contains(&format!("mv {0} {0}.damaged", path.display())), "{length}: {text}");
                assert!(fs::read(&path).expect("it is still there") == whole[..length], "{length}: touched");
                refused += 1;
            }
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
        while file::reopen(&path).is_err_and(|error| matches!(error, redb::Error::DatabaseAlreadyOpen)) {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    assert!(refused > 16, "only {refused} were refused");
    // The way out.
    fs::write(&path, &whole[..100]).expect("cut off");
    refusal(directory.path());
    fs::rename(&path, directory.path().join("hotpair.redb.damaged")).expect("moved away");
    assert!(open_soon(directory.path()).await.1.saved.is_empty(), "it begins anew");
}

#[tokio::test]
async fn garbage_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (path, saved) = file_in(directory.path()).await;
    let whole = fs::read(&path).expect("it is there");
    for (what, garbage) in [("nothing", vec![]), ("fives", vec![0x55; 8192]), ("zeros", vec![0; whole.len()])]
    {
        fs::write(&path, &garbage).expect("it is written");
        let text = refusal(directory.path());
        assert!(text.contains("is damaged") && text.contains("mv "), "{what}: {text}");
        assert_eq!(fs::read(&path).expect("it is still there"), garbage, "{what}");
    }
    // Single bytes, all over the file: noticed, or without a meaning.
    for at in (0..whole.len()).step_by(whole.len() / 200 + 1) {
        let mut bent = whole.clone();
        bent[at] ^= 0xff;
        fs::write(&path, &bent).expect("it is written");
        match file::open(&path) {
            Ok((_, loaded)) => assert_eq!(loaded.saved["web"], saved, "byte {at}"),
            Err(error) => assert!(error.to_string().contains("damaged"), "byte {at}: {error}"),
        }
    }
}

#[tokio::test]
async fn a_file_of_another_version_is_refused_and_left_alone() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (path, saved) = file_in(directory.path()).await;
    let set = |format: u64| {
        let database = redb::Database::open(&path).expect("it opens");
        let write = database.begin_write().expect("it can be written");
        write.open_table(file::META).expect("meta").insert("format", format).expect("written");
        write.commit().expect("written");
    };
    set(file::FORMAT + 1);
    let before = fs::read(&path).expect("it is there");
    let text = refusal(directory.path());
    assert!(text.contains("is of format 2") && text.contains("reads format 1"), "{text}");
    assert_eq!(fs::read(&path).expect("it is still there"), before);
    set(file::FORMAT);
    assert_eq!(open_soon(directory.path()).await.1.saved["web"], saved);
}

#[test]
fn what_is_no_file_is_refused_by_name() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    fs::create_dir(directory.path().join("hotpair.redb")).expect("made");
    let text = refusal(directory.path());
    assert!(text.contains("not an ordinary file"), "{text}");
    let text = refusal(&directory.path().join("hotpair.redb/no/../\0"));
    assert!(text.contains("host.state_dir"), "{text}");
}

#[tokio::test]
async fn one_store_at_a_time() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let _first = Store::open(directory.path(), |_| {}).expect("a new store opens");
    let text = refusal(directory.path());
    assert!(text.contains("in use by another process"), "{text}");
}
