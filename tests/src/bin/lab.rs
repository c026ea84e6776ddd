//! `hotpair-lab`: a lab to try things in by hand. `cargo xtask lab` builds and runs it.

use std::os::unix::process::CommandExt as _;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::{Parser, Subcommand};
use hotpair_tests::lab::{CLIENT_V4, ENTRY, HOST_V4, Lab, PAIR};
use hotpair_tests::netns::Netns;

/// A hotpair site of network namespaces, to try things in.
#[derive(Parser)]
#[command(name = "cargo xtask lab", disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    verb: Option<Verb>,
    /// Let the host probe instead of the members' agents beat.
    #[arg(long)]
    probe: bool,
    /// Between two heartbeats.
    #[arg(long, default_value = "5ms", value_parser = humantime::parse_duration)]
    interval: Duration,
    /// A member silent for this long has failed.
    #[arg(long, default_value = "50ms", value_parser = humantime::parse_duration)]
    timeout: Duration,
    /// Keep the volumes of failed members.
    #[arg(long)]
    keep_volumes: bool,
}

#[derive(Subcommand)]
enum Verb {
    /// Run a command inside the lab that is up: `exec client -- ping 203.0.113.10`, `exec host -- hotpair status`.
    Exec {
        /// `client`, `host`, or a member's slot: `0`, `1`.
        place: String,
        /// The command and its arguments.
        #[arg(trailing_var_arg = true, required = true)]
        command: Vec<String>,
    },
}

fn main() -> Result<()> {
    let cli = Cli::parse();
    match cli.verb {
        Some(Verb::Exec { place, command }) => exec(&place, &command),
        None => up(&cli),
    }
}

fn up(cli: &Cli) -> Result<()> {
    let mut builder = Lab::builder().quiet().heartbeat(cli.interval, cli.timeout);
    if cli.probe {
        builder = builder.probe();
    }
    if cli.keep_volumes {
        builder = builder.keep_volumes();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let lab = builder.start()?;
    let pair = lab.wait_protected()?;
    let id = lab.id();
    let primary = pair.primary.unwrap_or_default();
    let machine = lab.machine(primary)?;
    println!(
        "\
The lab {id} is up; the pair {PAIR:?} is protected, slot {primary} serves.

  client {CLIENT_V4} ── uplink ── host {HOST_V4} ── members in slot 0 and 1; entry {} and {}

Try, in another terminal:
  cargo xtask lab exec client -- curl -s http://{}/                            who answers
  cargo xtask lab exec client -- hotpair-load udp {}:7 --duration 10s --json /dev/null
                                                    numbered datagrams; break things meanwhile
  cargo xtask lab exec host -- hotpair status                     protected or not
  cargo xtask lab exec host -- hotpair switchover {PAIR}
  cargo xtask lab exec {primary} -- ip address                              inside the member in slot {primary}
  kill -9 {:<48}the primary's machine dies

Files: {} (hotpair.toml, log/, volumes/)
Ctrl-C ends it and removes everything. More in docs/lab.md.",
        ENTRY[0],
        ENTRY[1],
        ENTRY[0],
        ENTRY[0],
        machine.pid(),
        lab.dir().display(),
    );
    runtime.block_on(async {
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
        tokio::select! {
            result = tokio::signal::ctrl_c() => result,
            _ = terminate.recv() => Ok(()),
        }
    })?;
    eprintln!("removing the lab {id}");
    drop(lab);
    Ok(())
}

/// Replaces this process by the command, inside the lab that was started last.
fn exec(place: &str, command: &[String]) -> Result<()> {
    let (dir, id) = Lab::latest().context("no lab is up; `cargo xtask lab` starts one")?;
    let (program, arguments) = command.split_first().context("no command")?;
    let mut path = std::env::var_os("PATH").unwrap_or_default();
    if let Some(own) = std::env::current_exe()?.parent() {
        path = format!("{}:{}", own.display(), path.to_string_lossy()).into();
    }
    // The lab's controller, not the machine's.
    let config = match program.as_str() {
        "hotpair" => vec!["--config".to_string(), dir.join("hotpair.toml").display().to_string()],
        _ => Vec::new(),
    };
    let netns = match place {
        "client" | "host" => Netns::path_of(&format!("hplab-{id}-{place}")),
        "0" | "1" => format!("/proc/{}/ns/net", Lab::machine_in(&dir, place.parse()?)?.pid()).into(),
        other => bail!("{other:?} is no place of a lab: it is `client`, `host`, `0` or `1`"),
    };
    let error = std::process::Command::new("nsenter")
        .arg(format!("--net={}", netns.display()))
        .arg("--")
        .arg(program)
        .args(arguments)
        .args(config)
        .env("PATH", path)
        .exec();
    Err(error).context("cannot run nsenter")
}
