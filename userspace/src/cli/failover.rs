//! `hotpair failover PAIR`

use std::io::IsTerminal;

use clap::Args;

use super::{Exit, Globals, VerbError, ask, is_meant};

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
        let question =
            format!("The primary of {} is treated as failed: fenced, its storage released.", self.pair);
        // A script has said what it means by running the verb.
        if !self.yes && std::io::stdin().is_terminal() && !is_meant(&question) {
            return Err(VerbError::Failed("nothing was done".to_owned()));
        }
        ask(globals, &self.pair, "failover", None).await
    }
}
