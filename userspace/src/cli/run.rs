//! `hotpair run`: the controller.

use std::io::IsTerminal;

use clap::{Args, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

use super::check;
use super::finding::Level;
use super::paint::Paint;
use super::{Exit, Globals, VerbError, complain};
use crate::controller;
use crate::error::chain;

/// Be the controller: run the pairs of the configuration
///
/// Looks at the machine first, as `check` does, and refuses to begin on a failure. Stops on SIGTERM and SIGINT; the data
/// plane and the members go on without it.
#[derive(Debug, Args)]
pub struct Run {
    /// How to write the log
    #[arg(long, value_enum, default_value_t = Log::Text)]
    pub log: Log,
}

/// `--log`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Log {
    /// Lines for people and the journal.
    Text,
    /// An object a line.
    Json,
}

impl Run {
    pub(super) async fn go(self, globals: &Globals) -> Result<Exit, VerbError> {
        let config = globals.load()?;
        log_to_stderr(self.log);
        let failed = |error: std::io::Error| VerbError::Failed(format!("cannot listen for signals: {error}"));
        let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
        let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;

        let findings = check::look(&config).await;
        for finding in findings.findings.iter().filter(|finding| finding.level == Level::Warn) {
            tracing::warn!(check = finding.check, "{}", finding.what);
        }
        if findings.verdict == Level::Fail {
            eprint!("{}", findings.text(Paint::for_stdout(), Level::Fail));
            complain("this machine is not ready; nothing was touched");
            return Ok(Exit::Failed);
        }

        let stop = async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        };
        controller::run(config, stop).await.map_err(|error| VerbError::Failed(chain(&error)))?;
        Ok(Exit::Well)
    }
}

/// `HOTPAIR_LOG` chooses what is logged, in tracing's words: `info` (the default), `debug`, `hotpair::pair=trace`.
fn log_to_stderr(log: Log) {
    let filter = EnvFilter::try_from_env("HOTPAIR_LOG").unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    match log {
        Log::Json => lines.json().init(),
        // The journal has its own times.
        Log::Text if std::env::var_os("JOURNAL_STREAM").is_some() => {
            lines.without_time().with_ansi(false).init();
        }
        Log::Text => lines.with_ansi(std::io::stderr().is_terminal()).init(),
    }
}
