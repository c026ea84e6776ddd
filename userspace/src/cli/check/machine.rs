//! The machine itself: kernel, privileges, file systems.

use std::path::Path;

use super::Finding;
use crate::config::Config;

/// What TCX needs (bpf_link for the tc hooks), and the oldest kernel this is tested with.
const KERNEL: (u32, u32) = (6, 6);

/// What the controller does is within these: links and taps, packet sockets, maps and programs (with the checks that
/// reading kernel memory needs).
const CAPABILITIES: [(u32, &str); 4] =
    [(12, "CAP_NET_ADMIN"), (13, "CAP_NET_RAW"), (38, "CAP_PERFMON"), (39, "CAP_BPF")];

/// statfs(2)'s type of a bpffs, BPF_FS_MAGIC of linux/magic.h.
const BPF_FS_MAGIC: u64 = 0xcafe_4a11;

/// What can be looked at without a configuration.
pub(in crate::cli) fn look_without_configuration() -> Vec<Finding> {
    vec![kernel(), privileges(), bpffs(Path::new("/sys/fs/bpf/hotpair"))]
}

pub(super) fn look(config: &Config) -> Vec<Finding> {
    let mut findings = vec![kernel(), privileges(), bpffs(&config.host.bpf_dir)];
    findings.push(writable("state_dir", &config.host.state_dir));
    findings.push(writable("run_dir", &config.host.run_dir));
    findings
}

fn kernel() -> Finding {
    let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let build = std::fs::read_to_string("/proc/sys/kernel/version").unwrap_or_default();
    judge_kernel(release.trim(), build.contains("PREEMPT_RT"))
}

fn judge_kernel(release: &str, realtime: bool) -> Finding {
    if realtime {
        // There a program can be interrupted by another one on its processor, and what it has in a per-CPU map is not its own.
        return Finding::fail(
            "kernel",
            format!(
                "{release} is built with PREEMPT_RT, where the programs of a processor get into each other's way"
            ),
            "boot the distribution's ordinary kernel; heartbeats need no real-time one",
        );
    }
    let mut numbers =
        release.split(|c: char| !c.is_ascii_digit()).map_while(|number| number.parse::<u32>().ok());
    let version = numbers.next().zip(numbers.next());
    let (major, minor) = KERNEL;
    match version {
        Some(version) if version >= KERNEL => Finding::ok("kernel", release),
        Some(_) => Finding::fail(
            "kernel",
            format!("{release} is older than {major}.{minor}, which brought TCX"),
            format!("boot a kernel of {major}.{minor} or newer; Debian 12 has one in bookworm-backports"),
        ),
        None => Finding::warn(
            "kernel",
            format!("{release:?} is no version that can be compared"),
            format!("make sure that it is Linux {major}.{minor} or newer"),
        ),
    }
}

fn privileges() -> Finding {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    judge_privileges(&status)
}

fn judge_privileges(status: &str) -> Finding {
    let effective = status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0);
    let missing: Vec<&str> =
        CAPABILITIES.iter().filter(|(bit, _)| effective >> bit & 1 == 0).map(|(_, name)| *name).collect();
    if missing.is_empty() {
        return Finding::ok("privileges", "may load programs and change links");
    }
    Finding::fail(
        "privileges",
        format!("not root, and without {}", missing.join(", ")),
        "run it as root (sudo), or give the service these as AmbientCapabilities",
    )
}

/// The nearest thing on the way to `path` that exists.
pub(in crate::cli) fn existing(path: &Path) -> &Path {
    path.ancestors().find(|ancestor| ancestor.exists()).unwrap_or(Path::new("/"))
}

fn bpffs(bpf_dir: &Path) -> Finding {
    let existing = existing(bpf_dir);
    match rustix::fs::statfs(existing) {
        Ok(found) if found.f_type as u64 == BPF_FS_MAGIC => {
            Finding::ok("bpf_dir", format!("{} is on a bpffs", bpf_dir.display()))
        }
        Ok(_) => Finding::fail(
            "bpf_dir",
            format!("{} is not on a bpffs: {} is something else", bpf_dir.display(), existing.display()),
            "mount one with `mount -t bpf bpf /sys/fs/bpf`, or name a directory on one as host.bpf_dir",
        ),
        Err(error) => Finding::fail(
            "bpf_dir",
            format!("{}: {error}", existing.display()),
            "name a directory on a bpffs as host.bpf_dir",
        ),
    }
}

fn writable(key: &str, path: &Path) -> Finding {
    let existing = existing(path);
    let shown = path.display();
    if !existing.is_dir() {
        return Finding::fail(
            key,
            format!("{shown} cannot be a directory: {} is a file", existing.display()),
            format!("name another directory as host.{key}"),
        );
    }
    match rustix::fs::access(existing, rustix::fs::Access::WRITE_OK) {
        Ok(()) if existing == path => Finding::ok(key, format!("{shown} is writable")),
        Ok(()) => Finding::ok(key, format!("{shown} can be made in {}", existing.display())),
        Err(error) => Finding::fail(
            key,
            format!("{} is not writable: {error}", existing.display()),
            format!("run it as root, or name another directory as host.{key}"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn a_kernel_without_tcx_is_refused() {
        for (release, level) in [
            ("6.6.0", Level::Ok),
            ("6.18.3-cloud-amd64", Level::Ok),
            ("7.0-rc1", Level::Ok),
            ("6.5.13", Level::Fail),
            ("5.10.0-8-amd64", Level::Fail),
            ("", Level::Warn),
        ] {
            assert_eq!(judge_kernel(release, false).level, level, "{release}");
            assert_eq!(judge_kernel(release, true).level, Level::Fail, "{release}");
        }
    }

    #[test]
    fn missing_capabilities_are_named() {
        let finding = judge_privileges("Name:\tx\nCapEff:\t0000000000001000\n");
        assert_eq!(finding.level, Level::Fail);
        assert_eq!(finding.what, "not root, and without CAP_NET_RAW, CAP_PERFMON, CAP_BPF");
        assert_eq!(judge_privileges("CapEff:\t000001ffffffffff\n").level, Level::Ok);
        assert_eq!(judge_privileges("").level, Level::Fail);
    }

    #[test]
    fn directories_that_cannot_be_made_are_refused() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        assert_eq!(writable("run_dir", directory.path()).level, Level::Ok);
        assert_eq!(writable("run_dir", &directory.path().join("a/b/c")).level, Level::Ok);
        std::fs::write(directory.path().join("file"), "").expect("writable");
        let finding = writable("run_dir", &directory.path().join("file/below"));
        assert_eq!(finding.level, Level::Fail);
        assert!(finding.what.contains("file is a file"), "{}", finding.what);
        assert_eq!(bpffs(directory.path()).level, Level::Fail, "a temporary directory is on no bpffs");
    }
}
