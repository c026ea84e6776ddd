//! `hotpair status`: the first line is what a tired person needs.

use clap::Args;

use super::paint::{Meaning, Paint};
use super::{Exit, Globals, Output, VerbError, print, print_json, time};
use crate::api::types::{self, MemberStatus, PairStatus, Protection, Record, RecordKind};

/// Show how everything is: protected or not, who serves, since when, what happened last
#[derive(Debug, Args)]
pub struct Status {
    /// text or json
    #[arg(short, long, value_enum, default_value_t = Output::Text, hide_possible_values = true)]
    pub output: Output,
}

impl Status {
    pub(super) async fn go(self, globals: &Globals) -> Result<Exit, VerbError> {
        let status = globals.client()?.status().await?;
        match self.output {
            Output::Json => print_json(&status)?,
            Output::Text => print(&text(&status, time::now_ms(), Paint::for_stdout())),
        }
        Ok(status.protection.into())
    }
}

/// Everything as text. `now_ms` is Unix time.
fn text(status: &types::Status, now_ms: u64, paint: Paint) -> String {
    let mut out = first_line(status, now_ms, paint) + "\n";
    for trouble in troubles(status) {
        out += &format!("{}: {trouble}\n", paint.paint("trouble", Meaning::Bad));
    }
    for note in &status.notes {
        out += &format!("{}: {note}\n", paint.paint("note", Meaning::Warning));
    }
    for pair in status.pairs.iter().filter(|_| status.pairs.len() > 1) {
        if let Some(why) = &pair.why {
            out += &format!("{}: {why}\n", pair.name);
        }
    }
    out.push('\n');
    let heading = ["PAIR", "STATE", "PRIMARY", "STANDBY", "EPOCH", "FOR", "LAST"];
    let mut rows = vec![heading.map(|text| (text.to_owned(), Meaning::Faint)).to_vec()];
    rows.extend(status.pairs.iter().map(|pair| row(pair, now_ms)));
    out + &paint.table(&rows)
}

pub(super) fn word(protection: Protection) -> (&'static str, Meaning) {
    match protection {
        Protection::Protected => ("PROTECTED", Meaning::Good),
        Protection::Unprotected => ("UNPROTECTED", Meaning::Warning),
        Protection::Down => ("DOWN", Meaning::Bad),
    }
}

fn troubles(status: &types::Status) -> Vec<String> {
    let mut troubles = status.troubles.clone();
    if !status.hypervisor.reachable {
        let why = status.hypervisor.why.as_deref().unwrap_or("it does not answer");
        troubles.push(format!("{} cannot be reached: {why}", status.hypervisor.kind));
    }
    troubles
}

fn first_line(status: &types::Status, now_ms: u64, paint: Paint) -> String {
    let (state, meaning) = word(status.protection);
    let state = paint.paint(state, meaning);
    match status.pairs.as_slice() {
        [pair] => format!("{state}: {}", sentence(pair, now_ms)),
        pairs => {
            let worst: Vec<&PairStatus> =
                pairs.iter().filter(|pair| pair.protection != Protection::Protected).collect();
            let last = pairs
                .iter()
                .filter_map(|pair| pair.last.as_ref())
                .max_by_key(|record| record.at_ms)
                .map(|record| format!("; last: {}, {}", record.pair, last(record, now_ms)))
                .unwrap_or_default();
            let which = if worst.is_empty() {
                format!("all {} pairs", pairs.len())
            } else {
                let names: Vec<&str> = worst.iter().map(|pair| pair.name.as_str()).collect();
                format!(
                    "{} ({} of {} pairs are protected)",
                    names.join(", "),
                    pairs.len() - worst.len(),
                    pairs.len()
                )
            };
            format!("{state}: {which}{last}")
        }
    }
}

/// Who serves, since when, why it is not well, what happened last.
pub(super) fn sentence(pair: &PairStatus, now_ms: u64) -> String {
    let since = |at_ms| format!("since {} ({})", time::date(at_ms, false), time::ago(at_ms, now_ms));
    let mut text = match pair.primary {
        Some(slot) => {
            let alone = if pair.protection == Protection::Protected { "" } else { " alone" };
            let at_ms = pair.primary_since_at_ms.unwrap_or(pair.since_at_ms);
            format!("{} is served by slot {slot}{alone} {}", pair.name, since(at_ms))
        }
        None => format!("{} is served by nobody {}", pair.name, since(pair.since_at_ms)),
    };
    if pair.paused && !pair.why.as_ref().is_some_and(|why| why.contains("paused")) {
        text += "; paused: no automatic failover";
    }
    if let Some(why) = &pair.why {
        text += &format!("; {}", why.trim_end_matches('.'));
    }
    if let Some(record) = &pair.last {
        text += &format!("; last: {}", last(record, now_ms));
    }
    text
}

/// `failover 3 min ago, found by heartbeat, gap 9.3 ms`
pub(super) fn last(record: &Record, now_ms: u64) -> String {
    let mut text = format!("{} {} ago", kind(record.kind), time::ago(record.at_ms, now_ms));
    match record.detected_by.as_deref() {
        None => {}
        Some("operator") => text += ", by an operator",
        Some(found) if record.kind == RecordKind::Failover => text += &format!(", found by {found}"),
        Some(found) => text += &format!(", by the {found}"),
    }
    if let Some(gap) = gap_us(record) {
        text += &format!(", gap {}", time::short(gap));
    }
    text
}

/// From the old primary's last sign of life to the changed map word, as the host saw it. A switchover leaves none: the
/// old primary answers until the new one does.
fn gap_us(record: &Record) -> Option<f64> {
    (record.kind == RecordKind::Failover).then_some(())?;
    Some(record.detect_us? as f64 + record.flip_us.unwrap_or(0.0))
}

/// A kind of record in the operator's words.
pub(super) fn kind(kind: RecordKind) -> &'static str {
    match kind {
        RecordKind::Started => "started",
        RecordKind::Failover => "failover",
        RecordKind::Switchover => "switchover",
        RecordKind::SwitchoverAborted => "switchover given up",
        RecordKind::MemberLost => "member lost",
        RecordKind::Delayed => "delayed",
        RecordKind::Fenced => "fenced",
        RecordKind::Released => "released",
        RecordKind::ReleaseFailed => "release failed",
        RecordKind::Replacing => "replacing",
        RecordKind::ReplaceFailed => "replacement failed",
        RecordKind::Protected => "protected",
        RecordKind::Paused => "paused",
        RecordKind::Resumed => "resumed",
        RecordKind::Adopted => "adopted",
        RecordKind::Connections => "connections",
    }
}

fn row(pair: &PairStatus, now_ms: u64) -> Vec<(String, Meaning)> {
    let (state, meaning) = word(pair.protection);
    let state = state.to_lowercase() + if pair.paused { ", paused" } else { "" };
    let of =
        |role: &str| pair.members.iter().filter(|member| member.role == role).map(member).collect::<Vec<_>>();
    // A place without a role is one that is being filled.
    let standby = [of("standby"), of("none")].concat();
    let shown = |members: Vec<String>| if members.is_empty() { "-".to_owned() } else { members.join(", ") };
    let last = pair.last.as_ref().map_or_else(|| "-".to_owned(), |record| last(record, now_ms));
    vec![
        (pair.name.clone(), Meaning::Plain),
        (state, meaning),
        (shown(of("primary")), Meaning::Plain),
        (shown(standby), Meaning::Plain),
        (pair.epoch.to_string(), Meaning::Plain),
        (time::ago(pair.since_at_ms, now_ms), Meaning::Plain),
        (last, Meaning::Plain),
    ]
}

fn member(member: &MemberStatus) -> String {
    format!("slot {} g{} {}", member.slot, member.generation, phase(member))
}

/// What a member is doing: its phase, and its own word where the two differ.
pub(super) fn phase(member: &MemberStatus) -> String {
    use types::MemberPhase::{Booting, Empty, Fencing, Releasing, Serving, Starting, Unknown};
    let phase = match member.phase {
        Unknown => "unknown",
        Empty => "empty",
        Starting => "being made",
        Booting => "booting",
        Serving => "serving",
        Fencing => "being fenced",
        Releasing => "being released",
    };
    match &member.state {
        Some(state) if matches!(member.phase, Booting | Serving) && state != phase => {
            format!("{phase} ({state})")
        }
        _ => phase.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::types::{HypervisorStatus, MemberPhase};

    const NOW: u64 = 1_795_377_673_000;

    fn pair(name: &str, protection: Protection) -> PairStatus {
        let member = |slot: u8, role: &str| MemberStatus {
            slot,
            role: role.into(),
            phase: MemberPhase::Serving,
            since_at_ms: NOW - 60_000,
            generation: 3 + u64::from(slot),
            tap: format!("hp{name}s{slot}"),
            internal_ip: [10, 78, 0, 2 + slot].into(),
            state: Some("serving".into()),
            beat_age_ms: Some(0.7),
            sequence: 9,
            requests: 0,
            in_flight: 0,
            why: None,
        };
        PairStatus {
            name: name.into(),
            entry: vec!["203.0.113.10".parse().expect("an address")],
            protection,
            why: None,
            since_at_ms: NOW - 60_000,
            primary: Some(1),
            primary_since_at_ms: Some(NOW - 180_000),
            epoch: 17,
            paused: false,
            takeover: "mirror".into(),
            members: vec![member(0, "standby"), member(1, "primary")],
            last: Some(Record {
                at_ms: NOW - 180_000,
                pair: name.into(),
                kind: RecordKind::Failover,
                slot: Some(1),
                generation: Some(4),
                epoch_before: 16,
                epoch_after: 17,
                detected_by: Some("heartbeat".into()),
                detect_us: Some(9_312),
                flip_us: Some(12.5),
                connections: None,
                text: String::new(),
            }),
        }
    }

    fn status(pairs: Vec<PairStatus>) -> types::Status {
        types::Status {
            api: 1,
            version: "0.1.0".into(),
            host: "hv1".into(),
            pid: 1,
            started_at_ms: 0,
            protection: pairs.iter().map(|pair| pair.protection).max().expect("a pair"),
            hypervisor: HypervisorStatus {
                kind: "libvirt".into(),
                accel: "kvm".into(),
                reachable: true,
                why: None,
            },
            troubles: vec![],
            notes: vec![],
            pairs,
        }
    }

    #[test]
    fn the_first_line_is_what_a_tired_person_needs() {
        let shown = text(&status(vec![pair("web", Protection::Protected)]), NOW, Paint::OFF);
        assert_eq!(
            shown,
            "PROTECTED: web is served by slot 1 since 2026-11-22 19:58:13 UTC (3 min); last: failover 3 min ago, found \
             by heartbeat, gap 9.3 ms\n\n\
             PAIR  STATE      PRIMARY            STANDBY            EPOCH  FOR   LAST\n\
             web   protected  slot 1 g4 serving  slot 0 g3 serving  17     60 s  failover 3 min ago, found by heartbeat, \
             gap 9.3 ms\n"
        );
    }

    #[test]
    fn unprotected_and_down_say_why() {
        let mut alone = pair("web", Protection::Unprotected);
        alone.why = Some("the standby is being made, third try: no space left.".into());
        alone.members[0].role = "none".into();
        alone.members[0].phase = MemberPhase::Starting;
        let shown = text(&status(vec![alone.clone()]), NOW, Paint::OFF);
        assert!(shown.starts_with("UNPROTECTED: web is served by slot 1 alone since "), "{shown}");
        assert!(shown.contains("; the standby is being made, third try: no space left; last: "), "{shown}");
        assert!(shown.contains("slot 0 g3 being made"), "{shown}");

        let mut down = pair("db", Protection::Down);
        down.primary = None;
        down.paused = true;
        let shown = text(&status(vec![down.clone()]), NOW, Paint::OFF);
        assert!(
            shown.starts_with("DOWN: db is served by nobody since 2026-11-22 20:00:13 UTC (60 s); paused"),
            "{shown}"
        );

        let mut all = status(vec![pair("ok", Protection::Protected), alone, down]);
        all.troubles = vec!["the state cannot be saved: disk full".into()];
        all.hypervisor.reachable = false;
        let shown = text(&all, NOW, Paint::OFF);
        assert!(shown.starts_with("DOWN: web, db (1 of 3 pairs are protected); last: "), "{shown}");
        assert!(shown.contains("\ntrouble: the state cannot be saved: disk full\n"), "{shown}");
        assert!(shown.contains("\ntrouble: libvirt cannot be reached: it does not answer\n"), "{shown}");
        assert!(shown.contains("\nweb: the standby is being made"), "{shown}");
    }
}
