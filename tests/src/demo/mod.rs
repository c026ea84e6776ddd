//! The demo: two real VMs behind one entry address, real load, connections that are held, a fault, and the way back to being
//! protected.
//!
//! | file | about |
//! | --- | --- |
//! | `stage.rs` | client namespace, uplink, configuration, controller; gone when dropped |
//! | `fault.rs` | what is done to the primary |
//! | `held.rs` | the connections that are held through it, and what is said of them |
//! | `round.rs` | one fault and what became of it |
//! | `report.rs` | the figures, for people and as JSON |
//! | `timeline.rs` | the picture |
//!
//! What the guest must offer: HTTP on port 80, `8m.bin` and `64m.bin` too (their sums are in `SHA256SUMS` beside the image); on port 8080 a
//! `/cgi-bin/sha256` that answers a POST with its length and its SHA-256; a redis; a UDP echo on port 7 which, sent `hotpair-demo: fail` on its internal
//! address `169.254.77.1`, makes the agent's health check fail from then on and answers `failing`; sent `hotpair-demo: panic`, answers `panicking`
//! and makes its kernel panic for good.

mod fault;
mod held;
mod report;
mod round;
mod stage;
mod timeline;

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

pub use fault::Fault;
pub use held::{Connections, Kept, Working};
pub use report::{DemoReport, Requests, Round};
pub use stage::{Stage, clean};

use crate::held::Held;
use crate::load;

/// What the demo is to do.
#[derive(Clone, Debug)]
pub struct Demo {
    /// Directory with the guest: `image.qcow2` and `domain.xml`.
    pub guest: PathBuf,
    /// Where report and picture go.
    pub out: PathBuf,
    /// The `hotpair` program.
    pub hotpair: PathBuf,
    /// What is done to the primary.
    pub fault: Fault,
    /// How often.
    pub rounds: u32,
    /// Leave everything running at the end.
    pub keep: bool,
    /// Between two heartbeats.
    pub interval: Duration,
    /// A member silent for this long has failed.
    pub timeout: Duration,
}

/// How long a member may be silent. One that is emulated shares the host's CPUs with the boot of its neighbour, which
/// keeps them busy for seconds.
#[must_use]
pub fn patience() -> Duration {
    Duration::from_millis(if hotpair::hypervisor::kvm::works().is_ok() { 50 } else { 250 })
}

/// Tells what goes on, with the time since the beginning.
#[derive(Clone, Copy, Debug)]
pub struct Voice {
    began: Instant,
}

impl Voice {
    /// Begins now.
    #[must_use]
    pub fn new() -> Voice {
        Voice { began: Instant::now() }
    }

    /// One line.
    pub fn say(&self, text: impl std::fmt::Display) {
        println!("[demo {:6.1} s] {text}", self.began.elapsed().as_secs_f64());
    }
}

impl Default for Voice {
    fn default() -> Self {
        Self::new()
    }
}

/// Runs it; the report is written also when a round goes wrong.
///
/// # Errors
/// What went wrong. Everything has been cleaned up then, unless `keep` says otherwise.
pub fn run(demo: &Demo) -> Result<DemoReport> {
    let voice = Voice::new();
    let mut stage = Stage::set(demo, voice)?;
    let played = play(demo, &stage, voice);
    if demo.keep {
        stage.keep();
        voice.say("kept running, as asked for; to look around and to end it:");
        for line in stage.hints() {
            println!("    {line}");
        }
    } else {
        voice.say("cleaning up");
        let left = stage.strike()?;
        if !left.is_empty() {
            bail!("something was left behind: {}", left.join(", "));
        }
    }
    played
}

fn play(demo: &Demo, stage: &Stage, voice: Voice) -> Result<DemoReport> {
    voice.say("waiting for both VMs to serve (without KVM this takes a while)");
    let began = Instant::now();
    stage.wait_protected(Duration::from_secs(180), None)?;
    voice.say(format!(
        "protected after {:.1} s: two VMs serve behind one address",
        began.elapsed().as_secs_f64()
    ));
    let accel = stage.status()?.hypervisor.accel;

    voice.say(
        "load: numbered HTTP requests and UDP datagrams from the client's namespace to the entry address; and connections that \
         are opened once and held: a download, an upload, a key-value client, and some that are silent",
    );
    let mut rounds = Vec::new();
    for number in 1..=demo.rounds {
        let round = stage.round(demo, demo.fault, number);
        rounds.push(round.with_context(|| format!("round {number} of {}", demo.rounds))?);
        report::write(&demo.out.join("report.json"), &accel, &rounds)?;
    }
    let report = DemoReport { accel, rounds };
    println!("\n{}", report.summary(&demo.out));
    report.verdict()?;
    Ok(report)
}

impl Stage {
    /// One fault under load, from a pair that is protected to one that is so again.
    ///
    /// # Errors
    /// When it does not come that far; the history has been printed then.
    pub fn round(&self, demo: &Demo, fault: Fault, number: u32) -> Result<Round> {
        let voice = self.voice();
        let calm = calm(self, voice, number)?;
        let Calm { http, udp, held, unplanned } = calm;
        let outcome = round::play(self, fault, unplanned, held, voice, number);
        let loads = vec![udp.stop(), http.stop()];
        for load in &loads {
            let file = demo.out.join(format!("requests-{}.json", load.kind));
            std::fs::write(&file, load.to_json().to_string())
                .with_context(|| format!("cannot write {}", file.display()))?;
        }
        match outcome {
            Ok(outcome) => {
                let (round, stories) = outcome.finish(&loads);
                voice.say(round.line());
                timeline::write(&demo.out.join("timeline.svg"), &round, &loads, &stories)?;
                Ok(round)
            }
            Err(error) => {
                for record in self.history().unwrap_or_default() {
                    println!("    {} {}", record.at_ms, record.text);
                }
                Err(error)
            }
        }
    }
}

/// Load before a fault, and after all is well again.
pub(crate) const CALM: Duration = Duration::from_secs(3);

/// What runs before a fault.
struct Calm {
    http: load::Load,
    udp: load::Load,
    held: Held,
    unplanned: u32,
}

/// Starts the load, and waits until it has run for a while on a pair that is protected, and each held connection would be
/// carried through a failover. A starved machine may make an
/// emulated primary fall silent meanwhile: then the pair has failed over by itself, which is counted, and it is waited
/// until there is a standby again, because a fault now would hit the only member.
fn calm(stage: &Stage, voice: Voice, number: u32) -> Result<Calm> {
    let accel = stage.status()?.hypervisor.accel;
    let mut unplanned = 0;
    for attempt in 0..5 {
        stage.wait_protected(Duration::from_secs(180), None)?;
        let epoch = stage.pair()?.epoch;
        let http = stage.load(
            load::Plan { timeout: Duration::from_secs(8), ..load::Plan::http(stage.web(), "/?n={}") }
                .rate(if accel == "kvm" { 100 } else { 10 }),
        )?;
        // Late is not lost: an emulated guest that does not get its CPU answers a second later.
        let udp = load::Plan { timeout: Duration::from_secs(3), ..load::Plan::udp(stage.echo()) };
        let udp = stage.load(udp.rate(if accel == "kvm" { 1000 } else { 250 }))?;
        // Keys of its own for each attempt: a standby that has come since the last one does not know what was written then.
        let held = stage.hold(format!("round-{number}-{attempt}"));
        crate::interrupt::pause(CALM)?;
        let pair = stage.pair()?;
        if pair.protection != hotpair::api::types::Protection::Protected || pair.epoch != epoch {
            unplanned += u32::from(pair.epoch != epoch);
            voice.say("this machine is so busy that a member fell silent by itself; waiting until the pair is protected");
            continue;
        }
        let held = held?;
        let mut not_carried = stage.not_carried(&held)?.0;
        for _ in 0..10 {
            if not_carried.is_empty() {
                break;
            }
            // Behind at this moment.
            crate::interrupt::pause(Duration::from_millis(100))?;
            not_carried = stage.not_carried(&held)?.0;
        }
        if not_carried.is_empty() && held.under_way() {
            return Ok(Calm { http, udp, held, unplanned });
        }
        voice.say(format!(
            "beginning again: not every connection would go on ({})",
            if not_carried.is_empty() {
                "a transfer is not under way".to_owned()
            } else {
                not_carried.join("; ")
            }
        ));
    }
    bail!("this machine is too busy: members fall silent or behind by themselves, again and again")
}
