//! `hotpair check`: everything that would keep the controller from running well, before anything is touched.
//!
//! It only looks. `run` looks in the same way first, and refuses what this calls a failure.

mod links;
mod machine;
mod members;

use clap::Args;
use serde::Serialize;

use super::paint::{Meaning, Paint};
use super::{Exit, Globals, Output, VerbError, print, print_json};
use crate::config::Config;

/// Read the configuration and look at this machine, without touching anything
#[derive(Debug, Args)]
pub struct Check {
    /// text or json
    #[arg(short, long, value_enum, default_value_t = Output::Text, hide_possible_values = true)]
    pub output: Output,
}

/// How well something is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Level {
    Ok,
    Warn,
    Fail,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// What was looked at: `uplink`, `kernel`, `pair web: image`.
    pub(super) check: String,
    pub(super) level: Level,
    /// What was seen.
    pub(super) what: String,
    /// What to do about it; none if it is well.
    pub(super) way_out: Option<String>,
}

impl Finding {
    pub(super) fn ok(check: &str, what: impl Into<String>) -> Finding {
        Finding { check: check.to_owned(), level: Level::Ok, what: what.into(), way_out: None }
    }

    pub(super) fn warn(check: &str, what: impl Into<String>, way_out: impl Into<String>) -> Finding {
        Finding {
            check: check.to_owned(),
            level: Level::Warn,
            what: what.into(),
            way_out: Some(way_out.into()),
        }
    }

    pub(super) fn fail(check: &str, what: impl Into<String>, way_out: impl Into<String>) -> Finding {
        Finding {
            check: check.to_owned(),
            level: Level::Fail,
            what: what.into(),
            way_out: Some(way_out.into()),
        }
    }
}

/// Everything that was looked at.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Findings {
    /// The worst of them.
    pub(super) verdict: Level,
    pub(super) findings: Vec<Finding>,
}

/// Looks at everything.
pub(super) async fn look(config: &Config) -> Findings {
    let pairs: Vec<&str> = config.pairs.iter().map(|pair| pair.name.as_str()).collect();
    let mut findings =
        vec![Finding::ok("configuration", format!("{}: {}", config.path.display(), pairs.join(", ")))];
    findings.extend(machine::look(config));
    findings.extend(links::look(config).await);
    findings.extend(members::look(config).await);
    let verdict = findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok);
    Findings { verdict, findings }
}

impl Check {
    pub(super) async fn go(self, globals: &Globals) -> Result<Exit, VerbError> {
        let findings = look(&globals.load()?).await;
        match self.output {
            Output::Json => print_json(&findings)?,
            Output::Text => print(&findings.text(Paint::for_stdout(), Level::Ok)),
        }
        Ok(match findings.verdict {
            Level::Ok => Exit::Well,
            Level::Warn => Exit::Degraded,
            Level::Fail => Exit::Failed,
        })
    }
}

impl Findings {
    /// As text: what is at least this bad.
    pub(super) fn text(&self, paint: Paint, at_least: Level) -> String {
        let mut out = String::new();
        let shown = |finding: &&Finding| finding.level >= at_least;
        let width = self
            .findings
            .iter()
            .filter(shown)
            .map(|finding| finding.check.chars().count())
            .max()
            .unwrap_or(0);
        for finding in self.findings.iter().filter(shown) {
            let (word, meaning) = match finding.level {
                Level::Ok => ("OK  ", Meaning::Good),
                Level::Warn => ("WARN", Meaning::Warning),
                Level::Fail => ("FAIL", Meaning::Bad),
            };
            out += &format!("{}  {:<width$}  {}\n", paint.paint(word, meaning), finding.check, finding.what);
            if let Some(way_out) = &finding.way_out {
                out += &format!("      {:<width$}  -> {way_out}\n", "");
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_finding_that_is_not_well_comes_with_a_way_out() {
        let findings = Findings {
            verdict: Level::Fail,
            findings: vec![
                Finding::ok("kernel", "6.18"),
                Finding::fail("uplink", "there is no eth7", "`ip link` lists them"),
            ],
        };
        assert_eq!(
            findings.text(Paint::OFF, Level::Ok),
            "OK    kernel  6.18\nFAIL  uplink  there is no eth7\n              -> `ip link` lists them\n"
        );
        assert!(!findings.text(Paint::OFF, Level::Warn).contains("kernel"));
    }
}
