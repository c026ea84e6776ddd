//! `hotpair drill` against a controller that plays a part: what is asked, in which order, and what is said.

mod ran;
mod stand_in;

use std::sync::Mutex;
use std::time::Duration;

use serde_json::{Value, json};

use stand_in::{Controller, http};

/// How the fake controller behaves.
#[derive(Clone, Default)]
struct Part {
    protection: Option<&'static str>,
    paused: bool,
    no_replacement: bool,
    hypervisor_gone: bool,
    troubled: bool,
    quiet: bool,
    refuses: bool,
    never_protected: bool,
}

/// Readiness is found out with so many requests; what comes then is the failover, and the drill watching it.
const BEFORE: u64 = 5;

/// A controller that plays this part.
fn playing(part: Part) -> Controller {
    // Whether it has failed over, and how often it was asked.
    let state = Mutex::new((false, 0));
    Controller::new(move |asked| {
        let now = || *state.lock().expect("no panic");
        state.lock().expect("no panic").1 += 1;
        if asked.starts_with("POST") && !part.refuses {
            state.lock().expect("no panic").0 = true;
        }
        // The failover is faster than whoever only looks.
        for _ in 0..100 {
            if now().1 <= BEFORE || now().0 || part.refuses {
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        let (failed_over, shown) = now();
        let (status, body) = answer(&part, asked, failed_over, shown);
        http(status, &body)
    })
}

/// Exit code, standard output and standard error.
fn drill(controller: &Controller, arguments: &[&str]) -> (i32, String, String) {
    let ran = controller.run(&[&["drill", "web"], arguments].concat());
    (ran.exit, ran.out, ran.error)
}

fn orders(controller: &Controller) -> Vec<String> {
    controller.asked().into_iter().filter(|line| line.starts_with("POST")).collect()
}

fn answer(part: &Part, asked: &str, failed_over: bool, shown: u64) -> (u16, Value) {
    let (epoch, primary) = if failed_over { (6, 0) } else { (5, 1) };
    let protection = match part.protection {
        Some(protection) => protection,
        None if failed_over && part.never_protected => "unprotected",
        None => "protected",
    };
    let member = |slot: u8| {
        json!({
            "slot": slot, "role": if slot == primary { "primary" } else { "standby" }, "phase": "serving",
            "since_at_ms": 1, "generation": 7, "tap": "t", "internal_ip": "10.78.0.2", "state": "serving",
            "beat_age_ms": 1.5, "sequence": 9, "requests": 100, "in_flight": 3, "why": null,
        })
    };
    let why = (protection != "protected").then_some("the standby is being made");
    let pair = json!({
        "name": "web", "entry": ["203.0.113.10"], "protection": protection, "why": why, "since_at_ms": 1,
        "primary": primary, "primary_since_at_ms": 1, "epoch": epoch, "paused": part.paused, "takeover": "mirror",
        "members": [member(0), member(1)], "last": null,
    });
    let record = |kind: &str, at_ms: u64, epoch_after: u64, by: Option<&str>| {
        json!({
            "at_ms": at_ms, "pair": "web", "kind": kind, "slot": 0, "generation": 7, "epoch_before": epoch_after - 1,
            "epoch_after": epoch_after, "detected_by": by, "detect_us": 1500, "flip_us": 20.0, "text": "slot 0 serves",
        })
    };
    let old = [record("protected", 5_000, 5, None), record("failover", 2_000, 5, Some("heartbeat"))];
    match asked.split(['?', ' ']).take(2).collect::<Vec<_>>()[..] {
        ["GET", "/v1/status"] => (
            200,
            json!({
                "api": 1, "version": "0.1.0", "host": "hv1", "pid": 1, "started_at_ms": 1, "protection": protection,
                "hypervisor": { "kind": "libvirt", "accel": "kvm", "reachable": !part.hypervisor_gone, "why": null },
                "troubles": if part.troubled { vec!["the uplink is down"] } else { vec![] }, "pairs": [pair],
            }),
        ),
        ["GET", "/v1/history"] => {
            let mut lines = Vec::new();
            if failed_over && !part.never_protected {
                lines.push(record("protected", 1_003_250, 6, None));
            }
            if failed_over {
                lines.push(record("failover", 1_000_000, 6, Some("operator")));
            }
            lines.extend(old);
            (200, Value::from(lines))
        }
        ["GET", "/v1/pairs/web"] => {
            let mut show = pair;
            let packets = if part.quiet { 10 } else { 10 * shown };
            for (key, value) in [
                ("mac", json!("02:68:70:00:00:01")),
                ("heartbeat_source", json!("agent")),
                ("interval_ms", json!(2.0)),
                ("timeout_ms", json!(8.0)),
                ("auto_replace", json!(!part.no_replacement)),
                ("counters", json!([{ "name": "active_sent", "packets": packets }])),
            ] {
                show[key] = value;
            }
            (200, show)
        }
        ["POST", "/v1/pairs/web/failover"] if part.refuses => {
            (409, json!({ "what": "failover", "why": "no standby", "way_out": "wait" }))
        }
        ["POST", "/v1/pairs/web/failover"] => (200, json!({ "text": "slot 0 serves", "epoch": 6 })),
        _ => (404, json!({ "what": "pair", "why": format!("{asked} is unknown"), "way_out": "" })),
    }
}

#[test]
fn a_drill_fails_over_once_and_says_how_it_went() {
    let controller = playing(Part::default());
    let (exit, out, error) = drill(&controller, &["--yes"]);
    assert_eq!(exit, 0, "{out}{error}");
    assert_eq!(orders(&controller), ["POST /v1/pairs/web/failover"]);
    for words in [
        "OK    protection   web is protected",
        "the last member lost was replaced in 3.00 s, ",
        "A drill of web makes slot 0 g7 serve at once. slot 1 g7 is muted, stopped",
        "unprotected: 3.00 s the last time",
        "web (epoch 5 -> 6): slot 0 serves",
        "flip             20 µs",
        "protected again  3.25 s",
    ] {
        assert!(out.contains(words), "{words:?} is not in {out}");
    }
    assert!(!out.contains("first answer     - "), "{out}");
}

#[test]
fn a_drill_is_refused_on_a_bad_day_and_nothing_is_done() {
    for (part, says) in [
        (
            Part { protection: Some("unprotected"), ..Part::default() },
            "web is not protected: the standby is being",
        ),
        (Part { paused: true, ..Part::default() }, "hotpair resume web"),
        (Part { no_replacement: true, ..Part::default() }, "replace.auto is off"),
        (Part { hypervisor_gone: true, ..Part::default() }, "cannot be reached"),
        (Part { troubled: true, ..Part::default() }, "the uplink is down"),
    ] {
        let controller = playing(part);
        let (exit, out, error) = drill(&controller, &["--yes"]);
        assert_eq!(exit, 2, "{out}{error}");
        assert!(out.contains("FAIL") && out.contains(says), "{says:?} is not in {out}");
        assert!(error.contains("not ready for a drill; nothing was done"), "{error}");
        assert!(orders(&controller).is_empty(), "{:?}", orders(&controller));
    }
}

#[test]
fn a_drill_that_is_not_meant_does_nothing() {
    let controller = playing(Part::default());
    let (exit, out, error) = drill(&controller, &[]);
    assert_eq!(exit, 3, "{out}{error}");
    assert!(error.contains("nothing was done: say --yes"), "{error}");
    assert!(out.contains("A drill of web makes"), "what would happen is said: {out}");
    assert!(orders(&controller).is_empty());
}

#[test]
fn a_refused_failover_and_an_unknown_pair_are_told_as_by_other_verbs() {
    let controller = playing(Part { refuses: true, ..Part::default() });
    let (exit, _, error) = drill(&controller, &["--yes"]);
    assert_eq!((exit, error.as_str()), (2, "hotpair: failover: no standby\n    wait\n"));
    assert_eq!(controller.run(&["drill", "nobody", "--yes"]).exit, 3);
}

#[test]
fn a_pair_that_stays_unprotected_is_degraded() {
    let controller = playing(Part { never_protected: true, quiet: true, ..Part::default() });
    let (exit, out, error) = drill(&controller, &["--yes", "--wait", "10ms"]);
    assert_eq!(exit, 1, "{out}{error}");
    assert!(out.contains("WARN  clients"), "{out}");
    assert!(out.contains("protected again  -") && out.contains("the standby is being made"), "{out}");
    assert!(out.contains("first answer     -") && out.contains("did anybody ask?"), "{out}");
}

#[test]
fn the_json_is_whole_and_documented() {
    let page = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/cli.md");
    let page = std::fs::read_to_string(page).expect("docs/cli.md is there");
    let section = page.split("### `drill -o json`").nth(1).expect("docs/cli.md has the schema");
    let section = section.split("\n## ").next().expect("a first part");
    let (exit, out, _) = drill(&playing(Part::default()), &["--yes", "-o", "json"]);
    assert_eq!(exit, 0);
    let report: Value = serde_json::from_str(&out).expect("JSON and nothing else");
    assert_eq!(report["protected_after_ms"], 3250.0);
    assert_eq!(report["failover"]["flip_us"], 20.0);
    assert_eq!(report["readiness"]["verdict"], "ok");
    assert!(report["failover"]["first_answer_us"].as_f64().is_some_and(|us| us > 0.0), "{report}");
    let names = report.as_object().into_iter().chain(report["failover"].as_object()).flatten();
    for (name, _) in names {
        assert!(section.contains(&format!("| `{name}` |")), "docs/cli.md does not describe {name}");
    }
    let controller = playing(Part { paused: true, ..Part::default() });
    let (exit, out, _) = drill(&controller, &["--yes", "-o", "json"]);
    let report: Value = serde_json::from_str(&out).expect("JSON and nothing else");
    assert_eq!((exit, report["failover"].is_null()), (2, true));
}
