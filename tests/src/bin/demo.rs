//! The demo, run by `cargo xtask demo`: see `hotpair_tests::demo`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use hotpair_tests::demo::{self, Demo, Fault};

/// Two real VMs behind one entry address, load, a fault, and the way back to being protected.
#[derive(Parser)]
#[command(name = "hotpair-demo")]
struct Options {
    /// Directory with the guest's `image.qcow2` and `domain.xml`.
    #[arg(long)]
    guest: PathBuf,
    /// Where `report.json`, `timeline.svg` and the controller's log go.
    #[arg(long)]
    out: PathBuf,
    /// The hotpair program.
    #[arg(long)]
    hotpair: PathBuf,
    /// What is done to the primary: kill, freeze, destroy, agent-failing, panic.
    #[arg(long, default_value = "kill")]
    fault: Fault,
    /// How often.
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// Leave everything running at the end.
    #[arg(long)]
    keep: bool,
    /// Only remove what an earlier demo has left running.
    #[arg(long)]
    clean: bool,
    /// Between two heartbeats.
    #[arg(long, default_value = "10ms", value_parser = humantime::parse_duration)]
    interval: Duration,
    /// A member silent for this long has failed [default: 50ms with KVM, 250ms without]
    #[arg(long, value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let demo = Demo {
        guest: options.guest,
        out: options.out,
        hotpair: options.hotpair,
        fault: options.fault,
        rounds: options.rounds,
        keep: options.keep,
        interval: options.interval,
        timeout: options.timeout.unwrap_or_else(demo::patience),
    };
    if let Err(error) = hotpair_tests::interrupt::on_signals() {
        eprintln!("error: {error:#}");
        return ExitCode::FAILURE;
    }
    let result = if options.clean { demo::clean(&demo) } else { demo::run(&demo).map(drop) };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
