//! The `hotpair` command against a controller that answers what the test wants: exit codes, texts, errors.

mod ran;
mod root;
mod stand_in;

use std::io::Read;
use std::os::unix::net::UnixListener;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use hotpair::api::types::{
    API_VERSION, Carried, Count, Done, FlowCount, HypervisorStatus, MemberPhase, MemberStatus, PairStatus,
    Protection, Record, RecordKind, Refusal, Show, Status, Tcp,
};
use serde_json::{Value, json};

use ran::{Ran, hotpair};
use root::may_run;
use stand_in::{Controller, http};

/// Answers every request in the same way.
fn answering(status: u16, body: &impl serde::Serialize) -> Controller {
    let answer = http(status, body);
    Controller::new(move |_| answer.clone())
}

fn run(socket: &Path, arguments: &[&str]) -> Ran {
    hotpair().arg("--socket").arg(socket).args(arguments).output().expect("it runs").into()
}

fn member(slot: u8, role: &str) -> MemberStatus {
    MemberStatus {
        slot,
        role: role.into(),
        phase: MemberPhase::Serving,
        since_at_ms: 1,
        generation: 7,
        tap: format!("hpwebs{slot}"),
        internal_ip: [10, 78, 0, 2 + slot].into(),
        state: Some("serving".into()),
        beat_age_ms: Some(1.5),
        sequence: 9,
        requests: 100,
        in_flight: 3,
        why: None,
    }
}

fn record() -> Record {
    Record {
        at_ms: 1_795_377_673_123,
        pair: "web".into(),
        kind: RecordKind::Failover,
        slot: Some(1),
        generation: Some(7),
        epoch_before: 4,
        epoch_after: 5,
        detected_by: Some("hypervisor".into()),
        detect_us: Some(1_900),
        flip_us: Some(20.0),
        connections: Some(Carried { went_on: 3, reset: 1 }),
        text: "slot 1 serves".into(),
    }
}

fn pair(protection: Protection) -> PairStatus {
    PairStatus {
        name: "web".into(),
        entry: vec!["203.0.113.10".parse().expect("an address")],
        protection,
        why: (protection != Protection::Protected).then(|| "the standby is being made".into()),
        since_at_ms: 1,
        primary: Some(1),
        primary_since_at_ms: Some(1),
        epoch: 5,
        paused: false,
        takeover: "mirror".into(),
        members: vec![member(0, "standby"), member(1, "primary")],
        last: Some(record()),
    }
}

fn status(protection: Protection) -> Status {
    Status {
        api: API_VERSION,
        version: "0.1.0".into(),
        host: "hv1".into(),
        pid: 1,
        started_at_ms: 1,
        protection,
        hypervisor: HypervisorStatus {
            kind: "libvirt".into(),
            accel: "kvm".into(),
            reachable: true,
            why: None,
        },
        troubles: vec![],
        notes: vec![],
        pairs: vec![pair(protection)],
    }
}

fn show(protection: Protection) -> Show {
    Show {
        pair: pair(protection),
        mac: "02:68:70:00:00:01".into(),
        heartbeat_source: "agent".into(),
        interval_ms: 2.0,
        timeout_ms: 8.0,
        auto_replace: true,
        ack: "both".into(),
        tcp: Some(Tcp {
            counts: vec![FlowCount { verdict: "in_sync".into(), connections: 3 }],
            lag_bytes: 1460,
            lag_ms: 2.5,
        }),
        counters: vec![Count { name: "to_both".into(), packets: 12 }],
    }
}

fn refusal() -> Refusal {
    Refusal { what: "switchover".into(), why: "no standby".into(), way_out: "wait until it serves".into() }
}

#[test]
fn the_exit_code_of_status_and_show_is_the_protection() {
    for (protection, exit, word) in [
        (Protection::Protected, 0, "PROTECTED: web is served by slot 1 since "),
        (Protection::Unprotected, 1, "UNPROTECTED: web is served by slot 1 alone since "),
        (Protection::Down, 2, "DOWN: web is served by slot 1 alone since "),
    ] {
        let ran = answering(200, &status(protection)).run(&["status"]);
        assert_eq!(ran.exit, exit, "{}", ran.error);
        assert!(ran.out.starts_with(word), "{}", ran.out);
        assert!(ran.out.lines().next().is_some_and(|line| line.contains("gap 1.9 ms")), "{}", ran.out);
        assert!(!ran.out.contains('\x1b'), "colours are for terminals");

        let controller = answering(200, &show(protection));
        let ran = controller.run(&["show", "web"]);
        assert_eq!(ran.exit, exit, "{}", ran.error);
        assert!(ran.out.starts_with(word), "{}", ran.out);
        assert!(ran.out.contains("agent, every 2 ms, failed after 8 ms"), "{}", ran.out);
        assert!(ran.out.contains("12  to_both"), "{}", ran.out);
        assert!(ran.out.contains("mirror, ack both\n"), "{}", ran.out);
        assert!(ran.out.contains("3 in_sync; the standby is behind by 1460 B, for 2.5 ms\n"), "{}", ran.out);
        assert_eq!(controller.asked(), ["GET /v1/pairs/web"]);
    }
}

#[test]
fn json_is_what_the_api_says() {
    fn printed(body: &impl serde::Serialize, arguments: &[&str]) -> (Value, Value) {
        let ran = answering(200, body).run(arguments);
        (serde_json::from_str(&ran.out).expect("JSON"), serde_json::to_value(body).expect("JSON"))
    }
    let (left, right) = printed(&status(Protection::Unprotected), &["status", "-o", "json"]);
    assert_eq!(left, right);
    let (left, right) = printed(&show(Protection::Protected), &["show", "web", "--output", "json"]);
    assert_eq!(left, right);
    let (left, right) = printed(&vec![record()], &["history", "-o", "json"]);
    assert_eq!(left, right);
}

#[test]
fn requests_go_where_they_belong_and_say_what_was_done() {
    for (arguments, asked) in [
        (&["switchover", "web"][..], "POST /v1/pairs/web/switchover"),
        (&["failover", "web"], "POST /v1/pairs/web/failover"),
        (&["failover", "web", "--yes"], "POST /v1/pairs/web/failover"),
        (&["pause", "web"], "POST /v1/pairs/web/pause"),
        (&["resume", "web"], "POST /v1/pairs/web/resume"),
        (&["replace", "web"], "POST /v1/pairs/web/replace"),
        (&["replace", "web", "--slot", "1"], "POST /v1/pairs/web/replace?slot=1"),
        (&["switchover", "../status"], "POST /v1/pairs/%2E%2E%2Fstatus/switchover"),
    ] {
        let controller = answering(200, &Done { text: "it is done".into(), epoch: 6 });
        let ran = controller.run(arguments);
        assert_eq!((ran.exit, ran.out.as_str()), (0, "it is done (epoch 6)\n"), "{}", ran.error);
        assert_eq!(controller.asked(), [asked]);
    }
    let controller = answering(200, &vec![record()]);
    let ran = controller.run(&["history", "web", "-n", "5"]);
    assert_eq!(controller.asked(), ["GET /v1/history?limit=5&pair=web"]);
    assert!(
        ran.out.contains("2026-11-22 20:01:13.123 UTC  web   failover  4 -> 5  slot 1 serves"),
        "{}",
        ran.out
    );
}

#[test]
fn a_refusal_is_shown_with_its_reason_and_way_out() {
    for (status, exit) in [(409, 2), (503, 2), (404, 3), (400, 3)] {
        let ran = answering(status, &refusal()).run(&["switchover", "web"]);
        assert_eq!(ran.exit, exit);
        assert_eq!(ran.error, "hotpair: switchover: no standby\n    wait until it serves\n");
        assert_eq!(ran.out, "");
    }
}

#[test]
fn without_a_controller_it_says_how_to_start_one() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let socket = directory.path().join("api.sock");
    for verb in [&["status"][..], &["history"], &["switchover", "web"]] {
        let ran = run(&socket, verb);
        assert_eq!(ran.exit, 4);
        assert!(ran.error.contains("the controller is not running"), "{}", ran.error);
        assert!(
            ran.error.contains("systemctl start hotpair") && ran.error.contains(&*socket.to_string_lossy())
        );
    }
    // What a killed controller leaves behind.
    drop(UnixListener::bind(&socket).expect("a socket"));
    assert_eq!(run(&socket, &["status"]).exit, 4);
}

#[test]
fn a_user_who_may_not_is_told_who_may() {
    if !may_run() {
        return;
    }
    let controller = answering(200, &status(Protection::Protected));
    let readable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(controller.directory(), readable).expect("our directory");
    let closed = std::os::unix::fs::PermissionsExt::from_mode(0o660);
    std::fs::set_permissions(controller.socket(), closed).expect("our socket");
    // The build directory may not be open to everybody.
    let copy = controller.directory().join("hotpair");
    std::fs::copy(env!("CARGO_BIN_EXE_hotpair"), &copy).expect("a copy");
    let ran: Ran = Command::new(copy)
        .uid(65534)
        .gid(65534)
        .current_dir("/")
        .arg("--socket")
        .arg(controller.socket())
        .arg("status")
        .output()
        .expect("it runs")
        .into();
    assert_eq!(ran.exit, 4, "{}", ran.error);
    assert!(ran.error.contains("its owner and group may"), "{}", ran.error);
}

#[test]
fn another_version_or_somebody_else_is_recognised() {
    let ran = answering(200, &json!({ "api": 99, "pairs": "?" })).run(&["status"]);
    assert_eq!(ran.exit, 4);
    assert!(ran.error.contains("speaks API version 99"), "{}", ran.error);
    for (answer, says) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "missing field"),
        ("HTTP/1.1 500 No\r\nContent-Length: 0\r\n\r\n", "without a reason"),
        ("220 mail.example ESMTP\r\n", "does not answer in HTTP"),
        ("", "the connection broke"),
    ] {
        let ran = Controller::new(move |_| answer.to_owned()).run(&["status"]);
        assert_eq!(ran.exit, 4, "{answer:?}");
        assert!(ran.error.contains(says), "{answer:?}: {}", ran.error);
    }
}

#[test]
fn the_socket_is_the_configurations_unless_named() {
    let controller = answering(200, &status(Protection::Protected));
    let file = controller.directory().join("hotpair.toml");
    let text = "[host]\nuplink='e'\ninternal_net='10.0.0.0/8'\nrun_dir='.'\n[[pair]]\nname='web'\n\
                entry=['198.51.100.1']\ndomain='d'\nimage='i'\n";
    std::fs::write(&file, text).expect("writable");
    let ran: Ran = hotpair().arg("--config").arg(&file).arg("status").output().expect("it runs").into();
    assert_eq!(ran.exit, 0, "{}", ran.error);
    let ran: Ran =
        hotpair().env("HOTPAIR_SOCKET", controller.socket()).arg("status").output().expect("it runs").into();
    assert_eq!(ran.exit, 0, "{}", ran.error);
    // A configuration that was named and is wrong is not passed over.
    std::fs::write(&file, text.replace("uplink", "uplnk")).expect("writable");
    let ran: Ran = hotpair().arg("--config").arg(&file).arg("status").output().expect("it runs").into();
    assert_eq!(ran.exit, 3, "{}", ran.error);
    assert!(ran.error.contains("did you mean uplink?"), "{}", ran.error);
}

#[test]
fn wrong_usage_is_3_and_help_is_0() {
    for arguments in
        [&[][..], &["statsu"], &["show"], &["status", "-o", "yaml"], &["replace", "web", "--slot", "2"]]
    {
        let ran: Ran = hotpair().args(arguments).output().expect("it runs").into();
        assert_eq!(ran.exit, 3, "{arguments:?}");
    }
    for arguments in [&["--help"][..], &["--version"], &["status", "--help"]] {
        let ran: Ran = hotpair().args(arguments).output().expect("it runs").into();
        assert_eq!(ran.exit, 0, "{arguments:?}");
        assert!(!ran.out.is_empty());
    }
}

#[test]
fn a_reader_that_has_gone_away_is_no_panic() {
    let controller = answering(200, &status(Protection::Protected));
    let mut child = hotpair()
        .arg("--socket")
        .arg(controller.socket())
        .arg("status")
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::piped())
        .spawn()
        .expect("it runs");
    drop(child.stdout.take());
    let mut error = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut error).expect("text");
    assert_eq!(child.wait().expect("it ends").code(), Some(0), "{error}");
    assert_eq!(error, "");
}

#[test]
fn manual_and_completions_name_every_verb() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let ran: Ran =
        hotpair().args(["man", "--directory"]).arg(directory.path()).output().expect("it runs").into();
    assert_eq!(ran.exit, 0, "{}", ran.error);
    let bash: Ran = hotpair().args(["completions", "bash"]).output().expect("it runs").into();
    let page: Ran = hotpair().arg("man").output().expect("it runs").into();
    for verb in hotpair::cli::command().get_subcommands().filter(|verb| !verb.is_hide_set()) {
        let name = verb.get_name();
        assert!(directory.path().join(format!("hotpair-{name}.1")).exists(), "{name}");
        assert!(bash.out.contains(name) && page.out.contains(&format!("hotpair\\-{name}(1)")), "{name}");
    }
}

/// Every field, also those of values inside.
fn fields(value: &Value, out: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                out.push(name.clone());
                fields(value, out);
            }
        }
        Value::Array(array) => array.iter().for_each(|value| fields(value, out)),
        _ => {}
    }
}

#[test]
fn every_verb_and_every_json_field_is_documented() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/cli.md");
    let page = std::fs::read_to_string(page).expect("docs/cli.md is there");
    for verb in hotpair::cli::command().get_subcommands() {
        let name = verb.get_name();
        assert!(page.contains(&format!("`hotpair {name}")), "docs/cli.md does not have the verb {name}");
        for option in verb.get_arguments().filter_map(|argument| argument.get_long()) {
            assert!(page.contains(&format!("--{option}")), "docs/cli.md does not have {name} --{option}");
        }
    }
    let mut names = Vec::new();
    for value in [
        serde_json::to_value(status(Protection::Unprotected)),
        serde_json::to_value(show(Protection::Protected)),
        serde_json::to_value(record()),
        serde_json::to_value(Done { text: String::new(), epoch: 0 }),
        serde_json::to_value(refusal()),
    ] {
        fields(&value.expect("JSON"), &mut names);
    }
    names.extend(["verdict", "findings", "check", "level"].map(str::to_owned));
    for name in names {
        assert!(page.contains(&format!("| `{name}` |")), "docs/cli.md does not describe the field {name}");
    }
}
