//! Finds or installs what building and running need. Idempotent: every step looks before it acts, so that a second run
//! takes less than a second. A stamp would be quicker and would lie after `apt-get remove`.

mod debian;
mod ebpf;
mod host;

use std::time::Instant;

use anyhow::Result;

use crate::exec::say;

/// Everything, in order; one line for each thing that had to be done.
pub(crate) fn run() -> Result<()> {
    let started = Instant::now();
    let mut done = debian::packages(ebpf::nightly_with_source().is_none())?;
    done += ebpf::bpf_linker()?;
    done += ebpf::rustup_components()?;
    done += host::kvm_access()?;
    done += host::bpf_filesystem()?;
    host::kernel();
    let what = if done == 0 { "everything is there".to_owned() } else { format!("{done} things done") };
    say("setup", format_args!("{what} ({:.1} s)", started.elapsed().as_secs_f32()));
    Ok(())
}
