//! Visits to a server of streams ([`crate::stream`]): each on a connection of its own, which asks once and is closed, in turn
//! by the client and by the server. Every member gives the same answer.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpSocket;
use tokio::task::JoinSet;

use super::{Plan, Shared};
use crate::stream;

/// What a server that closes says before.
const FAREWELL: usize = 64;

pub(super) fn start(plan: &Plan, shared: &Arc<Shared>) -> Result<Vec<JoinHandle<()>>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (plan, shared) = (plan.clone(), Arc::clone(shared));
    // One thread for everything: it is in the namespace of its maker, and so are its sockets.
    let run = move || runtime.block_on(come_and_go(&plan, &shared));
    Ok(vec![thread::Builder::new().name("visits".to_string()).spawn(run)?])
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
            visits.spawn(async move {
                match tokio::time::timeout(plan.timeout, visit(&plan, seq)).await {
                    Ok(Ok(())) => shared.answered(seq, None),
                    Ok(Err(error)) => shared.failed(seq, format!("{error:#}")),
                    Err(_) => shared.failed(seq, format!("no answer in {} ms", plan.timeout.as_millis())),
                }
            });
        }
        while visits.try_join_next().is_some() {}
    }
    shared.end();
    while visits.join_next().await.is_some() {}
}

async fn visit(plan: &Plan, seq: u64) -> Result<()> {
    let socket = match plan.to {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if let Some(from) = plan.from {
        socket.bind(SocketAddr::new(from, 0)).context("bind")?;
    }
    let mut stream = socket.connect(plan.to).await.context("connect")?;
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
    Ok(())
}
