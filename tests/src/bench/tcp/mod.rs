//! `bench tcp`: what carrying TCP connections over costs while nothing happens, and how long they stand still when the
//! primary dies. What each figure is exactly is in docs/performance.md.
//!
//! | file | about |
//! | --- | --- |
//! | `client.rs` | the measuring clients: bulk and requests |
//! | `ways.rs` | the ways from the client to a member that are compared, each in a lab of its own |
//! | `failure.rs` | a primary that falls silent while connections are open |
//! | `stalls.rs` | how long each connection stood still then |
//! | `first.rs` | how long a request waited then with `answer = "first"` |
//! | `segments.rs` | segments a second through the programs alone, beside datagrams |
//! | `programs.rs` | nanoseconds of each program, by the kernel's account |

mod client;
mod failure;
mod first;
mod programs;
mod segments;
mod stalls;
mod ways;

use std::str::FromStr;
use std::time::Duration;

use anyhow::{Context, Result};

use super::{Machine, Series, Sheet, say};
use crate::alone::alone;
use client::Towards;
use programs::Programs;
use ways::{Site, Way};

/// How much to measure.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Turns of goodput, requests and segments: in each, every way is measured once.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// How long a way is measured in a turn.
    #[arg(long, default_value = "300ms", value_parser = humantime::parse_duration)]
    pub time: Duration,
    /// Failovers with timeouts of 5 and of 50 ms.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub failovers: u32,
    /// Failovers with a timeout of a second.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub slow_failovers: u32,
    /// Bytes a second, at most, of the downloads and uploads that are failed over; 0 for as many as the machine can.
    #[arg(long, default_value_t = 40_000_000)]
    pub pace: u64,
    /// Only these: goodput, requests, programs, segments, stalls.
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<Part>,
}

/// A part of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Bytes a second of one connection and of fifty.
    Goodput,
    /// Requests a second, and how long each takes.
    Requests,
    /// Nanoseconds of each program.
    Programs,
    /// Segments a second.
    Segments,
    /// How long a failover stops a connection.
    Stalls,
}

impl FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Part, String> {
        Ok(match text {
            "goodput" => Part::Goodput,
            "requests" => Part::Requests,
            "programs" => Part::Programs,
            "segments" => Part::Segments,
            "stalls" => Part::Stalls,
            _ => return Err(format!("no part `{text}`: goodput, requests, programs, segments or stalls")),
        })
    }
}

/// Before what is measured begins: connections find their window.
const START: Duration = Duration::from_millis(100);
/// Connections of the wide measurements.
const MANY: usize = 50;

/// What is measured of a way, and how often in a turn.
#[derive(Clone, Copy)]
enum Load {
    Bulk(usize, Towards),
    Pipeline(usize),
}

const LOADS: [Load; 6] = [
    Load::Bulk(1, Towards::Client),
    Load::Bulk(1, Towards::Server),
    Load::Bulk(MANY, Towards::Client),
    Load::Bulk(MANY, Towards::Server),
    Load::Pipeline(1),
    Load::Pipeline(16),
];

impl Load {
    fn name(self) -> String {
        match self {
            Load::Bulk(connections, towards) => {
                let what = if towards == Towards::Client { "download" } else { "upload" };
                format!("{what}, {connections} connection{}", if connections == 1 { "" } else { "s" })
            }
            Load::Pipeline(depth) => format!("requests, {depth} at a time"),
        }
    }

    const fn part(self) -> Part {
        match self {
            Load::Bulk(..) => Part::Goodput,
            Load::Pipeline(_) => Part::Requests,
        }
    }

    /// What is read off: a name's end and a unit each.
    const fn figures(self) -> &'static [(&'static str, &'static str)] {
        match self {
            Load::Bulk(..) => &[("", "Gbit/s")],
            Load::Pipeline(_) => &[("", "thousand/s"), (": latency, median", "us"), (": latency, p99", "us")],
        }
    }

    /// Puts the load on a way.
    fn run(self, site: &Site, time: Duration) -> Result<Vec<f64>> {
        let (client, to, times) = (site.client(), site.to()?, [START, time]);
        match self {
            Load::Bulk(connections, towards) => {
                Ok(vec![client::goodput(client, to, connections, towards, times)?])
            }
            Load::Pipeline(depth) => {
                let answered = client::requests(client, to, depth, times)?;
                Ok(vec![answered.rate, answered.median, answered.p99])
            }
        }
    }
}

/// Measures.
///
/// # Errors
/// When a way cannot be made, a connection breaks, or a failover does not come to its end.
pub fn run(options: &Options, machine: Machine) -> Result<Sheet> {
    let title = "TCP connections that are carried over: what that costs, and how long a failover stops them";
    let mut sheet = Sheet::new("tcp", title, machine);
    let wanted = |part: Part| options.only.is_empty() || options.only.contains(&part);
    if [Part::Goodput, Part::Requests, Part::Programs].into_iter().any(wanted) {
        let sites = Way::ALL.into_iter().map(|way| Site::new(way).with_context(|| way.name()));
        let sites = sites.collect::<Result<Vec<_>>>()?;
        let loads: Vec<Load> = LOADS.into_iter().filter(|load| wanted(load.part())).collect();
        in_turns(&mut sheet, &sites, &loads, options)?;
        if wanted(Part::Programs) {
            programs(&mut sheet, &sites, options)?;
        }
    }
    if wanted(Part::Segments) {
        alone(|| segments::measure(&mut sheet, options.rounds, options.time))?;
    }
    if wanted(Part::Stalls) {
        for (timeout, rounds) in
            [(5, options.failovers), (50, options.failovers), (1000, options.slow_failovers)]
        {
            if rounds > 0 {
                let timeout = Duration::from_millis(timeout);
                stalls::measure(&mut sheet, timeout, rounds, options.pace)?;
                first::measure(&mut sheet, timeout, rounds)?;
            }
        }
    }
    Ok(sheet)
}

/// Every load on every way in each turn: what is compared is measured one right after the other.
fn in_turns(sheet: &mut Sheet, sites: &[Site], loads: &[Load], options: &Options) -> Result<()> {
    for load in loads {
        // Of each way, of each figure.
        let mut series: Vec<Vec<Series>> = sites
            .iter()
            .map(|site| {
                let named = |(end, unit): &(&str, &'static str)| {
                    Series::new(format!("{}: {}{end}", load.name(), site.way.name()), unit)
                };
                load.figures().iter().map(named).collect()
            })
            .collect();
        for round in 1..=options.rounds {
            say(format_args!("tcp: {}: turn {round} of {}", load.name(), options.rounds));
            for (site, series) in sites.iter().zip(&mut series) {
                let figures = site.undisturbed(|| load.run(site, options.time));
                let figures = figures.with_context(|| format!("{}: {}", site.way.name(), load.name()))?;
                for (series, figure) in series.iter_mut().zip(figures) {
                    series.values.push(figure);
                }
            }
        }
        for figure in 0..load.figures().len() {
            for (site, own) in sites.iter().zip(&series) {
                let beside = site.way.beside().iter().filter_map(|way| {
                    let at = sites.iter().position(|other| other.way == *way)?;
                    Some(&series[at][figure])
                });
                sheet.add(&own[figure], &beside.collect::<Vec<_>>())?;
            }
        }
    }
    Ok(())
}

/// Nanoseconds of the programs under the loads of one connection.
fn programs(sheet: &mut Sheet, sites: &[Site], options: &Options) -> Result<()> {
    for load in [LOADS[0], LOADS[1], LOADS[4]] {
        for site in sites.iter().filter(|site| !matches!(site.way, Way::Routing | Way::Bare)) {
            let programs = Programs::pinned(&site.lab.dir().join("bpf/hotpair"))?;
            let mut series: Vec<Series> = Vec::new();
            for _ in 0..options.rounds.min(3) {
                for (program, cost) in
                    site.undisturbed(|| programs.during(|| load.run(site, options.time).map(drop)))?
                {
                    let name = format!("{program}: {}, {}", load.name(), site.way.name());
                    match series.iter_mut().find(|series| series.name == name) {
                        Some(series) => series.values.push(cost),
                        None => series.push(Series { values: vec![cost], ..Series::new(name, "ns a run") }),
                    }
                }
            }
            for own in &series {
                sheet.add(own, &[])?;
            }
        }
    }
    Ok(())
}
