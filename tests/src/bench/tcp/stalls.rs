//! How long a failover stops TCP connections: the lab with the real controller, unmodified stacks, three clients at a
//! time, each on a connection of its own that must go on.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use hotpair::api::types::RecordKind;

use crate::bench::failover::last_beat;
use crate::bench::{Preferred, Series, Sheet, say};
use crate::interrupt;
use crate::lab::{Lab, boottime};
use crate::stream::{Conversation, PORT};

/// Between an answer and the next request: what is measured must not take the time of who is to notice the fault.
const THINKING: Duration = Duration::from_micros(200);

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
    /// The longest time without progress that was not over when the fault came.
    gap: f64,
    /// The longest time without progress after the decision to fail over.
    beyond: f64,
}

/// All rounds with one timeout, and enters the figures. `pace`: bytes a second each way at most, 0 for as many as can be.
pub(super) fn measure(sheet: &mut Sheet, timeout: Duration, of: u32, pace: u64) -> Result<()> {
    let name = format!("timeout {}", humantime::format_duration(timeout));
    let lab = Lab::builder().quiet().carries_tcp().heartbeat(timeout / 5, timeout).start()?;
    let (mut rounds, mut again) = (Vec::new(), 0);
    while rounds.len() < of as usize {
        let number = rounds.len() as u32 + 1;
        let Some(round) = round(&lab, number, pace).with_context(|| format!("{name}: round {number}"))?
        else {
            again += 1;
            ensure!(again <= 10 + of, "this machine is too busy: members fall silent by themselves");
            say("this machine is so busy that a member fell silent by itself; the round is done again");
            continue;
        };
        if number == 1 || number == of || number.is_multiple_of(10) {
            let gap =
                |stall: Option<Stall>| stall.map_or("none".to_owned(), |stall| format!("{:.1}", stall.gap));
            let gaps = round.stalls.map(gap).join(", ");
            say(format_args!(
                "{name}: round {number} of {of}: detected after {:.1} ms, gaps {gaps} ms",
                ms(round.detection)
            ));
        }
        rounds.push(round);
    }
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
        all.extend([of("gap", |stall| stall.gap), of("stall beyond detection", |stall| stall.beyond)]);
    }
    if again > 0 {
        all.push(Series {
            values: vec![again.into()],
            ..Series::new(format!("{name}: rounds done again"), "rounds")
        });
    }
    all.extend(resets);
    for one in &all {
        sheet.add(one, &[])?;
    }
    Ok(())
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

/// One failover; `None` if the pair has failed over by itself before.
fn round(lab: &Lab, number: u32, pace: u64) -> Result<Option<Round>> {
    let before = lab.wait_protected()?;
    let primary = before.primary.context("a protected pair has a primary")?;
    let (old, survivor) = (lab.machine(primary)?, 1 - primary);
    let to = SocketAddr::new(lab.client().entry(false)?, PORT);
    let over = Arc::new(AtomicBool::new(false));
    let clients = {
        let _inside = lab.client().netns().enter()?;
        // A client that is late would see a gap of its own.
        let _first = Preferred::from_now_on();
        Doing::ALL.map(|doing| client(doing, to, &over, pace))
    };
    // Another phase of the heartbeat each time.
    interrupt::pause(Duration::from_millis(100) + Duration::from_micros(u64::from(number) * 137 % 5000))?;
    let mut disturbed = lab.pair()?.epoch != before.epoch;
    let (fault_at, fault_ns) = (Instant::now(), boottime());
    if let Err(error) = old.freeze() {
        // It has failed by itself in this very moment, and is gone.
        disturbed |= lab.pair()?.epoch != before.epoch;
        ensure!(disturbed, error);
    }
    let last_beat = last_beat(lab, old.slot())?;
    // Or it is another one's already, on a machine that is busy.
    disturbed |= lab.machine(old.slot()).is_ok_and(|machine| machine.generation() != old.generation());
    let after = lab.wait_pair("the survivor to serve", |pair| pair.epoch > before.epoch)?;
    // What comes after the first sign of life is the connection's life, too: a second pause counts.
    interrupt::pause(Duration::from_millis(250))?;
    over.store(true, Ordering::Relaxed);
    let mut conversations = [None, None, None];
    for ((client, kept), doing) in clients.into_iter().zip(&mut conversations).zip(Doing::ALL) {
        let conversation = client?.join().ok().context("a client panicked")?;
        if disturbed {
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
    if disturbed || after.primary != Some(survivor) {
        return Ok(None);
    }
    let record = lab.history()?.into_iter().rev().find(|record| {
        record.kind == RecordKind::Failover
            && record.epoch_after > before.epoch
            && record.epoch_after <= after.epoch
    });
    let detected = record.and_then(|record| record.detect_us).context("the history does not tell of it")?;
    let detection = Duration::from_nanos((last_beat + detected * 1000).saturating_sub(fault_ns));
    let decided = fault_at + detection;
    let stall = |conversation: Conversation| Stall {
        gap: ms(conversation.gap_since(fault_at)),
        beyond: ms(conversation.gap_after(decided)),
    };
    Ok(Some(Round { detection, stalls: conversations.map(|kept| kept.map(stall)) }))
}

/// Anything else is a broken promise.
fn was_reset(error: &anyhow::Error) -> bool {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>());
    io.is_some_and(|io| io.kind() == std::io::ErrorKind::ConnectionReset)
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
        conversation.hold_little(128 << 10)?;
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
