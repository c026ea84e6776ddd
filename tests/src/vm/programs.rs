//! The programs inside a machine that are real: the guest agent, and Redis.

use std::os::fd::AsFd as _;
use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use super::control::{Program, ProgramOrder};

/// Where Redis listens.
pub const REDIS: u16 = 6379;

/// Both of them. Must be used on the thread that lives as long as the machine: they die with it.
pub(super) struct Programs {
    pub(super) agent: Runner,
    pub(super) redis: Runner,
}

impl Programs {
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

    pub(super) fn order(&mut self, order: ProgramOrder) -> Result<()> {
        match order {
            ProgramOrder::Start => self.start(),
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
