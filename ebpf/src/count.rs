//! Every way out of a program has a name, and the name is a counter.

use hotpair_abi::count::Counter;
#[cfg(feature = "log")]
use hotpair_abi::count::PER_ROW;

use crate::maps;

/// The row of what belongs to no pair.
pub const NO_PAIR: u32 = 0;

/// How a program ends: for whom (row of `STATS`), why, with which verdict (XDP or TC action). One word, so that a
/// function of its own can return it in a register.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Exit(u64);

/// The row of a pair.
#[inline(always)]
pub const fn row(pair: u32) -> u32 {
    pair + 1
}

/// Adds one.
#[inline(always)]
pub fn count(row: u32, counter: Counter) {
    add(row, counter as u32);
}

#[inline(always)]
fn add(row: u32, counter: u32) {
    if let Some(cell) = maps::cell(row, counter) {
        // SAFETY: the cell belongs to this CPU, and a program is not interrupted by another one that counts here.
        unsafe { *cell += 1 };
    }
}

impl Exit {
    /// Ends for the pair of this row, for this reason, with this verdict.
    #[inline(always)]
    pub const fn new(row: u32, why: Counter, action: i32) -> Exit {
        Exit::numbered(row, why as u32, action)
    }

    /// As [`Exit::new`], with the counter's number.
    #[inline(always)]
    pub const fn numbered(row: u32, why: u32, action: i32) -> Exit {
        Exit(((row as u64) << 32) | ((why as u64 & 0xff) << 8) | (action as u64 & 0xff))
    }

    /// As a word that is larger than any `u32`: no row but the one of no pair is zero.
    #[inline(always)]
    pub const fn into_word(self) -> u64 {
        self.0
    }

    /// From such a word.
    #[inline(always)]
    pub const fn from_word(word: u64) -> Exit {
        Exit(word)
    }

    /// Counts and gives the verdict.
    #[inline(always)]
    pub fn take(self) -> i32 {
        add((self.0 >> 32) as u32, (self.0 >> 8) as u32);
        (self.0 & 0xff) as i32
    }

    /// Whether the frame goes no further than here (XDP_PASS and TC_ACT_SHOT are one number).
    #[cfg(feature = "log")]
    #[inline(always)]
    pub fn is_drop(self) -> bool {
        use aya_ebpf::bindings::{TC_ACT_SHOT, xdp_action::XDP_DROP};
        let action = (self.0 & 0xff) as u32;
        action == XDP_DROP || action == TC_ACT_SHOT as u32
    }

    /// Row and counter.
    #[cfg(feature = "log")]
    #[inline(always)]
    pub fn reason(self) -> (u32, u32) {
        ((self.0 >> 32) as u32, (self.0 >> 8) as u32 % PER_ROW)
    }
}
