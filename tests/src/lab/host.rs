//! The host's side of a lab.

use std::process::Command;

use anyhow::Result;

use crate::netns::Netns;

/// Where the controller and the taps are.
#[derive(Clone, Copy)]
pub struct Host<'a> {
    pub(super) netns: &'a Netns,
}

impl<'a> Host<'a> {
    /// Its namespace.
    #[must_use]
    pub fn netns(&self) -> &'a Netns {
        self.netns
    }

    /// Runs lines of `ip` here, e.g. `link set hpwebs0 down`.
    ///
    /// # Errors
    /// With ip's own words.
    pub fn ip(&self, lines: &str) -> Result<()> {
        self.netns.ip(lines)
    }

    /// A command that will run here.
    #[must_use]
    pub fn command(&self, program: &str) -> Command {
        self.netns.command(program)
    }
}
