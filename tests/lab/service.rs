//! What packaging/hotpair.service allows is enough: the real controller under exactly its capabilities.
//!
//! The lab's machines are namespaces, and making those needs rights that the controller does not have. So its commands
//! only ask, and a thread of the test does what they ask for.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use hotpair::api::types::RecordKind;
use hotpair::config::{self, Vm};
use hotpair_tests::lab::{Lab, PAIR};
use hotpair_tests::load::Plan;

/// Hands its order over and waits for the answer.
const ASK: &str = r#"#!/bin/sh
order="$(dirname "$0")/$$"
{ env | grep '^HOTPAIR_'; echo "VERB=$1"; } > "$order.new"
mv "$order.new" "$order.order"
until [ -e "$order.done" ]; do sleep 0.005; done
cat "$order.out"
exit "$(cat "$order.done")"
"#;

/// Does what the commands ask for.
struct Launcher {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Launcher {
    /// Puts `ask` in the place of the configuration's commands.
    fn between(lab: &Lab) -> Result<Launcher> {
        let file = lab.config_file();
        let config = config::load(&file)?;
        let Vm::Command(commands) = config.pairs[0].vm.clone() else { anyhow::bail!("a lab runs commands") };
        let orders = lab.dir().join("orders");
        fs::create_dir(&orders)?;
        let ask = orders.join("ask");
        fs::write(&ask, ASK)?;
        fs::set_permissions(&ask, fs::Permissions::from_mode(0o755))?;
        let text = fs::read_to_string(&file)?;
        let kept: Vec<&str> = text.lines().filter(|line| !line.starts_with("command = ")).collect();
        let verbs: Vec<String> = ["start", "stop", "release", "status"]
            .map(|verb| format!("{verb} = [\"{}\", \"{verb}\"]", ask.display()))
            .into();
        fs::write(&file, format!("{}\ncommand = {{ {} }}\n", kept.join("\n"), verbs.join(", ")))?;

        let stop = Arc::new(AtomicBool::new(false));
        let (stopped, netns) = (Arc::clone(&stop), lab.host().netns().name().to_owned());
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                for order in orders_in(&orders) {
                    let (commands, netns) = (commands.clone(), netns.clone());
                    // Two starts at a time are two machines at a time.
                    std::thread::spawn(move || carry_out(&order, &commands, &netns));
                }
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        Ok(Launcher { stop, thread: Some(thread) })
    }
}

impl Drop for Launcher {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// New orders, each only once.
fn orders_in(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten().map(|entry| entry.path());
    let new = entries.filter(|path| path.extension().is_some_and(|extension| extension == "order"));
    new.filter_map(|path| {
        let taken = path.with_extension("taken");
        fs::rename(&path, &taken).ok().map(|()| taken)
    })
    .collect()
}

fn carry_out(order: &Path, commands: &config::Command, netns: &str) {
    let text = fs::read_to_string(order).unwrap_or_default();
    let variables: Vec<(&str, &str)> = text.lines().filter_map(|line| line.split_once('=')).collect();
    let verb = variables.iter().find(|(key, _)| *key == "VERB").map_or("", |(_, verb)| *verb);
    let argv = match verb {
        "start" => &commands.start,
        "stop" => &commands.stop,
        "release" => &commands.release,
        _ => &commands.status,
    };
    let mut command = Command::new("nsenter");
    command.arg(format!("--net=/run/netns/{netns}")).args(argv).envs(variables);
    let (code, words) = match command.output() {
        Ok(output) => (output.status.code().unwrap_or(2), [output.stdout, output.stderr].concat()),
        Err(error) => (2, error.to_string().into_bytes()),
    };
    let _ = fs::write(order.with_extension("out"), words);
    let done = order.with_extension("new");
    let _ = fs::write(&done, code.to_string()).and_then(|()| fs::rename(&done, order.with_extension("done")));
}

/// The capabilities that the unit leaves, as setpriv names them.
fn of_the_unit() -> Result<Vec<String>> {
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/hotpair.service");
    let unit = fs::read_to_string(unit)?;
    let line = unit.lines().find_map(|line| line.strip_prefix("CapabilityBoundingSet="));
    let names = line.context("the unit bounds the capabilities")?.split_whitespace();
    names.map(|name| Ok(name.strip_prefix("CAP_").with_context(|| name.to_owned())?.to_lowercase())).collect()
}

/// A command line that runs what follows it with these capabilities and no way to others.
fn under(capabilities: &[String]) -> Vec<String> {
    let bounding: String = capabilities.iter().map(|name| format!(",+{name}")).collect();
    [
        "setpriv",
        "--no-new-privs",
        "--inh-caps=-all",
        "--ambient-caps=-all",
        &format!("--bounding-set=-all{bounding}"),
    ]
    .map(str::to_owned)
    .into()
}

#[test]
fn the_units_capabilities_are_enough_for_everything() -> Result<()> {
    if !crate::may_run("the_units_capabilities_are_enough_for_everything") {
        return Ok(());
    }
    let mut lab = Lab::builder().metrics().without_controller()?;
    let _launcher = Launcher::between(&lab)?;
    let capabilities = of_the_unit()?;
    lab.run_controller_under(under(&capabilities));
    lab.start_controller()?;
    lab.wait_protected()?;

    let load =
        lab.client().load(Plan::udp(lab.client().echo()?).rate(200).during(Duration::from_secs(60)))?;
    lab.primary()?.kill()?;
    let failed_over = lab.wait_pair("a failover", |pair| {
        pair.last.as_ref().is_some_and(|last| last.kind == RecordKind::Failover)
    })?;
    lab.wait_protected()?;
    lab.must(&["switchover", PAIR])?;
    let before = lab.wait_protected()?;
    assert!(before.epoch > failed_over.epoch);
    // Restarted in place: adopts, upgrades the programs, and nothing changes.
    lab.stop_controller()?;
    lab.start_controller()?;
    let after = lab.wait_protected()?;
    assert_eq!(
        (after.primary, &after.members[0].generation),
        (before.primary, &before.members[0].generation)
    );
    let report = load.stop();
    assert!(report.answered() > 0 && report.answerers().len() >= 2, "{}", report.line());

    let log = lab.log();
    for trouble in ["ordinary priority", "EPERM", "ermission", "not permitted"] {
        assert!(!log.contains(trouble), "the log speaks of {trouble}");
    }
    assert!(lab.status()?.troubles.is_empty());
    Ok(())
}

#[test]
fn without_one_of_them_the_controller_says_which() -> Result<()> {
    if !crate::may_run("without_one_of_them_the_controller_says_which") {
        return Ok(());
    }
    let capabilities = of_the_unit()?;
    for missing in ["net_admin", "net_raw", "bpf", "perfmon"] {
        let mut lab = Lab::builder().quiet().without_controller()?;
        let rest: Vec<String> = capabilities.iter().filter(|name| *name != missing).cloned().collect();
        assert_eq!(rest.len() + 1, capabilities.len(), "the unit allows {missing}");
        lab.run_controller_under(under(&rest));
        let error = format!("{:#}", lab.start_controller().expect_err("it cannot run so"));
        assert!(error.contains(&format!("CAP_{}", missing.to_uppercase())), "{error}");
        assert!(!lab.dir().join("bpf/hotpair").exists(), "nothing was touched");
    }
    Ok(())
}

/// What a service manager is told, in order. Waits until something of it begins so.
fn told(socket: &UnixDatagram, beginning: &str) -> Result<Vec<String>> {
    let mut lines = Vec::new();
    let mut message = [0; 4096];
    while !lines.iter().any(|line: &String| line.starts_with(beginning)) {
        let length = socket.recv(&mut message).with_context(|| format!("no {beginning} after {lines:?}"))?;
        lines.extend(String::from_utf8_lossy(&message[..length]).lines().map(str::to_owned));
    }
    Ok(lines)
}

#[test]
fn the_service_manager_is_told_and_the_watchdog_is_fed() -> Result<()> {
    if !crate::may_run("the_service_manager_is_told_and_the_watchdog_is_fed") {
        return Ok(());
    }
    let mut lab = Lab::builder().without_controller()?;
    let path = lab.dir().join("notify");
    let socket = UnixDatagram::bind(&path)?;
    socket.set_read_timeout(Some(Duration::from_secs(10)))?;
    let limit = Duration::from_millis(1500);
    lab.run_controller_under(vec![
        "env".to_owned(),
        format!("NOTIFY_SOCKET={}", path.display()),
        format!("WATCHDOG_USEC={}", limit.as_micros()),
    ]);
    lab.start_controller()?;
    let before = told(&socket, "READY=1")?;
    assert!(!before.iter().any(|line| line.starts_with("WATCHDOG")), "it is not watched before it is ready");
    lab.wait_protected()?;
    told(&socket, "STATUS=1 pair: 1 protected, 0 unprotected, 0 down")?;
    // Thrice in the limit, so that one late round is not the end.
    let began = Instant::now();
    let mut last = began;
    for _ in 0..6 {
        told(&socket, "WATCHDOG=1")?;
        assert!(last.elapsed() < limit, "fed after {:?}", last.elapsed());
        last = Instant::now();
    }
    assert!(began.elapsed() < limit * 3, "fed six times in {:?}", began.elapsed());
    lab.stop_controller()?;
    told(&socket, "STOPPING=1")?;
    Ok(())
}

#[test]
fn stopping_the_controller_alone_leaves_members_and_data_plane() -> Result<()> {
    if !crate::may_run("stopping_the_controller_alone_leaves_members_and_data_plane") {
        return Ok(());
    }
    // KillMode=process: the service manager signals the main process and nothing else of the unit's cgroup.
    let mut lab = Lab::builder().start()?;
    lab.wait_protected()?;
    let machines = [lab.machine(0)?, lab.machine(1)?];
    let load = lab.client().load(Plan::udp(lab.client().echo()?).rate(200).during(Duration::from_secs(1)))?;
    lab.stop_controller()?;
    let report = load.wait();
    assert_eq!(report.lost().count(), 0, "{}", report.line());
    assert!(machines.iter().all(hotpair_tests::lab::Machine::is_alive), "members go on");
    let unit = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging/hotpair.service");
    let unit = fs::read_to_string(unit)?;
    assert!(unit.lines().any(|line| line == "KillMode=process"), "this is what the test stands for");
    Ok(())
}
