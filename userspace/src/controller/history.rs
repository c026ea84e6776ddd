//! What has happened, as it is told: the last lines of each pair, in memory.
//!
//! The engine adds to it, so nobody may hold it for long: a reader takes no more than it was asked for.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use crate::api::types::{Record, RecordKind};
use crate::store::HISTORY_LINES;

/// Kinds that changed who serves.
pub(super) fn is_role_change(kind: RecordKind) -> bool {
    matches!(kind, RecordKind::Started | RecordKind::Failover | RecordKind::Switchover | RecordKind::Adopted)
}

type Lines = BTreeMap<String, VecDeque<Arc<Record>>>;

/// The lines of every pair, oldest first.
#[derive(Debug)]
pub(crate) struct History(Mutex<Lines>);

impl History {
    /// Begins with what was saved.
    pub(super) fn new(saved: BTreeMap<String, VecDeque<Record>>) -> History {
        let shared = |lines: VecDeque<Record>| lines.into_iter().map(Arc::new).collect();
        History(Mutex::new(saved.into_iter().map(|(pair, lines)| (pair, shared(lines))).collect()))
    }

    fn lines(&self) -> MutexGuard<'_, Lines> {
        self.0.lock().expect("nobody panics with it")
    }

    /// Adds a line, in place of the pair's oldest if it has [`HISTORY_LINES`].
    pub(super) fn add(&self, record: Arc<Record>) {
        let mut pairs = self.lines();
        let lines = pairs.entry(record.pair.clone()).or_default();
        lines.push_back(record);
        if lines.len() > HISTORY_LINES {
            lines.pop_front();
        }
    }

    /// The last change of who serves.
    pub(super) fn last_change(&self, pair: &str) -> Option<Arc<Record>> {
        self.lines().get(pair)?.iter().rev().find(|record| is_role_change(record.kind)).cloned()
    }

    /// The newest lines of one pair or of all, newest first. Lines of one pair stay in their order, whatever the clock
    /// did meanwhile.
    pub(super) fn newest(&self, pair: Option<&str>, limit: usize) -> Vec<Arc<Record>> {
        let pairs = self.lines();
        if let Some(pair) = pair {
            return pairs.get(pair).into_iter().flatten().rev().take(limit).cloned().collect();
        }
        // The newest line of each pair; then always the newest of those, and after it the one before it.
        let mut heads: BinaryHeap<_> = pairs
            .iter()
            .filter_map(|(name, lines)| Some((lines.back()?.at_ms, Reverse(name), lines.len() - 1)))
            .collect();
        let mut newest = Vec::new();
        while newest.len() < limit
            && let Some((_, name, place)) = heads.pop()
            && let Some(lines) = pairs.get(name.0)
        {
            newest.push(Arc::clone(&lines[place]));
            if let Some(before) = place.checked_sub(1) {
                heads.push((lines[before].at_ms, name, before));
            }
        }
        newest
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::RecordKind;

    fn record(pair: &str, at_ms: u64, kind: RecordKind) -> Arc<Record> {
        Arc::new(Record {
            at_ms,
            pair: pair.into(),
            kind,
            slot: None,
            generation: None,
            epoch_before: at_ms,
            epoch_after: at_ms,
            detected_by: None,
            detect_us: None,
            flip_us: None,
            connections: None,
            text: String::new(),
        })
    }

    #[test]
    fn the_newest_of_all_come_first_and_no_more_than_asked_for() {
        let history = History::new(BTreeMap::new());
        for (pair, at_ms) in [("a", 1), ("b", 2), ("a", 5), ("c", 3), ("b", 4), ("a", 5)] {
            history.add(record(pair, at_ms, RecordKind::Fenced));
        }
        let told = |pair, limit| -> Vec<(String, u64)> {
            history.newest(pair, limit).iter().map(|record| (record.pair.clone(), record.at_ms)).collect()
        };
        let expected = [("a", 5), ("a", 5), ("b", 4), ("c", 3), ("b", 2), ("a", 1)]
            .map(|(pair, t)| (pair.to_owned(), t));
        assert_eq!(told(None, 100), expected);
        assert_eq!(told(None, 3), expected[..3]);
        assert_eq!(told(Some("b"), 1), [("b".to_owned(), 4)]);
        assert_eq!(told(Some("nobody"), 1), []);
    }

    #[test]
    fn old_lines_make_room_and_the_last_change_is_found_among_others() {
        let history = History::new(BTreeMap::new());
        for at_ms in 0..HISTORY_LINES as u64 + 7 {
            let kind = if at_ms == 500 { RecordKind::Failover } else { RecordKind::Fenced };
            history.add(record("a", at_ms, kind));
        }
        let lines = history.newest(Some("a"), usize::MAX);
        assert_eq!((lines.len(), lines.last().map(|line| line.at_ms)), (HISTORY_LINES, Some(7)));
        assert_eq!(history.last_change("a").map(|line| line.at_ms), Some(500));
    }
}
