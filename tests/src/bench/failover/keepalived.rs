//! keepalived's side: two namespaces with keepalived and an echo each, and the client, on one bridge.

use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::round::Round;
use super::site::Fault;
use super::{client, tell};
use crate::interrupt;
use crate::lab;
use crate::load::By;
use crate::netns::{Netns, ip_batch, run};
use crate::wait::wait_for;

/// The address that moves.
const VIRTUAL: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 10);
const ECHO: u16 = 7;

/// How keepalived is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Adverts {
    /// VRRPv3, `advert_int 0.01`, real-time priority.
    TenMilliseconds,
    /// VRRPv2, a second.
    Default,
}

impl Adverts {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Adverts::TenMilliseconds => "10 ms adverts",
            Adverts::Default => "defaults",
        }
    }

    /// keepalived.conf. `nopreempt`: the address moves once a round.
    fn config(self, node: &str, priority: u8) -> String {
        let (global, advert) = match self {
            Adverts::TenMilliseconds => ("  vrrp_version 3\n  vrrp_rt_priority 10\n", "  advert_int 0.01\n"),
            Adverts::Default => ("", ""),
        };
        format!(
            "global_defs {{\n  router_id {node}\n{global}}}\n\
             vrrp_instance bench {{\n  state BACKUP\n  nopreempt\n  interface eth0\n  virtual_router_id 51\n\
             \x20 priority {priority}\n{advert}  virtual_ipaddress {{\n    {VIRTUAL}/32\n  }}\n}}\n"
        )
    }

    /// How long a failover may take at the most: three adverts and something.
    const fn patience(self) -> Duration {
        match self {
            Adverts::TenMilliseconds => Duration::from_secs(5),
            Adverts::Default => Duration::from_secs(15),
        }
    }
}

/// All rounds of a fault.
pub(super) fn measure(adverts: Adverts, fault: Fault, of: u32) -> Result<Vec<Round>> {
    let site = Site::new()?;
    let mut rounds = Vec::new();
    for number in 1..=of {
        let round = site.round(adverts, fault).with_context(|| format!("round {number}"))?;
        tell(&format!("keepalived, {}, {}", adverts.name(), fault.name()), number, of, &round);
        rounds.push(round);
    }
    Ok(rounds)
}

/// The bridge, the client, and a namespace for each node. Gone when dropped.
struct Site {
    dir: tempfile::TempDir,
    lan: Netns,
    client: Netns,
    nodes: [Netns; 2],
}

impl Site {
    fn new() -> Result<Site> {
        remove_leftovers()?;
        let netns = |what: &str| Netns::create(&format!("hpbench-{}-{what}", std::process::id()));
        let site = Site {
            dir: tempfile::tempdir()?,
            lan: netns("lan")?,
            client: netns("client")?,
            nodes: [netns("a")?, netns("b")?],
        };
        let inside = site.lan.enter()?;
        let mut lines = "link add name br0 type bridge mcast_snooping 0\nlink set br0 up\n".to_owned();
        for (port, there) in ["client", "a", "b"].iter().zip([&site.client, &site.nodes[0], &site.nodes[1]]) {
            lines += &format!("link add name {port} type veth peer name eth0 netns {}\n", there.name());
            lines += &format!("link set dev {port} master br0 up\n");
        }
        ip_batch(&lines)?;
        drop(inside);
        for (there, host) in [&site.client, &site.nodes[0], &site.nodes[1]].into_iter().zip([1, 2, 3]) {
            there.ip(&format!("addr add 203.0.113.{host}/24 dev eth0\nlink set eth0 up\n"))?;
            let _inside = there.enter()?;
            // The echo is there before the address is.
            fs::write("/proc/sys/net/ipv4/ip_nonlocal_bind", "1")?;
        }
        Ok(site)
    }

    fn round(&self, adverts: Adverts, fault: Fault) -> Result<Round> {
        let mut master = Node::start(self, 0, adverts)?;
        let to = SocketAddr::from((VIRTUAL, ECHO));
        master.wait_log("MASTER STATE", adverts.patience())?;
        let backup = Node::start(self, 1, adverts)?;
        backup.wait_log("BACKUP STATE", adverts.patience())?;
        let load = client::start(&self.client, to)?;
        interrupt::pause(Duration::from_millis(200))?;
        let fault_at = load.elapsed();
        match fault {
            Fault::Freeze => master.signal(Signal::STOP)?,
            _ => {
                master.signal(Signal::KILL)?;
                self.lan.ip("link set dev a down")?;
            }
        }
        client::wait_for_answers(&load, Node::by(1), adverts.patience())?;
        let report = load.stop();
        drop((master, backup));
        // As in the beginning.
        self.lan.ip("link set dev a up")?;
        for node in &self.nodes {
            let _inside = node.enter()?;
            let _ = run(std::process::Command::new("ip").args([
                "addr",
                "del",
                &format!("{VIRTUAL}/32"),
                "dev",
                "eth0",
            ]));
        }
        self.client.ip("neigh flush dev eth0")?;
        Ok(Round::seen(&report, fault_at))
    }
}

/// keepalived and an echo. Killed when dropped.
struct Node {
    keepalived: Child,
    echo: Child,
    vrrp_pid: PathBuf,
    log: PathBuf,
}

impl Node {
    fn by(slot: u8) -> By {
        By { slot, generation: 0 }
    }

    fn start(site: &Site, slot: u8, adverts: Adverts) -> Result<Node> {
        let (netns, name) = (&site.nodes[usize::from(slot)], ["a", "b"][usize::from(slot)]);
        let file = |what: &str| site.dir.path().join(format!("{name}.{what}"));
        let [config, pid, vrrp_pid, log] = ["conf", "pid", "vrrp", "log"].map(file);
        for old in [&pid, &vrrp_pid] {
            let _ = fs::remove_file(old);
        }
        fs::write(&config, adverts.config(name, 101 - slot))?;
        let echo = netns
            .command(lab::binary("hotpair-bench"))
            .args([
                "echo",
                "--at",
                &SocketAddr::from((VIRTUAL, ECHO)).to_string(),
                "--slot",
                &slot.to_string(),
            ])
            .spawn()
            .context("cannot run hotpair-bench")?;
        let output = File::create(&log)?;
        let mut command = netns.command("keepalived");
        command.args(["--dont-fork", "--dont-respawn", "--vrrp", "--log-console", "--no-syslog"]);
        command.arg("--use-file").arg(&config).arg("--pid").arg(pid).arg("--vrrp_pid").arg(&vrrp_pid);
        command.stdout(output.try_clone()?).stderr(output).stdin(Stdio::null());
        let keepalived = command.spawn().context("cannot run keepalived; `cargo xtask setup` installs it")?;
        Ok(Node { keepalived, echo, vrrp_pid, log })
    }

    /// Waits until keepalived has said so.
    fn wait_log(&self, what: &str, within: Duration) -> Result<()> {
        wait_for(&format!("keepalived to say {what}"), within, || {
            let log = fs::read_to_string(&self.log)?;
            if log.contains(what) { Ok(()) } else { bail!("it says:\n{log}") }
        })
    }

    /// To all of it at once: a parent that dies first would let its child say goodbye.
    fn signal(&mut self, signal: Signal) -> Result<()> {
        let vrrp = fs::read_to_string(&self.vrrp_pid).context("keepalived has no VRRP process")?;
        let vrrp = Pid::from_raw(vrrp.trim().parse()?).context("not a process id")?;
        for pid in [vrrp, Pid::from_child(&self.keepalived), Pid::from_child(&self.echo)] {
            kill_process(pid, signal).context("cannot signal keepalived")?;
        }
        Ok(())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        // Frozen ones too. Gone already: that is what was wanted.
        let _ = self.signal(Signal::KILL);
        for child in [&mut self.keepalived, &mut self.echo] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Namespaces of processes that are gone.
fn remove_leftovers() -> Result<()> {
    let Ok(names) = fs::read_dir("/run/netns") else { return Ok(()) };
    for name in names.flatten().filter_map(|entry| entry.file_name().into_string().ok()) {
        let pid = name.strip_prefix("hpbench-").and_then(|rest| rest.split('-').next());
        if pid.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            run(std::process::Command::new("ip").args(["netns", "del", &name]))?;
        }
    }
    Ok(())
}

/// What a node answers with.
#[derive(clap::Args, Clone, Debug)]
pub struct Echo {
    /// Address and port; the address need not be there yet.
    #[arg(long)]
    at: SocketAddr,
    /// Which node it says it is.
    #[arg(long)]
    slot: u8,
}

/// Answers every datagram with itself and who answers, until killed.
///
/// # Errors
/// When there is no socket.
pub fn echo(options: &Echo) -> Result<()> {
    let socket = UdpSocket::bind(options.at).with_context(|| format!("cannot listen at {}", options.at))?;
    crate::vm::echo(&socket, Node::by(options.slot))
}
