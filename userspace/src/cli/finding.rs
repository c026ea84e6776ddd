//! What was looked at, how well it is, and what to do about it: of `check`, `doctor` and `drill`.

use serde::Serialize;

use super::Exit;
use super::paint::{Meaning, Paint};

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

impl From<Level> for Exit {
    fn from(level: Level) -> Exit {
        match level {
            Level::Ok => Exit::Well,
            Level::Warn => Exit::Degraded,
            Level::Fail => Exit::Failed,
        }
    }
}

impl Findings {
    pub(super) fn of(findings: Vec<Finding>) -> Findings {
        let verdict = findings.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok);
        Findings { verdict, findings }
    }

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
