//! Runs the whole suite, stage by stage, and adds up what the stages report.

use std::process::Command;
use std::sync::atomic::Ordering;

use anyhow::{Result, bail};

use crate::exec::{cargo, interrupts, is_root, quiet, say, watched};

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Also the long tests: many failovers in a row, hundreds of kills, half a minute without time.
    #[arg(long)]
    soak: bool,
    /// Only tests whose name contains this.
    filter: Option<String>,
}

/// What tests reported.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Tally {
    passed: u64,
    failed: u64,
    ignored: u64,
}

/// The verb: whether all passed. Ends with `N passed, N failed` alone on the last line.
pub(crate) fn verb(options: &Options) -> Result<bool> {
    crate::setup::run()?;
    crate::build::everything(false)?;
    let interrupted = interrupts()?;
    let libvirtd = crate::libvirtd::ensure("test")?;
    let guest = crate::demo::Deployed::new("test")?;

    let mut tally = Tally::default();
    let mut broken = Vec::new();
    for stage in stages()? {
        say("test", format_args!("{}: {}", stage.name, stage.what));
        let before = tally;
        let mut command = cargo();
        command.args(["test", "--no-fail-fast"]).args(&stage.select).arg("--");
        if let Some(filter) = &options.filter {
            command.arg(filter);
        }
        if options.soak {
            command.env("HOTPAIR_SOAK", "1");
            if stage.long {
                command.arg("--include-ignored");
            }
        }
        prepare(&mut command);
        if stage.alone {
            command.arg("--test-threads=1");
            command.env("HOTPAIR_GUEST", guest.dir());
        }
        let succeeded = watched(&mut command, |line| tally.add(line))?;
        if interrupted.load(Ordering::Relaxed) {
            bail!("interrupted");
        }
        // A stage that fails without a failed test did not compile or died half-way: that must not pass for success.
        if !succeeded && tally.failed == before.failed {
            broken.push(stage.name);
            tally.failed += 1;
        }
    }
    drop((guest, libvirtd));
    if !broken.is_empty() {
        say("test", format_args!("did not run to their end: {}", broken.join(", ")));
    }
    if tally.passed == 0 {
        say("test", "no test ran");
    }
    if tally.ignored > 0 {
        say(
            "test",
            format_args!("{} ignored: they are helpers of others, or only run with --soak", tally.ignored),
        );
    }
    println!("{} passed, {} failed", tally.passed, tally.failed);
    Ok(tally.failed == 0 && tally.passed > 0)
}

/// Root is needed for namespaces, eBPF and VMs; with it, a test that cannot run must fail instead of being skipped.
fn prepare(command: &mut Command) {
    if !is_root() {
        command.env("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_RUNNER", "sudo -E");
    }
    command.env("HOTPAIR_TESTS_MUST_RUN", "1");
}

/// One `cargo test`.
struct Stage {
    name: &'static str,
    what: &'static str,
    select: Vec<&'static str>,
    /// One test at a time: it measures times, or uses what exists only once.
    alone: bool,
    /// What is ignored of it takes minutes; `--soak` runs it.
    long: bool,
}

fn stages() -> Result<Vec<Stage>> {
    let metadata = quiet(cargo().args(["metadata", "--no-deps", "--format-version", "1"]))?;
    let mut stages = vec![Stage {
        name: "native",
        what: "state machine, wire formats, configuration",
        select: vec!["--workspace", "--exclude", "hotpair-tests"],
        alone: false,
        long: false,
    }];
    let integration = [
        ("packet", "packet tables through BPF_PROG_TEST_RUN", "packet/main.rs"),
        ("lab", "namespaces as hosts, VMs and clients", "lab/main.rs"),
        ("vm", "real VMs under libvirt", "vm/main.rs"),
    ];
    for (name, what, main) in integration {
        if metadata.contains(&format!("/tests/{main}\"")) {
            let select = vec!["--package", "hotpair-tests", "--test", name];
            stages.push(Stage { name, what, select, alone: true, long: name == "vm" });
        }
    }
    Ok(stages)
}

impl Tally {
    /// `test result: ok. 3 passed; 0 failed; 0 ignored; ...`
    fn add(&mut self, line: &str) {
        let Some(result) = line.trim().strip_prefix("test result: ") else { return };
        let count = |what: &str| -> u64 {
            let words: Vec<_> = result.split_whitespace().collect();
            let number =
                words.windows(2).find(|pair| pair[1].trim_end_matches(';') == what).map(|pair| pair[0]);
            number.and_then(|number| number.parse().ok()).unwrap_or(0)
        };
        self.passed += count("passed");
        self.failed += count("failed");
        self.ignored += count("ignored");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_all_stages_are_added_up() {
        let mut tally = Tally::default();
        tally.add("running 4 tests");
        tally.add("test result: FAILED. 3 passed; 1 failed; 2 ignored; 0 measured; 7 filtered out; finished in 0.00s");
        tally.add(
            "test result: ok. 5 passed; 0 failed; 0 ignored; 0 measured; 0 filtered out; finished in 0.00s",
        );
        assert_eq!(tally, Tally { passed: 8, failed: 1, ignored: 2 });
    }
}
