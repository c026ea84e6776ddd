//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use hotpair_abi::heartbeat::PORT;
use hotpair_abi::{ME_V4, PEER_V4};

use crate::health::Check;
use crate::progress::Source;

/// The agent inside a member of a hotpair: sends heartbeats to the other member, and watches the service.
#[derive(Debug, Parser)]
#[command(name = "hotpair-guest", version, args_conflicts_with_subcommands = true)]
pub struct Cli {
    /// Without a verb: be the agent.
    #[command(subcommand)]
    pub verb: Option<Verb>,
    /// The agent's options.
    #[command(flatten)]
    pub options: Options,
}

/// What else it can do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Show what the running agent says and hears.
    Status {
        /// Where the agent writes its status.
        #[arg(long, default_value = "/run/hotpair-guest/status.json", value_name = "FILE")]
        status_file: PathBuf,
        /// How to show it.
        #[arg(short, long, value_enum, default_value_t = Output::Text)]
        output: Output,
    },
}

/// `-o`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// The status file as it is.
    Json,
}

/// The agent's options.
#[derive(Clone, Debug, Args)]
pub struct Options {
    /// Between two heartbeats, with its unit; 1ms to 1s. The same as `heartbeat.interval` of the pair.
    #[arg(long, default_value = "2ms", value_name = "TIME", value_parser = interval)]
    pub interval: Duration,
    /// What tells that the service is well; may be given more than once, then all must succeed. tcp:PORT or
    /// tcp:ADDRESS:PORT (a connection opens), http:ADDRESS:PORT/PATH (answers 2xx or 3xx), cmd:COMMAND (a shell runs it
    /// and it exits 0). Without one the service counts as serving from the start.
    #[arg(long = "check", value_name = "CHECK")]
    pub checks: Vec<Check>,
    /// Between two runs of a check.
    #[arg(long, default_value = "1s", value_name = "TIME", value_parser = waiting)]
    pub check_interval: Duration,
    /// How long a check may take; longer is a failure.
    #[arg(long, default_value = "1s", value_name = "TIME", value_parser = waiting)]
    pub check_timeout: Duration,
    /// Successes in a row after which a failing service is serving again.
    #[arg(long, default_value_t = 2, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rise: u32,
    /// Failures in a row after which a serving service is failing.
    #[arg(long, default_value_t = 3, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub fall: u32,
    /// Where the count of requests comes from: kernel (TCP connections accepted and UDP datagrams received),
    /// nginx:ADDRESS:PORT/PATH (stub_status), file:PATH (two numbers: processed, in flight), none.
    #[arg(long, default_value = "kernel", value_name = "SOURCE")]
    pub requests: Source,
    /// How long to beat on in state `stopping` after SIGTERM, so that the other member has taken over before this one
    /// goes.
    #[arg(long, default_value = "2s", value_name = "TIME", value_parser = lingering)]
    pub linger: Duration,
    /// Own address.
    #[arg(long, default_value_t = SocketAddr::from((ME_V4, PORT)), value_name = "ADDRESS:PORT")]
    pub bind: SocketAddr,
    /// The other member's address.
    #[arg(long, default_value_t = SocketAddr::from((PEER_V4, PORT)), value_name = "ADDRESS:PORT")]
    pub peer: SocketAddr,
    /// Send heartbeats with this SCHED_FIFO priority; needs CAP_SYS_NICE, goes on without.
    #[arg(long, value_name = "PRIORITY", num_args = 0..=1, default_missing_value = "10",
          value_parser = clap::value_parser!(u8).range(1..=99))]
    pub realtime: Option<u8>,
    /// Written once a second if its directory is there and writable.
    #[arg(long, default_value = "/run/hotpair-guest/status.json", value_name = "FILE")]
    pub status_file: PathBuf,
    /// Use this boot id (hexadecimal) instead of the kernel's: for members that are no VMs and share a kernel.
    #[arg(long, value_name = "HEX", hide = true, value_parser = |text: &str| u64::from_str_radix(text, 16))]
    pub boot_id: Option<u64>,
}

fn duration(text: &str, least: Duration, most: Duration) -> Result<Duration, String> {
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("a time needs its unit: \"{text}ms\" or \"{text}s\""));
    }
    let value = humantime::parse_duration(text)
        .map_err(|error| format!("{error}; a time is written like \"2ms\" or \"1s\""))?;
    if value < least || value > most {
        let (least, most) = (humantime::format_duration(least), humantime::format_duration(most));
        return Err(format!("must be between {least} and {most}"));
    }
    Ok(value)
}

fn interval(text: &str) -> Result<Duration, String> {
    duration(text, Duration::from_millis(1), Duration::from_secs(1))
}

fn waiting(text: &str) -> Result<Duration, String> {
    duration(text, Duration::from_millis(10), Duration::from_secs(3600))
}

fn lingering(text: &str) -> Result<Duration, String> {
    duration(text, Duration::ZERO, Duration::from_secs(60))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(arguments: &[&str]) -> String {
        Cli::try_parse_from(["hotpair-guest"].iter().chain(arguments))
            .expect_err("it should be refused")
            .to_string()
    }

    #[test]
    fn the_defaults_are_the_addresses_of_every_guest() {
        let options = Cli::try_parse_from(["hotpair-guest"]).expect("needs no argument").options;
        assert_eq!(options.bind.to_string(), "169.254.77.1:7077");
        assert_eq!(options.peer.to_string(), "169.254.77.2:7077");
        assert_eq!(options.interval, Duration::from_millis(2));
        assert_eq!(options.linger, Duration::from_secs(2));
    }

    #[test]
    fn a_wrong_option_is_answered_with_the_right_form() {
        for (arguments, expected) in [
            (["--interval", "2"], "a time needs its unit: \"2ms\""),
            (["--interval", "100us"], "must be between 1ms and 1s"),
            (["--interval", "2s"], "must be between 1ms and 1s"),
            (["--interval", "soon"], "a time is written like"),
            (["--linger", "2m"], "must be between 0s and 1m"),
            (["--check", "ping"], "tcp:PORT"),
            (["--check", "tcp:web:80"], "address"),
            (["--check", "http:localhost"], "localhost:PORT"),
            (["--requests", "guess"], "kernel"),
            (["--fall", "0"], "1..=1000"),
            (["--realtime", "100"], "1..=99"),
        ] {
            let text = refusal(&arguments);
            assert!(text.contains(expected), "{arguments:?} was answered with {text}");
        }
    }
}
