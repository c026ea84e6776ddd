//! What a lab can be made to suffer beside its machines: its commands, its controller's time, its disk.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use super::{Lab, reaper};
use crate::line::Faults;
use crate::vm::fault::{self, Asked, Fault};

impl Lab {
    /// From now on these commands of the lab's pair go wrong, or go well again.
    ///
    /// # Errors
    /// When the order cannot be written or taken back.
    pub fn fault(&self, verb: &str, fault: Option<Fault>) -> Result<()> {
        fault::order(&self.dir, &self.plan.name, verb, fault)
    }

    /// Every command of any pair that was run, in the order in which they began.
    ///
    /// # Errors
    /// When the book cannot be read.
    pub fn asked(&self) -> Result<Vec<Asked>> {
        fault::asked(&self.dir)
    }

    /// How many machines run, whoever knows of them.
    #[must_use]
    pub fn machines_alive(&self) -> usize {
        reaper::machines(&self.dir)
    }

    /// What happens from now on to TCP segments between client and host, of a lab with a [`cable`](super::Builder::cable).
    ///
    /// # Errors
    /// When the lab has none.
    pub fn set_lines(&self, to_host: Faults, to_client: Faults) -> Result<()> {
        self.topology.cable.as_ref().context("the lab has no cable")?.set(to_host, to_client);
        Ok(())
    }

    /// The controller gets no time any more (SIGSTOP), or again.
    ///
    /// # Errors
    /// When there is none.
    pub fn suspend_controller(&mut self, suspended: bool) -> Result<()> {
        let process = self.controller.as_ref().context("no controller runs")?;
        let signal = if suspended { Signal::STOP } else { Signal::CONT };
        kill_process(Pid::from_child(&process.child), signal).context("cannot signal the controller")
    }

    /// From now on the controller that is started is this program; the usual one if none is named.
    pub fn controller_is(&mut self, program: Option<PathBuf>) {
        self.program = program;
    }

    /// The program that is started as the controller usually.
    #[must_use]
    pub fn usual_controller() -> PathBuf {
        super::builder::binary("hotpair")
    }

    /// The host's NIC is taken out, and when `out` has seen that, another one of the same name is put in.
    ///
    /// # Errors
    /// When one of it does not work.
    pub fn replace_uplink(&mut self, out: impl FnOnce(&Lab) -> Result<()>) -> Result<()> {
        self.topology.remove_uplink()?;
        out(self)?;
        self.topology.lay_wire()
    }

    /// Puts a filesystem of its own under the state, so large. Before the controller is started.
    ///
    /// # Errors
    /// When it cannot be mounted.
    pub fn small_disk(&self, kilobytes: u32) -> Result<PathBuf> {
        let at = self.dir.join("state");
        reaper::mount_small(&at, kilobytes)?;
        Ok(at)
    }
}

/// Fills the filesystem of a directory to its last byte with this file.
///
/// # Errors
/// When it cannot be written for another reason than that it is full.
pub fn fill(directory: &Path) -> Result<PathBuf> {
    use std::io::Write;
    let path = directory.join("ballast");
    let mut file = std::fs::File::create(&path)?;
    loop {
        match file.write(&[0; 4096]) {
            Ok(_) => {}
            Err(error) if error.kind() == std::io::ErrorKind::StorageFull => return Ok(path),
            Err(error) => return Err(error.into()),
        }
    }
}
