//! Lets libFuzzer loose on the parsers (`fuzz/`).
//!
//! By hand, for minutes or hours: building everything with instrumentation takes longer than CI has. What CI does instead,
//! replaying the corpus and mutating it without instrumentation (15 seconds a target, two minutes of processor time in all),
//! is `fuzz/tests/replay.rs`.

use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::exec::{cargo, find, root, run, say, target_dir};

/// A version that is known to build with this toolchain.
const CARGO_FUZZ: &str = "0.13.2";

#[derive(clap::Args)]
pub(crate) struct Options {
    /// Which parser [default: all, one after the other].
    target: Option<String>,
    /// How long for each.
    #[arg(long, default_value_t = 60)]
    seconds: u64,
    /// Afterwards, keep of the corpus only what is needed to reach all that was reached.
    #[arg(long)]
    minimise: bool,
}

/// The verb.
pub(crate) fn verb(options: &Options) -> Result<()> {
    crate::setup::run()?;
    // The programs are built by the ordinary build, with its own toolchain and flags; the fuzzers only embed them.
    crate::build::everything(false)?;
    let programs = programs()?;
    let cargo_fuzz = cargo_fuzz()?;
    let fuzz = |verb: &str| {
        let mut command = Command::new(&cargo_fuzz);
        // Optimised, but with debug assertions: an overflow that nobody meant is a finding.
        command.current_dir(root()).arg("fuzz").arg(verb).args([
            "--fuzz-dir",
            "fuzz",
            "--features",
            "libfuzzer",
            "--release",
            "--debug-assertions",
        ]);
        // What LTO gains is nothing beside what it costs to build eight instrumented programs with it.
        command
            .env("CARGO_PROFILE_RELEASE_LTO", "off")
            .env("CARGO_PROFILE_RELEASE_DEBUG", "line-tables-only");
        // The sanitizers' flags are not stable; the compiler is.
        command.env("RUSTC_BOOTSTRAP", "1").env("CARGO_TARGET_DIR", target_dir().join("fuzz"));
        command.env("HOTPAIR_EBPF_OBJECT", &programs);
        command
    };
    let targets = targets()?;
    let chosen: Vec<_> = match &options.target {
        Some(target) if targets.contains(target) => vec![target.clone()],
        Some(target) => bail!("there is no target {target}: there are {}", targets.join(", ")),
        None => targets,
    };
    for target in chosen {
        say("fuzz", format_args!("{target} for {} s", options.seconds));
        let seconds = format!("-max_total_time={}", options.seconds);
        run(fuzz("run").arg(&target).args(["--", &seconds, "-timeout=10", "-print_final_stats=1"]))
            .with_context(|| format!("{target} found something: the bytes are in fuzz/artifacts/{target}"))?;
        if options.minimise {
            run(fuzz("cmin").arg(&target))?;
        }
    }
    Ok(())
}

/// The eBPF object of the latest build.
fn programs() -> Result<PathBuf> {
    let builds = std::fs::read_dir(target_dir().join("debug/build")).context("reading what was built")?;
    let objects = builds.flatten().map(|build| build.path().join("out/hotpair.bpf.o"));
    let latest = objects.filter_map(|object| Some((object.metadata().ok()?.modified().ok()?, object))).max();
    Ok(latest.context("the build has left no eBPF object")?.1)
}

fn targets() -> Result<Vec<String>> {
    let files = std::fs::read_dir(root().join("fuzz/fuzz_targets")).context("reading fuzz/fuzz_targets")?;
    let names = files.filter_map(|file| Some(file.ok()?.path().file_stem()?.to_str()?.to_owned()));
    let mut names: Vec<_> = names.collect();
    names.sort();
    Ok(names)
}

/// cargo-fuzz, installed under `target/` if there is none.
fn cargo_fuzz() -> Result<PathBuf> {
    if let Some(found) = find("cargo-fuzz") {
        return Ok(found);
    }
    let tools = target_dir().join("tools");
    let program = tools.join("bin/cargo-fuzz");
    if !program.is_file() {
        say("fuzz", "cargo install cargo-fuzz");
        run(cargo()
            .args(["install", "--locked", "--version", CARGO_FUZZ, "--root"])
            .arg(&tools)
            .arg("cargo-fuzz"))?;
    }
    Ok(program)
}
