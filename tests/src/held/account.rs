//! What a client got through over time: how long it waited for each thing that came.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A time of waiting, and what had come when it was over. Unix milliseconds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Wait {
    /// The client wanted something from here on.
    pub from: f64,
    /// Here it came, or the client gave up.
    pub to: f64,
    /// How much had come in all.
    pub total: u64,
}

/// A client's waits, in their order.
#[derive(Clone, Debug)]
pub struct Account {
    began: Instant,
    began_ms: f64,
    waits: Vec<Wait>,
}

impl Account {
    /// Everything.
    #[must_use]
    pub fn waits(&self) -> &[Wait] {
        &self.waits
    }

    /// How much has come in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.waits.last().map_or(0, |wait| wait.total)
    }

    /// How much had come by then (Unix milliseconds).
    #[must_use]
    pub fn total_at(&self, at: f64) -> u64 {
        self.waits.iter().take_while(|wait| wait.to <= at).last().map_or(0, |wait| wait.total)
    }

    /// The longest wait, milliseconds.
    #[must_use]
    pub fn longest(&self) -> f64 {
        self.longest_within(f64::MIN, f64::MAX)
    }

    /// The longest wait that has to do with what happened between two moments (Unix milliseconds), milliseconds.
    #[must_use]
    pub fn longest_within(&self, from: f64, to: f64) -> f64 {
        let met = self.waits.iter().filter(|wait| wait.to >= from && wait.from <= to);
        met.map(|wait| wait.to - wait.from).fold(0.0, f64::max)
    }

    fn ms(&self, at: Instant) -> f64 {
        self.began_ms + at.saturating_duration_since(self.began).as_secs_f64() * 1e3
    }
}

/// An account that is being kept.
pub(super) struct Book(Mutex<Account>);

impl Default for Book {
    fn default() -> Self {
        let began_ms = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64() * 1e3;
        Book(Mutex::new(Account { began: Instant::now(), began_ms, waits: Vec::new() }))
    }
}

impl Book {
    pub(super) fn account(&self) -> MutexGuard<'_, Account> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What was wanted since then has come now.
    pub(super) fn came(&self, since: Instant, total: u64) {
        let mut account = self.account();
        let wait = Wait { from: account.ms(since), to: account.ms(Instant::now()), total };
        account.waits.push(wait);
    }

    /// Nothing came of what was wanted since then.
    pub(super) fn gave_up(&self, since: Instant) {
        let total = self.account().total();
        self.came(since, total);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stall_is_the_failovers_if_it_was_not_over_before_it() {
        let wait = |from, to, total| Wait { from, to, total };
        let account = Account {
            began: Instant::now(),
            began_ms: 0.0,
            waits: vec![wait(0.0, 40.0, 1), wait(41.0, 42.0, 2), wait(43.0, 55.0, 3), wait(90.0, 110.0, 4)],
        };
        assert_eq!((account.longest(), account.longest_within(45.0, 60.0)), (40.0, 12.0));
        assert_eq!((account.total_at(45.0), account.total()), (2, 4));
    }
}
