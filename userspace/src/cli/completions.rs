//! `hotpair completions SHELL`, hidden: for packages.

use clap::Args;

use super::{Exit, VerbError, command, print};

/// Print a completion script for a shell
#[derive(Debug, Args)]
pub struct Completions {
    /// bash, elvish, fish, powershell or zsh
    pub shell: clap_complete::Shell,
}

impl Completions {
    #[allow(clippy::unnecessary_wraps, reason = "as every verb")]
    pub(super) fn go(self) -> Result<Exit, VerbError> {
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut command(), "hotpair", &mut script);
        print(&String::from_utf8_lossy(&script));
        Ok(Exit::Well)
    }
}
