//! The measuring client: numbered datagrams in an open loop (it does not wait for answers), the same for everybody.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

use crate::bench::Preferred;
use crate::interrupt;
use crate::load::{By, Load, Plan};
use crate::netns::Netns;

/// Datagrams a second.
pub(super) const RATE: u32 = 2000;

/// Starts asking, and waits until it is being answered.
pub(super) fn start(netns: &Netns, to: SocketAddr) -> Result<Load> {
    let load = {
        let _inside = netns.enter()?;
        // A client that is late would see a gap of its own.
        let _first = Preferred::from_now_on();
        Plan { timeout: Duration::from_millis(300), ..Plan::udp(to) }.rate(RATE).start()?
    };
    let until = Instant::now() + Duration::from_secs(20);
    while load.so_far().answered() < 50 {
        ensure!(Instant::now() < until, "{to} does not answer: {}", load.so_far().line());
        interrupt::pause(Duration::from_millis(10))?;
    }
    Ok(load)
}

/// Waits until somebody has answered a hundred times, or, where nobody does, for so long at most.
pub(super) fn wait_for_answers(load: &Load, by: By, at_most: Duration) -> Result<()> {
    let until = Instant::now() + at_most;
    loop {
        // The latest ones only: looking must not cost what is being measured.
        let answers = load.latest(400).iter().filter(|request| request.by == Some(by)).count();
        if answers >= 100 {
            return Ok(());
        }
        ensure!(Instant::now() < until, "{by} does not answer: {}", load.so_far().line());
        interrupt::pause(Duration::from_millis(10))?;
    }
}
