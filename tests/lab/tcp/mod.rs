//! Connections of real Linux TCP stacks through failovers: what each test needs.

mod behind;
mod bulk;
pub(crate) mod chain;
mod foretold;
pub(crate) mod forgotten;
mod latch;
mod level;
mod loss;
mod opening;
mod rebooted;
mod redis;
mod shapes;
mod standby;
mod told;
mod ungated;
mod visits;
mod waiting;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hotpair_tests::lab::{Lab, Machine};
use hotpair_tests::stream::Conversation;
use hotpair_tests::wait::wait_until;

use crate::takeover::{open, patient};

/// `cargo xtask test --soak` takes its time.
pub(crate) fn soaking() -> bool {
    std::env::var_os("HOTPAIR_SOAK").is_some()
}

/// Kills the primary, and waits until the other member serves.
fn kill_primary(lab: &Lab) -> Result<()> {
    taken_over(lab, Machine::kill)
}

/// Does this to the primary, and waits until the other member serves.
fn taken_over(lab: &Lab, fault: impl FnOnce(&Machine) -> Result<()>) -> Result<()> {
    let old = lab.primary()?;
    fault(&old)?;
    lab.wait_pair("the survivor to serve", |pair| pair.primary == Some(old.slot() ^ 1))?;
    Ok(())
}

/// A client that repeats a round over one connection until it is told to stop.
struct Busy {
    what: String,
    stop: Arc<AtomicBool>,
    rounds: Arc<AtomicU64>,
    thread: Option<JoinHandle<Result<Conversation>>>,
}

impl Busy {
    /// Begins.
    fn start(
        what: &str,
        mut conversation: Conversation,
        mut round: impl FnMut(&mut Conversation) -> Result<()> + Send + 'static,
    ) -> Busy {
        let (stop, rounds) = (Arc::<AtomicBool>::default(), Arc::<AtomicU64>::default());
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&rounds));
        let thread = thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                round(&mut conversation)
                    .with_context(|| format!("in round {}", counted.load(Ordering::Relaxed)))?;
                counted.fetch_add(1, Ordering::Relaxed);
            }
            Ok(conversation)
        });
        Busy { what: what.to_owned(), stop, rounds, thread: Some(thread) }
    }

    /// Waits until it has done so many more rounds, or has failed.
    fn goes_on(&self, rounds: u64) -> Result<()> {
        let wanted = self.rounds.load(Ordering::Relaxed) + rounds;
        wait_until(&format!("{} to go on", self.what), Duration::from_secs(40), || {
            self.rounds.load(Ordering::Relaxed) >= wanted
                || self.thread.as_ref().is_none_or(JoinHandle::is_finished)
        })
    }

    /// Sees the connection reset, soon, and no other end of it.
    fn must_be_reset(mut self) -> Result<()> {
        let thread = self.thread.take().context("it runs")?;
        wait_until(&format!("{} to be reset", self.what), Duration::from_secs(10), || thread.is_finished())?;
        let error = thread.join().expect("no panic").err().context("it goes on")?;
        ensure!(format!("{error:#}").contains("reset"), "{}: {error:#}", self.what);
        Ok(())
    }

    /// Ends after the present round. The longest gap it has seen.
    fn stop(self) -> Result<Duration> {
        let what = self.what.clone();
        let (mut conversation, rounds) = self.end()?;
        let gap = conversation.take_gap();
        eprintln!("{what}: {rounds} rounds, longest gap {gap:?}");
        Ok(gap)
    }

    /// The same; the conversation, with the gaps that it remembers, and how many rounds there were.
    fn end(mut self) -> Result<(Conversation, u64)> {
        self.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().context("it runs")?;
        let conversation = thread.join().expect("no panic").with_context(|| self.what.clone())?;
        let rounds = self.rounds.load(Ordering::Relaxed);
        ensure!(rounds > 1, "{}: only {rounds} rounds", self.what);
        Ok((conversation, rounds))
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}
