//! `hotpair-load`: numbered requests to an entry address, and what became of each, as JSON.
//!
//! Runs for `--duration` or until SIGINT or SIGTERM, waits for the answers still due, and reports.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use hotpair_tests::load::{Kind, Plan};

/// Keeps numbered load on an address and reports what became of each request.
#[derive(Parser)]
#[command(name = "hotpair-load", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    what: What,
    /// Requests a second [default: udp 1000, http 100, visits 500]
    #[arg(long, global = true)]
    rate: Option<u32>,
    /// How long; until SIGINT or SIGTERM otherwise.
    #[arg(long, global = true, value_parser = humantime::parse_duration)]
    duration: Option<Duration>,
    /// How long an answer is waited for [default: udp 1s, otherwise 5s]
    #[arg(long, global = true, value_parser = humantime::parse_duration)]
    timeout: Option<Duration>,
    /// From which address.
    #[arg(long, global = true)]
    from: Option<IpAddr>,
    /// Where the JSON goes; `-` is standard output.
    #[arg(long, global = true, default_value = "-")]
    json: PathBuf,
}

#[derive(Subcommand)]
enum What {
    /// Datagrams to an echo server.
    Udp {
        /// Address and port.
        to: SocketAddr,
        /// Bytes of payload.
        #[arg(long, default_value_t = 64)]
        size: usize,
    },
    /// GET requests, each on a new connection.
    Http {
        /// Address and port.
        to: SocketAddr,
        /// Path; `{}` in it is replaced by the request's number.
        #[arg(long, default_value = "/")]
        path: String,
    },
    /// Connections to a lab's streams (port 5000) that ask once and are closed, each answered alike by every member.
    Visits {
        /// Address and port.
        to: SocketAddr,
    },
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    let mut plan = match cli.what {
        What::Udp { to, size } => Plan { kind: Kind::Udp { size }, ..Plan::udp(to) },
        What::Http { to, path } => Plan::http(to, &path),
        What::Visits { to } => Plan::visits(to),
    };
    plan.rate = cli.rate.unwrap_or(plan.rate);
    plan.timeout = cli.timeout.unwrap_or(plan.timeout);
    plan.from = cli.from;
    plan.duration = cli.duration;

    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let report = runtime.block_on(async {
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        let load = plan.start()?;
        let mut tick = tokio::time::interval(Duration::from_millis(50));
        while !load.is_over() {
            tokio::select! {
                _ = tick.tick() => {}
                _ = terminate.recv() => break,
                _ = tokio::signal::ctrl_c() => break,
            }
        }
        anyhow::Ok(load.stop())
    })?;
    eprintln!("{}", report.line());
    let json = report.to_json().to_string();
    if cli.json.as_os_str() == "-" {
        println!("{json}");
    } else {
        std::fs::write(&cli.json, json).with_context(|| format!("cannot write {}", cli.json.display()))?;
    }
    Ok(())
}
