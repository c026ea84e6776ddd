//! The Debian packages: which, what for, and how they are got. On another distribution: what to install instead.

use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::exec::{as_root, find, is_root, quiet, run, say};

/// A package and what it is for.
struct Package {
    name: &'static str,
    why: &'static str,
}

const fn package(name: &'static str, why: &'static str) -> Package {
    Package { name, why }
}

/// What every machine needs.
const PACKAGES: &[Package] = &[
    package("build-essential", "C compiler and linker"),
    package("pkg-config", "finds libvirt for the build"),
    package("ca-certificates", "crates are fetched over TLS"),
    package("libvirt-dev", "libvirt's client library, for the libvirt backend"),
    package("llvm-22-dev", "LLVM 22, for bpf-linker"),
    package("zlib1g-dev", "LLVM links it"),
    package("libvirt-daemon-system", "runs the VMs"),
    package("libvirt-clients", "virsh"),
    package("qemu-system-x86", "the VMs themselves"),
    package("qemu-utils", "qemu-img: overlays and the demo's image"),
    package("iproute2", "ip: namespaces of the labs"),
    package("tcpdump", "captures in tests"),
    package(
        "redis-tools",
        "redis-check-rdb: called redis-server, it is the server of the tests, without a service",
    ),
    package("openssl", "keys, and the TLS client of the tests"),
    package("stunnel4", "the TLS server of the tests, of which nothing runs by itself"),
    package("iperf3", "a service of the tests whose answers tell its own times"),
    package("keepalived", "`bench failover` measures it beside hotpair"),
    package("busybox-static", "the demo guest's initramfs"),
    package("cpio", "packs the demo guest's initramfs"),
    package("xz-utils", "unpacks packages into the demo guest"),
    package("e2fsprogs", "mke2fs: the demo guest's file system"),
];

/// What builds eBPF programs where no rustup nightly with rust-src is: Debian's own newer toolchain.
const EBPF_TOOLCHAIN: &[Package] = &[
    package("rustc-web", "compiles the eBPF programs"),
    package("cargo-web", "compiles the eBPF programs"),
    package("rust-web-src", "`core` for the BPF target"),
];

/// Installs what is missing. Returns how many packages that were.
pub(crate) fn packages(with_ebpf_toolchain: bool) -> Result<usize> {
    let wanted: Vec<&Package> =
        PACKAGES.iter().chain(EBPF_TOOLCHAIN.iter().filter(|_| with_ebpf_toolchain)).collect();
    if find("dpkg-query").is_none() || find("apt-get").is_none() {
        return elsewhere(&wanted);
    }
    let installed = installed()?;
    let missing: Vec<&Package> =
        wanted.into_iter().filter(|package| !installed.iter().any(|name| name == package.name)).collect();
    if missing.is_empty() {
        return Ok(0);
    }
    for package in &missing {
        say("setup", format_args!("needs {} ({})", package.name, package.why));
    }
    if !is_root() && find("sudo").is_none() {
        bail!(
            "installing packages needs root; run this as root, install sudo, or install by hand:\n  apt-get install {}",
            names(&missing)
        );
    }
    say("setup", "apt-get update");
    quiet(apt().arg("update")).context("cannot read the package lists")?;

    let mut request: Vec<String> = missing.iter().map(|package| package.name.to_owned()).collect();
    request.extend(version_pins(&request)?);
    say("setup", format_args!("apt-get install {}", request.join(" ")));
    run(apt().args(["install", "-y", "-q", "--no-install-recommends", "--allow-downgrades"]).args(&request))
        .with_context(|| {
            format!(
                "cannot install packages. hotpair is built on Debian 12 (bookworm) with its security updates; \
                 check /etc/apt/sources.list, then try by hand: apt-get install {}",
                request.join(" ")
            )
        })?;
    Ok(missing.len())
}

fn apt() -> Command {
    let mut command = as_root("env");
    command.args(["DEBIAN_FRONTEND=noninteractive", "apt-get"]);
    // Another apt may be at work (unattended upgrades): wait for it instead of failing.
    command.args(["-o", "DPkg::Lock::Timeout=300", "-o", "Dpkg::Use-Pty=0"]);
    command
}

fn names(packages: &[&Package]) -> String {
    packages.iter().map(|package| package.name).collect::<Vec<_>>().join(" ")
}

/// Names of the installed packages. dpkg-query fails when one of the names given is unknown to it, so all are listed.
fn installed() -> Result<Vec<String>> {
    let listing = quiet(Command::new("dpkg-query").args(["-W", "-f", "${db:Status-Status} ${Package}\n"]))?;
    Ok(listing.lines().filter_map(|line| line.strip_prefix("installed ")).map(str::to_owned).collect())
}

/// Parts of QEMU that must have the version of `qemu-system-x86`, or apt refuses ("Breaks").
const QEMU_PARTS: &[&str] =
    &["qemu-utils", "qemu-block-extra", "qemu-system-common", "qemu-system-data", "qemu-system-gui"];

/// A machine may have `qemu-utils` from a backport while its repository offers an older `qemu-system-x86`. Then the
/// installed parts are asked for at the repository's version, downgrade or not.
fn version_pins(request: &[String]) -> Result<Vec<String>> {
    if !request.iter().any(|name| name == "qemu-system-x86") {
        return Ok(Vec::new());
    }
    let policy = quiet(Command::new("apt-cache").arg("policy").arg("qemu-system-x86").args(QEMU_PARTS))?;
    let pins = pins(&policy);
    for pin in &pins {
        say(
            "setup",
            format_args!(
                "{pin}: the installed version does not go with the repository's qemu-system-x86; taking that one"
            ),
        );
    }
    Ok(pins)
}

/// `package=version` for each installed part of QEMU whose version is not that of the candidate of qemu-system-x86, if
/// it can be had. `policy` is what `apt-cache policy` writes.
fn pins(policy: &str) -> Vec<String> {
    let versions = parse_policy(policy);
    let Some(wanted) =
        versions.iter().find(|p| p.name == "qemu-system-x86").and_then(|p| p.candidate.as_deref())
    else {
        return Vec::new();
    };
    versions
        .iter()
        .filter(|part| part.name != "qemu-system-x86")
        .filter(|part| part.installed.as_deref().is_some_and(|version| version != wanted))
        .filter(|part| part.offered.iter().any(|version| version == wanted))
        .map(|part| format!("{}={wanted}", part.name))
        .collect()
}

#[derive(Debug, Default, PartialEq)]
struct Policy {
    name: String,
    installed: Option<String>,
    candidate: Option<String>,
    offered: Vec<String>,
}

fn parse_policy(text: &str) -> Vec<Policy> {
    let mut all: Vec<Policy> = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.strip_suffix(':').filter(|name| !name.starts_with(' ')) {
            all.push(Policy { name: name.to_owned(), ..Policy::default() });
            continue;
        }
        let Some(last) = all.last_mut() else { continue };
        let version = |text: &str| Some(text.trim().to_owned()).filter(|version| version != "(none)");
        if let Some(rest) = line.strip_prefix("  Installed:") {
            last.installed = version(rest);
        } else if let Some(rest) = line.strip_prefix("  Candidate:") {
            last.candidate = version(rest);
        } else if let Some(rest) = line.strip_prefix("     ").or_else(|| line.strip_prefix(" *** ")) {
            // A version is followed by its priority; a source line is indented deeper and begins with a priority.
            if let [version, _priority] = rest.split_whitespace().collect::<Vec<_>>()[..]
                && !rest.starts_with(' ')
            {
                last.offered.push(version.to_owned());
            }
        }
    }
    all
}

fn elsewhere(wanted: &[&Package]) -> Result<usize> {
    let missing: Vec<&str> = [
        "cc",
        "pkg-config",
        "virsh",
        "qemu-system-x86_64",
        "qemu-img",
        "tcpdump",
        "redis-check-rdb",
        "openssl",
        "stunnel",
        "iperf3",
        "keepalived",
        "busybox",
        "mke2fs",
    ]
    .into_iter()
    .filter(|program| find(program).is_none())
    .collect();
    if missing.is_empty() {
        return Ok(0);
    }
    let list: Vec<_> =
        wanted.iter().map(|package| format!("  {:24} {}", package.name, package.why)).collect();
    bail!(
        "this is not Debian: packages cannot be installed for you. Missing here: {}.\n\
         Install what these Debian packages are called on your distribution, and a rustup nightly with rust-src \
         (`rustup toolchain install nightly --component rust-src`), then run this again:\n{}",
        missing.join(", "),
        list.join("\n")
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKPORT: &str = "\
qemu-system-x86:
  Installed: (none)
  Candidate: 1:7.2+dfsg-7+deb12u18+b3
  Version table:
     1:7.2+dfsg-7+deb12u18+b3 500
        500 http://deb.debian.org/debian bookworm/main amd64 Packages
qemu-utils:
  Installed: 1:10.0.2+ds-2~bpo12+1
  Candidate: 1:10.0.2+ds-2~bpo12+1
  Version table:
 *** 1:10.0.2+ds-2~bpo12+1 100
        100 /var/lib/dpkg/status
     1:7.2+dfsg-7+deb12u18+b3 500
        500 http://deb.debian.org/debian bookworm/main amd64 Packages
qemu-system-common:
  Installed: (none)
  Candidate: 1:7.2+dfsg-7+deb12u18+b3
  Version table:
     1:7.2+dfsg-7+deb12u18+b3 500
        500 http://deb.debian.org/debian bookworm/main amd64 Packages
";

    #[test]
    fn a_backported_qemu_utils_is_taken_back_to_the_repositorys_version() {
        assert_eq!(pins(BACKPORT), ["qemu-utils=1:7.2+dfsg-7+deb12u18+b3"]);
    }

    #[test]
    fn what_goes_together_is_left_alone() {
        let well =
            BACKPORT.replace("Installed: 1:10.0.2+ds-2~bpo12+1", "Installed: 1:7.2+dfsg-7+deb12u18+b3");
        assert!(pins(&well).is_empty());
        assert!(pins(&BACKPORT.replace("Installed: 1:10.0.2+ds-2~bpo12+1", "Installed: (none)")).is_empty());
    }

    #[test]
    fn nothing_is_asked_for_that_no_repository_offers() {
        let gone: String = BACKPORT.replace(
            "100 /var/lib/dpkg/status\n     1:7.2+dfsg-7+deb12u18+b3 500\n",
            "100 /var/lib/dpkg/status\n",
        );
        assert!(pins(&gone).is_empty());
    }

    #[test]
    fn versions_are_told_from_their_sources() {
        let utils = &parse_policy(BACKPORT)[1];
        assert_eq!(utils.offered, ["1:10.0.2+ds-2~bpo12+1", "1:7.2+dfsg-7+deb12u18+b3"]);
    }
}
