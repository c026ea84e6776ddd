//! The verbs, one file each. They read arguments, ask or start the controller, and print; they decide nothing.
//!
//! Exit codes are the same for all of them: see [`Exit`].

mod check;
mod cleanup;
mod completions;
mod doctor;
mod drill;
mod failover;
mod finding;
mod flows;
mod history;
mod man;
mod paint;
mod pause;
mod replace;
mod resume;
mod run;
mod show;
mod status;
mod switchover;
mod time;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};

use crate::api::client::{Client, ClientError};
use crate::api::types::Protection;
use crate::config::{self, Config, ConfigErrors};

/// Where the configuration is unless `--config` says otherwise.
pub const CONFIG: &str = "/etc/hotpair/hotpair.toml";
/// Where the API's socket is unless the configuration or `--socket` says otherwise.
pub const SOCKET: &str = "/run/hotpair/api.sock";

/// Keeps a service alive when the virtual machine that serves it dies.
#[derive(Debug, Parser)]
#[command(name = "hotpair", version, arg_required_else_help = true, after_help = EXIT_CODES)]
pub struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
    /// For every verb.
    #[command(flatten)]
    pub globals: Globals,
}

const EXIT_CODES: &str = "Exit codes: 0 well, 1 degraded (unprotected, or a warning), 2 failed (down, refused, or an \
                          error), 3 usage or configuration refused, 4 controller unreachable.";

/// For every verb.
#[derive(Clone, Debug, Args)]
pub struct Globals {
    /// The configuration [default: /etc/hotpair/hotpair.toml]
    #[arg(long, short, global = true, value_name = "FILE", env = "HOTPAIR_CONFIG")]
    pub config: Option<PathBuf>,
    /// The controller's socket [default: api.sock in the configuration's host.run_dir, or /run/hotpair/api.sock]
    #[arg(long, global = true, value_name = "PATH", env = "HOTPAIR_SOCKET")]
    pub socket: Option<PathBuf>,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Be the controller: run the pairs of the configuration
    Run(run::Run),
    /// Read the configuration and look at this machine, without touching anything
    Check(check::Check),
    /// Look at this machine closely: kernel, NIC, clock, disks, hypervisor, and how punctual it is
    Doctor(doctor::Doctor),
    /// Show how everything is: protected or not, who serves, since when, what happened last
    Status(status::Status),
    /// Show one pair with its settings and counters
    Show(show::Show),
    /// Show a pair's TCP connections, and which of them would go on through a failover
    Flows(flows::Flows),
    /// Show what happened
    History(history::History),
    /// Move the entry addresses to the standby, planned: connections that `flows` calls in_sync go on; refused if the standby is not ready
    Switchover(switchover::Switchover),
    /// Treat the primary as failed: the standby serves at once, the primary is fenced and replaced
    Failover(failover::Failover),
    /// Fail over for real, on a good day: looks whether the pair is ready, then measures how it went
    Drill(drill::Drill),
    /// Turn automatic failover and replacement off, for maintenance
    Pause(pause::Pause),
    /// Turn automatic failover and replacement on again
    Resume(resume::Resume),
    /// Make a new member, in the standby's place unless a slot is named
    Replace(replace::Replace),
    /// Remove the data plane and the taps from this host; refused while a controller runs
    Cleanup(cleanup::Cleanup),
    /// Print a completion script for a shell
    #[command(hide = true)]
    Completions(completions::Completions),
    /// Print the manual page, or write all of them into a directory
    #[command(hide = true)]
    Man(man::Man),
}

/// `-o`, of verbs that read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Output {
    /// For people.
    Text,
    /// For programs; docs/cli.md has the schema.
    Json,
}

/// How a verb ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    /// Well.
    Well = 0,
    /// Unprotected, or warnings.
    Degraded = 1,
    /// Down, refused, or an error.
    Failed = 2,
    /// The arguments or the configuration make no sense.
    Usage = 3,
    /// No controller to ask.
    Unreachable = 4,
}

impl From<Protection> for Exit {
    fn from(protection: Protection) -> Exit {
        match protection {
            Protection::Protected => Exit::Well,
            Protection::Unprotected => Exit::Degraded,
            Protection::Down => Exit::Failed,
        }
    }
}

/// Why a verb did not do what it should, with the exit code that follows.
#[derive(Debug, thiserror::Error)]
pub enum VerbError {
    /// The configuration is refused.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The controller cannot be asked, or says no.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Anything else, said in full.
    #[error("{0}")]
    Failed(String),
}

impl VerbError {
    /// The exit code.
    #[must_use]
    pub fn exit(&self) -> Exit {
        match self {
            VerbError::Config(_) => Exit::Usage,
            VerbError::Client(ClientError::Refused { status: 400 | 404, .. }) => Exit::Usage,
            VerbError::Client(ClientError::Refused { .. }) | VerbError::Failed(_) => Exit::Failed,
            VerbError::Client(_) => Exit::Unreachable,
        }
    }
}

impl Globals {
    /// The configuration, whole and checked.
    fn load(&self) -> Result<Config, ConfigErrors> {
        config::load(self.config.as_deref().unwrap_or(CONFIG.as_ref()))
    }

    /// The controller to ask. A configuration that is not named and not there, or not readable by this user, is no
    /// obstacle: the controller is then where it is by default.
    fn client(&self) -> Result<Client, ConfigErrors> {
        let socket = match &self.socket {
            Some(socket) => socket.clone(),
            None => match self.load() {
                Ok(config) => config.host.run_dir.join("api.sock"),
                Err(errors) if self.config.is_some() => return Err(errors),
                Err(_) => PathBuf::from(SOCKET),
            },
        };
        Ok(Client::new(&socket))
    }
}

/// The whole command: arguments in, exit code out.
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are asked for, and go to standard output.
            let exit = if error.use_stderr() { Exit::Usage } else { Exit::Well };
            let _ = error.print();
            return ExitCode::from(exit as u8);
        }
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            complain(&format!("cannot start: {error}"));
            return ExitCode::from(Exit::Failed as u8);
        }
    };
    let done = runtime.block_on(cli.verb.go(&cli.globals));
    let exit = done.unwrap_or_else(|error| {
        complain(&error.to_string());
        if let VerbError::Client(ClientError::Refused { refusal, .. }) = &error
            && !refusal.way_out.is_empty()
        {
            eprintln!("    {}", refusal.way_out);
        }
        error.exit()
    });
    end(exit)
}

/// Ends the process without waiting for its threads, one of which may hang in the hypervisor's library; and without the
/// destructors of C libraries, which would run while threads still use what they destroy (libvirt's own event loop never
/// ends): a command that had done its work then ended with SIGSEGV now and then.
fn end(exit: Exit) -> ! {
    use std::io::Write;
    let _ = std::io::stdout().flush();
    let _ = std::io::stderr().flush();
    // SAFETY: _exit(2) has no preconditions.
    unsafe { libc::_exit(exit as i32) }
}

impl Verb {
    async fn go(self, globals: &Globals) -> Result<Exit, VerbError> {
        match self {
            Verb::Run(verb) => verb.go(globals).await,
            Verb::Check(verb) => verb.go(globals).await,
            Verb::Doctor(verb) => verb.go(globals).await,
            Verb::Status(verb) => verb.go(globals).await,
            Verb::Show(verb) => verb.go(globals).await,
            Verb::Flows(verb) => verb.go(globals).await,
            Verb::History(verb) => verb.go(globals).await,
            Verb::Switchover(verb) => verb.go(globals).await,
            Verb::Failover(verb) => verb.go(globals).await,
            Verb::Drill(verb) => verb.go(globals).await,
            Verb::Pause(verb) => verb.go(globals).await,
            Verb::Resume(verb) => verb.go(globals).await,
            Verb::Replace(verb) => verb.go(globals).await,
            Verb::Cleanup(verb) => verb.go(globals).await,
            Verb::Completions(verb) => verb.go(),
            Verb::Man(verb) => verb.go(),
        }
    }
}

/// The command as clap knows it: for the manual, the completions and the tests.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

fn complain(text: &str) {
    eprintln!("hotpair: {text}");
}

/// Prints to standard output. A reader that has gone away (`| head`) is no error.
fn print(text: &str) {
    use std::io::Write;
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// Prints something as JSON.
fn print_json<T: serde::Serialize>(value: &T) -> Result<(), VerbError> {
    let text = serde_json::to_string_pretty(value).map_err(|error| VerbError::Failed(error.to_string()))?;
    print(&(text + "\n"));
    Ok(())
}

/// Asks the person at the terminal whether something is meant.
fn is_meant(question: &str) -> bool {
    use std::io::{BufRead, Write};
    eprint!("{question} Go on? [y/N] ");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}

/// Asks the controller for something and prints what it did.
async fn ask(globals: &Globals, pair: &str, what: &str, slot: Option<u8>) -> Result<Exit, VerbError> {
    let done = globals.client()?.request(pair, what, slot).await?;
    print(&format!("{} (epoch {})\n", done.text, done.epoch));
    Ok(Exit::Well)
}

/// Asks for something to be done with one pair, or with each. One refusal does not keep it from the others.
async fn ask_each(globals: &Globals, pair: Option<String>, what: &str) -> Result<Exit, VerbError> {
    if let Some(pair) = pair {
        return ask(globals, &pair, what, None).await;
    }
    let mut exit = Exit::Well;
    for pair in globals.client()?.status().await?.pairs {
        match ask(globals, &pair.name, what, None).await {
            Ok(_) => {}
            Err(error @ VerbError::Client(ClientError::Refused { .. })) => {
                complain(&error.to_string());
                exit = Exit::Failed;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(exit)
}
