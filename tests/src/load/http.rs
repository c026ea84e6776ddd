//! Numbered GET requests, each on a connection of its own.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;

use super::connection::{book, connect, on_a_thread};
use super::report::By;
use super::{Plan, Shared};

pub(super) fn start(plan: &Plan, path: String, shared: &Arc<Shared>) -> Result<Vec<JoinHandle<()>>> {
    let (plan, shared) = (plan.clone(), Arc::clone(shared));
    on_a_thread("http", async move || ask(&plan, &path, &shared).await)
}

async fn ask(plan: &Plan, path: &str, shared: &Arc<Shared>) {
    let mut requests = JoinSet::new();
    let mut turn: u64 = 0;
    loop {
        let due = Duration::from_nanos(turn * 1_000_000_000 / u64::from(plan.rate));
        while shared.began.elapsed() < due && !shared.stopping() {
            tokio::time::sleep((due - shared.began.elapsed().min(due)).min(Duration::from_millis(50))).await;
        }
        if shared.stopping() || plan.duration.is_some_and(|all| due >= all) {
            break;
        }
        turn += 1;
        let seq = shared.sent();
        let (plan, path, shared) = (plan.clone(), path.replace("{}", &seq.to_string()), Arc::clone(shared));
        requests.spawn(async move { book(&plan, &shared, seq, get(&plan, &path)).await });
        while requests.try_join_next().is_some() {}
    }
    shared.end();
    while requests.join_next().await.is_some() {}
}

async fn get(plan: &Plan, path: &str) -> Result<Option<By>> {
    let mut stream = connect(plan).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", plan.to);
    stream.write_all(request.as_bytes()).await.context("send")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.context("receive")?;
    let head = String::from_utf8_lossy(&answer[..answer.len().min(64)]).into_owned();
    let status = head.split_whitespace().nth(1).unwrap_or_default();
    if !head.starts_with("HTTP/1.") || !status.starts_with('2') {
        bail!("answered with {:?}", head.lines().next().unwrap_or_default());
    }
    Ok(By::find(&answer))
}
