//! A running libvirtd: the system's own where there is one, else one that is stopped again when it is no longer needed.

use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::process::{Signal, WaitOptions};

use crate::exec::{as_root, quiet, run, say};

const SOCKETS: [&str; 2] = ["/run/libvirt/libvirt-sock", "/run/libvirt/virtqemud-sock"];

/// libvirtd runs for as long as this lives. What we started ourselves is stopped on drop, unless a VM still runs.
pub(crate) struct Libvirtd {
    ours: Option<Child>,
}

fn answers() -> bool {
    SOCKETS.iter().any(|socket| UnixStream::connect(socket).is_ok())
}

/// Sees to it that libvirtd runs.
pub(crate) fn ensure(verb: &str) -> Result<Libvirtd> {
    let mut libvirtd = Libvirtd { ours: None };
    if answers() {
        return Ok(libvirtd);
    }
    if Path::new("/run/systemd/system").is_dir() {
        say(verb, "systemctl start libvirtd");
        run(as_root("systemctl").args(["start", "libvirtd"]))
            .context("libvirtd does not start; see `journalctl -u libvirtd`")?;
    } else {
        say(verb, "starting virtlogd and libvirtd (no systemd here; stopped again afterwards)");
        let program = std::env::current_exe().context("cannot find myself")?;
        let parent = as_root(&program.display().to_string())
            .arg("libvirtd-parent")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C in a terminal goes to the whole foreground group; libvirtd is needed for cleaning up after it.
            .process_group(0)
            .spawn()
            .context("cannot start libvirtd")?;
        libvirtd.ours = Some(parent);
    }
    let deadline = Instant::now() + Duration::from_secs(30);
    while !answers() {
        if let Some(parent) = &mut libvirtd.ours
            && let Some(status) = parent.try_wait().context("waiting for libvirtd")?
        {
            libvirtd.ours = None;
            bail!("libvirtd ended at once ({status}); `/usr/sbin/libvirtd` run by hand tells why");
        }
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

/// A hidden verb: runs virtlogd and libvirtd, starts them again when they are killed, as systemd does, and collects what
/// dies below them. QEMU leaves libvirtd's process group
/// when it starts, so its parent becomes the first process above that collects orphans. Where that is an init that takes
/// its time, libvirtd waits for it: killing a VM was measured to take 1.4 s instead of a few milliseconds.
pub(crate) fn parent() -> Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .context("cannot become a parent of orphans")?;
    // QEMU inherits it: an emulated VM that shares the machine with a compiler is no picture of a host that runs VMs.
    let _ = rustix::process::nice(-15);
    let start = |daemon| -> Result<_> {
        let child = Command::new(format!("/usr/sbin/{daemon}")).spawn();
        Ok((daemon, child.with_context(|| format!("{daemon} does not start"))?.id()))
    };
    let mut own = Vec::new();
    for daemon in ["virtlogd", "libvirtd"] {
        if running(&PathBuf::from(format!("/run/{daemon}.pid"))).is_none() {
            own.push(start(daemon)?);
        }
    }
    // Ends when both have ended: virtlogd is told to when libvirtd has.
    while !own.is_empty() {
        match rustix::process::wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) => {
                let ended =
                    own.iter().position(|(_, child)| i32::try_from(*child) == Ok(pid.as_raw_nonzero().get()));
                let Some((daemon, _)) = ended.map(|index| own.remove(index)) else { continue };
                // SIGTERM is how it is asked to end; it may come before libvirtd can take it in good order.
                if status.terminating_signal().is_some_and(|signal| signal != Signal::TERM.as_raw()) {
                    own.push(start(daemon)?);
                } else if daemon == "libvirtd" {
                    for (_, other) in &own {
                        run(Command::new("kill").arg(other.to_string()))?;
                    }
                }
            }
            Ok(None) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => break,
        }
    }
    Ok(())
}

impl Libvirtd {
    /// From now on it is left running.
    pub(crate) fn keep(&mut self) {
        self.ours = None;
    }
}

impl Drop for Libvirtd {
    fn drop(&mut self) {
        let Some(mut parent) = self.ours.take() else { return };
        let domains = quiet(Command::new("virsh").args(["-q", "-c", "qemu:///system", "list", "--name"]));
        if domains.is_ok_and(|names| !names.trim().is_empty()) {
            eprintln!("warning: libvirtd is left running: it has domains (see `virsh list`)");
            return;
        }
        if let Some(pid) = running(Path::new("/run/libvirtd.pid"))
            && run(as_root("kill").arg(pid.to_string())).is_ok()
        {
            let deadline = Instant::now() + Duration::from_secs(10);
            while matches!(parent.try_wait(), Ok(None)) && Instant::now() < deadline {
                std::thread::sleep(Duration::from_millis(50));
            }
        }
    }
}
