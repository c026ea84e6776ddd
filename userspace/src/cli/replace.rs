//! `hotpair replace PAIR`

use clap::Args;

use super::{Exit, Globals, VerbError, ask};

/// Make a new member, in the standby's place unless a slot is named
#[derive(Debug, Args)]
pub struct Replace {
    /// The pair
    pub pair: String,
    /// The place, 0 or 1; the member that serves cannot be replaced
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=1))]
    pub slot: Option<u8>,
}

impl Replace {
    pub(super) async fn go(self, globals: &Globals) -> Result<Exit, VerbError> {
        ask(globals, &self.pair, "replace", self.slot).await
    }
}
