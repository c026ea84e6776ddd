//! Visits to a server of streams ([`crate::stream`]): each on a connection of its own, which asks once and is closed, in turn
//! by the client and by the server. Every member gives the same answer.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use super::connection::{book, connect, on_a_thread};
use super::report::By;
use super::{Plan, Shared};
use crate::stream;

/// What a server that closes says before.
const FAREWELL: usize = 64;

pub(super) fn start(plan: &Plan, shared: &Arc<Shared>) -> Result<Vec<JoinHandle<()>>> {
    let (plan, shared) = (plan.clone(), Arc::clone(shared));
    on_a_thread("visits", async move || come_and_go(&plan, &shared).await)
}

async fn come_and_go(plan: &Plan, shared: &Arc<Shared>) {
    let turn_of = |at: Duration| (at.as_secs_f64() * f64::from(plan.rate)) as u64;
    // Whoever was late catches up, but not in one burst (see `udp`): twice as fast.
    let most = (f64::from(plan.rate) * 0.002).ceil() as u64;
    let mut visits = JoinSet::new();
    let (mut turn, mut tick) = (0, tokio::time::interval(Duration::from_millis(1)));
    while !shared.stopping() && plan.duration.is_none_or(|all| shared.began.elapsed() < all) {
        tick.tick().await;
        let due = turn_of(shared.began.elapsed()).min(turn + most);
        while turn < due {
            turn += 1;
            let seq = shared.sent();
            let (plan, shared) = (plan.clone(), Arc::clone(shared));
            visits.spawn(async move { book(&plan, &shared, seq, visit(&plan, seq)).await });
        }
        while visits.try_join_next().is_some() {}
    }
    shared.end();
    while visits.join_next().await.is_some() {}
}

async fn visit(plan: &Plan, seq: u64) -> Result<Option<By>> {
    let mut stream = connect(plan).await?;
    stream.set_nodelay(true)?;
    if seq.is_multiple_of(2) {
        stream.write_all(b"INCR\n").await.context("send")?;
        let mut answer = [0; 2];
        stream.read_exact(&mut answer).await.context("receive")?;
        ensure!(&answer == b"1\n", "answered with {answer:?}");
    } else {
        stream.write_all(format!("BYE {FAREWELL}\n").as_bytes()).await.context("send")?;
        let mut answer = Vec::with_capacity(FAREWELL + 1);
        stream.read_to_end(&mut answer).await.context("receive")?;
        let mut expected = [0; FAREWELL];
        stream::fill(&mut expected, 0);
        ensure!(answer == expected, "answered with {answer:?}");
    }
    Ok(None)
}
