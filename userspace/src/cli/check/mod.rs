//! `hotpair check`: everything that would keep the controller from running well, before anything is touched.
//!
//! It only looks. `run` looks in the same way first, and refuses what this calls a failure.

pub(super) mod links;
pub(super) mod machine;
pub(super) mod members;

use clap::Args;

use super::finding::{Finding, Findings, Level};
use super::paint::Paint;
use super::{Exit, Globals, Output, VerbError, print, print_json};
use crate::config::Config;

/// Read the configuration and look at this machine, without touching anything
#[derive(Debug, Args)]
pub struct Check {
    /// text or json
    #[arg(short, long, value_enum, default_value_t = Output::Text, hide_possible_values = true)]
    pub output: Output,
}

/// Looks at everything.
pub(super) async fn look(config: &Config) -> Findings {
    let pairs: Vec<&str> = config.pairs.iter().map(|pair| pair.name.as_str()).collect();
    let mut findings =
        vec![Finding::ok("configuration", format!("{}: {}", config.path.display(), pairs.join(", ")))];
    findings.extend(machine::look(config));
    findings.extend(links::look(config).await);
    findings.extend(members::look(config).await);
    Findings::of(findings)
}

impl Check {
    pub(super) async fn go(self, globals: &Globals) -> Result<Exit, VerbError> {
        let findings = look(&globals.load()?).await;
        match self.output {
            Output::Json => print_json(&findings)?,
            Output::Text => print(&findings.text(Paint::for_stdout(), Level::Ok)),
        }
        Ok(findings.verdict.into())
    }
}
