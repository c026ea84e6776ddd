//! The local health check: looks at the service the way a client would, and turns what it sees into a state.

mod command;
mod connect;
mod judgement;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use hotpair_abi::heartbeat::State;
use tokio::time::MissedTickBehavior;

pub use connect::Target;
pub use judgement::{Health, Judgement};

use crate::vitals::Vitals;
use crate::{info, notice, warning};

/// A way to find out whether the service is well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Check {
    /// A TCP connection opens.
    Tcp(Target),
    /// A GET is answered with 2xx or 3xx.
    Http {
        /// Whom to ask.
        target: Target,
        /// What to ask for, beginning with a slash.
        path: String,
    },
    /// A shell command exits with 0.
    Command(String),
}

impl std::str::FromStr for Check {
    type Err = String;

    fn from_str(text: &str) -> Result<Check, String> {
        match text.split_once(':') {
            Some(("tcp", target)) => Ok(Check::Tcp(target.parse()?)),
            Some(("http", url)) => {
                let (target, path) = connect::split_url(url)?;
                Ok(Check::Http { target, path })
            }
            Some(("cmd", command)) if !command.trim().is_empty() => Ok(Check::Command(command.to_owned())),
            _ => {
                Err("a check is tcp:PORT, tcp:ADDRESS:PORT, http:ADDRESS:PORT/PATH or cmd:COMMAND".to_owned())
            }
        }
    }
}

impl std::fmt::Display for Check {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Check::Tcp(target) => write!(f, "tcp:{target}"),
            Check::Http { target, path } => write!(f, "http:{target}{path}"),
            Check::Command(command) => write!(f, "cmd:{command}"),
        }
    }
}

impl Check {
    /// Looks once. `Err` says what was seen instead of a healthy service.
    async fn look(&self, timeout: Duration) -> Result<(), String> {
        let look = async {
            match self {
                Check::Tcp(target) => connect::open(*target).await.map(drop),
                Check::Http { target, path } => connect::get(*target, path).await.map(drop),
                Check::Command(command) => command::run(command).await,
            }
        };
        match tokio::time::timeout(timeout, look).await {
            Ok(outcome) => outcome,
            Err(_) => Err(format!("no answer within {}", humantime::format_duration(timeout))),
        }
    }
}

/// Asks an HTTP server and returns the body; for `--requests nginx:...`.
pub(crate) async fn get(target: Target, path: &str) -> Result<String, String> {
    connect::get(target, path).await
}

/// Splits ADDRESS:PORT/PATH.
pub(crate) fn split_url(text: &str) -> Result<(Target, String), String> {
    connect::split_url(text)
}

/// How often to look, how long to wait, and what to make of it.
#[derive(Clone, Copy, Debug)]
pub struct Rhythm {
    /// Between two looks.
    pub interval: Duration,
    /// The longest look.
    pub timeout: Duration,
    /// Successes that make a failing service serving.
    pub rise: u32,
    /// Failures that make a serving service failing.
    pub fall: u32,
}

/// Runs all checks for good, each on its own, and keeps the member's state.
pub async fn watch(checks: Vec<Check>, rhythm: Rhythm, vitals: Arc<Vitals>) {
    let judgements = Arc::new(Mutex::new(vec![Judgement::new(rhythm.rise, rhythm.fall); checks.len()]));
    let mut all = tokio::task::JoinSet::new();
    for (index, check) in checks.into_iter().enumerate() {
        all.spawn(watch_one(index, check, rhythm, Arc::clone(&judgements), Arc::clone(&vitals)));
    }
    all.join_all().await;
}

async fn watch_one(
    index: usize,
    check: Check,
    rhythm: Rhythm,
    judgements: Arc<Mutex<Vec<Judgement>>>,
    vitals: Arc<Vitals>,
) {
    let mut tick = tokio::time::interval(rhythm.interval);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut said = None;
    loop {
        tick.tick().await;
        let outcome = check.look(rhythm.timeout).await;
        match &outcome {
            Ok(()) if said.take().is_some() => info!("check {check}: well"),
            Err(why) if said.as_ref() != Some(why) => {
                info!("check {check}: {why}");
                said = Some(why.clone());
            }
            _ => {}
        }
        let state = {
            let mut judgements = judgements.lock().unwrap_or_else(PoisonError::into_inner);
            judgements[index].saw(outcome.is_ok());
            judgement::together(&judgements)
        };
        if let Some(before) = vitals.become_state(state) {
            let (now, before) = (state.name(), before.name());
            match (state, outcome) {
                (State::Failing, Err(why)) => warning!("{now} after {before}: check {check}: {why}"),
                _ => notice!("{now} after {before}"),
            }
        }
        // A service that is not up yet is looked at ten times as often: how soon it is seen decides how soon the pair
        // is protected.
        if state == State::Starting {
            tick.reset_after((rhythm.interval / 10).max(Duration::from_millis(10)));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_are_read_and_shown() {
        for (text, shown) in [
            ("tcp:80", "tcp:127.0.0.1:80"),
            ("tcp:[::1]:80", "tcp:[::1]:80"),
            ("tcp:localhost:80", "tcp:127.0.0.1:80"),
            ("http:80", "http:127.0.0.1:80/"),
            ("http:80/health", "http:127.0.0.1:80/health"),
            ("http:10.0.0.1:80/a:b/c", "http:10.0.0.1:80/a:b/c"),
            ("http://localhost:8080/x?y=1", "http:127.0.0.1:8080/x?y=1"),
            ("cmd:redis-cli ping | grep PONG", "cmd:redis-cli ping | grep PONG"),
        ] {
            assert_eq!(text.parse::<Check>().expect(text).to_string(), shown);
        }
        for text in
            ["", "tcp", "tcp:", "tcp:x", "tcp:0", "http:localhost", "http:80/a b", "cmd:", "cmd:  ", "icmp:1"]
        {
            text.parse::<Check>().expect_err(text);
        }
    }
}
