//! What comes again and again is told once, then summed up: with a thousand pairs, a line for each time would drown those that
//! tell of a failover, and a journal that limits its lines (10,000 in 30 s) would drop both.

use std::collections::BTreeMap;
use std::time::Duration;

/// How often [`Repeats::sum_up`] is to be asked.
pub(super) const PERIOD: Duration = Duration::from_secs(60);

/// How often each has come since it was last told.
#[derive(Debug)]
pub(super) struct Repeats<K>(BTreeMap<K, u64>);

impl<K: Ord + Copy> Repeats<K> {
    pub(super) fn new() -> Repeats<K> {
        Repeats(BTreeMap::new())
    }

    /// Whether it is to be told at once: it has not come for a while.
    pub(super) fn is_news(&mut self, what: K) -> bool {
        let known = self.0.get_mut(&what).map(|times| *times += 1);
        if known.is_none() {
            self.0.insert(what, 0);
        }
        known.is_none()
    }

    /// What has come since it was last told, and how often. What has not is news when it comes again.
    pub(super) fn sum_up(&mut self) -> Vec<(K, u64)> {
        self.0.retain(|_, times| *times > 0);
        self.0.iter_mut().map(|(what, times)| (*what, std::mem::take(times))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_told_at_once_and_the_rest_once_a_period() {
        let mut repeats = Repeats::new();
        assert!(repeats.is_news("a"));
        assert!(!repeats.is_news("a"));
        assert!(!repeats.is_news("a"));
        assert!(repeats.is_news("b"));
        assert_eq!(repeats.sum_up(), [("a", 2)], "of the other one all is told");
        assert!(!repeats.is_news("a"), "it still goes on");
        assert!(repeats.is_news("b"));
        assert_eq!(repeats.sum_up(), [("a", 1)]);
        assert_eq!(repeats.sum_up(), []);
        assert!(repeats.is_news("a"), "it had stopped");
    }

    #[test]
    fn a_thousand_pairs_that_never_rest_leave_room_for_others() {
        let mut repeats = Repeats::new();
        let mut lines = 0;
        for second in 0..300 {
            for what in (0..1000).flat_map(|pair| [(pair, "opened"), (pair, "closed")]) {
                lines += usize::from(repeats.is_news(what));
            }
            if second % PERIOD.as_secs() == 59 {
                lines += repeats.sum_up().len();
            }
        }
        assert_eq!(lines, 2_000 + 5 * 2_000);
    }
}
