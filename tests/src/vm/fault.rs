//! What the machines' commands have been ordered to do wrong, and the book of what they were asked to do.
//!
//! A fault is a file in the lab's directory, `fault-PAIR-VERB`, and holds for every such command while it is there. The
//! book is `log/commands`: a line when a command begins and one when it ends, so that a test can tell whether anything
//! was asked for twice, or at a bad moment.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use super::verbs::Member;

/// What a command does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// It takes so many milliseconds longer: half of them before it does anything, half after it has done all.
    Slow(u64),
    /// It fails with a reason.
    Fail,
    /// It dies of a signal.
    Crash,
    /// It claims success, says nonsense, and does nothing.
    Garbage,
    /// It does what it should, and writes so many megabytes to both its outputs.
    Flood(usize),
}

/// A command that was run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Asked {
    /// Its process.
    pub pid: u32,
    /// `start`, `stop`, `release` or `status`.
    pub verb: String,
    /// The pair.
    pub pair: String,
    /// The slot.
    pub slot: u8,
    /// The generation; 0 for a `status`.
    pub generation: u64,
    /// How it ended, `well` or `badly`; nothing if it has not, or was killed.
    pub end: Option<String>,
}

fn file(lab: &Path, pair: &str, verb: &str) -> PathBuf {
    lab.join(format!("fault-{pair}-{verb}"))
}

fn book(lab: &Path) -> PathBuf {
    lab.join("log/commands")
}

/// Orders a fault, or takes the order back.
///
/// # Errors
/// When the file that says so cannot be written or removed.
pub fn order(lab: &Path, pair: &str, verb: &str, fault: Option<Fault>) -> Result<()> {
    let file = file(lab, pair, verb);
    let Some(fault) = fault else { return fs::remove_file(file).map_err(Into::into) };
    // Whole or not at all: a command may be looking just now.
    let new = lab.join("fault.new");
    fs::write(&new, serde_json::to_string(&fault)?)?;
    fs::rename(new, file).map_err(Into::into)
}

/// Every command that has begun, in that order.
///
/// # Errors
/// When the book cannot be read as what it should be.
pub fn asked(lab: &Path) -> Result<Vec<Asked>> {
    let text = match fs::read_to_string(book(lab)) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        text => text?,
    };
    let mut all: Vec<Asked> = Vec::new();
    for line in text.lines() {
        let words: Vec<_> = line.split(' ').collect();
        let [pid, verb, pair, slot, generation, what] = words[..] else { anyhow::bail!("{line:?}") };
        let this = Asked {
            pid: pid.parse()?,
            verb: verb.into(),
            pair: pair.into(),
            slot: slot.parse()?,
            generation: generation.parse()?,
            end: None,
        };
        if what == "began" {
            all.push(this);
        } else {
            let begun = all.iter_mut().rev().find(|asked| **asked == this);
            begun.with_context(|| format!("{line:?} did not begin"))?.end = Some(what.into());
        }
    }
    Ok(all)
}

/// Does `work` as the verb of this member would be done: booked, and with the faults that were ordered.
pub(super) fn with(
    lab: &Path,
    member: &Member,
    verb: &str,
    work: impl FnOnce() -> Result<ExitCode>,
) -> Result<ExitCode> {
    let Member { pair, slot, generation, .. } = member;
    let note = |what: &str| -> Result<()> {
        let mut book = OpenOptions::new().create(true).append(true).open(book(lab))?;
        // One write: lines of commands that run at the same time do not mix.
        let line = format!("{} {verb} {pair} {slot} {generation} {what}\n", std::process::id());
        book.write_all(line.as_bytes()).context("cannot book the command")
    };
    note("began")?;
    let fault = fs::read_to_string(file(lab, pair, verb)).ok();
    let fault = fault.map(|text| serde_json::from_str::<Fault>(&text)).transpose()?;
    let half = match fault {
        Some(Fault::Slow(ms)) => Duration::from_millis(ms / 2),
        _ => Duration::ZERO,
    };
    std::thread::sleep(half);
    let done = match fault {
        Some(Fault::Fail) => Err(anyhow::anyhow!("the hypervisor refuses, by order")),
        Some(Fault::Crash) => std::process::abort(),
        Some(Fault::Garbage) => {
            println!("\u{fffd}% maybe \0 -1 e9");
            Ok(ExitCode::SUCCESS)
        }
        Some(Fault::Flood(megabytes)) => {
            let chunk = [b'x'; 1 << 20];
            for _ in 0..megabytes {
                std::io::stdout().write_all(&chunk)?;
                std::io::stderr().write_all(&chunk)?;
            }
            println!();
            work()
        }
        Some(Fault::Slow(_)) | None => work(),
    };
    std::thread::sleep(half);
    note(if done.is_ok() { "well" } else { "badly" })?;
    done
}
