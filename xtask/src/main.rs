//! hotpair's own tooling: `cargo xtask setup`, `build`, `test`, `lint`, `demo`, `lab`, `bench`.
//!
//! It must compile on a machine that has nothing but a Rust toolchain and a linker, and quickly: it never depends on
//! the crates it builds, only on a command line parser and an error type. What it finds missing it installs.

mod bench;
mod build;
mod demo;
mod exec;
mod fuzz;
mod guest_image;
mod lab;
mod libvirtd;
mod lint;
mod setup;
mod test;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "hotpair's own tooling", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Subcommand)]
enum Verb {
    /// Find or install everything that building and running need.
    Setup,
    /// Build `hotpair` (eBPF embedded) and `hotpair-guest` (statically linked).
    Build(build::Options),
    /// Run every test: native, packet tables, namespace labs, one real-VM scenario.
    Test(test::Options),
    /// Measure, side by side with what it is compared with; figures go to target/bench.
    Bench(bench::Options),
    /// A site of network namespaces with the real controller, to try things in.
    Lab(lab::Options),
    /// Two real VMs behind one entry address, real load, a fault, and the way back to being protected.
    Demo(demo::Options),
    /// Fuzz the parsers with libFuzzer, as long as you like.
    Fuzz(fuzz::Options),
    /// Runs libvirtd where there is no service manager.
    #[command(hide = true)]
    LibvirtdParent,
    /// Formatting and clippy, warnings as errors, for the workspace and the eBPF programs.
    Lint,
}

fn main() -> ExitCode {
    let result = match Cli::parse().verb {
        Verb::Setup => setup::run(),
        Verb::Build(options) => build::verb(&options),
        Verb::Test(options) => match test::verb(&options) {
            Ok(true) => Ok(()),
            // It has said so; nothing may follow its last line.
            Ok(false) => return ExitCode::FAILURE,
            Err(error) => Err(error),
        },
        Verb::Bench(options) => bench::verb(&options),
        Verb::Lab(options) => lab::verb(&options),
        Verb::Demo(options) => demo::verb(&options),
        Verb::Fuzz(options) => fuzz::verb(&options),
        Verb::LibvirtdParent => libvirtd::parent(),
        Verb::Lint => lint::verb(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
