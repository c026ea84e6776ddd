//! Whether a pair is ready for a drill, and what a drill would do.

use std::fmt::Write as _;

use super::super::finding::Finding;
use super::super::time::{ago, now_ms, short};
use crate::api::types::{MemberStatus, Protection, Record, RecordKind, Show, Status};

/// Below this nobody asks: a first answer could not be seen.
const QUIET: f64 = 1.0;

pub(super) fn look(status: &Status, show: &Show, history: &[Record], rate: f64) -> Vec<Finding> {
    let pair = &show.pair;
    let mut findings = Vec::new();
    findings.push(match (pair.protection, &pair.why) {
        (Protection::Protected, _) => Finding::ok("protection", format!("{} is protected", pair.name)),
        (_, why) => Finding::fail(
            "protection",
            format!("{} is not protected: {}", pair.name, why.as_deref().unwrap_or("see `hotpair status`")),
            "wait until it is: a drill now would be an outage",
        ),
    });
    findings.push(if pair.paused {
        let way_out = format!("`hotpair resume {}`", pair.name);
        Finding::fail("paused", "automatic failover and replacement are off", way_out)
    } else {
        Finding::ok("paused", "automatic failover is on")
    });
    findings.push(if show.auto_replace {
        Finding::ok("replacement", "automatic")
    } else {
        let way_out = "set replace.auto = true; or `hotpair failover` and then `hotpair replace` by hand";
        Finding::fail("replacement", "replace.auto is off: the pair would stay unprotected", way_out)
    });
    findings.push(match &status.hypervisor {
        hypervisor if hypervisor.reachable => {
            Finding::ok("hypervisor", format!("{} answers", hypervisor.kind))
        }
        hypervisor => Finding::fail(
            "hypervisor",
            format!("it cannot be reached: {}", hypervisor.why.as_deref().unwrap_or("it does not answer")),
            "put it right first: nothing can be fenced or replaced now",
        ),
    });
    findings.push(match status.troubles.first() {
        None => Finding::ok("host", "no troubles"),
        Some(trouble) => Finding::fail("host", trouble, "put it right first: a drill is for a good day"),
    });
    findings.push(if rate >= QUIET {
        Finding::ok("clients", format!("{rate:.0} packets a second leave for them"))
    } else {
        Finding::warn(
            "clients",
            "nobody is answered just now: the first answer after the failover cannot be measured",
            "let a client ask during the drill, for instance with `ping` or `curl` in a loop",
        )
    });
    findings.push(match last_replacement(history) {
        Some((record, took_ms)) => Finding::ok(
            "history",
            format!(
                "the last member lost was replaced in {}, {} ago",
                short(took_ms as f64 * 1e3),
                ago(record.at_ms, now_ms())
            ),
        ),
        None => Finding::ok("history", "no member was replaced yet: nobody knows how long it takes"),
    });
    findings
}

/// The last time that protection came back after a change of role, and how long it took. `history` is newest first.
fn last_replacement(history: &[Record]) -> Option<(&Record, u64)> {
    let newest = history.iter().position(|record| record.kind == RecordKind::Protected)?;
    let lost = history[newest..]
        .iter()
        .skip(1)
        .take_while(|record| record.kind != RecordKind::Protected)
        .filter(|record| matches!(record.kind, RecordKind::Failover | RecordKind::MemberLost))
        .last()?;
    Some((&history[newest], history[newest].at_ms.saturating_sub(lost.at_ms)))
}

/// What would happen, in words.
pub(super) fn plan(show: &Show, history: &[Record]) -> String {
    let pair = &show.pair;
    let with = |role: &str| pair.members.iter().find(|member| member.role == role);
    let (Some(old), Some(new)) = (with("primary"), with("standby")) else { return String::new() };
    let mut text = format!(
        "\nA drill of {} makes {} serve at once. {} is muted, stopped, its storage released, and a new member made in its \
         place. What it has not answered yet is lost.\n",
        pair.name,
        named(new),
        named(old)
    );
    let _ = match last_replacement(history) {
        Some((_, took_ms)) => {
            writeln!(
                text,
                "Until then the pair is unprotected: {} the last time.",
                short(took_ms as f64 * 1e3)
            )
        }
        None => writeln!(text, "Until then the pair is unprotected."),
    };
    text
}

fn named(member: &MemberStatus) -> String {
    format!("slot {} g{}", member.slot, member.generation)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(kind: RecordKind, at_ms: u64) -> Record {
        Record {
            at_ms,
            pair: "web".into(),
            kind,
            slot: None,
            generation: None,
            epoch_before: 1,
            epoch_after: 1,
            detected_by: None,
            detect_us: None,
            flip_us: None,
            connections: None,
            text: String::new(),
        }
    }

    #[test]
    fn the_last_replacement_is_from_the_loss_to_protection() {
        use RecordKind::{Failover, Fenced, MemberLost, Protected, Replacing, Started};
        let lines = |kinds: &[(RecordKind, u64)]| -> Vec<Record> {
            kinds.iter().map(|(kind, at)| record(*kind, *at)).collect()
        };
        let took = |history: &[Record]| last_replacement(history).map(|(_, took)| took);
        assert_eq!(took(&lines(&[(Protected, 90), (Started, 10)])), None, "a start is no replacement");
        let history = lines(&[
            (Replacing, 900),
            (Protected, 700),
            (Replacing, 300),
            (Fenced, 200),
            (MemberLost, 101),
            (Failover, 100),
            (Protected, 50),
            (Failover, 1),
        ]);
        assert_eq!(took(&history), Some(600));
        assert_eq!(took(&[]), None);
    }
}
