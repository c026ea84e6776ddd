//! `hotpair flows PAIR`

use clap::Args;

use super::paint::{Meaning, Paint};
use super::{Exit, Globals, Output, VerbError, print, print_json, time};
use crate::api::types;

/// Show a pair's TCP connections: which of them would go on through a failover now, and why others would not
#[derive(Debug, Args)]
pub struct Flows {
    /// The pair
    pub pair: String,
    /// At most this many connections, those that would not go on first
    #[arg(short = 'n', long, default_value_t = 100, value_name = "N")]
    pub limit: usize,
    /// text or json
    #[arg(short, long, value_enum, default_value_t = Output::Text, hide_possible_values = true)]
    pub output: Output,
}

impl Flows {
    pub(super) async fn go(self, globals: &Globals) -> Result<Exit, VerbError> {
        let flows = globals.client()?.flows(&self.pair, self.limit).await?;
        match self.output {
            Output::Json => print_json(&flows)?,
            Output::Text => print(&text(&flows, Paint::for_stdout())),
        }
        Ok(Exit::Well)
    }
}

/// How many there are of each verdict.
pub(super) fn counts(counts: &[types::FlowCount]) -> String {
    if counts.is_empty() {
        return "no connections".to_owned();
    }
    let each: Vec<String> =
        counts.iter().map(|count| format!("{} {}", count.connections, count.verdict)).collect();
    each.join(", ")
}

fn text(flows: &types::Flows, paint: Paint) -> String {
    if !flows.carried {
        return "TCP connections of this pair are not carried over: ack = \"none\" or takeover = \"address\"\n".to_owned();
    }
    let all: usize = flows.counts.iter().map(|count| count.connections).sum();
    let mut out = format!("{}\n", counts(&flows.counts));
    if flows.flows.is_empty() {
        return out;
    }
    let heading = ["CLIENT", "ENTRY", "VERDICT", "RECEIVED", "SENT", "LAG", "IDLE", "WHY"];
    let mut rows = vec![heading.map(|text| (text.to_owned(), Meaning::Faint)).to_vec()];
    for flow in &flows.flows {
        let meaning = if flow.verdict == "in_sync" { Meaning::Plain } else { Meaning::Warning };
        let lag = match flow.lag_bytes {
            0 => "none".to_owned(),
            bytes => format!("{bytes} B, {:.1} ms", flow.lag_ms),
        };
        let plain = |text: String| (text, Meaning::Plain);
        rows.push(vec![
            plain(flow.client.clone()),
            plain(flow.entry.clone()),
            (flow.verdict.clone(), meaning),
            plain(flow.received.to_string()),
            plain(flow.sent.to_string()),
            plain(lag),
            plain(time::short(flow.idle_ms * 1e3)),
            plain(flow.why.clone()),
        ]);
    }
    out += &format!("\n{}", paint.table(&rows));
    if flows.flows.len() < all {
        out += &format!("{} more: --limit\n", all - flows.flows.len());
    }
    out
}
