//! The libvirtd of this machine, and what may become of it: killed, hung, gone. Whatever a test has done to it is undone
//! when the guard is dropped. VMs do not notice any of it: they are processes of their own.
//!
//! libvirtd is kept by systemd, or by `xtask libvirtd-parent` where there is none. Both start it again when it is killed.

use std::fs;
use std::os::unix::net::UnixStream;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::netns::run;
use crate::wait::wait_until;

const SOCKET: &str = "/run/libvirt/libvirt-sock";
/// What brings libvirtd back under systemd: its sockets do as well as itself.
const UNITS: [&str; 4] =
    ["libvirtd.socket", "libvirtd-ro.socket", "libvirtd-admin.socket", "libvirtd.service"];

/// A libvirtd that runs.
#[derive(Clone, Copy, Debug)]
pub struct Libvirtd {
    pid: Pid,
    keeper: Keeper,
}

/// Who starts it again.
#[derive(Clone, Copy, Debug)]
enum Keeper {
    Systemd,
    Parent(Pid),
}

/// libvirtd is stopped (SIGSTOP) until this is dropped.
pub struct Hung(Pid);

/// There is no libvirtd until this is dropped.
pub struct Gone(Keeper);

fn command_line(pid: Pid) -> String {
    let file = format!("/proc/{}/cmdline", pid.as_raw_nonzero());
    String::from_utf8_lossy(&fs::read(file).unwrap_or_default()).replace('\0', " ")
}

fn parent_of(pid: Pid) -> Result<Pid> {
    let status = fs::read_to_string(format!("/proc/{}/status", pid.as_raw_nonzero()))?;
    let line =
        status.lines().find_map(|line| line.strip_prefix("PPid:")).context("a process has a parent")?;
    Pid::from_raw(line.trim().parse()?).context("its parent is in another namespace")
}

fn answers() -> bool {
    UnixStream::connect(SOCKET).is_ok()
}

impl Libvirtd {
    /// Finds it, and whoever starts it again.
    ///
    /// # Errors
    /// When none runs, or nobody would start it again.
    pub fn find() -> Result<Libvirtd> {
        ensure!(answers(), "no libvirtd answers at {SOCKET}; `cargo xtask test` sees to one");
        let file = "/run/libvirtd.pid";
        let text = fs::read_to_string(file).with_context(|| format!("cannot read {file}"))?;
        let pid = Pid::from_raw(text.trim().parse()?).with_context(|| format!("{file} names no process"))?;
        ensure!(command_line(pid).contains("libvirtd"), "{file} names another process");
        let parent = parent_of(pid)?;
        let keeper = if command_line(parent).contains("libvirtd-parent") {
            Keeper::Parent(parent)
        } else if fs::exists("/run/systemd/system").unwrap_or(false) {
            Keeper::Systemd
        } else {
            bail!("nobody would start this libvirtd again; end it, and let `cargo xtask test` start one")
        };
        Ok(Libvirtd { pid, keeper })
    }

    /// SIGKILL, and waits for the next one.
    ///
    /// # Errors
    /// When none comes.
    pub fn kill(self) -> Result<Libvirtd> {
        kill_process(self.pid, Signal::KILL)?;
        wait_until("another libvirtd", Duration::from_secs(60), || {
            Libvirtd::find().is_ok_and(|next| next.pid != self.pid)
        })?;
        Libvirtd::find()
    }

    /// SIGSTOP.
    ///
    /// # Errors
    /// When it does not exist any more.
    pub fn hang(self) -> Result<Hung> {
        kill_process(self.pid, Signal::STOP)?;
        Ok(Hung(self.pid))
    }

    /// Ends it, and keeps it from being started again.
    ///
    /// # Errors
    /// When that does not work.
    pub fn take_away(self) -> Result<Gone> {
        let gone = Gone(self.keeper);
        match self.keeper {
            Keeper::Systemd => {
                run(Command::new("systemctl").arg("stop").args(UNITS))?;
            }
            Keeper::Parent(parent) => {
                kill_process(parent, Signal::STOP)?;
                kill_process(self.pid, Signal::KILL)?;
            }
        }
        wait_until("libvirtd to be gone", Duration::from_secs(30), || !answers())?;
        Ok(gone)
    }
}

impl Drop for Hung {
    fn drop(&mut self) {
        let _ = kill_process(self.0, Signal::CONT);
    }
}

impl Drop for Gone {
    fn drop(&mut self) {
        match self.0 {
            Keeper::Systemd => drop(run(Command::new("systemctl").arg("start").args(UNITS))),
            Keeper::Parent(parent) => drop(kill_process(parent, Signal::CONT)),
        }
        if let Err(error) = wait_until("libvirtd to be back", Duration::from_secs(60), answers) {
            eprintln!("warning: {error:#}");
        }
    }
}
