//! The real guest agent, inside a machine.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result};

use super::control::AgentOrder;

/// The agent's program and arguments, and the agent while it runs.
pub(super) struct Agent {
    program: PathBuf,
    arguments: Vec<String>,
    child: Option<Child>,
}

impl Agent {
    pub(super) fn new(program: PathBuf, arguments: Vec<String>) -> Agent {
        Agent { program, arguments, child: None }
    }

    /// Carries out an order. Must be called on the thread that lives as long as the machine: the agent dies with it.
    pub(super) fn order(&mut self, order: AgentOrder) -> Result<()> {
        match order {
            AgentOrder::Start => self.start(),
            AgentOrder::Kill => {
                if let Some(mut child) = self.child.take() {
                    child.kill()?;
                    child.wait()?;
                }
                Ok(())
            }
            AgentOrder::Terminate => {
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
        command.args(&self.arguments).stdin(Stdio::null());
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
