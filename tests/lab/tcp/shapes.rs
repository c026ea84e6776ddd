//! Connections of every shape through a failover: who speaks first, who closes, who is silent, who does not read, and how
//! many there are.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hotpair::api::types::Flows;
use hotpair_tests::lab::Lab;
use hotpair_tests::stream::{Conversation, GREETING, PORT};
use hotpair_tests::wait::wait_for;

use super::{kill_primary, soaking};
use crate::scenario::protected;
use crate::takeover::{open, patient};

/// What a client does before the failover, when the survivor serves, and then. Each is done by a thread of its own.
type Shape =
    (&'static str, fn(&Lab, bool) -> Result<Conversation>, fn(Conversation, &AtomicBool) -> Result<()>);

const MEGABYTE: u64 = 1 << 20;

/// Waits until the survivor serves.
fn served_by_the_survivor(over: &AtomicBool) {
    while !over.load(Ordering::Relaxed) {
        thread::sleep(Duration::from_millis(1));
    }
}

fn greeted(lab: &Lab, v6: bool) -> Result<Conversation> {
    let _inside = lab.client().netns().enter()?;
    Conversation::open(SocketAddr::new(lab.client().entry(v6)?, GREETING), Duration::from_secs(5))
}

const SHAPES: &[Shape] = &[
    ("server speaks first, heard before", greeted, |mut c, over| {
        c.greeted()?;
        served_by_the_survivor(over);
        c.increment()
    }),
    ("server speaks first, heard after", greeted, |mut c, over| {
        served_by_the_survivor(over);
        c.greeted()?;
        c.increment()
    }),
    ("client closes its half, then the failover", open, |mut c, over| {
        c.ask("GET", 24 * MEGABYTE)?;
        c.shut()?;
        c.receive(MEGABYTE)?;
        served_by_the_survivor(over);
        c.receive(23 * MEGABYTE)?;
        c.ended()
    }),
    ("client closes its half during the failover", open, |mut c, over| {
        c.ask("GET", 24 * MEGABYTE)?;
        c.receive(MEGABYTE)?;
        while !over.load(Ordering::Relaxed) {
            c.receive(1000)?;
            thread::sleep(Duration::from_millis(1));
        }
        c.shut()?;
        c.rest(24 * MEGABYTE)?;
        c.ended()
    }),
    ("server closes behind a download through the failover", open, |mut c, over| {
        c.ask("BYE", 24 * MEGABYTE)?;
        c.receive(MEGABYTE)?;
        served_by_the_survivor(over);
        c.receive(23 * MEGABYTE)?;
        c.ended()
    }),
    ("server has closed, client has not read it yet", open, |mut c, over| {
        c.ask("BYE", 1000)?;
        served_by_the_survivor(over);
        c.receive(1000)?;
        c.ended()
    }),
    ("server closes after the failover", open, |mut c, over| {
        c.increment()?;
        served_by_the_survivor(over);
        c.ask("BYE", MEGABYTE)?;
        c.receive(MEGABYTE)?;
        c.ended()
    }),
    ("client does not read for seconds", open, |mut c, over| {
        c.ask("GET", 24 * MEGABYTE)?;
        thread::sleep(Duration::from_millis(1500));
        served_by_the_survivor(over);
        thread::sleep(Duration::from_millis(1500));
        c.receive(24 * MEGABYTE)?;
        c.upload(MEGABYTE)
    }),
    ("server does not read for seconds", open, |mut c, over| {
        c.ask("SLEEP", 3000)?;
        c.upload(24 * MEGABYTE)?;
        served_by_the_survivor(over);
        c.download(MEGABYTE)
    }),
    ("silent for longer than the keepalive time", open, |mut c, over| {
        c.increment()?;
        c.keep_alive()?;
        served_by_the_survivor(over);
        thread::sleep(Duration::from_millis(4500));
        c.increment()?;
        c.download(MEGABYTE)
    }),
    ("nothing said before the failover", open, |mut c, over| {
        served_by_the_survivor(over);
        c.increment()
    }),
];

#[test]
fn connections_of_every_shape_go_on() -> Result<()> {
    let Some(lab) = protected("connections_of_every_shape_go_on", patient())? else { return Ok(()) };
    for round in 0..if soaking() { 20 } else { 1 } {
        let over = Arc::<AtomicBool>::default();
        let mut clients: Vec<(String, JoinHandle<Result<()>>)> = Vec::new();
        for v6 in [false, true] {
            for (name, open, talk) in SHAPES {
                let conversation = open(&lab, v6)?;
                let over = Arc::clone(&over);
                let name = format!("{name} (IPv{}, round {round})", if v6 { 6 } else { 4 });
                clients.push((name, thread::spawn(move || talk(conversation, &over))));
            }
        }
        // The windows of those who do not read are full by then, and keepalives have been asked.
        thread::sleep(Duration::from_millis(2500));
        kill_primary(&lab)?;
        over.store(true, Ordering::Relaxed);
        let mut failed = Vec::new();
        for (name, client) in clients {
            if let Err(error) = client.join().expect("no panic") {
                failed.push(format!("{name}: {error:#}"));
            }
        }
        ensure!(failed.is_empty(), "{failed:#?}");
        lab.wait_protected()?;
    }
    Ok(())
}

#[test]
fn a_thousand_connections_go_on() -> Result<()> {
    let Some(lab) = protected("a_thousand_connections_go_on", patient())? else { return Ok(()) };
    // Who is asked for its MAC address by a thousand at once answers only the last hundred of them.
    let mut conversations = vec![open(&lab, false)?, open(&lab, true)?];
    for conversation in &mut conversations {
        conversation.request()?;
    }
    let to = |number| Ok(SocketAddr::new(lab.client().entry(number % 2 == 1)?, PORT));
    let to: Vec<SocketAddr> = (0..1000).map(to).collect::<Result<_>>()?;
    conversations.extend({
        let _inside = lab.client().netns().enter()?;
        let begun = Instant::now();
        let opened = Conversation::open_at_once(&to, Duration::from_secs(20))?;
        eprintln!("a thousand handshakes at once in {:?}", begun.elapsed());
        opened
    });
    for conversation in &mut conversations {
        conversation.answered()?;
    }
    // Whose SYN got lost on its way asks again a second later, and both members get that. The standby may be a moment late.
    wait_for("all to be in sync", Duration::from_secs(10), || {
        let flows: Flows = serde_json::from_str(&lab.must(&["flows", "web", "-o", "json"])?)?;
        let in_sync = flows.counts.iter().find(|count| count.verdict == "in_sync");
        let in_sync = in_sync.map_or(0, |count| count.connections);
        ensure!(in_sync == conversations.len(), "{in_sync} are: {:?}", flows.counts);
        Ok(())
    })?;
    // All of them ask, and before most are answered the primary is dead.
    for conversation in &mut conversations {
        conversation.request()?;
    }
    let old = lab.primary()?;
    old.kill()?;
    for (number, conversation) in conversations.iter_mut().enumerate() {
        let went_on = conversation.answered().and_then(|()| conversation.increment());
        went_on.with_context(|| format!("connection {number}"))?;
    }
    lab.wait_pair("the survivor to serve", |pair| pair.primary == Some(old.slot() ^ 1))?;
    Ok(())
}
