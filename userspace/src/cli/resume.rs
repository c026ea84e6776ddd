//! `hotpair resume [PAIR]`

use clap::Args;

use super::{Exit, Globals, VerbError, ask_each};

/// Turn automatic failover and replacement on again
#[derive(Debug, Args)]
pub struct Resume {
    /// The pair; all of them if none is named
    pub pair: Option<String>,
}

impl Resume {
    pub(super) async fn go(self, globals: &Globals) -> Result<Exit, VerbError> {
        ask_each(globals, self.pair, "resume").await
    }
}
