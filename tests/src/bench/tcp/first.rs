//! How long a request waits for its answer when the primary dies, with `answer = "first"`: all of the time, not what is beyond
//! the detection.
//!
//! Both members have every request, and mostly one has answered before the other, so neither the clock nor the client can tell
//! which request the primary's end has met. The data plane can: the first one whose answer the primary has not sent.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use super::failure::{self, Failing, Moment, ms, was_reset};
use super::stalls::THINKING;
use crate::bench::{Preferred, Series, Sheet, say};
use crate::lab::Lab;
use crate::stream::{Conversation, PORT};

/// What became of one failover.
struct Round {
    /// From the fault to the decision, in milliseconds.
    detection: f64,
    /// `None` if the connection did not go on.
    waits: Option<Waits>,
}

/// How long who asked the primary that died waited for answers, in milliseconds.
#[derive(Clone, Copy, Debug)]
struct Waits {
    /// With the request that was in flight.
    in_flight: f64,
    /// How many requests, this one included, were answered before anybody took over.
    before: f64,
    /// The longest, of this request and all later ones.
    longest: f64,
}

/// All rounds with one timeout, and enters the figures.
pub(super) fn measure(sheet: &mut Sheet, timeout: Duration, of: u32) -> Result<()> {
    let name = format!("timeout {}, answer = first", humantime::format_duration(timeout));
    let builder = Lab::builder().quiet().carries_tcp().first_answers();
    let lab = builder.heartbeat(timeout / 5, timeout).start()?;
    let line = |round: &Round| {
        let waits = round.waits.map_or("reset".to_owned(), |waits| {
            let Waits { in_flight, before, longest } = waits;
            format!(
                "request in flight {in_flight:.2} ms, {before} answered before the takeover, longest gap {longest:.1} ms"
            )
        });
        format!("detected after {:.1} ms, {waits}", round.detection)
    };
    let (rounds, again) = failure::rounds(&name, of, |number| round(&lab, number), line)?;
    let waits: Vec<Waits> = rounds.iter().filter_map(|round| round.waits).collect();
    ensure!(!waits.is_empty(), "{name}: no connection went on");
    let series = |what: &str, unit, values| Series { values, ..Series::new(format!("{name}: {what}"), unit) };
    let of = |what, unit, figure: fn(&Waits) -> f64| series(what, unit, waits.iter().map(figure).collect());
    let mut all = vec![
        series("detection", "ms", rounds.iter().map(|round| round.detection).collect()),
        of("request in flight, total gap", "ms", |waits| waits.in_flight),
        of("requests from then on, answered before the takeover", "requests", |waits| waits.before),
        of("requests from then on, total gap", "ms", |waits| waits.longest),
    ];
    all.extend(failure::again(&name, again));
    if waits.len() < rounds.len() {
        all.push(series("connections reset", "connections", vec![(rounds.len() - waits.len()) as f64]));
    }
    for one in &all {
        sheet.add(one, &[])?;
    }
    Ok(())
}

/// One failover; `None` if the pair has failed over by itself before.
fn round(lab: &Lab, number: u32) -> Result<Option<Round>> {
    let failing = Failing::new(lab)?;
    let to = SocketAddr::new(lab.client().entry(false)?, PORT);
    let over = Arc::new(AtomicBool::new(false));
    let client = {
        let _inside = lab.client().netns().enter()?;
        // A client that is late would see a gap of its own.
        let _first = Preferred::from_now_on();
        client(to, &over)?
    };
    let mut sent = 0;
    let failure = failing.fail(number, |old| {
        let began = Moment::now();
        old.freeze()?;
        sent = sent_by(lab, old.slot())?;
        Ok(began)
    })?;
    over.store(true, Ordering::Relaxed);
    let asked = client.join().ok().context("the client panicked")?;
    let Some(failure) = failure else { return Ok(None) };
    let detection = ms(failure.detection);
    let asked = match asked {
        Ok(asked) => asked,
        Err(error) if was_reset(&error) => {
            say("the client was reset");
            return Ok(Some(Round { detection, waits: None }));
        }
        Err(error) => return Err(error),
    };
    // A primary that is a little late owes answers that the client has long had.
    let met: Vec<&Asked> =
        asked.iter().filter(|asked| asked.bytes > sent && asked.answered > failure.at).collect();
    let wait = |asked: &Asked| ms(asked.answered - asked.at);
    let waits = Waits {
        in_flight: met.first().map(|asked| wait(asked)).context("the primary has answered everything")?,
        before: met.iter().filter(|asked| asked.answered < failure.decided()).count() as f64,
        longest: met.iter().map(|asked| wait(asked)).fold(0.0, f64::max),
    };
    Ok(Some(Round { detection, waits: Some(waits) }))
}

/// How many bytes a member has sent on the newest connection.
fn sent_by(lab: &Lab, slot: u8) -> Result<u64> {
    let connections = lab.connections()?;
    let newest = connections.iter().max_by_key(|connection| connection.created_ns);
    let half = newest.context("no connection")?.half[usize::from(slot)];
    // The SYN is one, too.
    Ok(half.nxt.wrapping_sub(half.isn).wrapping_sub(1).into())
}

/// A request that was answered.
struct Asked {
    at: Instant,
    answered: Instant,
    /// What a member has sent on this connection with the answer.
    bytes: u64,
}

/// A client that asks, waits for the answer, and asks again, until it is over.
fn client(to: SocketAddr, over: &Arc<AtomicBool>) -> Result<JoinHandle<Result<Vec<Asked>>>> {
    let mut conversation = Conversation::open(to, Duration::from_secs(5))?;
    conversation.come_first()?;
    let over = Arc::clone(over);
    Ok(thread::Builder::new().name("request".to_owned()).spawn(move || {
        let mut all = Vec::new();
        // An answer is a number and a line's end; the first was that to the wish to come first.
        let (mut number, mut bytes) = (1u64, 2);
        while !over.load(Ordering::Relaxed) {
            let at = Instant::now();
            conversation.increment()?;
            let answered = Instant::now();
            number += 1;
            bytes += number.to_string().len() as u64 + 1;
            all.push(Asked { at, answered, bytes });
            thread::sleep(THINKING);
        }
        Ok(all)
    })?)
}
