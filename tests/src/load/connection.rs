//! What requests have in common that are each made on a connection of their own.

use std::net::SocketAddr;
use std::thread::{self, JoinHandle};

use anyhow::{Context, Result};
use tokio::net::{TcpSocket, TcpStream};

use super::report::By;
use super::{Plan, Shared};

/// Makes them all on one thread: it is in the namespace of its maker, and so are its sockets.
pub(super) fn on_a_thread(
    name: &str,
    requests: impl AsyncFnOnce() + Send + 'static,
) -> Result<Vec<JoinHandle<()>>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let run = move || runtime.block_on(requests());
    Ok(vec![thread::Builder::new().name(name.to_string()).spawn(run)?])
}

/// A connection to whom the plan asks, from where it asks.
pub(super) async fn connect(plan: &Plan) -> Result<TcpStream> {
    let socket = match plan.to {
        SocketAddr::V4(_) => TcpSocket::new_v4()?,
        SocketAddr::V6(_) => TcpSocket::new_v6()?,
    };
    if let Some(from) = plan.from {
        socket.bind(SocketAddr::new(from, 0)).context("bind")?;
    }
    socket.connect(plan.to).await.context("connect")
}

/// Books what becomes of a request within the time that the plan gives it.
pub(super) async fn book(
    plan: &Plan,
    shared: &Shared,
    seq: u64,
    request: impl Future<Output = Result<Option<By>>>,
) {
    match tokio::time::timeout(plan.timeout, request).await {
        Ok(Ok(by)) => shared.answered(seq, by),
        Ok(Err(error)) => shared.failed(seq, format!("{error:#}")),
        Err(_) => shared.failed(seq, format!("no answer in {} ms", plan.timeout.as_millis())),
    }
}
