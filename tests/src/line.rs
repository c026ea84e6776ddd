//! A bad line: what happens to the TCP segments that go over it. Other frames pass as they are: heartbeats and neighbour
//! discovery have tests of their own.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use crate::dice::Dice;

/// How often what happens, in a thousand segments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Faults {
    /// The segment is lost.
    pub lost: u64,
    /// It comes twice.
    pub twice: u64,
    /// It comes after up to four of those behind it; if nothing comes behind it, with the next.
    pub late: u64,
}

impl Faults {
    /// A good line.
    pub const NONE: Faults = Faults { lost: 0, twice: 0, late: 0 };
    /// One in a hundred is lost.
    pub const LOSS_1: Faults = Faults { lost: 10, ..Faults::NONE };
    /// One in twenty is lost.
    pub const LOSS_5: Faults = Faults { lost: 50, ..Faults::NONE };
    /// One in twenty is late.
    pub const LATE: Faults = Faults { late: 50, ..Faults::NONE };
    /// One in twenty comes twice.
    pub const TWICE: Faults = Faults { twice: 50, ..Faults::NONE };
    /// All of it.
    pub const ALL: Faults = Faults { lost: 10, twice: 20, late: 20 };
}

/// One direction of a line.
#[derive(Debug)]
pub struct Line {
    faults: Faults,
    dice: Dice,
    /// Frames that are late, and how many more go before them.
    waiting: VecDeque<(u64, Vec<u8>)>,
}

impl Line {
    /// A line with these faults.
    #[must_use]
    pub fn new(faults: Faults) -> Line {
        Line { faults, dice: Dice::any(), waiting: VecDeque::new() }
    }

    /// From now on it has these faults.
    pub fn set(&mut self, faults: Faults) {
        self.faults = faults;
    }

    fn happens(&mut self, often: u64) -> bool {
        often != 0 && self.dice.below(1000) < often
    }

    /// Brings a frame to the other end, or not. `headroom`: bytes before its Ethernet header.
    pub fn carry(&mut self, frame: &[u8], headroom: usize, mut arrive: impl FnMut(&[u8])) {
        if self.faults == Faults::NONE && self.waiting.is_empty()
            || !is_tcp(frame.get(headroom..).unwrap_or_default())
        {
            arrive(frame);
            return;
        }
        if self.happens(self.faults.lost) {
            return;
        }
        if self.happens(self.faults.late) {
            let behind = 1 + self.dice.below(4);
            self.waiting.push_back((behind, frame.to_vec()));
            return;
        }
        arrive(frame);
        if self.happens(self.faults.twice) {
            arrive(frame);
        }
        for (left, _) in &mut self.waiting {
            *left = left.saturating_sub(1);
        }
        while self.waiting.front().is_some_and(|(left, _)| *left == 0) {
            if let Some((_, late)) = self.waiting.pop_front() {
                arrive(&late);
            }
        }
    }
}

/// Whether this is a TCP segment, right behind its network header's fixed part, untagged.
fn is_tcp(frame: &[u8]) -> bool {
    match frame.get(12..14) {
        Some([0x08, 0x00]) => frame.get(23) == Some(&6),
        Some([0x86, 0xdd]) => frame.get(20) == Some(&6),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn segment(number: u8) -> Vec<u8> {
        let mut frame = vec![0; 60];
        frame[12] = 8;
        frame[23] = 6;
        frame[59] = number;
        frame
    }

    fn through(faults: Faults, frames: impl Iterator<Item = Vec<u8>>) -> Vec<u8> {
        let mut line = Line::new(faults);
        let mut arrived = Vec::new();
        for frame in frames {
            line.carry(&frame, 0, |frame| arrived.push(frame[59]));
        }
        arrived
    }

    #[test]
    fn a_good_line_changes_nothing_and_a_bad_one_what_it_is_told_to() {
        let all: Vec<u8> = (0..200).collect();
        let sent = || all.iter().map(|number| segment(*number));
        assert_eq!(through(Faults::NONE, sent()), all);
        assert!(through(Faults { lost: 1000, ..Faults::NONE }, sent()).is_empty());
        assert_eq!(through(Faults { twice: 1000, ..Faults::NONE }, sent()).len(), 400);
        let mut late = through(Faults { late: 300, ..Faults::NONE }, sent());
        assert!(late != all && late.len() > 190, "{late:?}");
        late.sort_unstable();
        assert!(late.windows(2).all(|pair| pair[0] < pair[1]), "none is doubled");
        let arp = || std::iter::repeat_n(vec![0; 60], 10);
        assert_eq!(through(Faults { lost: 1000, ..Faults::NONE }, arp()).len(), 10, "only TCP suffers");
    }
}
