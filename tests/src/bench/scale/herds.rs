//! Members of more pairs than one process can have open files for: each of several processes beats for some.

use std::io::Read;
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use crate::herd::Herd;
use crate::lab::{Lab, binary};

/// Two taps each: far below the usual hard limit of open files.
const PAIRS_EACH: usize = 5_000;

/// What a process that beats is told.
#[derive(clap::Args)]
pub struct Beat {
    /// Where it is written down which members there are.
    #[arg(long)]
    dir: PathBuf,
    /// The number of its first pair.
    #[arg(long)]
    first: usize,
    /// How many it beats for.
    #[arg(long)]
    pairs: usize,
    /// Between two heartbeats of a member.
    #[arg(long, value_parser = humantime::parse_duration)]
    interval: Duration,
}

/// Beats until standard input ends: also when whoever has started it dies.
///
/// # Errors
/// When it cannot begin.
pub fn beat(options: &Beat) -> Result<()> {
    let pairs = options.first..options.first + options.pairs;
    let herd = Herd::start(None, &options.dir, pairs, options.interval)?;
    std::io::stdin().read_to_end(&mut Vec::new())?;
    drop(herd);
    Ok(())
}

/// The processes. They end, and their taps lose their carriers, when this is dropped.
pub(super) struct Herds(Vec<Child>);

impl Herds {
    pub(super) fn start(lab: &Lab, pairs: usize, interval: Duration) -> Result<Herds> {
        let program = binary("hotpair-bench");
        let mut herds = Herds(Vec::new());
        for first in (0..pairs).step_by(PAIRS_EACH) {
            let mut command = lab.host().netns().command(&program);
            command.arg("beat").arg("--dir").arg(lab.herd_dir());
            command.args(["--first", &first.to_string()]);
            command.args(["--pairs", &PAIRS_EACH.min(pairs - first).to_string()]);
            command.args(["--interval", &humantime::format_duration(interval).to_string()]);
            let child = command.stdin(Stdio::piped()).spawn().context("cannot start a process that beats")?;
            herds.0.push(child);
        }
        Ok(herds)
    }

    /// # Errors
    /// When one of them has ended: it has said why.
    pub(super) fn all_beat(&mut self) -> Result<()> {
        for child in &mut self.0 {
            if let Some(status) = child.try_wait()? {
                bail!("a process that beats has ended ({status})");
            }
        }
        Ok(())
    }
}

impl Drop for Herds {
    fn drop(&mut self) {
        for child in &mut self.0 {
            drop(child.stdin.take());
        }
        for child in &mut self.0 {
            let _ = child.wait();
        }
    }
}
