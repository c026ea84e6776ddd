//! A running libvirtd: the system's own where there is one, else one that is stopped again when it is no longer needed.

use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::exec::{as_root, quiet, run, say};

const SOCKETS: [&str; 2] = ["/run/libvirt/libvirt-sock", "/run/libvirt/virtqemud-sock"];

/// libvirtd runs for as long as this lives. What we started ourselves is stopped on drop, unless a VM still runs.
pub(crate) struct Libvirtd {
    /// Pid files of the daemons we started, in the order in which they are stopped.
    ours: Vec<PathBuf>,
}

fn answers() -> bool {
    SOCKETS.iter().any(|socket| UnixStream::connect(socket).is_ok())
}

/// Sees to it that libvirtd runs.
pub(crate) fn ensure(verb: &str) -> Result<Libvirtd> {
    let mut libvirtd = Libvirtd { ours: Vec::new() };
    if answers() {
        return Ok(libvirtd);
    }
    if Path::new("/run/systemd/system").is_dir() {
        say(verb, "systemctl start libvirtd");
        run(as_root("systemctl").args(["start", "libvirtd"]))
            .context("libvirtd does not start; see `journalctl -u libvirtd`")?;
    } else {
        say(verb, "starting virtlogd and libvirtd (no systemd here; stopped again afterwards)");
        for daemon in ["virtlogd", "libvirtd"] {
            let pid_file = PathBuf::from(format!("/run/{daemon}.pid"));
            if running(&pid_file).is_some() {
                continue;
            }
            run(as_root(&format!("/usr/sbin/{daemon}")).arg("-d"))
                .with_context(|| format!("{daemon} does not start"))?;
            libvirtd.ours.insert(0, pid_file);
        }
    }
    let deadline = Instant::now() + Duration::from_secs(30);
    while !answers() {
        if Instant::now() > deadline {
            bail!("libvirtd was started but does not answer on {}; see /var/log/libvirt", SOCKETS[0]);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(libvirtd)
}

/// The process that a pid file names, if it is alive.
fn running(pid_file: &Path) -> Option<u32> {
    let pid: u32 = std::fs::read_to_string(pid_file).ok()?.trim().parse().ok()?;
    Path::new(&format!("/proc/{pid}")).exists().then_some(pid)
}

impl Drop for Libvirtd {
    fn drop(&mut self) {
        if self.ours.is_empty() {
            return;
        }
        let domains = quiet(Command::new("virsh").args(["-q", "-c", "qemu:///system", "list", "--name"]));
        if domains.is_ok_and(|names| !names.trim().is_empty()) {
            eprintln!("warning: libvirtd is left running: it has domains (see `virsh list`)");
            return;
        }
        for pid_file in &self.ours {
            if let Some(pid) = running(pid_file)
                && run(as_root("kill").arg(pid.to_string())).is_ok()
            {
                let deadline = Instant::now() + Duration::from_secs(10);
                while running(pid_file) == Some(pid) && Instant::now() < deadline {
                    std::thread::sleep(Duration::from_millis(50));
                }
            }
        }
    }
}
