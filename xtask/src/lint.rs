//! Formatting and clippy, with warnings as errors.

use anyhow::Result;

use crate::exec::{cargo, root, run, say};

/// The verb.
pub(crate) fn verb() -> Result<()> {
    crate::setup::run()?;
    say("lint", "cargo fmt (workspace and ebpf)");
    run(cargo().args(["fmt", "--all", "--check"]))?;
    run(cargo().args(["fmt", "--check"]).current_dir(root().join("ebpf")))?;
    say("lint", "cargo clippy");
    run(cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))
}
