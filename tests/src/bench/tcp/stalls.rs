//! How long a failover stops TCP connections: the lab with the real controller, unmodified stacks, three clients at a
//! time, each on a connection of its own that must go on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use anyhow::{Context, Result, ensure};

use super::failure::{self, Failing, Moment, ms, was_reset};
use crate::bench::{Preferred, Series, Sheet, say};
use crate::lab::Lab;
use crate::stream::{Conversation, PORT};

/// Between an answer and the next request: what is measured must not take the time of who is to notice the fault.
pub(super) const THINKING: Duration = Duration::from_micros(200);

/// So long before the fault is looked at, too.
const BEFORE: Duration = Duration::from_millis(50);

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Doing {
    Download,
    Upload,
    Request,
}

impl Doing {
    const ALL: [Doing; 3] = [Doing::Download, Doing::Upload, Doing::Request];

    const fn name(self) -> &'static str {
        match self {
            Doing::Download => "download",
            Doing::Upload => "upload",
            Doing::Request => "request in flight",
        }
    }
}

/// What became of one failover.
struct Round {
    /// From the fault to the decision.
    detection: Duration,
    /// Of each client, in the order of [`Doing::ALL`]; `None` if its connection did not go on.
    stalls: [Option<Stall>; 3],
}

/// How long a client stood still, in milliseconds.
#[derive(Clone, Copy, Debug)]
struct Stall {
    /// The longest time without progress in the last [`BEFORE`] the fault: as fine as this client can be measured.
    before: f64,
    /// The longest time without progress that was not over when the fault came.
    gap: f64,
    /// The longest time without progress after the decision to fail over.
    beyond: f64,
}

/// All rounds with one timeout, and enters the figures. `pace`: bytes a second each way at most, 0 for as many as can be.
pub(super) fn measure(sheet: &mut Sheet, timeout: Duration, of: u32, pace: u64) -> Result<()> {
    let name = format!("timeout {}", humantime::format_duration(timeout));
    let lab = Lab::builder().quiet().carries_tcp().heartbeat(timeout / 5, timeout).start()?;
    let line = |round: &Round| {
        let gap = |stall: Option<Stall>| stall.map_or("none".to_owned(), |stall| format!("{:.1}", stall.gap));
        let gaps = round.stalls.map(gap).join(", ");
        format!("detected after {:.1} ms, gaps {gaps} ms", ms(round.detection))
    };
    let (rounds, again) = failure::rounds(&name, of, |number| round(&lab, number, pace), line)?;
    let series =
        |what: &str, values: Vec<f64>| Series { values, ..Series::new(format!("{name}: {what}"), "ms") };
    let mut all = vec![series("detection", rounds.iter().map(|round| ms(round.detection)).collect())];
    let mut resets = Vec::new();
    for (index, doing) in Doing::ALL.into_iter().enumerate() {
        let stalls: Vec<Stall> = rounds.iter().filter_map(|round| round.stalls[index]).collect();
        let reset = rounds.len() - stalls.len();
        if reset > 0 {
            // The standby was later than it may be: docs/tcp.md says what becomes of such a connection.
            let name = format!("{name}: {}, connections reset", doing.name());
            resets.push(Series { values: vec![reset as f64], ..Series::new(name, "connections") });
        }
        ensure!(!stalls.is_empty(), "{name}: no {} went on", doing.name());
        let of = |what, figure: fn(&Stall) -> f64| {
            series(&format!("{}, {what}", doing.name()), stalls.iter().map(figure).collect())
        };
        all.extend([
            of("gap", |stall| stall.gap),
            of("stall beyond detection", |stall| stall.beyond),
            of("gap in 50 ms without a fault", |stall| stall.before),
        ]);
    }
    all.extend(failure::again(&name, again));
    all.extend(resets);
    for one in &all {
        sheet.add(one, &[])?;
    }
    Ok(())
}

/// One failover; `None` if the pair has failed over by itself before.
fn round(lab: &Lab, number: u32, pace: u64) -> Result<Option<Round>> {
    let failing = Failing::new(lab)?;
    let to = SocketAddr::new(lab.client().entry(false)?, PORT);
    let over = Arc::new(AtomicBool::new(false));
    let clients = {
        let _inside = lab.client().netns().enter()?;
        // A client that is late would see a gap of its own.
        let _first = Preferred::from_now_on();
        Doing::ALL.map(|doing| client(doing, to, &over, pace))
    };
    let failure = failing.fail(number, |old| {
        let began = Moment::now();
        old.freeze()?;
        Ok(began)
    })?;
    over.store(true, Ordering::Relaxed);
    let mut conversations = [None, None, None];
    for ((client, kept), doing) in clients.into_iter().zip(&mut conversations).zip(Doing::ALL) {
        let conversation = client?.join().ok().context("a client panicked")?;
        if failure.is_none() {
            continue;
        }
        match conversation {
            Ok(conversation) => *kept = Some(conversation),
            Err(error) if was_reset(&error) => {
                say(format_args!("the {} was reset", doing.name()));
            }
            Err(error) => return Err(error.context(format!("the {}", doing.name()))),
        }
    }
    let Some(failure) = failure else { return Ok(None) };
    let stall = |conversation: Conversation| Stall {
        before: ms(conversation.gap_within(failure.at - BEFORE, failure.at)),
        gap: ms(conversation.gap_since(failure.at)),
        beyond: ms(conversation.gap_after(failure.decided())),
    };
    Ok(Some(Round { detection: failure.detection, stalls: conversations.map(|kept| kept.map(stall)) }))
}

/// A client that goes on until it is over, and then hands out its conversation.
fn client(
    doing: Doing,
    to: SocketAddr,
    over: &Arc<AtomicBool>,
    pace: u64,
) -> Result<JoinHandle<Result<Conversation>>> {
    let mut conversation = Conversation::open(to, Duration::from_secs(5))?;
    if doing == Doing::Upload {
        conversation.hold_little(16 << 10)?;
    }
    if pace > 0 {
        conversation.come_first()?;
        conversation.pace(pace)?;
    }
    let over = Arc::clone(over);
    Ok(thread::Builder::new().name(doing.name().to_owned()).spawn(move || {
        while !over.load(Ordering::Relaxed) {
            match doing {
                Doing::Download => conversation.download(4 << 20)?,
                Doing::Upload => conversation.upload(4 << 20)?,
                Doing::Request => {
                    conversation.increment()?;
                    thread::sleep(THINKING);
                }
            }
        }
        Ok(conversation)
    })?)
}
