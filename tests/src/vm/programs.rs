//! The programs inside a machine that are real: the guest agent, Redis, a TLS server, iperf3.

use std::fs;
use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};

use super::control::{Program, ProgramOrder};
use crate::load::By;
use crate::wait::wait_until;
use crate::{netns, stream};

/// Where Redis listens.
pub const REDIS: u16 = 6379;
/// Where what is served at [`stream::PORT`] is served over TLS.
pub const TLS: u16 = 443;
/// Where iperf3 listens.
pub const IPERF3: u16 = 5201;

/// All of them. Must be used on the thread that lives as long as the machine: they die with it.
pub(super) struct Programs {
    pub(super) agent: Runner,
    pub(super) redis: Runner,
    /// What runs from the beginning to the end.
    pub(super) others: Vec<Runner>,
}

impl Programs {
    /// Starts one that runs to the end, and waits until it listens.
    pub(super) fn add(&mut self, mut runner: Runner, port: u16) -> Result<()> {
        runner.start()?;
        wait_until(&format!("{} to listen", runner.program.display()), Duration::from_secs(5), || {
            listens(port)
        })?;
        self.others.push(runner);
        Ok(())
    }

    /// Carries out an order.
    pub(super) fn order(&mut self, program: Program, order: ProgramOrder) -> Result<()> {
        match program {
            Program::Agent => self.agent.order(order),
            Program::Redis => self.redis.order(order),
        }
    }
}

/// A program and its arguments, and its process while it runs.
pub(super) struct Runner {
    program: PathBuf,
    /// As what it is called, if not by its path.
    name: Option<&'static str>,
    arguments: Vec<String>,
    child: Option<Child>,
}

impl Runner {
    pub(super) fn new(program: PathBuf, arguments: Vec<String>) -> Runner {
        Runner { program, name: None, arguments, child: None }
    }

    /// Redis, which keeps nothing on disk. Debian's `redis-server` is a link to `redis-check-rdb` of the package
    /// `redis-tools`, which is the server when it is called so, and comes without a service of the machine's own.
    pub(super) fn redis() -> Runner {
        let arguments = format!("--port {REDIS} --protected-mode no --appendonly no --loglevel warning");
        let mut arguments: Vec<String> = arguments.split(' ').map(str::to_owned).collect();
        arguments.extend(["--save".to_owned(), String::new()]);
        arguments.extend(["--bind", "0.0.0.0", "::"].map(str::to_owned));
        Runner { name: Some("redis-server"), ..Runner::new("redis-check-rdb".into(), arguments) }
    }

    /// A TLS server in front of the streams, with a key that it makes now and a certificate that says whose it is. Debian's
    /// nginx would start a web server of the machine's own where it is installed; stunnel starts nothing, and is one process.
    pub(super) fn tls(certificate: &Path, by: By) -> Result<Runner> {
        let subject = format!("/CN={by}");
        netns::run(
            Command::new("openssl")
                .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-noenc"])
                .args(["-days", "2", "-subj", &subject, "-keyout"])
                .arg(certificate)
                .arg("-out")
                .arg(certificate),
        )?;
        let configuration = format!(
            "foreground = yes\npid =\nsyslog = no\ndebug = warning\n[stream]\naccept = :::{TLS}\nconnect = {}:{}\n\
             cert = {}\nlibwrap = no\n",
            Ipv4Addr::from(hotpair_abi::ME_V4),
            stream::PORT,
            certificate.display()
        );
        let file = certificate.with_extension("conf");
        fs::write(&file, configuration)?;
        Ok(Runner::new("stunnel".into(), vec![file.display().to_string()]))
    }

    /// iperf3, which serves one client after the other.
    pub(super) fn iperf3() -> Runner {
        Runner::new("iperf3".into(), ["--server", "--port", &IPERF3.to_string()].map(str::to_owned).into())
    }

    pub(super) fn order(&mut self, order: ProgramOrder) -> Result<()> {
        match order {
            ProgramOrder::Start => self.start(),
            ProgramOrder::Reboot => {
                self.order(ProgramOrder::Kill)?;
                if let Some(at) = self.arguments.iter().position(|argument| argument == "--boot-id")
                    && let Some(boot_id) = self.arguments.get_mut(at + 1)
                {
                    // Another one each time: what comes of the boot before is a replay.
                    boot_id.insert(0, '1');
                }
                self.start()
            }
            ProgramOrder::Kill => {
                if let Some(mut child) = self.child.take() {
                    child.kill()?;
                    child.wait()?;
                }
                Ok(())
            }
            ProgramOrder::Terminate => {
                if let Some(child) = &self.child {
                    let pid = rustix::process::Pid::from_child(child);
                    rustix::process::kill_process(pid, rustix::process::Signal::TERM)?;
                }
                Ok(())
            }
        }
    }

    fn start(&mut self) -> Result<()> {
        if let Some(child) = &mut self.child
            && child.try_wait()?.is_none()
        {
            return Ok(());
        }
        let mut command = Command::new(&self.program);
        if let Some(name) = self.name {
            command.arg0(name);
        }
        // Into the machine's log: its standard output is for whoever starts it.
        let log = std::io::stderr().as_fd().try_clone_to_owned()?;
        command.args(&self.arguments).stdin(Stdio::null()).stdout(log);
        // SAFETY: between fork and exec only one system call is made, with integers.
        unsafe {
            command.pre_exec(|| {
                if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL as libc::c_ulong) < 0 {
                    return Err(std::io::Error::last_os_error());
                }
                Ok(())
            });
        }
        let child = command.spawn().with_context(|| format!("cannot run {}", self.program.display()))?;
        self.child = Some(child);
        Ok(())
    }
}

/// Whether somebody in this network namespace listens at a TCP port, of whichever address family.
fn listens(port: u16) -> bool {
    /// `TCP_LISTEN` of the kernel's tcp_states.h, as the files have it.
    const LISTEN: &str = "0A";
    let tables = ["tcp", "tcp6"].map(|table| fs::read_to_string(format!("/proc/thread-self/net/{table}")));
    let local = format!(":{port:04X}");
    // A number, the local address and port, the remote ones, the state.
    tables.into_iter().flatten().any(|table| {
        table.lines().any(|line| {
            let mut words = line.split_whitespace().skip(1);
            words.next().is_some_and(|address| address.ends_with(&local)) && words.nth(1) == Some(LISTEN)
        })
    })
}
