//! `bench packets`: frames a second through the data plane, beside the least that the kernel could do for it and beside
//! what one would use without it. What each way does exactly is in docs/performance.md.
//!
//! | file | about |
//! | --- | --- |
//! | `code.rs` | the bare programs, as instructions |
//! | `path.rs` | a way for frames: where they go in, where they are counted |
//! | `ways.rs` | the ways that are compared |
//!
//! Frames are made by BPF_PROG_TEST_RUN (live frames) and sent out of one end of a veth; the other end is the uplink.
//! Everything happens on one CPU, in a network namespace of its own. What counts is what arrived at every member.

mod code;
mod path;
mod ways;

pub(super) use code::{Count, Devices, TAKEN_OFF, redirect_by_address, spreading_sender};
pub(super) use path::{Gate, Path, stay_on_one_cpu};
pub(super) use ways::{SENDER_MAC, UPLINK_MAC, V4, WEB, data_plane};

use std::time::Duration;

use anyhow::{Context, Result};

use super::{Machine, Series, Sheet, say};
use crate::alone::alone;

/// How long to measure.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Turns: in each, every way is measured once.
    #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// How long a way is measured in a turn.
    #[arg(long, default_value = "2s", value_parser = humantime::parse_duration)]
    pub time: Duration,
    /// Bytes of payload of each datagram.
    #[arg(long, default_value_t = 18, value_parser = clap::value_parser!(u16).range(0..=1400))]
    pub payload: u16,
}

/// Measures.
///
/// # Errors
/// When a way cannot be made, or a frame does not arrive.
pub fn run(options: &Options, machine: Machine) -> Result<Sheet> {
    alone(|| measure(options, machine))
}

fn measure(options: &Options, machine: Machine) -> Result<Sheet> {
    path::stay_on_one_cpu()?;
    let ways = ways::all(options.payload).context("preparing what is compared")?;
    let series = in_turns("packets", &ways, options.rounds, options.time)?;
    let title = format!(
        "Frames a second delivered to every member of the path (UDP, {} bytes of payload, one CPU)",
        options.payload
    );
    let mut sheet = Sheet::new("packets", title, machine);
    enter(&mut sheet, &ways, &series)?;
    Ok(sheet)
}

/// Sends frames every way in each turn, for this time each; how many millions a second arrived.
pub(super) fn in_turns(what: &str, ways: &[Path], rounds: u32, time: Duration) -> Result<Vec<Series>> {
    let mut series: Vec<Series> =
        ways.iter().map(|path| Series::new(path.name.clone(), "Mframes/s")).collect();
    let frames = ways.iter().map(|path| path.frames_in(time)).collect::<Result<Vec<_>>>()?;
    for round in 1..=rounds {
        say(format_args!("{what}: turn {round} of {rounds}"));
        for ((path, series), frames) in ways.iter().zip(&mut series).zip(&frames) {
            let ran = path.run(*frames)?;
            let lost = 1.0 - ran.delivered as f64 / ran.offered as f64;
            if lost > 0.001 {
                say(format_args!("{what}: {}: {:.1} % did not arrive", path.name, lost * 100.0));
            }
            series.values.push(ran.delivered as f64 / ran.took.as_secs_f64() / 1e6);
        }
    }
    Ok(series)
}

/// Enters the figures, each way beside those it names.
pub(super) fn enter(sheet: &mut Sheet, ways: &[Path], series: &[Series]) -> Result<()> {
    for (path, own) in ways.iter().zip(series) {
        let compared: Vec<&Series> =
            path.beside.iter().filter_map(|name| series.iter().find(|other| other.name == *name)).collect();
        sheet.add(own, &compared)?;
    }
    Ok(())
}
