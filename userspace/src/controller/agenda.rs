//! When each pair wants to be looked at.
//!
//! A heap of moments: a pair whose moment has not come costs nothing, however many there are. A moment that was changed
//! stays in the heap and is recognised as void when it comes up.
//!
//! When one pair's moment has come, those that have waited for three quarters of their time are looked at with it: a host
//! whose thousand pairs have a thousand different moments wakes up for a few of them and not for each. That costs no
//! precision. A member that is found beating has its next moment put off; one that is found silent keeps its own.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::pair::Nanos;

/// The part of its time that a pair may be looked at early.
const EARLY: Nanos = 4;

/// When each pair wants to be looked at.
#[derive(Debug, Default)]
pub(super) struct Agenda {
    heap: BinaryHeap<Reverse<(Nanos, usize)>>,
    pairs: Vec<Moment>,
}

#[derive(Debug)]
struct Moment {
    due: Nanos,
    /// From when on it may be looked at with others.
    from: Nanos,
    /// Whether an entry of the heap stands for it.
    listed: bool,
    /// Whether it was looked at early for this very moment: once is enough.
    seen: bool,
}

impl Agenda {
    /// One more pair, which wants to be looked at now.
    pub(super) fn add(&mut self) {
        self.heap.push(Reverse((0, self.pairs.len())));
        self.pairs.push(Moment { due: 0, from: 0, listed: true, seen: false });
    }

    /// Changes a pair's moment.
    pub(super) fn set(&mut self, index: usize, due: Nanos, now: Nanos) {
        let moment = &mut self.pairs[index];
        if moment.due != due {
            moment.due = due;
            moment.from = due - due.saturating_sub(now) / EARLY;
            moment.seen = false;
        } else if moment.listed {
            return;
        }
        moment.listed = true;
        self.heap.push(Reverse((due, index)));
    }

    /// The next moment.
    pub(super) fn next(&mut self) -> Option<Nanos> {
        self.first().map(|(due, _)| due)
    }

    /// Whether anybody's moment has come.
    pub(super) fn is_due(&mut self, now: Nanos) -> bool {
        self.next().is_some_and(|due| due <= now)
    }

    /// A pair whose moment has come, or is about to. Whoever gets it must [`Agenda::set`] its next one.
    pub(super) fn take(&mut self, now: Nanos) -> Option<usize> {
        let (due, index) = self.first()?;
        let moment = &mut self.pairs[index];
        let early = due > now;
        if early && (moment.seen || moment.from > now) {
            return None;
        }
        moment.listed = false;
        moment.seen = early;
        self.heap.pop();
        Some(index)
    }

    /// The first entry that still stands for something.
    fn first(&mut self) -> Option<(Nanos, usize)> {
        loop {
            let Reverse((due, index)) = *self.heap.peek()?;
            let moment = &self.pairs[index];
            if moment.listed && moment.due == due {
                return Some((due, index));
            }
            self.heap.pop();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An agenda of pairs with these moments, made at 0.
    fn agenda(moments: &[Nanos]) -> Agenda {
        let mut agenda = Agenda::default();
        for (index, due) in moments.iter().enumerate() {
            agenda.add();
            agenda.set(index, *due, 0);
        }
        agenda
    }

    /// Everybody who is looked at now, each with the same next moment.
    fn looked_at(agenda: &mut Agenda, now: Nanos, next: Nanos) -> Vec<usize> {
        let mut looked_at = Vec::new();
        if agenda.is_due(now) {
            while let Some(index) = agenda.take(now) {
                looked_at.push(index);
                agenda.set(index, next, now);
            }
        }
        looked_at
    }

    #[test]
    fn everybody_is_looked_at_when_the_moment_has_come_and_nobody_twice() {
        let mut agenda = agenda(&[300, 100, 200]);
        assert_eq!(agenda.next(), Some(100));
        assert!(looked_at(&mut agenda, 99, 0).is_empty());
        assert_eq!(looked_at(&mut agenda, 100, 1000), [1]);
        assert_eq!(looked_at(&mut agenda, 300, 310), [2, 0], "and each only once, however soon the next is");
        assert!(looked_at(&mut agenda, 309, 0).is_empty());
        assert_eq!(looked_at(&mut agenda, 310, 2000), [0, 2]);
        assert_eq!(agenda.next(), Some(1000));
    }

    #[test]
    fn a_moment_that_was_put_off_or_brought_forward_does_not_come_at_its_old_time() {
        let mut agenda = agenda(&[100, 500]);
        agenda.set(0, 800, 50);
        agenda.set(1, 400, 50);
        assert!(looked_at(&mut agenda, 399, 0).is_empty());
        assert_eq!(looked_at(&mut agenda, 400, 900), [1]);
        agenda.set(0, 700, 400);
        agenda.set(0, 800, 400);
        assert_eq!(agenda.next(), Some(800));
        assert_eq!(looked_at(&mut agenda, 800, 2000), [0, 1]);
    }

    #[test]
    fn who_is_nearly_due_is_looked_at_with_the_others_and_when_found_silent_at_its_own_moment() {
        let mut agenda = agenda(&[100, 120, 140]);
        assert!(!agenda.is_due(95), "nobody is early alone");
        assert!(agenda.is_due(100));
        assert_eq!(agenda.take(100), Some(0));
        agenda.set(0, 900, 100);
        assert_eq!(agenda.take(100), Some(1));
        // It is silent: nothing has changed.
        agenda.set(1, 120, 100);
        assert_eq!(agenda.take(100), None, "once is enough, and the third has waited for too short a time");
        assert_eq!(agenda.next(), Some(120), "to the nanosecond");
        assert_eq!(looked_at(&mut agenda, 120, 500), [1, 2]);
    }
}
