//! The `hotpair-guest` command.

use std::process::ExitCode;

use clap::Parser;
use hotpair_guest::options::{Cli, Options, Output, Verb};
use hotpair_guest::{agent, status};

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.verb {
        None => run(cli.options),
        Some(Verb::Status { status_file, output }) => show(&status_file, output),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut text = error.to_string();
            let mut source = error.source();
            while let Some(cause) = source {
                text = format!("{text}: {cause}");
                source = cause.source();
            }
            hotpair_guest::warning!("{text}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: Options) -> Result<(), Box<dyn std::error::Error>> {
    // One thread for everything but the heartbeats, which have their own.
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(agent::run(options))?;
    Ok(())
}

fn show(path: &std::path::Path, output: Output) -> Result<(), Box<dyn std::error::Error>> {
    let status = status::read(path)?;
    match output {
        Output::Text => print!("{}", status.text()),
        Output::Json => println!("{}", serde_json::to_string_pretty(&status)?),
    }
    Ok(())
}
