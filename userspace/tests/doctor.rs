//! `hotpair doctor` on NICs made for it, each in a network namespace that dies with the command.

mod root;

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use root::may_run;

const UPLINK: &str = "ip link add up0 type veth peer name up1; ip link set up0 up; ip link set up1 up";

/// Exit code and findings.
fn doctor(prepare: &str, arguments: &str) -> (i32, Vec<Value>) {
    doctor_in("--net", prepare, arguments)
}

/// In namespaces of these kinds, and a mount namespace. `$0` is a name in a directory of the test's own.
fn doctor_in(namespaces: &str, prepare: &str, arguments: &str) -> (i32, Vec<Value>) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    // A configuration of this very machine would be read.
    let alone = "if [ -d /etc/hotpair ]; then mount --make-rprivate /; mount -t tmpfs none /etc/hotpair; fi";
    let script =
        format!("{alone}\n{prepare}\nexec {} doctor -o json {arguments}", env!("CARGO_BIN_EXE_hotpair"));
    let output = Command::new("unshare")
        .args(namespaces.split(' '))
        .args(["--mount", "sh", "-ec", &script])
        .arg(directory.path().join("doctor"))
        .env_remove("HOTPAIR_CONFIG")
        .output()
        .expect("unshare runs");
    let text = String::from_utf8_lossy(&output.stdout);
    let findings: Value = serde_json::from_str(&text)
        .unwrap_or_else(|_| panic!("no JSON: {text}{}", String::from_utf8_lossy(&output.stderr)));
    let worst = match findings["verdict"].as_str() {
        Some("ok") => 0,
        Some("warn") => 1,
        _ => 2,
    };
    let exit = output.status.code().expect("it exits");
    assert_eq!(exit, worst, "the exit code is the verdict");
    (exit, findings["findings"].as_array().expect("a list").clone())
}

fn of<'f>(findings: &'f [Value], check: &str) -> &'f Value {
    let found = findings.iter().find(|finding| finding["check"] == check);
    found.unwrap_or_else(|| panic!("nothing is said of {check}: {findings:#?}"))
}

#[test]
fn without_a_configuration_the_named_uplink_is_looked_at() {
    if !may_run() {
        return;
    }
    let (_, findings) = doctor(UPLINK, "--uplink up0");
    for check in [
        "configuration",
        "kernel",
        "privileges",
        "bpf_dir",
        "libvirt",
        "acceleration",
        "btf",
        "tcx",
        "jit",
        "clock",
        "uplink",
        "xdp",
        "xdp_program",
        "offloads",
        "vlan",
        "ipv6",
        "txqueuelen",
        "punctuality",
    ] {
        let finding = of(&findings, check);
        assert_eq!(finding["way_out"].is_null(), finding["level"] == "ok", "{finding}");
    }
    for check in ["uplink", "xdp", "xdp_program", "offloads", "txqueuelen"] {
        assert_eq!(of(&findings, check)["level"], "ok", "{}", of(&findings, check));
    }
    assert!(
        of(&findings, "xdp")["what"].as_str().is_some_and(|what| what.contains("(veth)")),
        "{findings:#?}"
    );
    let (exit, findings) = doctor("true", "");
    assert!(exit >= 1 && of(&findings, "uplink")["what"] == "none is named: nothing is known of the NIC");
}

#[test]
fn what_is_wrong_with_the_uplink_is_said_with_a_way_out() {
    if !may_run() {
        return;
    }
    for (prepare, check, level, way_out) in [
        (format!("{UPLINK}; ip link set up0 mtu 9000"), "uplink", "fail", "mtu 1500"),
        ("true".to_owned(), "uplink", "fail", "ip link"),
        (format!("{UPLINK}; ip link set up0 txqueuelen 50"), "txqueuelen", "warn", "txqueuelen 1000"),
        ("ip link add up0 type bridge; ip link set up0 up".to_owned(), "xdp", "fail", "generic"),
        ("ip link add up0 type ifb; ip link set up0 up".to_owned(), "xdp", "fail", "generic"),
        (
            format!("{UPLINK}; ip link set up0 addrgenmode none; ip link set up0 down; ip link set up0 up"),
            "ipv6",
            "warn",
            "ip addr add fe80::1/64 dev up0",
        ),
        (UPLINK.to_owned(), "vlan", "warn", "ethtool -K up0 rxvlan off"),
    ] {
        let (exit, findings) = doctor(&prepare, "--uplink up0");
        let finding = of(&findings, check);
        assert_eq!(finding["level"], level, "{prepare}: {finding}");
        assert!(finding["way_out"].as_str().is_some_and(|way| way.contains(way_out)), "{finding}");
        assert!(exit >= if level == "fail" { 2 } else { 1 });
    }
}

/// The conditions are made for the command alone: its mount namespace shows it another kernel, and another KVM.
#[test]
fn what_is_wrong_with_the_machine_is_said_with_a_way_out() {
    if !may_run() {
        return;
    }
    let other = |file: &str, text: &str| {
        format!(
            "mount --make-rprivate /; echo '{text}' > $0.made; mount --bind $0.made {file}; rm $0.made; {UPLINK}"
        )
    };
    for (prepare, check, level, what, way_out) in [
        (
            other("/proc/sys/kernel/osrelease", "6.1.0-13-amd64"),
            "kernel",
            "fail",
            "6.1.0-13-amd64 is older than 6.6",
            "6.6",
        ),
        (
            format!("mount --make-rprivate /; mount -t tmpfs none /sys/kernel/btf; {UPLINK}"),
            "btf",
            "fail",
            "/sys/kernel/btf/vmlinux is not there",
            "CONFIG_DEBUG_INFO_BTF=y",
        ),
        (
            format!("mount --make-rprivate /; mount -t tmpfs none /sys/fs/bpf; {UPLINK}"),
            "bpf_dir",
            "fail",
            "bpf",
            "mount -t bpf",
        ),
        (
            format!("mount --make-rprivate /; touch /dev/kvm; mount --bind /dev/null /dev/kvm; {UPLINK}"),
            "acceleration",
            "warn",
            "KVM does not work here (cannot create a virtual machine",
            "hypervisor.accel",
        ),
        (
            // Everything of /dev that is needed, and no kvm.
            format!(
                "mount --make-rprivate /; mkdir $0.dev; mount -t tmpfs none $0.dev; cp -a /dev/null /dev/net $0.dev; \
                 mount --move $0.dev /dev; rmdir $0.dev; {UPLINK}"
            ),
            "acceleration",
            "warn",
            "KVM does not work here (cannot open /dev/kvm: No such file",
            "hypervisor.accel",
        ),
    ] {
        let (exit, findings) = doctor_in("--net", &prepare, "--uplink up0");
        let finding = of(&findings, check);
        assert_eq!(finding["level"], level, "{prepare}: {finding}");
        assert!(finding["what"].as_str().is_some_and(|text| text.contains(what)), "{finding}");
        assert!(finding["way_out"].as_str().is_some_and(|way| way.contains(way_out)), "{finding}");
        assert!(exit >= if level == "fail" { 2 } else { 1 });
    }
}

/// A libvirt that never answers: whoever connects waits for ever, in a thread that nobody can end.
#[test]
fn a_libvirt_that_is_away_or_hangs_is_said_and_keeps_nobody_from_ending() {
    if !may_run() {
        return;
    }
    let away =
        format!("mount --make-rprivate /; mkdir -p /run/libvirt; mount -t tmpfs none /run/libvirt; {UPLINK}");
    let directory = tempfile::tempdir().expect("a temporary directory");
    let socket = directory.path().join("socket");
    let _listens = std::os::unix::net::UnixListener::bind(&socket).expect("a socket");
    let link = |name: &str| format!("ln -s {} /run/libvirt/{name}", socket.display());
    let hangs = format!("{away}; {}; {}", link("libvirt-sock"), link("virtqemud-sock"));
    for (prepare, what) in [(away, "cannot be reached"), (hangs, "has not answered within 5 s")] {
        let began = Instant::now();
        let (exit, findings) = doctor(&prepare, "--uplink up0");
        let finding = of(&findings, "libvirt");
        assert_eq!((exit, &finding["level"]), (2, &"fail".into()), "{finding}");
        assert!(finding["what"].as_str().is_some_and(|text| text.contains(what)), "{finding}");
        assert!(finding["way_out"].as_str().is_some_and(|way| way.contains("systemctl")), "{finding}");
        assert!(began.elapsed() < Duration::from_secs(60), "it took {:?}", began.elapsed());
    }
}

#[test]
fn a_configuration_is_checked_as_check_does_it() {
    if !may_run() {
        return;
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (file, at) = (directory.path().join("hotpair.toml"), directory.path().display());
    let text = format!(
        "[host]\nuplink = \"up0\"\nxdp = \"generic\"\ninternal_net = \"10.78.0.0/24\"\nstate_dir = \"{at}/state\"\n\
         run_dir = \"{at}/run\"\nbpf_dir = \"/sys/fs/bpf/hotpair-test-doctor\"\n[hypervisor]\nkind = \"command\"\n\
         [[pair]]\nname = \"dr\"\nentry = [\"203.0.113.10\"]\nheartbeat = {{ interval = \"1ms\", timeout = \"2ms\" }}\n\
         [pair.command]\nstart = [\"true\"]\nstop = [\"true\"]\nrelease = [\"true\"]\nstatus = [\"/no/such/program\"]\n"
    );
    std::fs::write(&file, &text).expect("writable");
    let (exit, findings) = doctor(UPLINK, &format!("--config {}", file.display()));
    assert_eq!(exit, 2);
    for (check, level) in [
        ("pair dr: command", "fail"),
        ("uplink", "ok"),
        ("xdp", "warn"),
        ("state space", "ok"),
        // Nobody wakes without any delay, so 2 ms is too short for everybody.
        ("punctuality", "warn"),
    ] {
        assert_eq!(of(&findings, check)["level"], level, "{}", of(&findings, check));
    }
    assert_eq!(findings.iter().filter(|finding| finding["check"] == "uplink").count(), 1);
    assert!(
        !directory.path().join("state").exists() && !directory.path().join("run").exists(),
        "it only looks"
    );
    std::fs::write(&file, text.replace("uplink", "uplnk")).expect("writable");
    let output = Command::new(env!("CARGO_BIN_EXE_hotpair"))
        .arg("doctor")
        .arg("--config")
        .arg(&file)
        .output()
        .expect("it runs");
    assert_eq!(output.status.code(), Some(3), "a wrong configuration is not passed over");
}
