//! What compiles and links eBPF programs written in Rust: a compiler that may use unstable options and has the source
//! of `core`, and bpf-linker.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::exec::{cargo, find, quiet, run, say};

const BPF_LINKER: &str = "0.13.0";
const LLVM_PREFIX: &str = "/usr/lib/llvm-22";

/// A rustup nightly that has rust-src: its sysroot.
pub(crate) fn nightly_with_source() -> Option<PathBuf> {
    let rustup_home = std::env::var_os("RUSTUP_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".rustup")))?;
    std::fs::read_dir(rustup_home.join("toolchains"))
        .ok()?
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with("nightly-"))
        .map(|entry| entry.path())
        .find(|sysroot| sysroot.join("lib/rustlib/src/rust/library/core/Cargo.toml").is_file())
}

/// Builds bpf-linker unless the right version is there. Returns how many things were done.
pub(crate) fn bpf_linker() -> Result<usize> {
    let cargo_home = std::env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let present = cargo_home
        .map(|home| home.join("bin/bpf-linker"))
        .filter(|file| file.is_file())
        .or_else(|| find("bpf-linker"));
    let version = present.and_then(|file| quiet(Command::new(file).arg("--version")).ok());
    if version.as_deref().is_some_and(|text| text.trim().ends_with(BPF_LINKER)) {
        return Ok(0);
    }
    if !PathBuf::from(LLVM_PREFIX).is_dir() {
        bail!(
            "bpf-linker {BPF_LINKER} is missing and cannot be built without LLVM 22 in {LLVM_PREFIX}; \
             install it yourself: cargo install bpf-linker --version {BPF_LINKER}"
        );
    }
    say(
        "setup",
        format_args!("building bpf-linker {BPF_LINKER} (links the eBPF object; takes one to two minutes)"),
    );
    run(cargo()
        .args(["install", "--quiet", "--locked", "bpf-linker", "--version", BPF_LINKER])
        .args(["--no-default-features", "--features", "llvm-22"])
        .current_dir("/")
        .env("LLVM_PREFIX", LLVM_PREFIX)
        .env_remove("CARGO_TARGET_DIR"))
    .context("cannot build bpf-linker")?;
    Ok(1)
}

/// rustfmt and clippy, for `lint`. Only rustup can bring them; without it they are looked for when they are needed.
pub(crate) fn rustup_components() -> Result<usize> {
    let missing: Vec<_> = [("cargo-fmt", "rustfmt"), ("cargo-clippy", "clippy")]
        .into_iter()
        .filter(|(program, _)| find(program).is_none())
        .map(|(_, component)| component)
        .collect();
    if missing.is_empty() || find("rustup").is_none() {
        return Ok(0);
    }
    say("setup", format_args!("rustup component add {}", missing.join(" ")));
    run(Command::new("rustup").args(["component", "add"]).args(&missing))?;
    Ok(missing.len())
}
