//! What is exported and what docs/metrics.md says are the same.

use std::collections::BTreeSet;
use std::path::Path;

use hotpair_abi::count::Counter as Reason;

use super::*;
use crate::api::types::HypervisorStatus;

fn page() -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/metrics.md");
    std::fs::read_to_string(page).expect("docs/metrics.md is there")
}

/// First cells of the page's tables, without their backquotes.
fn rows(page: &str) -> BTreeSet<&str> {
    page.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect()
}

fn exported() -> String {
    let status = Status {
        api: 1,
        version: "1".into(),
        host: "hv1".into(),
        pid: 1,
        started_at_ms: 1_500,
        protection: Protection::Protected,
        hypervisor: HypervisorStatus {
            kind: "command".into(),
            accel: "command".into(),
            reachable: true,
            why: None,
        },
        troubles: vec![],
        notes: vec![],
        pairs: vec![],
    };
    let sums = vec![("web".into(), Sum::default())];
    Meters::new(["web"]).text(Seen { status, packets: vec![("web".into(), "active_sent", 7)], sums })
}

#[test]
fn every_metric_is_documented_and_every_documented_metric_is_there() {
    let (page, text) = (page(), exported());
    let there: BTreeSet<String> = text
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE "))
        .map(|line| match line.split_once(' ') {
            Some((name, "counter")) => format!("{name}_total"),
            Some((name, _)) => name.to_owned(),
            None => panic!("{line:?} has no kind"),
        })
        .collect();
    let documented: BTreeSet<String> =
        rows(&page).into_iter().filter(|name| name.starts_with("hotpair_")).map(str::to_owned).collect();
    assert_eq!(there, documented);
    for name in &there {
        let used = page.matches(name.as_str()).count();
        assert!(used >= 1, "{name}");
    }
}

#[test]
fn every_reason_is_documented_in_the_words_of_the_data_plane() {
    let page = page();
    for reason in Reason::ALL {
        let row = format!("| `{}` | {} |", reason.name(), reason.about().trim());
        assert!(page.lines().any(|line| line == row), "docs/metrics.md has no row {row}");
    }
    let known = |row: &&str| row.starts_with("hotpair_") || Reason::ALL.iter().any(|r| r.name() == *row);
    let unknown: Vec<&str> = rows(&page).into_iter().filter(|row| !known(row)).collect();
    assert!(unknown.is_empty(), "docs/metrics.md has reasons that there are not: {unknown:?}");
}

#[test]
fn what_became_of_connections_is_counted() {
    let meters = Meters::new(["web"]);
    let record = |went_on, reset| Record {
        at_ms: 1,
        pair: "web".into(),
        kind: RecordKind::Connections,
        slot: Some(1),
        generation: Some(1),
        epoch_before: 5,
        epoch_after: 5,
        detected_by: None,
        detect_us: None,
        flip_us: None,
        connections: Some(crate::api::types::Carried { went_on, reset }),
        text: String::new(),
    };
    meters.count(&record(3, 1));
    meters.count(&record(20, 0));
    let mut text = String::new();
    encode_registry(&mut text, &meters.registry).expect("a string");
    for row in [r#"{pair="web",outcome="went_on"} 23"#, r#"{pair="web",outcome="reset"} 1"#] {
        assert!(text.contains(&format!("hotpair_takeover_connections_total{row}")), "{text}");
    }
}

#[test]
fn alerts_ask_for_nothing_that_is_not_there() {
    let (page, text) = (page(), exported());
    let alerts = page.split("## Alerts").nth(1).expect("the page has alerts");
    for word in alerts.split(|c: char| !c.is_ascii_alphanumeric() && c != '_') {
        if let Some(name) = word.strip_prefix("hotpair_").map(|_| word) {
            assert!(
                text.contains(&format!("\n{name}")) || text.contains(&format!("# TYPE {name} ")),
                "{name}"
            );
        }
    }
}
