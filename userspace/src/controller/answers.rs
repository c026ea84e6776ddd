//! What the API is answered from: the engine's word on the pairs, and what of it takes too long for its thread.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;

use super::{PairFacts, Shared, boottime, engine, flows, metrics, report};
use crate::api::server::Answers;
use crate::api::types::{Done, Flows, Record, Refusal, Show, Status};
use crate::pair;

/// What the API is answered from.
#[derive(Clone)]
pub(crate) struct Controller(pub(super) Arc<Shared>);

impl Answers for Controller {
    async fn status(&self) -> Result<Status, Refusal> {
        self.status_of(None).await
    }

    async fn show(&self, name: &str) -> Result<Option<Show>, Refusal> {
        let Some(facts) = self.0.pairs.named(name) else { return Ok(None) };
        match self.status_of(Some(facts)).await?.pairs.pop() {
            Some(pair) => {
                let (shared, facts) = (Arc::clone(&self.0), Arc::clone(facts));
                // The whole table of connections is read.
                aside("show", move || report::show(&shared, &facts, pair)).await?.map(Some)
            }
            None => Ok(None),
        }
    }

    async fn flows(&self, name: &str, limit: usize) -> Result<Option<Flows>, Refusal> {
        if self.0.pairs.named(name).is_none() {
            return Ok(None);
        }
        let (shared, name) = (Arc::clone(&self.0), name.to_owned());
        // The whole table is read.
        aside("flows", move || {
            shared.pairs.named(&name).map(|facts| flows::flows(&shared, facts, limit)).transpose()
        })
        .await?
    }

    fn history(&self, pair: Option<&str>, limit: usize) -> Vec<Record> {
        self.0.history.newest(pair, limit).iter().map(|record| Record::clone(record)).collect()
    }

    async fn metrics(&self) -> Result<String, Refusal> {
        let status = self.status().await?;
        let shared = Arc::clone(&self.0);
        // A system call for every pair, the whole table of connections, and much text.
        aside("metrics", move || {
            let mut packets = Vec::new();
            let ids = shared.pairs.iter().map(|facts| (facts.config.name.clone(), Some(facts.id)));
            for (name, id) in ids.chain([(String::new(), None)]) {
                for (counter, count) in shared.plane.counters(id).unwrap_or_default() {
                    packets.push((name.clone(), counter.name(), count));
                }
            }
            // What cannot be read is not there; the log of the table's tidying says why.
            let sums = flows::sums(&shared).unwrap_or_default();
            shared.meters.text(metrics::Seen { status, packets, sums })
        })
        .await
    }

    fn knows(&self, name: &str) -> bool {
        self.0.pairs.named(name).is_some()
    }

    async fn request(&self, name: &str, request: pair::Request) -> Result<Done, Refusal> {
        let Some(facts) = self.0.pairs.named(name) else {
            return Err(Refusal {
                what: "request".into(),
                why: format!("there is no pair `{name}` on this host"),
                way_out: "`hotpair status` lists the pairs".into(),
            });
        };
        let id = facts.id;
        let (answer, answered) = oneshot::channel();
        self.0.engine.ask(engine::Ask::Request { pair: id, request, answer });
        self.answer("request", answered).await?
    }
}

/// Does something that takes a while: not on a thread that others wait for.
async fn aside<T: Send + 'static>(
    what: &str,
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.map_err(|error| Refusal {
        what: what.to_owned(),
        why: error.to_string(),
        way_out: "look at the controller's log: this is a bug of hotpair's".into(),
    })
}

impl Controller {
    /// The host, with all of its pairs or with one.
    async fn status_of(&self, pair: Option<&Arc<PairFacts>>) -> Result<Status, Refusal> {
        let (answer, answered) = oneshot::channel();
        self.0.engine.ask(engine::Ask::Report(pair.map(|facts| facts.id), answer));
        let snapshots = self.answer("status", answered).await?;
        let now = boottime();
        let tell = |(facts, snapshot): (&Arc<PairFacts>, engine::Snapshot)| {
            report::pair(&self.0, facts, &snapshot.state, snapshot.last_change.as_ref(), now)
        };
        let pairs = match pair {
            Some(facts) => std::iter::once(facts).zip(snapshots).map(tell).collect(),
            None => self.0.pairs.iter().zip(snapshots).map(tell).collect(),
        };
        Ok(report::status(&self.0, pairs))
    }

    /// How many pairs are how well, for next to nothing.
    pub(crate) async fn tally(&self) -> Result<engine::Tally, Refusal> {
        let (answer, answered) = oneshot::channel();
        self.0.engine.ask(engine::Ask::Tally(answer));
        self.answer("tally", answered).await
    }

    async fn answer<T>(&self, what: &str, answered: oneshot::Receiver<T>) -> Result<T, Refusal> {
        match tokio::time::timeout(Duration::from_secs(10), answered).await {
            Ok(Ok(value)) => Ok(value),
            _ => Err(Refusal {
                what: what.to_owned(),
                why: "the controller's engine does not answer".into(),
                way_out: "look at the controller's log, then restart it: the data plane goes on meanwhile"
                    .into(),
            }),
        }
    }
}
