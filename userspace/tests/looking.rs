//! `check`, `run` and `cleanup` on this machine: what is wrong is refused before anything is touched.
//!
//! Each test has a network namespace of its own, made by `unshare --net`, which dies with its process.

mod ran;
mod root;

use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use ran::{Ran, hotpair};
use root::may_run;

struct Machine {
    directory: tempfile::TempDir,
}

impl Machine {
    /// A configuration that would be well if the machine were.
    fn new() -> Machine {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let machine = Machine { directory };
        machine.configure(&machine.config());
        machine
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }

    fn config(&self) -> String {
        let directory = self.path().display();
        format!(
            "[host]\nuplink = \"up0\"\ninternal_net = \"10.78.0.0/24\"\nstate_dir = \"{directory}/state\"\n\
             run_dir = \"{directory}/run\"\nbpf_dir = \"/sys/fs/bpf/hotpair-test-looking\"\n[hypervisor]\nkind = \"command\"\n\
             [[pair]]\nname = \"lk\"\nentry = [\"203.0.113.10\"]\n[pair.command]\nstart = [\"true\"]\nstop = [\"true\"]\n\
             release = [\"true\"]\nstatus = [\"false\"]\n"
        )
    }

    fn configure(&self, text: &str) {
        std::fs::write(self.path().join("hotpair.toml"), text).expect("writable");
    }

    /// Runs `hotpair VERB` in a fresh network namespace, after `prepare` (a shell script) has set it up.
    fn run(&self, prepare: &str, verb: &str) -> Ran {
        let script = format!(
            "{prepare}\nexec {} --config {}/hotpair.toml {verb}",
            env!("CARGO_BIN_EXE_hotpair"),
            self.path().display()
        );
        Command::new("unshare").args(["--net", "sh", "-ec", &script]).output().expect("unshare runs").into()
    }

    fn check(&self, prepare: &str) -> (i32, Vec<Value>) {
        let ran = self.run(prepare, "check -o json");
        let findings: Value =
            serde_json::from_str(&ran.out).unwrap_or_else(|_| panic!("no JSON: {}{}", ran.out, ran.error));
        (ran.exit, findings["findings"].as_array().expect("a list").clone())
    }
}

const UPLINK: &str = "ip link add up0 type veth peer name up1; ip link set up0 up; ip link set up1 up";

#[test]
fn a_machine_that_is_ready_is_called_ready() {
    if !may_run() {
        return;
    }
    let machine = Machine::new();
    let (exit, findings) = machine.check(UPLINK);
    let bad: Vec<&Value> = findings.iter().filter(|finding| finding["level"] != "ok").collect();
    assert!(bad.is_empty(), "{bad:#?}");
    assert_eq!(exit, 0);
    assert!(!machine.path().join("state").exists() && !machine.path().join("run").exists(), "it only looks");
}

#[test]
fn what_is_wrong_with_the_machine_is_a_failure_with_a_way_out() {
    if !may_run() {
        return;
    }
    for (prepare, check, what, way_out) in [
        (String::new(), "uplink", "there is no interface up0", "ip link"),
        (format!("{UPLINK}; ip link set up0 mtu 9000"), "uplink", "MTU of 9000", "mtu 1500"),
        (format!("{UPLINK}; ip link set up0 down"), "uplink", "up0 is down", "ip link set up0 up"),
        (
            "ip tuntap add up0 mode tun; ip link set up0 up".to_owned(),
            "uplink",
            "not an Ethernet interface",
            "host.uplink",
        ),
        (
            format!("{UPLINK}; ip addr add 10.78.0.9/24 dev up0"),
            "internal_net",
            "overlaps 10.78.0.9/24 on up0",
            "host.internal_net",
        ),
        (
            format!("{UPLINK}; ip addr add 203.0.113.10/32 dev up0"),
            "entry",
            "203.0.113.10 of pair lk is an address of this host",
            "ip addr del",
        ),
        (
            format!("{UPLINK}; ip link add hplks1 type bridge"),
            "taps",
            "the name hplks1 is taken",
            "another name",
        ),
    ] {
        let machine = Machine::new();
        let (exit, findings) = machine.check(&prepare);
        assert_eq!(exit, 2, "{check}: {what}");
        let finding = findings.iter().find(|finding| finding["level"] == "fail").expect("a failure");
        assert_eq!(finding["check"], check, "{finding}");
        assert!(finding["what"].as_str().is_some_and(|text| text.contains(what)), "{finding}");
        assert!(finding["way_out"].as_str().is_some_and(|text| text.contains(way_out)), "{finding}");

        let ran = machine.run(&prepare, "run");
        assert_eq!(ran.exit, 2, "run refuses it too: {}", ran.error);
        assert!(ran.error.contains(what) && ran.error.contains("nothing was touched"), "{}", ran.error);
        assert!(
            !machine.path().join("state").exists() && !machine.path().join("run").exists(),
            "and is right about it"
        );
    }
}

#[test]
fn a_program_or_directory_that_is_not_there_is_a_failure() {
    if !may_run() {
        return;
    }
    for (from, to, check) in [
        ("start = [\"true\"]", "start = [\"./no-such-program\"]", "pair lk: command"),
        ("/state\"", "/hotpair.toml/state\"", "state_dir"),
        ("/sys/fs/bpf/hotpair-test-looking", "/tmp", "bpf_dir"),
    ] {
        let machine = Machine::new();
        machine.configure(&machine.config().replace(from, to));
        let (exit, findings) = machine.check(UPLINK);
        assert_eq!(exit, 2);
        let finding = findings.iter().find(|finding| finding["level"] == "fail").expect("a failure");
        assert_eq!(finding["check"], check, "{finding}");
    }
}

#[test]
fn not_root_is_refused_with_what_is_missing() {
    if !may_run() {
        return;
    }
    let machine = Machine::new();
    let open = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(machine.path(), open).expect("our directory");
    let copy = machine.path().join("hotpair");
    std::fs::copy(env!("CARGO_BIN_EXE_hotpair"), &copy).expect("a copy");
    for verb in ["check", "run"] {
        let ran: Ran = Command::new(&copy)
            .uid(65534)
            .gid(65534)
            .current_dir("/")
            .arg("--config")
            .arg(machine.path().join("hotpair.toml"))
            .arg(verb)
            .output()
            .expect("it runs")
            .into();
        assert_eq!(ran.exit, 2, "{}", ran.error);
        let text = ran.out + &ran.error;
        assert!(text.contains("not root, and without CAP_NET_ADMIN"), "{text}");
        assert!(text.contains("sudo"), "{text}");
    }
}

#[test]
fn a_wrong_configuration_is_3_for_every_verb_that_needs_it() {
    let machine = Machine::new();
    machine.configure(&machine.config().replace("uplink", "uplnk"));
    for verb in ["check", "run", "cleanup"] {
        let ran: Ran = hotpair()
            .arg("--config")
            .arg(machine.path().join("hotpair.toml"))
            .arg(verb)
            .output()
            .expect("it runs")
            .into();
        assert_eq!(ran.exit, 3, "{verb}: {}", ran.error);
        assert!(ran.error.contains("hotpair.toml:2:1: host.uplnk: is not a key of [host]"), "{}", ran.error);
        assert!(!machine.path().join("run").exists());
    }
}

#[test]
fn cleanup_is_refused_while_a_controller_runs() {
    let machine = Machine::new();
    let run_dir = machine.path().join("run");
    let _lock = hotpair::controller::RunLock::take(&run_dir).expect("nobody else has it");
    let ran = machine.run("", "cleanup");
    if may_run() {
        assert_eq!(ran.exit, 2);
        assert!(ran.error.contains("a controller runs on "), "{}", ran.error);
    }
}

#[test]
fn cleanup_takes_the_pairs_taps_and_nothing_else() {
    if !may_run() {
        return;
    }
    let machine = Machine::new();
    let text = machine.config().replace(
        "bpf_dir = \"/sys/fs/bpf/hotpair-test-looking\"",
        "bpf_dir = \"/sys/fs/bpf/hotpair-test-looking/x\"",
    );
    machine.configure(&text);
    let taps = "for tap in hplks0 hplks1 hpothers0; do ip tuntap add $tap mode tap; done";
    let script = format!(
        "{taps}\n{} --config {}/hotpair.toml cleanup --members\nip -o link | cut -d: -f2",
        env!("CARGO_BIN_EXE_hotpair"),
        machine.path().display()
    );
    let ran: Ran =
        Command::new("unshare").args(["--net", "sh", "-ec", &script]).output().expect("unshare runs").into();
    assert_eq!(ran.exit, 0, "{}{}", ran.out, ran.error);
    assert!(ran.out.contains("removed tap hplks0\nremoved tap hplks1\n"), "{}", ran.out);
    assert!(ran.out.ends_with(" lo\n hpothers0\n"), "{}", ran.out);
    assert!(!machine.path().join("run").exists(), "the lock is gone too");
}
