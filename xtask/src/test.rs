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
    let mut reports = Reports::default();
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
        let succeeded = watched(&mut command, |line| {
            tally.add(line);
            reports.add(line);
        })?;
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
    for report in &reports.all {
        say("test", format_args!("failed: {}", report.test));
        report.lines.iter().for_each(|line| println!("    {line}"));
    }
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

/// Why tests failed, gathered for the end: a reader need not look for it in all that passed.
#[derive(Debug, Default)]
struct Reports {
    all: Vec<Report>,
    /// The last one goes on with the next line.
    open: bool,
}

/// Why a test failed.
#[derive(Debug, PartialEq)]
struct Report {
    test: String,
    /// From the panic or the error on; what it had said before, a log perhaps, is above.
    lines: Vec<String>,
}

impl Reports {
    /// So many lines of each.
    const LINES: usize = 20;

    /// `---- NAME stdout ----`, its lines, and the next one or `failures:`.
    fn add(&mut self, line: &str) {
        if let Some(test) = line.strip_prefix("---- ").and_then(|line| line.strip_suffix(" stdout ----")) {
            self.all.push(Report { test: test.to_owned(), lines: Vec::new() });
            self.open = true;
        } else if line == "failures:" || line.to_lowercase().starts_with("stack backtrace:") {
            self.open = false;
        } else if let Some(last) = self.all.last_mut()
            && self.open
        {
            let panicked = line.starts_with("thread '") && line.contains(" panicked at ");
            let begun = panicked || line.starts_with("Error: ") || !last.lines.is_empty();
            if begun && !line.trim().is_empty() && last.lines.len() < Reports::LINES {
                last.lines.push(line.to_owned());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn why_tests_failed_is_gathered() {
        let mut reports = Reports::default();
        let said = "test a::one ... FAILED\n\nfailures:\n\n---- a::one stdout ----\nlab: up\n\nthread 'a::one' panicked at \
                    x.rs:1:\nit is not\nstack backtrace:\n  0: deep\n\n---- b::two stdout ----\n--- log of a \
                    lab\nError: no\n\nCaused by:\n    much\n\n\nfailures:\n    \
                    a::one\n    b::two\n";
        said.lines().for_each(|line| reports.add(line));
        let report = |test: &str, lines: &[&str]| Report {
            test: test.to_owned(),
            lines: lines.iter().map(ToString::to_string).collect(),
        };
        let one = report("a::one", &["thread 'a::one' panicked at x.rs:1:", "it is not"]);
        assert_eq!(reports.all, [one, report("b::two", &["Error: no", "Caused by:", "    much"])]);
    }

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
