//! Debian packages for the guest: which, downloaded, unpacked. Nothing is installed on the host.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::exec::quiet;

const WANTED: [&str; 4] = ["nginx-light", "redis-server", "iproute2", "busybox-static"];

/// Dependencies that only installation scripts have.
const NOT_NEEDED: [&str; 11] = [
    "adduser",
    "debconf",
    "dpkg",
    "libfile-find",
    "libnumber-compare",
    "libperl",
    "libtext-glob",
    "passwd",
    "perl",
    "tar",
    "usrmerge",
];

/// The downloaded packages.
pub(super) struct Files {
    pub(super) kernel: PathBuf,
    pub(super) system: Vec<PathBuf>,
}

/// Names and versions of all that the guest will be made of, so that a security update makes a new image.
pub(super) fn resolve() -> Result<Vec<String>> {
    let plan = apt(&scratch()?, &["--simulate", "install"], &[&WANTED[..], &[&kernel()?]].concat())?;
    let mut packages: Vec<_> =
        plan.lines().filter(|line| line.starts_with("Inst ")).map(str::to_owned).collect();
    packages.sort();
    Ok(packages)
}

/// Downloads everything into `dir`.
pub(super) fn download(dir: &Path) -> Result<Files> {
    fs::create_dir_all(dir.join("partial"))?;
    let kernel = kernel()?;
    apt(dir, &["--download-only", "install"], &WANTED)?;
    // Without its dependencies: they would make an initramfs of their own.
    quiet(
        Command::new("apt-get")
            .args(["-q", "-o", "APT::Sandbox::User=root", "download", &kernel])
            .current_dir(dir),
    )
    .context("cannot download the kernel")?;
    let mut files = Files { kernel: PathBuf::new(), system: Vec::new() };
    for entry in fs::read_dir(dir)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if !name.ends_with(".deb") || NOT_NEEDED.iter().any(|prefix| name.starts_with(prefix)) {
            continue;
        }
        if name.starts_with(&kernel) {
            files.kernel = path;
        } else {
            files.system.push(path);
        }
    }
    if files.kernel.as_os_str().is_empty() || files.system.is_empty() {
        bail!("apt-get downloaded no packages into {}", dir.display());
    }
    files.system.sort();
    Ok(files)
}

/// Unpacks a package's files, and nothing else of it.
pub(super) fn unpack(package: &Path, into: &Path) -> Result<()> {
    fs::create_dir_all(into)?;
    quiet(Command::new("dpkg-deb").arg("--extract").arg(package).arg(into)).map(drop)
}

/// The package that the metapackage of the cloud kernel stands for now.
fn kernel() -> Result<String> {
    let depends = quiet(Command::new("apt-cache").args(["depends", "linux-image-cloud-amd64"]))?;
    let package = depends.lines().find_map(|line| line.trim().strip_prefix("Depends: linux-image-"));
    package
        .map(|rest| format!("linux-image-{rest}"))
        .context("apt knows no linux-image-cloud-amd64; run `apt-get update` (Debian 12 has it)")
}

fn scratch() -> Result<PathBuf> {
    let dir = crate::exec::target_dir().join("demo/apt");
    fs::create_dir_all(dir.join("partial"))?;
    Ok(dir)
}

/// apt-get with the host's sources, but as if nothing were installed.
fn apt(archives: &Path, action: &[&str], packages: &[&str]) -> Result<String> {
    let nothing = archives.join("status");
    fs::write(&nothing, "")?;
    quiet(
        Command::new("apt-get")
            .args(["-q", "-y", "--no-install-recommends"])
            .args(["-o", &format!("Dir::State::status={}", nothing.display())])
            .args(["-o", &format!("Dir::Cache::archives={}", archives.display())])
            .args(["-o", "Debug::NoLocking=1", "-o", "APT::Sandbox::User=root"])
            .args(action)
            .args(packages)
            .env("LC_ALL", "C"),
    )
    .context("apt-get cannot resolve the guest's packages; `apt-get update` may help")
}
