//! `bench scale`: what many pairs cost. Frames a second with 1 to 10,000 pairs in the maps, and what a controller takes
//! that has nothing to do but to hear their members beat.
//!
//! | file | about |
//! | --- | --- |
//! | `frames.rs` | data planes of different sizes, side by side, and frames through them and past them |
//! | `herds.rs` | processes that beat for all members |
//! | `rest.rs` | a controller at rest: processor and memory |
//!
//! The members' NICs are taps that nobody reads: the kernel's redirect ends there, with however many pairs. That frames
//! were duplicated for the pair they were sent to is seen by the data plane's counters; that they arrive, by the tests.

mod frames;
mod herds;
mod rest;

use std::time::Duration;

use anyhow::Result;

pub use herds::{Beat, beat};

use super::{Machine, Series, Sheet};
use crate::alone::alone;

/// How much to measure.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Numbers of pairs.
    #[arg(long, default_values_t = [1, 10, 100, 1000, 10_000], value_delimiter = ',')]
    pub pairs: Vec<usize>,
    /// Turns: in each, every number of pairs is measured once.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Frames that are sent through each in a turn.
    #[arg(long, default_value_t = 2_000_000)]
    pub frames: u32,
    /// For how long a controller at rest is watched, each time of three; 0s for not at all.
    #[arg(long, default_value = "10s", value_parser = humantime::parse_duration)]
    pub rest: Duration,
}

/// As many pairs, in words.
fn pairs(count: usize) -> String {
    if count == 1 { "1 pair".to_owned() } else { format!("{count} pairs") }
}

/// Measures. What was measured before a controller failed is not lost: it comes with the failure.
///
/// # Errors
/// When a data plane cannot be set up, or a frame goes the wrong way.
pub fn run(options: &Options, machine: Machine) -> Result<(Sheet, Result<()>)> {
    let mut sheet = Sheet::new(
        "scale",
        "Many pairs: frames duplicated, and a controller at rest with all members beating",
        machine,
    );
    let [own, bare] = alone(|| frames::measure(options))?;
    for (own, bare) in [(own.one, bare.one), (own.random, bare.random)] {
        for (number, series) in bare.iter().enumerate() {
            sheet.add(series, &[&bare[0]][..number.min(1)])?;
        }
        for (number, series) in own.iter().enumerate() {
            let beside = [&own[0], &bare[number]];
            sheet.add(series, if number == 0 { &beside[1..] } else { &beside })?;
        }
    }
    let at_rest = controllers(options, &mut sheet);
    Ok((sheet, at_rest))
}

fn controllers(options: &Options, sheet: &mut Sheet) -> Result<()> {
    for count in options.pairs.iter().filter(|_| !options.rest.is_zero()) {
        for series in rest::measure(*count, options.rest)? {
            sheet.add(&series, &[] as &[&Series])?;
        }
    }
    Ok(())
}
