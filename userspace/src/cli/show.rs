//! `hotpair show PAIR`

use clap::Args;

use super::paint::{Meaning, Paint};
use super::{Exit, Globals, Output, VerbError, flows, print, print_json, status, time};
use crate::api::types;

/// Show one pair with its settings and counters
#[derive(Debug, Args)]
pub struct Show {
    /// The pair
    pub pair: String,
    /// text or json
    #[arg(short, long, value_enum, default_value_t = Output::Text, hide_possible_values = true)]
    pub output: Output,
}

impl Show {
    pub(super) async fn go(self, globals: &Globals) -> Result<Exit, VerbError> {
        let show = globals.client()?.show(&self.pair).await?;
        match self.output {
            Output::Json => print_json(&show)?,
            Output::Text => print(&text(&show, time::now_ms(), Paint::for_stdout())),
        }
        Ok(show.pair.protection.into())
    }
}

fn text(show: &types::Show, now_ms: u64, paint: Paint) -> String {
    let pair = &show.pair;
    let (word, meaning) = status::word(pair.protection);
    let mut out = format!("{}: {}\n\n", paint.paint(word, meaning), status::sentence(pair, now_ms));
    let entry: Vec<String> = pair.entry.iter().map(ToString::to_string).collect();
    let replace = if show.auto_replace { "by themselves" } else { "when asked to" };
    for (name, value) in [
        ("entry", entry.join(", ")),
        ("takeover", format!("{}, ack {}", pair.takeover, show.ack)),
        ("mac", show.mac.clone()),
        ("epoch", pair.epoch.to_string()),
        (
            "heartbeat",
            format!(
                "{}, every {} ms, failed after {} ms",
                show.heartbeat_source, show.interval_ms, show.timeout_ms
            ),
        ),
        ("replaced", replace.to_owned()),
        ("tcp", show.tcp.as_ref().map_or_else(|| "connections are not carried over".to_owned(), tcp)),
    ] {
        out += &format!("{name:<10} {value}\n");
    }
    let heading = [
        "SLOT",
        "ROLE",
        "GENERATION",
        "PHASE",
        "FOR",
        "TAP",
        "INTERNAL IP",
        "LAST SIGN",
        "REQUESTS",
        "IN FLIGHT",
    ];
    let mut rows = vec![heading.map(|text| (text.to_owned(), Meaning::Faint)).to_vec()];
    for member in &pair.members {
        let age =
            member.beat_age_ms.map_or_else(|| "never".to_owned(), |age| time::short(age * 1_000.0) + " ago");
        let cells = [
            member.slot.to_string(),
            member.role.clone(),
            member.generation.to_string(),
            status::phase(member),
            time::ago(member.since_at_ms, now_ms),
            member.tap.clone(),
            member.internal_ip.to_string(),
            age,
            member.requests.to_string(),
            member.in_flight.to_string(),
        ];
        rows.push(cells.map(|text| (text, Meaning::Plain)).to_vec());
    }
    out += &format!("\n{}", paint.table(&rows));
    for member in &pair.members {
        if let Some(why) = &member.why {
            out += &format!("slot {}: {why}\n", member.slot);
        }
    }
    if !show.counters.is_empty() {
        let mut rows = vec![["PACKETS", "COUNTER"].map(|text| (text.to_owned(), Meaning::Faint)).to_vec()];
        let width =
            show.counters.iter().map(|count| count.packets.to_string().len()).max().unwrap_or(0).max(7);
        rows.extend(show.counters.iter().map(|count| {
            vec![(format!("{:>width$}", count.packets), Meaning::Plain), (count.name.clone(), Meaning::Plain)]
        }));
        out += &format!("\n{}", paint.table(&rows));
    }
    out
}

/// The connections in one line.
fn tcp(tcp: &types::Tcp) -> String {
    let counts = flows::counts(&tcp.counts);
    if tcp.lag_bytes == 0 {
        return format!("{counts}; the standby has all that the primary has");
    }
    format!("{counts}; the standby is behind by {} B, for {:.1} ms", tcp.lag_bytes, tcp.lag_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_connections_and_the_standbys_lag_are_one_line() {
        let count = |verdict: &str, connections| types::FlowCount { verdict: verdict.into(), connections };
        let mut some = types::Tcp::default();
        assert_eq!(tcp(&some), "no connections; the standby has all that the primary has");
        some.counts = vec![count("in_sync", 22), count("unprotected", 1)];
        (some.lag_bytes, some.lag_ms) = (2920, 3.25);
        assert_eq!(tcp(&some), "22 in_sync, 1 unprotected; the standby is behind by 2920 B, for 3.2 ms");
    }
}
