//! `bench failover`: what a failover costs a client, in the namespace lab with the real controller, beside keepalived
//! under the same client and the same faults. What each round does exactly is in docs/performance.md.
//!
//! | file | about |
//! | --- | --- |
//! | `round.rs` | one fault, and what became of it |
//! | `client.rs` | the measuring client |
//! | `site.rs` | hotpair's side: the lab, and what is done to it |
//! | `keepalived.rs` | keepalived's side: two namespaces on a bridge |
//!
//! No round begins before the redundancy is back.

mod client;
mod keepalived;
mod round;
mod site;

use std::time::Duration;

use anyhow::{Context, Result};

pub use keepalived::{Echo, echo};
pub(super) use site::last_beat;

use super::{Machine, Series, Sheet, say};
use round::Round;

/// How often, and how fast.
#[derive(clap::Args, Clone, Debug)]
pub struct Options {
    /// Rounds of each fault.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub rounds: u32,
    /// Rounds of each fault with keepalived at 10 ms adverts.
    #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub keepalived_rounds: u32,
    /// Rounds of each fault with keepalived as it is by default; each takes some ten seconds.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub keepalived_default_rounds: u32,
    /// Between two heartbeats.
    #[arg(long, default_value = "1ms", value_parser = humantime::parse_duration)]
    pub interval: Duration,
    /// A member silent for this long has failed.
    #[arg(long, default_value = "5ms", value_parser = humantime::parse_duration)]
    pub timeout: Duration,
    /// Only these: kill, freeze, switchover, latch.
    #[arg(long, value_delimiter = ',')]
    pub only: Vec<site::Fault>,
}

/// Measures.
///
/// # Errors
/// When a round does not come to its end: nobody took over, or the redundancy did not come back.
pub fn run(options: &Options, machine: Machine) -> Result<Sheet> {
    let title = format!(
        "What a failover costs a client (heartbeat {}, timeout {}, a datagram every {} us)",
        humantime::format_duration(options.interval),
        humantime::format_duration(options.timeout),
        1_000_000 / client::RATE
    );
    let mut sheet = Sheet::new("failover", title, machine);
    let mut ours = Vec::new();
    for fault in site::Fault::ALL {
        if options.only.is_empty() || options.only.contains(&fault) {
            let name = format!("hotpair, {}", fault.name());
            let (rounds, again) = site::measure(options, fault).with_context(|| name.clone())?;
            let mut all = series(&name, &rounds);
            if again > 0 {
                let name = format!("{name}, rounds done again");
                all.push(Series { values: vec![again.into()], ..Series::new(name, "rounds") });
            }
            ours.push((fault, all));
        }
    }
    let mut theirs = Vec::new();
    for (adverts, rounds) in [
        (keepalived::Adverts::TenMilliseconds, options.keepalived_rounds),
        (keepalived::Adverts::Default, options.keepalived_default_rounds),
    ] {
        for fault in [site::Fault::Kill, site::Fault::Freeze] {
            if rounds > 0 && (options.only.is_empty() || options.only.contains(&fault)) {
                let name = format!("keepalived, {}, {}", adverts.name(), fault.name());
                let rounds = keepalived::measure(adverts, fault, rounds).with_context(|| name.clone())?;
                theirs.push((fault, series(&name, &rounds)));
            }
        }
    }
    for (fault, all) in ours.iter().chain(&theirs) {
        for one in all {
            // The same thing of keepalived under the same fault.
            let what = |series: &Series| series.name.rsplit(", ").next().map(str::to_owned);
            let is_ours = one.name.starts_with("hotpair");
            let beside = theirs.iter().filter(|(other, _)| is_ours && other == fault);
            let beside: Vec<_> =
                beside.flat_map(|(_, all)| all).filter(|other| what(other) == what(one)).collect();
            let beside = if one.name.ends_with(", gap") { beside } else { Vec::new() };
            sheet.add(one, &beside)?;
        }
    }
    Ok(sheet)
}

/// What was measured of each round, one series each.
fn series(name: &str, rounds: &[Round]) -> Vec<Series> {
    let mut all = Vec::new();
    let mut add = |what: &str, unit, values: Vec<f64>| {
        if !values.is_empty() {
            all.push(Series { values, ..Series::new(format!("{name}, {what}"), unit) });
        }
    };
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    add("detection", "ms", rounds.iter().filter_map(|round| round.detection.map(ms)).collect());
    add("flip", "us", rounds.iter().filter_map(|round| round.flip_us).collect());
    add("gap", "ms", rounds.iter().map(|round| ms(round.gap)).collect());
    add("lost", "datagrams", rounds.iter().map(|round| round.lost as f64).collect());
    add("doubled", "datagrams", rounds.iter().map(|round| round.doubled as f64).collect());
    all
}

/// Progress every few rounds.
fn tell(what: &str, number: u32, of: u32, round: &Round) {
    if number == 1 || number == of || number.is_multiple_of(10) {
        say(format_args!("{what}: round {number} of {of}: {}", round.line()));
    }
}
