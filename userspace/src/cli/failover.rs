//! `hotpair failover PAIR`

use std::io::{BufRead, IsTerminal, Write};

use clap::Args;

use super::{Exit, Globals, VerbError, ask};

/// Treat the primary as failed: the standby serves at once, the primary is fenced and replaced
///
/// What the primary has not answered yet is lost. For planned work there is `switchover`.
#[derive(Debug, Args)]
pub struct Failover {
    /// The pair
    pub pair: String,
    /// Do not ask at the terminal whether this is meant
    #[arg(long, short)]
    pub yes: bool,
}

impl Failover {
    pub(super) async fn go(self, globals: &Globals) -> Result<Exit, VerbError> {
        if !self.yes && std::io::stdin().is_terminal() && !is_meant(&self.pair) {
            return Err(VerbError::Failed("nothing was done".to_owned()));
        }
        ask(globals, &self.pair, "failover", None).await
    }
}

/// Asks the person at the terminal. A script has said what it means by running the verb.
fn is_meant(pair: &str) -> bool {
    eprint!("The primary of {pair} is treated as failed: fenced, its storage released. Go on? [y/N] ");
    let _ = std::io::stderr().flush();
    let mut answer = String::new();
    let read = std::io::stdin().lock().read_line(&mut answer);
    read.is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}
