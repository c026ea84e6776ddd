//! What the host itself must offer: /dev/kvm to QEMU, and a bpf file system.

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::Path;

use anyhow::{Context, Result};

use crate::exec::{as_root, run, say};

/// The first kernel with TCX.
const KERNEL: (u32, u32) = (6, 6);

/// Says so when the running kernel is too old: building works all the same, running does not.
pub(crate) fn kernel() {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    if version(&release).is_some_and(|found| found < KERNEL) {
        say(
            "setup",
            format_args!(
                "Linux {} runs here; building works, but demo, lab and tests need {}.{} or newer: install a newer \
                 kernel (Debian 12: linux-image-amd64 from bookworm-backports) and reboot",
                release.trim(),
                KERNEL.0,
                KERNEL.1
            ),
        );
    }
}

fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

/// Lets libvirt's QEMU open /dev/kvm. Where it exists but cannot be opened, libvirtd probes QEMU anew at every start
/// of a domain, which takes it more than a minute.
pub(crate) fn kvm_access() -> Result<usize> {
    let device = Path::new("/dev/kvm");
    let Ok(kvm) = fs::metadata(device) else { return Ok(0) };
    let (Some(group), Some(user)) = (Group::named("kvm")?, primary_group("libvirt-qemu")?) else {
        return Ok(0);
    };
    let mut done = 0;
    let open_to_all = kvm.mode() & 0o006 == 0o006;
    if kvm.file_type().is_char_device()
        && !open_to_all
        && (kvm.gid() != group.id || kvm.mode() & 0o060 != 0o060)
    {
        say(
            "setup",
            "giving /dev/kvm to the group kvm (else libvirtd probes QEMU anew at each start of a VM)",
        );
        run(as_root("chgrp").args(["kvm", "/dev/kvm"]))?;
        run(as_root("chmod").args(["g+rw", "/dev/kvm"]))?;
        done += 1;
    }
    if !open_to_all && user != group.id && !group.members.iter().any(|name| name == "libvirt-qemu") {
        say("setup", "putting the user libvirt-qemu into the group kvm");
        run(as_root("usermod").args(["-a", "-G", "kvm", "libvirt-qemu"]))?;
        done += 1;
    }
    Ok(done)
}

/// Mounts a bpf file system on /sys/fs/bpf where none is (systemd does so at boot).
pub(crate) fn bpf_filesystem() -> Result<usize> {
    let mounts = fs::read_to_string("/proc/self/mounts").context("cannot read /proc/self/mounts")?;
    if mounts.lines().any(|line| line.split(' ').nth(1) == Some("/sys/fs/bpf"))
        || !Path::new("/sys/fs/bpf").is_dir()
    {
        return Ok(0);
    }
    say("setup", "mounting a bpf file system on /sys/fs/bpf (holds hotpair's pins)");
    run(as_root("mount").args(["-t", "bpf", "bpf", "/sys/fs/bpf"]))?;
    Ok(1)
}

struct Group {
    id: u32,
    members: Vec<String>,
}

impl Group {
    fn named(name: &str) -> Result<Option<Group>> {
        let groups = fs::read_to_string("/etc/group").context("cannot read /etc/group")?;
        Ok(groups.lines().find_map(|line| {
            let fields: Vec<_> = line.split(':').collect();
            let [found, _, id, members] = fields[..] else { return None };
            let id = id.parse().ok().filter(|_| found == name)?;
            Some(Group { id, members: members.split(',').map(str::to_owned).collect() })
        }))
    }
}

fn primary_group(user: &str) -> Result<Option<u32>> {
    let users = fs::read_to_string("/etc/passwd").context("cannot read /etc/passwd")?;
    Ok(users.lines().find_map(|line| {
        let fields: Vec<_> = line.split(':').collect();
        (fields.len() > 3 && fields[0] == user).then(|| fields[3].parse().ok()).flatten()
    }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kernel_is_too_old_by_number_and_not_by_text() {
        assert!(version("6.1.0-44-amd64") < Some(KERNEL));
        assert!(version("6.12.57+deb13-amd64") > Some(KERNEL));
        assert_eq!(version("6.6.1"), Some(KERNEL));
        assert_eq!(version("unknown"), None);
    }
}
