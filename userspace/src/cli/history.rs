//! `hotpair history [PAIR]`

use clap::Args;

use super::paint::{Meaning, Paint};
use super::{Exit, Globals, Output, VerbError, print, print_json, status, time};
use crate::api::types::{Record, RecordKind};

/// Show what happened
#[derive(Debug, Args)]
pub struct History {
    /// Only this pair's
    pub pair: Option<String>,
    /// At most this many records, the newest
    #[arg(short = 'n', long, default_value_t = 100, value_name = "N")]
    pub limit: usize,
    /// text (oldest first, so that the newest is next to the prompt) or json (newest first)
    #[arg(short, long, value_enum, default_value_t = Output::Text, hide_possible_values = true)]
    pub output: Output,
}

impl History {
    pub(super) async fn go(self, globals: &Globals) -> Result<Exit, VerbError> {
        let records = globals.client()?.history(self.pair.as_deref(), self.limit).await?;
        match self.output {
            Output::Json => print_json(&records)?,
            Output::Text => print(&text(&records, Paint::for_stdout())),
        }
        Ok(Exit::Well)
    }
}

fn text(records: &[Record], paint: Paint) -> String {
    if records.is_empty() {
        return "nothing has happened yet\n".to_owned();
    }
    let heading = ["TIME", "PAIR", "WHAT", "EPOCH", ""];
    let mut rows = vec![heading.map(|text| (text.to_owned(), Meaning::Faint)).to_vec()];
    rows.extend(records.iter().rev().map(|record| {
        let epoch = if record.epoch_before == record.epoch_after {
            record.epoch_after.to_string()
        } else {
            format!("{} -> {}", record.epoch_before, record.epoch_after)
        };
        vec![
            (time::date(record.at_ms, true), Meaning::Plain),
            (record.pair.clone(), Meaning::Plain),
            (status::kind(record.kind).to_owned(), meaning(record.kind)),
            (epoch, Meaning::Plain),
            (record.text.clone(), Meaning::Plain),
        ]
    }));
    paint.table(&rows)
}

fn meaning(kind: RecordKind) -> Meaning {
    match kind {
        RecordKind::Failover
        | RecordKind::MemberLost
        | RecordKind::ReplaceFailed
        | RecordKind::ReleaseFailed => Meaning::Bad,
        RecordKind::SwitchoverAborted | RecordKind::Delayed | RecordKind::Paused => Meaning::Warning,
        RecordKind::Protected => Meaning::Good,
        _ => Meaning::Plain,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_record_is_the_last_line() {
        let record = |at_ms, kind, epoch_before, epoch_after, text: &str| Record {
            at_ms,
            pair: "web".into(),
            kind,
            slot: None,
            generation: None,
            epoch_before,
            epoch_after,
            detected_by: None,
            detect_us: None,
            flip_us: None,
            connections: None,
            text: text.into(),
        };
        let records = [
            record(2_000, RecordKind::Failover, 1, 2, "slot 1 serves"),
            record(1_000, RecordKind::Started, 1, 1, "slot 0 serves"),
        ];
        assert_eq!(
            text(&records, Paint::OFF),
            "TIME                         PAIR  WHAT      EPOCH   \n\
             1970-01-01 00:00:01.000 UTC  web   started   1       slot 0 serves\n\
             1970-01-01 00:00:02.000 UTC  web   failover  1 -> 2  slot 1 serves\n"
        );
        assert_eq!(text(&[], Paint::OFF), "nothing has happened yet\n");
    }
}
