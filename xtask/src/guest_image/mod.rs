//! The demo's guest: a small Debian with its cloud kernel, a web server, one that takes uploads, a key-value server, a UDP
//! echo and the agent.
//!
//! Made from Debian's packages without running anything of them and without mounting anything: unpacked into a
//! directory, which `mke2fs` turns into a file system. Kept in `target/demo/image`, by a hash of everything it is made
//! of; a second demo does not build it again.

mod initramfs;
mod packages;

use std::fs;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::Read;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result};

use crate::build;
use crate::exec::{quiet, say, target_dir};

/// A guest that can be booted.
pub(crate) struct Guest {
    /// Linux.
    pub(crate) kernel: PathBuf,
    /// What brings it to the disk.
    pub(crate) initramfs: PathBuf,
    /// The golden image, qcow2.
    pub(crate) image: PathBuf,
    /// What a client must get who asks for the [`DOWNLOADS`], as `sha256sum` writes it.
    pub(crate) sums: PathBuf,
}

/// Files for large downloads, and their MiB.
const DOWNLOADS: [(&str, usize); 2] = [("8m.bin", 8), ("64m.bin", 64)];
const INIT: &str = include_str!("../../guest/init");
const GUEST_INIT: &str = include_str!("../../guest/guest-init");
const NGINX: &str = include_str!("../../guest/nginx.conf");
const UPLOAD: &str = include_str!("../../guest/sha256");
/// Size of the root file system.
const DISK: &str = "256M";

/// The kernel's command line. Everything that is only there to find out what a real machine might be costs a second
/// or two of emulation.
pub(crate) fn command_line(entries: &[&str]) -> String {
    format!(
        "console=ttyS0 quiet loglevel=4 panic=1 net.ifnames=0 mitigations=off nokaslr random.trust_cpu=on \
         no_timer_check cryptomgr.notests 8250.nr_uarts=1 ipv6.autoconf=0 hotpair.entry={}",
        entries.join(",")
    )
}

/// Builds the guest, or finds the one built before. `agent_options` are what `hotpair-guest` is started with.
pub(crate) fn build(verb: &str, agent_options: &str) -> Result<Guest> {
    let started = Instant::now();
    let agent = build::guest(true)?;
    let echo = build::static_example("udp_echo")?;
    let packages = packages::resolve().context("cannot find out what the demo's guest is made of")?;

    let mut hash = DefaultHasher::new();
    (
        INIT,
        GUEST_INIT,
        NGINX,
        UPLOAD,
        DISK,
        agent_options,
        include_str!("mod.rs"),
        include_str!("initramfs.rs"),
        &packages,
    )
        .hash(&mut hash);
    for binary in [&agent, &echo] {
        fs::read(binary).with_context(|| format!("cannot read {}", binary.display()))?.hash(&mut hash);
    }
    let home = target_dir().join("demo/image");
    let dir = home.join(format!("{:016x}", hash.finish()));
    let guest = Guest {
        kernel: dir.join("vmlinuz"),
        initramfs: dir.join("initramfs.cpio"),
        image: dir.join("golden.qcow2"),
        sums: dir.join("SHA256SUMS"),
    };
    if guest.image.is_file() {
        say(verb, "guest image: the one built before");
        return Ok(guest);
    }
    // Older ones are of no use any more.
    let _ = fs::remove_dir_all(&home);
    let work = dir.with_extension("work");
    fs::create_dir_all(&work)?;

    say(verb, "guest image: downloading Debian's kernel, nginx and redis");
    let files = packages::download(&home.join("packages"))?;
    say(verb, format_args!("guest image: unpacking {} packages", files.system.len() + 1));
    let kernel = work.join("kernel");
    packages::unpack(&files.kernel, &kernel)?;
    let root = work.join("root");
    for package in &files.system {
        packages::unpack(package, &root)?;
    }
    furnish(&root, &agent, &echo, agent_options)?;
    let www = root.join("srv/www");
    let names = DOWNLOADS.map(|(name, _)| name);
    fs::write(work.join("SHA256SUMS"), quiet(Command::new("sha256sum").args(names).current_dir(www))?)?;
    initramfs::build(&kernel, &work)?;
    say(verb, "guest image: making its file system");
    file_system(&root, &work)?;
    fs::rename(initramfs::kernel_file(&kernel)?, work.join("vmlinuz"))?;
    for unneeded in [&root, &kernel, &home.join("packages")] {
        fs::remove_dir_all(unneeded)?;
    }
    fs::rename(&work, &dir)?;
    say(verb, format_args!("guest image: {} ({:.0} s)", dir.display(), started.elapsed().as_secs_f32()));
    Ok(guest)
}

/// What the packages do not bring, and what their installation scripts would have made.
fn furnish(root: &Path, agent: &Path, echo: &Path, agent_options: &str) -> Result<()> {
    for unneeded in
        ["usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/perl5", "usr/share/bash-completion"]
    {
        let _ = fs::remove_dir_all(root.join(unneeded));
    }
    for dir in [
        "dev",
        "proc",
        "sys",
        "run",
        "tmp",
        "srv/www",
        "srv/upload/cgi-bin",
        "var/log/nginx",
        "var/lib/nginx",
        "etc",
        "sbin",
        "usr/bin",
    ] {
        fs::create_dir_all(root.join(dir))?;
    }
    let write = |file: &str, content: &str, mode: u32| -> Result<()> {
        let path = root.join(file);
        fs::write(&path, content).with_context(|| format!("cannot write {}", path.display()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(mode))?;
        Ok(())
    };
    write(
        "etc/passwd",
        "root:x:0:0:root:/:/bin/sh\nwww-data:x:33:33:www-data:/srv/www:/bin/false\nnobody:x:65534:65534::/:/bin/false\n",
        0o644,
    )?;
    write("etc/group", "root:x:0:\nadm:x:4:\nwww-data:x:33:\nnogroup:x:65534:\n", 0o644)?;
    write("etc/hosts", "127.0.0.1 localhost\n", 0o644)?;
    write("etc/nginx/demo.conf", NGINX, 0o644)?;
    write("etc/hotpair-guest.options", agent_options, 0o644)?;
    write("sbin/guest-init", GUEST_INIT, 0o755)?;
    write("srv/www/index.html", "<!doctype html><title>hotpair</title><p>served by one of two\n", 0o644)?;
    write("srv/upload/cgi-bin/sha256", UPLOAD, 0o755)?;
    let mut random = fs::File::open("/dev/urandom")?;
    for (name, mebibytes) in DOWNLOADS {
        let mut content = vec![0; mebibytes << 20];
        random.read_exact(&mut content)?;
        fs::write(root.join("srv/www").join(name), content)?;
    }
    let _ = fs::remove_file(root.join("bin/sh"));
    symlink("busybox", root.join("bin/sh"))?;
    for (binary, name) in [(agent, "hotpair-guest"), (echo, "udp-echo")] {
        let to = root.join("usr/bin").join(name);
        fs::copy(binary, &to)?;
        quiet(Command::new("strip").arg(&to))?;
    }
    Ok(())
}

fn file_system(root: &Path, work: &Path) -> Result<()> {
    let raw = work.join("golden.raw");
    // No journal: a member's disk is an overlay that is thrown away when it fails.
    quiet(
        Command::new("mke2fs")
            .args(["-q", "-t", "ext4", "-O", "^has_journal", "-E", "root_owner=0:0", "-L", "demo", "-d"])
            .arg(root)
            .arg(&raw)
            .arg(DISK)
            .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin"),
    )?;
    quiet(
        Command::new("qemu-img")
            .args(["convert", "-f", "raw", "-O", "qcow2"])
            .arg(&raw)
            .arg(work.join("golden.qcow2")),
    )?;
    fs::remove_file(&raw)?;
    Ok(())
}
