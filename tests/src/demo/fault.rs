//! What is done to the primary.

use std::process::Command;

use anyhow::{Context, Result, bail};
use rustix::process::{Pid, Signal, kill_process};

use super::Stage;
use crate::netns::run;

/// A fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// SIGKILL to the VM's QEMU.
    Kill,
    /// SIGSTOP to the VM's QEMU: it is still there, and does nothing.
    Freeze,
    /// `virsh destroy`, as by mistake.
    Destroy,
    /// The service in the guest breaks; its agent says so.
    AgentFailing,
    /// The guest's kernel panics and stays there: QEMU runs on, the domain is "running", nothing in it does.
    Panic,
}

impl Fault {
    /// As on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Fault::Kill => "kill",
            Fault::Freeze => "freeze",
            Fault::Destroy => "destroy",
            Fault::AgentFailing => "agent-failing",
            Fault::Panic => "panic",
        }
    }

    /// As a sentence.
    #[must_use]
    pub const fn sentence(self) -> &'static str {
        match self {
            Fault::Kill => "SIGKILL to the primary's QEMU",
            Fault::Freeze => "SIGSTOP to the primary's QEMU",
            Fault::Destroy => "virsh destroy of the primary",
            Fault::AgentFailing => "the service in the primary breaks",
            Fault::Panic => "the primary's kernel panics",
        }
    }

    /// Does it to the member of a slot.
    pub(super) fn strike(self, stage: &Stage, slot: u8, generation: u64) -> Result<()> {
        let domain = Stage::domain(slot, generation);
        match self {
            Fault::Kill => kill_process(qemu(&domain)?, Signal::KILL)?,
            Fault::Freeze => kill_process(qemu(&domain)?, Signal::STOP)?,
            Fault::Destroy => {
                run(Command::new("virsh").args(["-q", "-c", "qemu:///system", "destroy", &domain]))?;
            }
            Fault::AgentFailing => stage.order(slot, "fail", "failing")?,
            Fault::Panic => stage.order(slot, "panic", "panicking")?,
        }
        Ok(())
    }
}

impl std::str::FromStr for Fault {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Self> {
        [Fault::Kill, Fault::Freeze, Fault::Destroy, Fault::AgentFailing, Fault::Panic]
            .into_iter()
            .find(|fault| fault.name() == text)
            .with_context(|| format!("no fault `{text}`: kill, freeze, destroy, agent-failing or panic"))
    }
}

/// The process of a domain of ours, found by its name on QEMU's command line.
fn qemu(domain: &str) -> Result<Pid> {
    let guest = format!("guest={domain},");
    for entry in std::fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse::<i32>().ok()) else {
            continue;
        };
        let command = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        if command.split(|byte| *byte == 0).any(|word| word.starts_with(guest.as_bytes())) {
            return Pid::from_raw(pid).context("a process id is not zero");
        }
    }
    bail!("no QEMU runs the domain {domain}")
}
