//! `hotpair pause [PAIR]`

use clap::Args;

use super::{Exit, Globals, VerbError, ask_each};

/// Turn automatic failover and replacement off, for maintenance
#[derive(Debug, Args)]
pub struct Pause {
    /// The pair; all of them if none is named
    pub pair: Option<String>,
}

impl Pause {
    pub(super) async fn go(self, globals: &Globals) -> Result<Exit, VerbError> {
        ask_each(globals, self.pair, "pause").await
    }
}
