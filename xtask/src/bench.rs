//! Builds everything optimised and hands over to `hotpair-bench`, which measures (`tests/src/bench`).

use anyhow::Result;

use crate::exec::{as_root, cargo, interrupts, quiet, root, run, target_dir};
use crate::{build, setup};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Which benchmark, and its options: `packets`, `failover`, `scale`, `tcp`; `--help` after its name lists them.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

/// The verb. Results go to `target/bench`.
pub(crate) fn verb(options: &Options) -> Result<()> {
    setup::run()?;
    build::everything(true)?;
    run(cargo().args(["build", "--release", "--package", "hotpair-tests", "--bins"]))?;
    // It ends by itself at Ctrl-C and cleans up; we wait for that.
    let _interrupted = interrupts()?;
    let mut bench = as_root(&target_dir().join("release/hotpair-bench").display().to_string());
    bench.arg("--out").arg(target_dir().join("bench")).args(["--revision", &revision()]);
    run(bench.args(&options.arguments))
}

/// What is measured, as git names it. Asked here, because root may not look into another user's checkout.
fn revision() -> String {
    let git = quiet(
        std::process::Command::new("git").current_dir(root()).args(["describe", "--always", "--dirty"]),
    );
    git.map_or_else(|_| "unknown".to_owned(), |name| name.trim().to_owned())
}
