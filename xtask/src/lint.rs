//! Formatting and clippy, with warnings as errors.

use anyhow::Result;

use crate::exec::{cargo, root, run, say, target_dir};

/// The verb.
pub(crate) fn verb() -> Result<()> {
    crate::setup::run()?;
    say("lint", "cargo fmt (workspace and ebpf)");
    run(cargo().args(["fmt", "--all", "--check"]))?;
    run(cargo().args(["fmt", "--check"]).current_dir(root().join("ebpf")))?;
    say("lint", "cargo clippy");
    run(cargo().args(["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    // For the host's own target: clippy comes with a toolchain that has no library for the BPF one, and the lints do not
    // depend on it.
    say("lint", "cargo clippy (ebpf)");
    run(cargo()
        .args(["clippy", "--", "-D", "warnings"])
        .current_dir(root().join("ebpf"))
        .env("CARGO_TARGET_DIR", target_dir().join("ebpf-lint")))
}
