//! Commands that do well, badly, and not at all.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Instant;

use hotpair_abi::PairId;

use super::*;
use crate::config::{Ack, Heartbeat, Replace, Source, Takeover};

fn sh(script: &str) -> Vec<String> {
    ["sh", "-c", script].map(str::to_string).to_vec()
}

fn pair(start: &str, stop: &str, release: &str, status: &str) -> config::Pair {
    config::Pair {
        name: "web".to_string(),
        entry: vec!["203.0.113.10".parse().expect("an address"), "2001:db8::10".parse().expect("an address")],
        takeover: Takeover::Mirror,
        ack: Ack::Both,
        answer: crate::config::Answer::Primary,
        compare: true,
        lag_limit: Duration::from_millis(10),
        vm: Vm::Command(config::Command {
            start: sh(start),
            stop: sh(stop),
            release: sh(release),
            status: sh(status),
        }),
        mac: None,
        heartbeat: Heartbeat {
            source: Source::Agent,
            interval: Duration::from_millis(2),
            timeout: Duration::from_millis(8),
            start: Duration::from_millis(500),
        },
        replace: Replace { auto: true, release: Release::Delete },
        handover: Duration::from_millis(20),
    }
}

fn member(pair: &config::Pair, slot: Slot, generation: u64) -> MemberSpec {
    MemberSpec {
        pair_id: PairId(0),
        pair: pair.name.clone(),
        slot,
        generation,
        tap: format!("hpwebs{slot}"),
        mac: [2, 0x68, 0x70, 0, 0, 1],
        entry: pair.entry.clone(),
        internal_ip: Ipv4Addr::new(10, 78, 0, 2),
        vm: pair.vm.clone(),
    }
}

/// A backend whose notes are in a directory of its own.
struct Backend(Command, #[expect(dead_code, reason = "removed when dropped")] tempfile::TempDir);

impl std::ops::Deref for Backend {
    type Target = Command;

    fn deref(&self) -> &Command {
        &self.0
    }
}

fn backend(pair: &config::Pair) -> Backend {
    let run_dir = tempfile::tempdir().expect("a directory");
    Backend(Command::new(std::slice::from_ref(pair), run_dir.path()), run_dir)
}

fn text(result: Result<(), HypervisorError>) -> String {
    result.expect_err("it must fail").to_string()
}

#[tokio::test]
async fn commands_see_who_they_are_for() {
    let dir = tempfile::tempdir().expect("a directory");
    let out = dir.path().join("env");
    // What the suite tells its own tests is theirs.
    let mine = "env | grep ^HOTPAIR_ | grep -v -e ^HOTPAIR_TESTS_ -e ^HOTPAIR_SOAK= | sort";
    let pair = pair(&format!("{mine} > {}", out.display()), "true", "true", "exit 1");
    backend(&pair).start(&member(&pair, Slot::One, 7)).await.expect("it starts");
    assert_eq!(
        std::fs::read_to_string(out).expect("it has written"),
        "HOTPAIR_ENTRY=203.0.113.10 2001:db8::10\nHOTPAIR_GENERATION=7\nHOTPAIR_INTERNAL_IP=10.78.0.2\n\
         HOTPAIR_MAC=02:68:70:00:00:01\nHOTPAIR_PAIR=web\nHOTPAIR_SLOT=1\nHOTPAIR_TAP=hpwebs1\n"
    );
}

#[tokio::test]
async fn arguments_are_not_seen_by_a_shell() {
    let mut pair = pair("true", "true", "true", "exit 1");
    let Vm::Command(commands) = &mut pair.vm else { unreachable!() };
    commands.start = ["test", "$HOME; exit 0", "=", "$HOME; exit 0"].map(str::to_string).to_vec();
    backend(&pair).start(&member(&pair, Slot::Zero, 1)).await.expect("taken literally");
}

#[tokio::test]
async fn a_failure_says_what_and_quotes_the_end_of_stderr() {
    let pair = pair(
        "echo first >&2; seq 2000 >&2; echo no such disk >&2; exit 3",
        "true",
        "no-such-thing",
        "exit 1",
    );
    let backend = backend(&pair);
    let text = text(backend.start(&member(&pair, Slot::Zero, 4)).await);
    assert!(text.starts_with("cannot start web, slot 0, generation 4: "), "{text}");
    assert!(text.contains("exit status: 3") && text.ends_with("1999\n2000\nno such disk"), "{text}");
    assert!(!text.contains("first\n"), "only the end: {text}");
}

#[tokio::test]
async fn a_program_that_does_not_exist_is_named() {
    let mut pair = pair("true", "true", "true", "exit 1");
    let Vm::Command(commands) = &mut pair.vm else { unreachable!() };
    commands.release = vec!["/no/such/program".to_string()];
    let backend = backend(&pair);
    let text = text(backend.release(&member(&pair, Slot::Zero, 1), Release::Delete).await);
    assert!(text.contains("cannot run `/no/such/program`"), "{text}");
}

fn alive(pid_file: &Path) -> bool {
    let pid = std::fs::read_to_string(pid_file).expect("a pid");
    std::fs::read_to_string(format!("/proc/{}/stat", pid.trim())).is_ok_and(|stat| !stat.contains(") Z "))
}

#[tokio::test]
async fn a_start_past_its_deadline_is_killed_with_its_children() {
    let dir = tempfile::tempdir().expect("a directory");
    let pid = dir.path().join("pid");
    let pair = pair(&format!("sleep 60 & echo $! > {}; wait", pid.display()), "true", "true", "exit 1");
    let backend = backend(&pair);
    let began = Instant::now();
    let error = backend.start(&member(&pair, Slot::Zero, 1)).await.expect_err("too slow");
    assert!(
        matches!(error, HypervisorError::TimedOut { after, .. } if after == pair.heartbeat.start),
        "{error}"
    );
    assert!(began.elapsed() < Duration::from_secs(5));
    let gone = async {
        while alive(&pid) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), gone).await.expect("the child has been killed too");
}

#[tokio::test]
async fn what_a_start_leaves_running_does_not_hold_it_up_and_lives_on() {
    let dir = tempfile::tempdir().expect("a directory");
    let pid = dir.path().join("pid");
    // It even keeps stdout and stderr, which it should not.
    let pair = pair(&format!("setsid sleep 60 & echo $! > {}", pid.display()), "true", "true", "exit 1");
    let backend = backend(&pair);
    backend.start(&member(&pair, Slot::Zero, 1)).await.expect("it starts");
    assert!(alive(&pid));
    let number: i32 = std::fs::read_to_string(&pid).expect("a pid").trim().parse().expect("a number");
    let number = rustix::process::Pid::from_raw(number).expect("a pid");
    rustix::process::kill_process(number, rustix::process::Signal::KILL).expect("it is ours");
}

#[tokio::test]
async fn a_start_that_its_controller_left_behind_is_waited_for_by_the_next_one() {
    let dir = tempfile::tempdir().expect("a directory");
    let member_file = dir.path().join("generation");
    let status = format!("cat {}", member_file.display());
    let pair = pair(&format!("sleep 0.4; echo 7 > {}", member_file.display()), "true", "true", &status);
    let spec = member(&pair, Slot::Zero, 7);
    let first = Command::new(std::slice::from_ref(&pair), dir.path());
    let given_up = tokio::time::timeout(Duration::from_millis(100), first.start(&spec)).await;
    assert!(given_up.is_err(), "it is under way");
    let second = Command::new(std::slice::from_ref(&pair), dir.path());
    let running = second.running("web").await.expect("known");
    assert_eq!(running[0], Running { slot: Slot::Zero, generation: 7 }, "what the start has made is seen");
    assert_eq!(std::fs::read_dir(dir.path().join("commands")).expect("notes").count(), 0, "all has ended");
}

#[tokio::test]
async fn a_command_that_its_controller_left_behind_is_killed_at_its_deadline() {
    let dir = tempfile::tempdir().expect("a directory");
    let pid = dir.path().join("pid");
    let pair = pair(&format!("echo $$ > {}; sleep 60", pid.display()), "true", "true", "exit 1");
    let spec = member(&pair, Slot::Zero, 1);
    let first = Command::new(std::slice::from_ref(&pair), dir.path());
    let given_up = tokio::time::timeout(Duration::from_millis(200), first.start(&spec)).await;
    assert!(given_up.is_err() && alive(&pid), "it goes on");
    let second = Command::new(std::slice::from_ref(&pair), dir.path());
    assert_eq!(second.running("web").await.expect("known"), []);
    assert!(!alive(&pid));
}

#[tokio::test]
async fn status_says_what_runs() {
    let pair = pair("true", "true", "true", "test $HOTPAIR_TAP = hpwebs1 && echo 9");
    let backend = backend(&pair);
    assert_eq!(backend.running("web").await.expect("known"), [Running { slot: Slot::One, generation: 9 }]);
    assert_eq!(backend.leftovers("web").await.expect("known"), ["web, slot 1, generation 9: runs"]);
}

#[tokio::test]
async fn a_status_that_fails_is_neither_yes_nor_no() {
    let pair = pair("true", "true", "true", "echo no connection >&2; exit 2");
    let error = backend(&pair).running("web").await.expect_err("unknown");
    assert!(error.to_string().contains("no connection"), "{error}");
}

#[tokio::test]
async fn a_status_that_says_yes_but_not_who_is_refused() {
    let pair = pair("true", "true", "true", "echo running");
    let error = backend(&pair).running("web").await.expect_err("unclear");
    assert!(error.to_string().contains("a number"), "{error}");
}

#[tokio::test]
async fn a_stop_that_did_not_stop_is_not_believed() {
    let pair = pair("true", "true", "true", "echo 5");
    let backend = backend(&pair);
    let text = text(backend.stop(&member(&pair, Slot::Zero, 5)).await);
    assert!(text.contains("still runs"), "{text}");
    backend.stop(&member(&pair, Slot::Zero, 4)).await.expect("that one is gone: another runs");
}

#[tokio::test]
async fn storage_that_is_kept_is_left_alone() {
    let dir = tempfile::tempdir().expect("a directory");
    let volume = dir.path().join("volume");
    std::fs::write(&volume, "").expect("written");
    let pair = pair("true", "true", &format!("rm {}", volume.display()), "exit 1");
    let backend = backend(&pair);
    let spec = member(&pair, Slot::Zero, 1);
    backend.release(&spec, Release::Keep).await.expect("kept");
    assert!(volume.exists());
    backend.release(&spec, Release::Delete).await.expect("deleted");
    assert!(!volume.exists());
}
