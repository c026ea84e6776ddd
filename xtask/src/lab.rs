//! A site of network namespaces with the real controller, to try things in by hand. What it is made of is in
//! `tests/src/lab`; here it is only built and run.

use std::os::unix::process::CommandExt as _;
use std::path::PathBuf;

use anyhow::{Context, Result, bail};

use crate::exec::{as_root, cargo, run, target_dir};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// `exec PLACE -- COMMAND` runs a command in the lab that is up; everything else is for the lab: `--help`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// The verb. Becomes `hotpair-lab`.
pub(crate) fn verb(options: &Options) -> Result<()> {
    let enters = options.arguments.first().is_some_and(|verb| verb == "exec");
    let program = if enters { program() } else { build()? };
    if !program.exists() {
        bail!("no lab was ever up here; `cargo xtask lab` starts one");
    }
    let error = as_root(&program.display().to_string()).args(&options.arguments).exec();
    Err(error).with_context(|| format!("cannot run {}", program.display()))
}

/// Where the lab's program is.
fn program() -> PathBuf {
    target_dir().join("debug/hotpair-lab")
}

fn build() -> Result<PathBuf> {
    crate::setup::run()?;
    crate::build::everything(false)?;
    run(cargo().args(["build", "--package", "hotpair-tests", "--bins"]))?;
    Ok(program())
}
