//! `hotpair drill PAIR`: a planned game day. Looks whether the pair is ready, fails it over for real, and says how it
//! went, all seen from the host and through the API alone.

mod ready;
mod report;

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use clap::Args;

use super::finding::{Findings, Level};
use super::paint::Paint;
use super::time::now_ms;
use super::{Exit, Globals, Output, VerbError, complain, is_meant, print, print_json};
use crate::api::client::Client;
use crate::api::types::{Protection, Record, RecordKind, Show};
use report::{Failover, Report};

/// How long the first answer after the failover is waited for, and how long packets are counted before.
const ANSWER: Duration = Duration::from_secs(2);
const COUNT: Duration = Duration::from_millis(500);

/// Fail over for real, on a good day: looks whether the pair is ready, then measures how it went
///
/// The standby serves at once, the primary is fenced and replaced, and what it had not answered yet is lost: as in a real
/// failure, which this is to show that you would survive. Ends when the pair is protected again.
#[derive(Debug, Args)]
pub struct Drill {
    /// The pair
    pub pair: String,
    /// Do it, without asking; needed where there is no terminal to ask at
    #[arg(long, short)]
    pub yes: bool,
    /// How long the pair may take until it is protected again
    #[arg(long, value_name = "TIME", default_value = "5min", value_parser = humantime::parse_duration)]
    pub wait: Duration,
    /// text or json
    #[arg(short, long, value_enum, default_value_t = Output::Text, hide_possible_values = true)]
    pub output: Output,
}

impl Drill {
    pub(super) async fn go(self, globals: &Globals) -> Result<Exit, VerbError> {
        let client = globals.client()?;
        let status = client.status().await?;
        let before = client.show(&self.pair).await?;
        let history = client.history(Some(&self.pair), 1000).await?;
        let rate = packets_per_second(&client, &self.pair).await?;
        let readiness = Findings::of(ready::look(&status, &before, &history, rate));

        let mut report = Report::new(&before, now_ms(), rate, readiness);
        let ready = report.readiness.verdict < Level::Fail;
        if self.output == Output::Text {
            print(&report.readiness.text(Paint::for_stdout(), Level::Ok));
            print(&ready::plan(&before, &history));
        }
        if !ready {
            complain("the pair is not ready for a drill; nothing was done");
            return self.end(&report, Exit::Failed);
        }
        if !self.yes {
            let asked = std::io::stdin().is_terminal();
            if !asked || !is_meant(&format!("The primary of {} will be ended and replaced.", self.pair)) {
                complain(if asked {
                    "nothing was done"
                } else {
                    "nothing was done: say --yes if this is meant"
                });
                return self.end(&report, if asked { Exit::Failed } else { Exit::Usage });
            }
        }
        let began = Instant::now();
        report.failover = Some(self.fail_over(&client, before.pair.epoch, began).await?);
        let after = self.wait_protected(&client, began, &mut report).await?;
        if self.output == Output::Text {
            print(&report.text());
        }
        self.end(&report, after.into())
    }

    fn end(&self, report: &Report, exit: Exit) -> Result<Exit, VerbError> {
        if self.output == Output::Json {
            print_json(report)?;
        }
        Ok(exit)
    }

    /// Asks for the failover of this epoch's primary, and watches until somebody is answered by the other.
    async fn fail_over(&self, client: &Client, epoch: u64, began: Instant) -> Result<Failover, VerbError> {
        let watching = tokio::spawn(first_answer(client.clone(), self.pair.clone(), epoch, began));
        let done = match client.request(&self.pair, "failover", None).await {
            Ok(done) => done,
            Err(error) => {
                watching.abort();
                return Err(error.into());
            }
        };
        let answered = watching.await.unwrap_or_default();
        let history = client.history(Some(&self.pair), 100).await?;
        let record = history
            .into_iter()
            .find(|record| record.kind == RecordKind::Failover && record.epoch_after <= done.epoch)
            .filter(|record: &Record| record.detected_by.as_deref() == Some("operator"))
            .ok_or_else(|| {
                VerbError::Failed(format!(
                    "the failover of {} was granted ({}) but is not in the history: look at `hotpair history {}`",
                    self.pair, done.text, self.pair
                ))
            })?;
        Ok(Failover::new(&record, answered))
    }

    /// Waits until the pair is protected again, by its history; how it is at the end.
    async fn wait_protected(
        &self,
        client: &Client,
        began: Instant,
        report: &mut Report,
    ) -> Result<Protection, VerbError> {
        let failed_over = report.failover.as_ref().map_or(0, |failover| failover.at_ms);
        loop {
            let show = client.show(&self.pair).await?;
            report.see(&show);
            if show.pair.protection == Protection::Protected {
                let history = client.history(Some(&self.pair), 100).await?;
                let back = history.iter().take_while(|record| record.at_ms >= failed_over);
                if let Some(back) = back.filter(|record| record.kind == RecordKind::Protected).last() {
                    report.protected_again(Duration::from_millis(back.at_ms - failed_over));
                    return Ok(Protection::Protected);
                }
            }
            if began.elapsed() > self.wait {
                // Protected without a word of it in the history: not what was waited for.
                return Ok(show.pair.protection.max(Protection::Unprotected));
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

/// Packets of the serving member that have left towards clients.
fn sent(show: &Show) -> u64 {
    show.counters.iter().find(|count| count.name == "active_sent").map_or(0, |count| count.packets)
}

async fn packets_per_second(client: &Client, pair: &str) -> Result<f64, VerbError> {
    let (start, first) = (Instant::now(), sent(&client.show(pair).await?));
    tokio::time::sleep(COUNT).await;
    let last = sent(&client.show(pair).await?);
    Ok(last.saturating_sub(first) as f64 / start.elapsed().as_secs_f64())
}

/// When a packet of the new primary has left for sure, counted from `began`: the counter has risen after the epoch has.
/// Nothing of the old primary is counted any more then, because the word that raises the epoch mutes it.
async fn first_answer(client: Client, pair: String, old: u64, began: Instant) -> Option<Duration> {
    let mut baseline = None;
    while began.elapsed() < ANSWER {
        let show = client.show(&pair).await.ok()?;
        if show.pair.epoch > old {
            let sent = sent(&show);
            match baseline {
                None => baseline = Some(sent),
                Some(baseline) if sent > baseline => return Some(began.elapsed()),
                Some(_) => {}
            }
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    None
}
