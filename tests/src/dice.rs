//! Chance that can be had again.

use std::thread;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};

/// A sequence of numbers that looks like chance (splitmix64).
#[derive(Clone, Debug)]
pub struct Dice(u64);

impl Dice {
    /// From the environment's `HOTPAIR_SEED`, or new; says which.
    ///
    /// # Errors
    /// When `HOTPAIR_SEED` is not a number.
    pub fn new(test: &str) -> Result<Dice> {
        let seed = match std::env::var("HOTPAIR_SEED") {
            Ok(seed) => seed.parse().context("HOTPAIR_SEED")?,
            Err(_) => Dice::clock(),
        };
        eprintln!("{test}: HOTPAIR_SEED={seed} does the same again");
        Ok(Dice(seed))
    }

    /// Another sequence each time, which nobody needs to have again.
    #[must_use]
    pub fn any() -> Dice {
        Dice(Dice::clock())
    }

    fn clock() -> u64 {
        SystemTime::UNIX_EPOCH.elapsed().map_or(1, |since| since.subsec_nanos().into())
    }

    /// The next number.
    #[allow(clippy::should_implement_trait, reason = "it never ends and is nothing to iterate over")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 up to this one, which it never is.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// Waits for up to so many milliseconds.
    pub fn wait(&mut self, ms: u64) {
        thread::sleep(Duration::from_micros(self.below(ms * 1000)));
    }
}
