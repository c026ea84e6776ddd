//! Builds what is shipped: `hotpair` with the eBPF object embedded, and `hotpair-guest` without any dynamic dependency.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::exec::{cargo, quiet, run, say, target_dir};

/// The guest agent runs in whatever Linux the guest is, so it brings its own libc. A musl target would need rustup to
/// fetch it; glibc's static archive is in libc6-dev, and the agent resolves no names.
const GUEST_TARGET: &str = "x86_64-unknown-linux-gnu";

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Optimised.
    #[arg(long)]
    release: bool,
}

/// What a build made.
pub(crate) struct Built {
    /// The controller.
    pub(crate) hotpair: PathBuf,
    /// The guest agent.
    pub(crate) guest: PathBuf,
}

/// The verb.
pub(crate) fn verb(options: &Options) -> Result<()> {
    crate::setup::run()?;
    let built = everything(options.release)?;
    say("build", format_args!("{}", built.hotpair.display()));
    say("build", format_args!("{} (statically linked)", built.guest.display()));
    Ok(())
}

/// Builds both; expects that `setup` has run.
pub(crate) fn everything(release: bool) -> Result<Built> {
    Ok(Built { hotpair: hotpair(release)?, guest: guest(release)? })
}

/// Builds the controller.
pub(crate) fn hotpair(release: bool) -> Result<PathBuf> {
    say("build", "hotpair, with the eBPF programs in it");
    run_cargo(cargo().args(["build", "--package", "hotpair"]), release)?;
    Ok(target_dir().join(profile(release)).join("hotpair"))
}

/// Builds `hotpair-guest` statically linked and makes sure that it is.
pub(crate) fn guest(release: bool) -> Result<PathBuf> {
    say("build", "hotpair-guest, statically linked");
    static_binary(&["--bin", "hotpair-guest"], "hotpair-guest", release)
}

/// Builds an example of the guest's package in the same way.
pub(crate) fn static_example(name: &str) -> Result<PathBuf> {
    static_binary(&["--example", name], &format!("examples/{name}"), true)
}

fn static_binary(select: &[&str], file: &str, release: bool) -> Result<PathBuf> {
    // In a target directory of its own: its flags differ from the workspace's, and cargo would rebuild what both share
    // at each change of hands.
    let dir = target_dir().join("static");
    run_cargo(
        cargo()
            .args(["build", "--package", "hotpair-guest", "--target", GUEST_TARGET, "--target-dir"])
            .arg(&dir)
            .args(select)
            .env("RUSTFLAGS", "-C target-feature=+crt-static"),
        release,
    )?;
    let binary = dir.join(GUEST_TARGET).join(profile(release)).join(file);
    check_static(&binary)?;
    Ok(binary)
}

fn profile(release: bool) -> &'static str {
    if release { "release" } else { "debug" }
}

fn run_cargo(command: &mut Command, release: bool) -> Result<()> {
    if release {
        command.arg("--release");
    }
    run(command)
}

/// A dynamic binary names its loader in a PT_INTERP program header (readelf is in binutils, which gcc needs anyway).
fn check_static(binary: &Path) -> Result<()> {
    let headers = quiet(Command::new("readelf").arg("--program-headers").arg("--wide").arg(binary))
        .context("cannot look into the guest agent")?;
    if headers.contains("INTERP") {
        bail!(
            "{} is not statically linked: it asks for a dynamic loader, which a guest may not have",
            binary.display()
        );
    }
    Ok(())
}
