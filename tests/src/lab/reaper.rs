//! Nothing of a lab stays: processes, namespaces, mounts, files.
//!
//! A lab's processes are told from all others by `HOTPAIR_LAB=<directory>` in their environment.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::mount::{MountFlags, UnmountFlags, mount};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

use crate::netns::Netns;
use crate::vm::place::started;

const ROOT: &str = "/run/hotpair-lab";
/// In the environment of every process of a lab.
pub(super) const MARK: &str = "HOTPAIR_LAB";

/// An id that no other lab has.
pub(super) fn new_id() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Makes a lab's directory, with who it belongs to and an empty bpffs.
pub(super) fn new_dir(id: &str) -> Result<PathBuf> {
    let dir = Path::new(ROOT).join(id);
    fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let pid = i32::try_from(std::process::id())?;
    fs::write(dir.join("owner"), started(pid).unwrap_or_default().to_string())?;
    mount_bpffs(&dir)?;
    Ok(dir)
}

/// An empty bpffs at `dir/bpf`.
pub(super) fn mount_bpffs(dir: &Path) -> Result<()> {
    let at = dir.join("bpf");
    fs::create_dir_all(&at)?;
    mount("bpf", &at, "bpf", MountFlags::empty(), None)
        .with_context(|| format!("cannot mount a bpffs at {}", at.display()))
}

/// A small tmpfs at a directory: a disk that is soon full.
pub(super) fn mount_small(at: &Path, kilobytes: u32) -> Result<()> {
    let size = std::ffi::CString::new(format!("size={kilobytes}k"))?;
    mount("tmpfs", at, "tmpfs", MountFlags::empty(), Some(size.as_c_str()))
        .with_context(|| format!("cannot mount a tmpfs at {}", at.display()))
}

/// Takes a filesystem away with all that is in it: of a bpffs, the pins.
pub(super) fn unmount(at: &Path) {
    // Not mounted: that is what was wanted.
    let _ = rustix::mount::unmount(at, UnmountFlags::DETACH);
}

/// Removes the labs whose processes are gone.
pub(super) fn remove_leftovers() -> Result<()> {
    fs::create_dir_all(ROOT).with_context(|| format!("cannot make {ROOT}"))?;
    for entry in fs::read_dir(ROOT)?.flatten() {
        let id = entry.file_name().to_string_lossy().into_owned();
        let Some(pid) = id.split('-').next().and_then(|pid| pid.parse::<i32>().ok()) else { continue };
        let owner = fs::read_to_string(entry.path().join("owner")).ok().and_then(|text| text.parse().ok());
        // No owner yet: it is being made just now, if its process lives.
        let alive = started(pid).is_some_and(|now| owner.is_none_or(|then: u64| then == now));
        if !alive {
            eprintln!("removing what was left of lab {id}");
            remove(&id);
        }
    }
    Ok(())
}

/// Directory and id of the lab that was made last.
pub(super) fn latest() -> Option<(PathBuf, String)> {
    let labs = fs::read_dir(ROOT).ok()?.flatten();
    let made = |dir: &Path| fs::metadata(dir.join("owner")).and_then(|owner| owner.modified()).ok();
    let latest = labs.map(|entry| entry.path()).max_by_key(|dir| made(dir))?;
    let id = latest.file_name()?.to_string_lossy().into_owned();
    Some((latest, id))
}

/// Removes everything of a lab. Nothing that is missing is missed.
pub(super) fn remove(id: &str) {
    let dir = Path::new(ROOT).join(id);
    kill_processes(&dir);
    for side in ["client", "host", "cable"] {
        let name = netns_name(id, side);
        if Netns::path_of(&name).exists() {
            let _ = Command::new("ip").args(["netns", "del", &name]).status();
        }
    }
    for mounted in ["bpf", "state"] {
        unmount(&dir.join(mounted));
    }
    let _ = fs::remove_dir_all(&dir);
}

/// The name of a lab's namespace.
pub(super) fn netns_name(id: &str, side: &str) -> String {
    format!("hplab-{id}-{side}")
}

/// Kills every process of the lab, frozen ones too, and waits until they are gone.
fn kill_processes(dir: &Path) {
    let mark = format!("{MARK}={}", dir.display());
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let found = marked(mark.as_bytes());
        if found.is_empty() || Instant::now() > deadline {
            return;
        }
        for pid in found {
            let _ = kill_process(pid, Signal::KILL);
            // A child of this very process must be reaped by it; any other's is not ours to reap.
            let _ = waitpid(Some(pid), WaitOptions::NOHANG);
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// How many processes of the lab are machines.
pub(super) fn machines(dir: &Path) -> usize {
    let is_machine = |pid: &Pid| {
        let command = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
        command.split(|byte| *byte == 0).nth(1) == Some(b"machine")
    };
    marked(format!("{MARK}={}", dir.display()).as_bytes()).iter().filter(|pid| is_machine(pid)).count()
}

fn marked(mark: &[u8]) -> Vec<Pid> {
    let own = std::process::id();
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    pids.filter_map(|entry| {
        let pid: u32 = entry.file_name().to_str()?.parse().ok()?;
        // A zombie has no environment any more.
        let environment = fs::read(entry.path().join("environ")).ok()?;
        let is_marked = pid != own && environment.split(|byte| *byte == 0).any(|variable| variable == mark);
        is_marked.then(|| Pid::from_raw(i32::try_from(pid).ok()?)).flatten()
    })
    .collect()
}
