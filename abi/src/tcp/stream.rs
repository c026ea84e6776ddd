//! Whether both members say the same: sums over what each of them sends, compared at equal places of the stream, whatever
//! the segments were.
//!
//! Each half carries the sum of its stream up to a place, from which only the next bytes take it on: what is repeated
//! counts once. Whoever is ahead leaves its sum of that moment as a **milestone**; when the other one comes by, its sum up
//! to that very byte must be the same. Then the next milestone is where the one ahead is by now. So a bulk stream is
//! compared a few times in every round trip, a short answer as soon as both have given it, and there is nothing to keep
//! but three sums.
//!
//! The sum is Fletcher's with 64-bit words, modulo 2^64: it notices any change of one word, and words in another order. It
//! is meant for members that differ by themselves, not for somebody who makes two streams with equal sums on purpose.

use crate::tcp::connection::{COMPARED, Connection, FAR, HELD, Scene};
use crate::tcp::segment::{RST, SYN, Segment};
use crate::tcp::seq::{after, later};
use crate::tcp::verdict::{Verdict, Why};

/// Bytes that are summed in one step, at most.
pub const STEP: u32 = 4096;

/// Room for a step: its bytes behind those of the word that was begun.
pub type Chunk = [u64; STEP as usize / 8 + 2];

/// The last word of a chunk that can be reached: behind seven bytes, a step ends within it.
const LAST: usize = STEP as usize / 8;

/// A word of the chunk, up to [`LAST`]. LLVM does not see that it is one, and where it looks, a program would have to end.
#[inline(always)]
fn word(chunk: &Chunk, at: usize) -> u64 {
    debug_assert!(at <= LAST);
    // SAFETY: there are more words than `LAST`, which no caller goes beyond.
    unsafe { *chunk.get_unchecked(at) }
}

/// [`Connection::milestone_of`]: there is none.
pub const NO_MILESTONE: u32 = 2;

/// The sum of a stream up to a place.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Sum {
    /// Sum of all whole words.
    pub words: u64,
    /// Sum of all values that `words` has had: makes the order count.
    pub running: u64,
    /// The bytes of the word that has begun, the rest zero. In memory order, like all words.
    pub rest: u64,
    /// The place: bytes since the SYN.
    pub pos: u32,
    /// Zero.
    pub pad: u32,
}

impl Sum {
    /// Of nothing, from this place on.
    #[inline(always)]
    pub const fn restart(&mut self, pos: u32) {
        self.words = 0;
        self.running = 0;
        self.rest = 0;
        self.pos = pos;
        self.pad = 0;
    }

    /// Copies the other one, field by field: where it happens, nothing may be called.
    #[inline(always)]
    pub const fn set(&mut self, other: &Sum) {
        self.words = other.words;
        self.running = other.running;
        self.rest = other.rest;
        self.pos = other.pos;
    }

    /// Whether two sums up to the same place are of the same bytes.
    #[inline(always)]
    #[must_use]
    pub const fn agrees(&self, other: &Sum) -> bool {
        (self.words ^ other.words) | (self.running ^ other.running) | (self.rest ^ other.rest) == 0
    }

    /// How many bytes of its next word are in `rest`.
    #[inline(always)]
    #[must_use]
    pub const fn begun(&self) -> u32 {
        self.pos & 7
    }

    /// Goes on by `bytes` ([`STEP`] at most), which lie in the chunk behind [`Sum::begun`] bytes of room.
    #[inline(always)]
    pub fn absorb(&mut self, chunk: &mut Chunk, bytes: u32) {
        let begun = self.begun();
        let filled = (begun + bytes) as usize;
        let whole = filled / 8;
        if whole > LAST {
            return;
        }
        // The word that had begun: what `rest` knows of it, and what has come.
        chunk[0] = (chunk[0] & (u64::MAX << (8 * begun)).to_le()) | self.rest;
        let (mut words, mut running) = (self.words, self.running);
        let mut at = 0;
        // In eights, which LLVM does not unroll by itself for these programs.
        while at + 8 <= whole {
            let mut of_eight = 0;
            while of_eight < 8 {
                words = words.wrapping_add(word(chunk, at + of_eight));
                running = running.wrapping_add(words);
                of_eight += 1;
            }
            at += 8;
        }
        while at < whole {
            words = words.wrapping_add(word(chunk, at));
            running = running.wrapping_add(words);
            at += 1;
        }
        let left = (filled & 7) as u32;
        self.rest = 0;
        if left != 0 {
            self.rest = word(chunk, whole) & (u64::MAX >> (64 - 8 * left)).to_le();
        }
        self.words = words;
        self.running = running;
        self.pos = self.pos.wrapping_add(bytes);
    }
}

/// [`Task::what`]: nothing is to be summed.
pub const NOTHING: u32 = 0;
/// [`Task::what`]: the payload from `skip` on.
pub const SUM: u32 = 1;
/// [`Task::what`]: bytes are missing before the payload, and will not come any more.
pub const GAP: u32 = 2;

/// [`Connection::compare`]: nothing that anybody must know.
pub const WELL: u32 = 0;
/// [`Connection::compare`]: the members differ, as is known since just now.
pub const DIFFER: u32 = 1;
/// [`Connection::compare`]: both sums have begun anew.
pub const ANEW: u32 = 2;

/// What is to be summed of a segment, and the result. Begun and ended under the connection's lock; the bytes are read
/// between.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Task {
    /// [`NOTHING`], [`SUM`] or [`GAP`].
    pub what: u32,
    /// Bytes of the payload that were summed before.
    pub skip: u32,
    /// Where the sum began.
    pub from: u32,
    /// The next of `stops`.
    pub next: u32,
    /// Places at which the sum is wanted, ascending, the last one the payload's end.
    pub stops: [u32; 3],
    /// [`Connection::anew`] at the beginning.
    pub anew: u32,
    /// The sum so far.
    pub sum: Sum,
    /// The sums at the stops.
    pub at: [Sum; 3],
}

impl Task {
    /// How many bytes come next: [`STEP`] at most, 0 when all is done.
    #[inline(always)]
    pub fn step(&mut self) -> u32 {
        let mut pass = 0;
        while pass < 3 {
            let next = self.next as usize;
            if next >= 3 {
                break;
            }
            let left = self.stops[next].wrapping_sub(self.sum.pos);
            if left != 0 {
                return if left > STEP { STEP } else { left };
            }
            self.at[next].set(&self.sum);
            self.next = next as u32 + 1;
            pass += 1;
        }
        0
    }
}

impl Connection {
    /// Whether there may be something to be compared. Also when the other member has ended its half, be it after it was the primary: what
    /// it had said before that is still to be agreed with.
    #[inline(always)]
    const fn may_be_compared(&self) -> bool {
        self.verdict == Verdict::InSync as u32
            || self.verdict == Verdict::Diverged as u32 && self.why != Why::Payload as u32
    }

    /// Begins: what of this member's segment is new, and where it passes the other one.
    #[inline(always)]
    pub fn to_sum(&self, slot: u32, segment: &Segment, scene: &Scene, task: &mut Task) {
        task.what = NOTHING;
        if scene.compare == 0
            || !segment.is_of_stream()
            || segment.has(SYN | RST)
            || !self.may_be_compared()
            || !self.knows(slot, scene)
        {
            return;
        }
        let half = self.half(slot);
        let pos = half.sum.pos;
        let other = self.half(slot ^ 1).sum.pos;
        // Without a standby only what the last speaker has said before is compared.
        let both =
            scene.protect != 0 && self.verdict == Verdict::InSync as u32 && self.knows(slot ^ 1, scene);
        if !(after(other, pos) || both) {
            return;
        }
        if after(segment.seq, half.nxt.wrapping_add(FAR)) {
            return;
        }
        let begin = segment.seq.wrapping_sub(half.isn).wrapping_sub(1);
        let end = begin.wrapping_add(segment.payload);
        if !after(end, pos) {
            return;
        }
        task.what = SUM;
        task.from = pos;
        task.anew = self.anew;
        task.stops[0] = pos;
        task.stops[2] = end;
        if after(begin, pos) {
            task.what = GAP;
            return;
        }
        task.skip = pos.wrapping_sub(begin);
        task.next = 0;
        task.sum.set(&half.sum);
        let milestone = self.milestone.pos;
        if self.milestone_of == slot ^ 1 && after(milestone, pos) && !after(milestone, end) {
            task.stops[0] = milestone;
        }
        task.stops[1] = task.stops[0];
        if after(other, task.stops[0]) && !after(other, end) {
            task.stops[1] = other;
        }
    }

    /// Ends: takes the sums over, and compares. Returns [`WELL`], [`DIFFER`] or [`ANEW`].
    #[inline(always)]
    pub fn compare(&mut self, slot: u32, scene: &Scene, task: &Task) -> u32 {
        let pos = self.half(slot).sum.pos;
        // While the bytes were read, the other member's segment may have come to its end on another CPU.
        let stale = (pos ^ task.from) | (self.anew ^ task.anew);
        if task.what == NOTHING || !self.may_be_compared() || stale != 0 {
            return WELL;
        }
        let other = slot ^ 1;
        let end = task.stops[2];
        if task.what == GAP || task.next < 3 {
            // Another beginning, where neither of them has been.
            let begin = later(end, self.half(other).sum.pos);
            self.begin_sums(begin);
            return ANEW;
        }
        let mut differ = false;
        let mut passed = self.milestone_of == other && self.milestone.pos == task.stops[0];
        if passed {
            differ = !self.milestone.agrees(&task.at[0]);
        }
        if self.half(other).sum.pos == task.stops[1] && task.stops[1] != pos {
            passed = true;
            differ |= !self.half(other).sum.agrees(&task.at[1]);
        }
        self.half_mut(slot).sum.set(&task.at[2]);
        if differ {
            // Somebody else has begun what this one wanted to go on with: the client must not get a mixture.
            let sent = self.out.nxt.wrapping_sub(self.half(self.base).isn).wrapping_sub(1);
            let mixed = slot == scene.speaker && after(sent, pos);
            self.judge(if mixed { Verdict::Lost } else { Verdict::Diverged }, Why::Payload);
            self.milestone_of = NO_MILESTONE;
            return DIFFER;
        }
        if passed {
            self.flags |= COMPARED;
            // It was held until it got here, if it was; behind its end nothing of it is summed.
            self.half_mut(slot).flags &= !HELD;
        }
        if passed || self.milestone_of == NO_MILESTONE {
            let theirs = self.half(other).sum.pos;
            let ahead = if after(theirs, end) { other } else { slot };
            self.milestone_of = if theirs == end { NO_MILESTONE } else { ahead };
            let [a, b] = &self.half;
            self.milestone.set(if ahead & 1 == 0 { &a.sum } else { &b.sum });
        }
        WELL
    }

    /// Whether what this member says lies before the first place at which it can be compared with what the client has had
    /// from the other one. Only a new primary is ever behind a milestone of the other and has no gap before what it says (which
    /// begins comparing anew), but for `answer = "first"` while both are there: then each may be ahead, and there is nothing to
    /// be careful of yet. Of a server that answers otherwise from its first byte on, nothing is heard in this way, whatever was lost in the moment of the takeover; the first
    /// flight is short, so that what had to be held back comes again at once.
    #[inline(always)]
    #[must_use]
    pub const fn is_unproven(&self, slot: u32, scene: &Scene) -> bool {
        scene.compare != 0
            && ((self.flags & COMPARED) | (self.milestone_of ^ slot ^ 1)) == 0
            && self.may_be_compared()
            && scene.first & scene.protect & self.knows(slot ^ 1, scene) as u32 == 0
            && after(self.milestone.pos, self.half(slot).sum.pos)
    }

    /// Both sums begin here.
    #[inline(always)]
    pub const fn begin_sums(&mut self, pos: u32) {
        self.half[0].sum.restart(pos);
        self.half[1].sum.restart(pos);
        self.milestone_of = NO_MILESTONE;
        self.anew = self.anew.wrapping_add(1);
    }
}
