//! The whole thing, once for each way to die: `hotpair run`, two Debian guests under libvirt, a client with real load,
//! a fault, and the third VM.
//!
//! The guest is prepared by `cargo xtask test`, which names its directory in `HOTPAIR_GUEST`.

use std::path::PathBuf;
use std::time::Duration;

use hotpair_tests::demo::{self, Connections, Demo, Fault, Kept, Round};

/// What a scenario of this name plays on.
pub(crate) fn demo(name: &str, fault: Fault, rounds: u32) -> Demo {
    let guest = std::env::var_os("HOTPAIR_GUEST").map(PathBuf::from);
    let guest =
        guest.expect("HOTPAIR_GUEST names the directory of the demo's guest; `cargo xtask test` prepares it");
    let built = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
    let hotpair = std::env::var_os("HOTPAIR_BIN_DIR").map_or_else(
        || std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("hotpair"),
        |dir| PathBuf::from(dir).join("hotpair"),
    );
    Demo {
        guest,
        out: built.join(format!("scenario-{name}")),
        hotpair,
        fault,
        rounds,
        keep: false,
        interval: Duration::from_millis(10),
        // What is tested is what happens, not how soon: the machine may have other work.
        timeout: demo::patience() * 4,
    }
}

fn play(fault: Fault, rounds: u32) -> Vec<Round> {
    // Its own verdict: no request failed outside the gap, every held connection survived, fenced, released, protected
    // again, nothing left behind.
    demo::run(&demo(fault.name(), fault, rounds)).unwrap().rounds
}

/// The same connections before and after: a download, an upload and a key-value client in the middle of their work, and
/// some that say nothing.
fn assert_kept(rounds: &[Round]) {
    for Kept { connections, download, upload, key_value, .. } in rounds.iter().map(|round| &round.kept) {
        let all = Connections { open: 23, survived: 23, reset: 0, diverged: 0 };
        assert_eq!(*connections, all, "{rounds:?}");
        for client in [download, upload, key_value] {
            assert!(0 < client.done_at_fault && client.done_at_fault < client.done, "{rounds:?}");
        }
    }
    assert!(
        rounds.iter().all(|round| round.kept.download_sha256_ok && round.kept.upload_sha256_ok),
        "{rounds:?}"
    );
    assert!(rounds.iter().all(|round| round.kept.acked_writes_lost == 0), "{rounds:?}");
}

/// What programs read: the names are a promise, and the file says what the round was.
fn assert_reported(demo: &Demo, round: &Round) {
    let text = std::fs::read_to_string(demo.out.join("report.json")).expect("report.json");
    let report: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let whole = |path: &str| report.pointer(path).and_then(serde_json::Value::as_u64);
    let number = |path: &str| report.pointer(path).and_then(serde_json::Value::as_f64);
    let connections =
        ["open", "survived", "reset", "diverged"].map(|of| whole(&format!("/connections/{of}")));
    assert_eq!(connections, [Some(23), Some(23), Some(0), Some(0)], "{text}");
    assert_eq!(whole("/acked_writes_lost"), Some(0), "{text}");
    for hash in ["download_sha256_ok", "upload_sha256_ok"] {
        assert_eq!(report[hash], true, "{hash}: {text}");
    }
    for (client, kept) in [
        ("download", &round.kept.download),
        ("upload", &round.kept.upload),
        ("key_value", &round.kept.key_value),
    ] {
        let stall = number(&format!("/{client}/failover_stall_ms"));
        assert_eq!(stall, Some(kept.failover_stall_ms), "{client}: {text}");
        assert!(stall <= number(&format!("/{client}/stall_ms")), "{client}: {text}");
    }
    assert_eq!(number("/gap_ms"), Some(round.gap_ms), "{text}");
}

#[test]
fn a_killed_primary_is_taken_over_from_fenced_and_replaced() {
    let demo = demo(Fault::Kill.name(), Fault::Kill, 1);
    let rounds = demo::run(&demo).unwrap().rounds;
    assert_reported(&demo, &rounds[0]);
    assert!(rounds.iter().all(|round| round.protected_again && round.new_standby_receives), "{rounds:?}");
    assert_kept(&rounds);
}

#[test]
fn a_frozen_primary_is_taken_over_from_fenced_and_replaced() {
    let rounds = play(Fault::Freeze, 1);
    assert!(rounds.iter().all(|round| round.old_primary_fenced && round.storage_released), "{rounds:?}");
    assert_kept(&rounds);
}

/// Whether there is time for the long forms.
pub(crate) fn soaking() -> bool {
    std::env::var_os("HOTPAIR_SOAK").is_some()
}

#[test]
#[ignore = "takes minutes: `cargo xtask test --soak` runs it"]
fn a_destroyed_primary_and_one_whose_service_breaks_are_replaced() {
    for fault in [Fault::Destroy, Fault::AgentFailing] {
        let rounds = play(fault, 1);
        assert!(rounds.iter().all(|round| round.protected_again), "{rounds:?}");
    }
}

#[test]
#[ignore = "takes minutes: `cargo xtask test --soak` runs it"]
fn ten_failovers_in_a_row_work() {
    let rounds = play(Fault::Kill, 10);
    let epochs: Vec<_> = rounds.iter().map(|round| round.epoch_after).collect();
    assert!(epochs.windows(2).all(|pair| pair[0] < pair[1]), "the epoch rises: {epochs:?}");
    assert_kept(&rounds);
}
