//! `hotpair switchover PAIR`

use clap::Args;

use super::{Exit, Globals, VerbError, ask};

/// Move the entry addresses to the standby, planned: connections that `flows` calls in_sync go on; refused if the standby is not ready
#[derive(Debug, Args)]
pub struct Switchover {
    /// The pair
    pub pair: String,
}

impl Switchover {
    pub(super) async fn go(self, globals: &Globals) -> Result<Exit, VerbError> {
        ask(globals, &self.pair, "switchover", None).await
    }
}
