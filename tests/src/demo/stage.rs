//! Where the demo plays: a client in a namespace, an uplink, two libvirt VMs and the controller. Gone when dropped.

use std::fs::{self, File};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use hotpair::api::types::{PairStatus, Protection, Record, RecordKind, Show, Status};
use rustix::fs::{FlockOperation, flock};
use rustix::process::{Pid, Signal, kill_process};

use super::{Demo, Voice};
use crate::ethtool;
use crate::interrupt;
use crate::load;
use crate::netns::{Netns, ip_batch, run};

/// The demo's pair; everything it makes carries this name.
pub(super) const PAIR: &str = "demo";
const UPLINK: &str = "hpdemo0";
const CLIENT_LINK: &str = "lan0";
const NETNS: &str = "hotpair-demo-client";
const ENTRY_V4: &str = "203.0.113.10";
const ENTRY_V6: &str = "2001:db8:77::10";
const SCRATCH: &str = "/run/hotpair-demo";
/// Held while a demo plays: everything of it has fixed names.
const LOCK: &str = "/run/hotpair-demo.lock";

/// The stage.
pub struct Stage {
    demo: Demo,
    voice: Voice,
    client: Option<Netns>,
    controller: Option<Child>,
    kept: bool,
    _alone: File,
}

/// Waits until no other demo plays.
fn alone(voice: Voice) -> Result<File> {
    let lock = File::create(LOCK).with_context(|| format!("cannot make {LOCK}"))?;
    let mut told = false;
    while let Err(error) = flock(&lock, FlockOperation::NonBlockingLockExclusive) {
        if error != rustix::io::Errno::WOULDBLOCK {
            return Err(error).with_context(|| format!("cannot lock {LOCK}"));
        }
        if !std::mem::replace(&mut told, true) {
            voice.say("another demo is playing; waiting for its end");
        }
        interrupt::check()?;
        std::thread::sleep(Duration::from_millis(200));
    }
    Ok(lock)
}

impl Stage {
    /// Builds everything and starts the controller.
    ///
    /// # Errors
    /// When anything of it cannot be had.
    pub fn set(demo: &Demo, voice: Voice) -> Result<Stage> {
        if !rustix::process::geteuid().is_root() {
            bail!("the demo needs root: it makes a network namespace, loads eBPF programs and starts VMs");
        }
        fs::create_dir_all(&demo.out)
            .with_context(|| format!("cannot make the directory {}", demo.out.display()))?;
        let alone = alone(voice)?;
        let mut stage =
            Stage { demo: demo.clone(), voice, client: None, controller: None, kept: false, _alone: alone };
        // What a killed demo left behind.
        stage.remove_all();
        for room in ["state", "run"] {
            fs::create_dir_all(PathBuf::from(SCRATCH).join(room))
                .with_context(|| format!("cannot make {SCRATCH}/{room}"))?;
        }
        voice.say("a client in a network namespace of its own, wired to the uplink");
        stage.client = Some(wire()?);
        fs::write(stage.config_file(), stage.config())?;
        voice.say("starting the controller: hotpair run");
        stage.start_controller()?;
        Ok(stage)
    }

    fn config_file(&self) -> PathBuf {
        PathBuf::from(SCRATCH).join("hotpair.toml")
    }

    fn config(&self) -> String {
        let demo = &self.demo;
        format!(
            "[host]\nname = \"demo\"\nuplink = \"{UPLINK}\"\ninternal_net = \"10.78.0.0/24\"\n\
             state_dir = \"{SCRATCH}/state\"\nrun_dir = \"{SCRATCH}/run\"\nbpf_dir = \"/sys/fs/bpf/hotpair-demo\"\n\n\
             [hypervisor]\nkind = \"libvirt\"\n\n\
             [[pair]]\nname = \"{PAIR}\"\nentry = [\"{ENTRY_V4}\", \"{ENTRY_V6}\"]\n\
             domain = \"{}\"\nimage = \"{}\"\n\
             heartbeat = {{ interval = \"{}\", timeout = \"{}\", start = \"2m\" }}\n\
             ack = \"both\"\nlag_limit = \"{}\"\n",
            demo.guest.join("domain.xml").display(),
            demo.guest.join("image.qcow2").display(),
            humantime::format_duration(demo.interval),
            humantime::format_duration(demo.timeout),
            // An emulated standby beats and does not get its CPU for anything else for a while: it is none the worse for it.
            humantime::format_duration((demo.timeout * 4).min(Duration::from_secs(1))),
        )
    }

    pub(super) fn voice(&self) -> Voice {
        self.voice
    }

    /// Where the guest is.
    pub(super) fn guest(&self) -> &Path {
        &self.demo.guest
    }

    /// The entry addresses, IPv4 and IPv6.
    pub(super) fn entries(&self) -> [IpAddr; 2] {
        [ENTRY_V4, ENTRY_V6].map(|entry| entry.parse().expect("it is an address"))
    }

    /// What the controller has logged.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    fn log_file(&self) -> PathBuf {
        self.demo.out.join("hotpair.log")
    }

    fn start_controller(&mut self) -> Result<()> {
        let log = File::create(self.log_file())
            .with_context(|| format!("cannot write {}", self.log_file().display()))?;
        let child = Command::new(&self.demo.hotpair)
            .arg("run")
            .arg("--config")
            .arg(self.config_file())
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .with_context(|| format!("cannot run {}", self.demo.hotpair.display()))?;
        self.controller = Some(child);
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            interrupt::check()?;
            if self.status().is_ok() {
                return Ok(());
            }
            if let Some(child) = &mut self.controller
                && let Some(status) = child.try_wait()?
            {
                let log = fs::read_to_string(self.log_file()).unwrap_or_default();
                bail!("the controller ended with {status}:\n{log}");
            }
            if Instant::now() > deadline {
                bail!("the controller does not answer; see {}", self.log_file().display());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Name of a member's domain.
    pub(super) fn domain(slot: u8, generation: u64) -> String {
        format!("hotpair-{PAIR}-{slot}-g{generation}")
    }

    /// The web server behind the entry address.
    pub(super) fn web(&self) -> SocketAddr {
        SocketAddr::new(self.entries()[0], 80)
    }

    /// The echo behind the entry address.
    pub fn echo(&self) -> SocketAddr {
        SocketAddr::new(self.entries()[0], 7)
    }

    /// Starts a load in the client's namespace.
    ///
    /// # Errors
    /// When its sockets cannot be had.
    pub fn load(&self, plan: load::Plan) -> Result<load::Load> {
        self.as_client(|| plan.start())
    }

    /// Does something in the client's namespace.
    pub(super) fn as_client<T>(&self, what: impl FnOnce() -> Result<T>) -> Result<T> {
        let client = self.client.as_ref().context("the stage is struck")?;
        let _inside = client.enter()?;
        what()
    }

    /// What `hotpair status` says to a person.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn status_text(&self) -> Result<String> {
        self.ask(&["status"])
    }

    pub(super) fn ask_json(&self, arguments: &[&str]) -> Result<String> {
        self.ask(&[arguments, &["-o", "json"]].concat())
    }

    fn ask(&self, arguments: &[&str]) -> Result<String> {
        let output = Command::new(&self.demo.hotpair)
            .args(arguments)
            .args(["--socket", &format!("{SCRATCH}/run/api.sock")])
            .stdin(Stdio::null())
            .output()
            .with_context(|| format!("cannot run {}", self.demo.hotpair.display()))?;
        // Degraded (1) and down (2) are answers as well.
        if !matches!(output.status.code(), Some(0..=2)) {
            bail!("hotpair {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    }

    /// What `hotpair status` says.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn status(&self) -> Result<Status> {
        Ok(serde_json::from_str(&self.ask_json(&["status"])?)?)
    }

    /// What it says of the pair.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn pair(&self) -> Result<PairStatus> {
        let pairs = self.status()?.pairs;
        pairs.into_iter().find(|pair| pair.name == PAIR).context("the status does not show the pair")
    }

    /// What `hotpair history` says.
    ///
    /// # Errors
    /// When it cannot be asked.
    pub fn history(&self) -> Result<Vec<Record>> {
        Ok(serde_json::from_str(&self.ask_json(&["history", PAIR])?)?)
    }

    pub(super) fn counter(&self, name: &str) -> Result<u64> {
        let show: Show = serde_json::from_str(&self.ask_json(&["show", PAIR])?)?;
        Ok(show.counters.iter().find(|count| count.name == name).map_or(0, |count| count.packets))
    }

    /// Waits until the pair is protected, and has become so after `since_ms` (Unix milliseconds).
    ///
    /// # Errors
    /// When it is not within that time.
    pub fn wait_protected(&self, within: Duration, since_ms: Option<f64>) -> Result<()> {
        let deadline = Instant::now() + within;
        let mut told = String::new();
        loop {
            interrupt::check()?;
            let pair = self.pair()?;
            let fresh = since_ms.is_none_or(|since| pair.since_at_ms as f64 >= since);
            if pair.protection == Protection::Protected && fresh {
                return Ok(());
            }
            let why = pair.why.unwrap_or_default();
            let now = std::mem::replace(&mut told, why);
            if now != told && !told.is_empty() {
                self.voice.say(&told);
            }
            if Instant::now() > deadline {
                bail!(
                    "not protected within {} s: {told}; see {}",
                    within.as_secs(),
                    self.log_file().display()
                );
            }
            interrupt::pause(Duration::from_millis(250))?;
        }
    }

    /// Waits for a line of history that is not older than `since_ms`.
    pub(super) fn wait_record(&self, within: Duration, since_ms: f64, kind: RecordKind) -> Result<Record> {
        let deadline = Instant::now() + within;
        loop {
            interrupt::check()?;
            let found = self
                .history()?
                .into_iter()
                .rev()
                .find(|record| record.kind == kind && record.at_ms as f64 >= since_ms.floor());
            if let Some(record) = found {
                return Ok(record);
            }
            if Instant::now() > deadline {
                bail!("the history shows no `{kind:?}` within {} s", within.as_secs());
            }
            interrupt::pause(Duration::from_millis(50))?;
        }
    }

    pub(super) fn domain_exists(&self, slot: u8, generation: u64) -> Result<bool> {
        let names =
            run(Command::new("virsh").args(["-q", "-c", "qemu:///system", "list", "--all", "--name"]))?;
        Ok(names.lines().any(|name| name.trim() == Self::domain(slot, generation)))
    }

    pub(super) fn volume_exists(&self, slot: u8, generation: u64) -> bool {
        self.demo.guest.join(format!("{}.qcow2", Self::domain(slot, generation))).exists()
    }

    /// Gives the guest of one member an order, through its internal address: clients reach both members alike.
    pub(super) fn order(&self, slot: u8, what: &str, obeyed: &str) -> Result<()> {
        let pair = self.pair()?;
        let to = SocketAddr::new(pair.members[usize::from(slot)].internal_ip.into(), 7);
        let socket = std::net::UdpSocket::bind("0.0.0.0:0")?;
        socket.set_read_timeout(Some(Duration::from_millis(500)))?;
        for _ in 0..10 {
            socket.send_to(format!("hotpair-demo: {what}").as_bytes(), to)?;
            let mut answer = [0; 64];
            if let Ok((length, _)) = socket.recv_from(&mut answer)
                && answer[..length].starts_with(obeyed.as_bytes())
            {
                return Ok(());
            }
        }
        bail!("the member in slot {slot} does not answer at {to}")
    }

    /// From now on dropping leaves everything as it is.
    pub(super) fn keep(&mut self) {
        self.kept = true;
        // Its namespace goes when it is dropped.
        std::mem::forget(self.client.take());
    }

    pub(super) fn hints(&self) -> Vec<String> {
        let hotpair = self.demo.hotpair.display();
        vec![
            format!("{hotpair} status --socket {SCRATCH}/run/api.sock"),
            format!("ip netns exec {NETNS} curl -s http://{ENTRY_V4}/"),
            "virsh -c qemu:///system list".to_owned(),
            "cargo xtask demo --clean".to_owned(),
        ]
    }

    /// Ends and removes everything; tells what could not be.
    ///
    /// # Errors
    /// When libvirt cannot be asked.
    pub fn strike(&mut self) -> Result<Vec<String>> {
        self.remove_all();
        self.kept = true;
        let mut left = Vec::new();
        for slot in [0, 1] {
            for generation in 0..200 {
                if self.volume_exists(slot, generation) {
                    left.push(format!("volume of slot {slot}, generation {generation}"));
                }
            }
        }
        let names =
            run(Command::new("virsh").args(["-q", "-c", "qemu:///system", "list", "--all", "--name"]))?;
        left.extend(
            names.lines().filter(|name| name.starts_with(&format!("hotpair-{PAIR}-"))).map(str::to_owned),
        );
        left.extend(Netns::path_of(NETNS).exists().then(|| format!("namespace {NETNS}")));
        Ok(left)
    }

    fn remove_all(&mut self) {
        if let Some(mut child) = self.controller.take() {
            let _ = kill_process(Pid::from_child(&child), Signal::TERM);
            let deadline = Instant::now() + Duration::from_secs(10);
            while child.try_wait().is_ok_and(|status| status.is_none()) {
                if Instant::now() > deadline {
                    let _ = child.kill();
                }
                std::thread::sleep(Duration::from_millis(20));
            }
        }
        if self.config_file().exists() {
            let cleaned = run(Command::new(&self.demo.hotpair)
                .args(["cleanup", "--members", "--config"])
                .arg(self.config_file()));
            if let Err(error) = cleaned {
                self.voice.say(format!("hotpair cleanup: {error:#}"));
            }
        }
        drop(self.client.take());
        if Netns::path_of(NETNS).exists() {
            let _ = run(Command::new("ip").args(["netns", "del", NETNS]));
        }
        // Gone with the namespace, unless that was never made.
        let _ = run(Command::new("ip").args(["link", "del", UPLINK]));
        let _ = fs::remove_dir_all(SCRATCH);
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if !self.kept {
            self.remove_all();
        }
    }
}

/// Removes what an earlier demo has left running.
///
/// # Errors
/// What is still there.
pub fn clean(demo: &Demo) -> Result<()> {
    let voice = Voice::new();
    let alone = alone(voice)?;
    let mut stage =
        Stage { demo: demo.clone(), voice, client: None, controller: None, kept: false, _alone: alone };
    let pid = fs::read_to_string(format!("{SCRATCH}/run/lock")).ok();
    if let Some(pid) = pid.and_then(|pid| pid.trim().parse().ok()).and_then(Pid::from_raw) {
        let _ = kill_process(pid, Signal::TERM);
        std::thread::sleep(Duration::from_secs(1));
    }
    let left = stage.strike()?;
    if !left.is_empty() {
        bail!("still there: {}", left.join(", "));
    }
    Ok(())
}

fn wire() -> Result<Netns> {
    let client = Netns::create(NETNS)?;
    ip_batch(&format!(
        "link add {UPLINK} type veth peer name {CLIENT_LINK} netns {NETNS}\n\
         addr add 203.0.113.2/24 dev {UPLINK}\n\
         addr add 2001:db8:77::2/64 dev {UPLINK} nodad\n\
         link set {UPLINK} up\n"
    ))?;
    let inside = client.enter()?;
    ip_batch(&format!(
        "addr add 203.0.113.1/24 dev {CLIENT_LINK}\n\
         addr add 2001:db8:77::1/64 dev {CLIENT_LINK} nodad\n\
         link set {CLIENT_LINK} up\n"
    ))?;
    // What XDP redirects on the host must be complete frames, as from a real wire; and a veth only takes what XDP sends
    // it when it has NAPI, which GRO turns on.
    for offload in [ethtool::TX_CHECKSUM, ethtool::TSO, ethtool::GSO] {
        ethtool::set(CLIENT_LINK, offload, false)?;
    }
    ethtool::set(CLIENT_LINK, ethtool::GRO, true)?;
    drop(inside);
    Ok(client)
}
