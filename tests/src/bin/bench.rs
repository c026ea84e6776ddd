//! The benchmarks, run by `cargo xtask bench NAME`: see `hotpair_tests::bench`.

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Result, ensure};
use clap::{Parser, Subcommand};
use hotpair_tests::bench::{Machine, failover, packets, say, scale, tcp};

/// Measures, side by side with what it is compared with.
#[derive(Parser)]
#[command(name = "hotpair-bench", disable_help_subcommand = true)]
struct Options {
    #[command(subcommand)]
    what: What,
    /// Where `NAME.json` and `NAME.svg` go.
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
    /// What is measured, as git names it.
    #[arg(long, default_value = "unknown")]
    revision: String,
}

#[derive(Subcommand)]
enum What {
    /// Frames a second through the data plane, and through what else could do its work.
    Packets(packets::Options),
    /// What a failover costs a client, beside keepalived.
    Failover(failover::Options),
    /// What many pairs cost.
    Scale(scale::Options),
    /// What carrying TCP connections over costs, and what a failover costs them.
    Tcp(tcp::Options),
    /// A server for `failover`.
    #[command(hide = true)]
    Echo(failover::Echo),
    /// Members for `scale`.
    #[command(hide = true)]
    Beat(scale::Beat),
}

fn main() -> ExitCode {
    match run(&Options::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(options: &Options) -> Result<()> {
    let sheet = match &options.what {
        What::Packets(packets) => packets::run(packets, begin(options)?)?,
        What::Failover(failover) => failover::run(failover, begin(options)?)?,
        What::Scale(scale) => {
            let (sheet, to_the_end) = scale::run(scale, begin(options)?)?;
            sheet.publish(&options.out)?;
            return to_the_end;
        }
        What::Tcp(tcp) => tcp::run(tcp, begin(options)?)?,
        What::Echo(echo) => return failover::echo(echo),
        What::Beat(beat) => return scale::beat(beat),
    };
    sheet.publish(&options.out)
}

/// What every benchmark needs.
fn begin(options: &Options) -> Result<Machine> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "benchmarks make network namespaces and load eBPF programs: run this as root"
    );
    hotpair_tests::interrupt::on_signals()?;
    let machine = Machine::here(&options.revision);
    say(format_args!("revision {}, kernel {}, {}", machine.revision, machine.kernel, machine.cpu));
    Ok(machine)
}
