//! `hotpair-lab-vm`: a member of a lab's pair. See [`hotpair_tests::vm`].

use std::process::ExitCode;

use clap::Parser;

/// A "virtual machine" for labs: a process with a network namespace behind a tap.
#[derive(Parser)]
#[command(name = "hotpair-lab-vm", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    verb: hotpair_tests::vm::Verb,
}

fn main() -> ExitCode {
    hotpair_tests::vm::run(&Cli::parse().verb).unwrap_or_else(|error| {
        eprintln!("{error:#}");
        ExitCode::from(2)
    })
}
