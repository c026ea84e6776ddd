//! Members run by the operator's own commands (`kind = "command"`): other hypervisors, and test labs whose machines are
//! network namespaces.
//!
//! Commands are argument vectors, never given to a shell. Each runs in its own process group and has a deadline, after
//! which the whole group is killed. One that is still running when the controller ends goes on; the next controller waits
//! for it before it asks what runs (`orphans.rs`). What a start command leaves running must have detached itself (`setsid`, its
//! output somewhere else): the group is only watched until the command itself ends.
//!
//! The environment is that of hotpair and:
//!
//! | variable | |
//! | --- | --- |
//! | `HOTPAIR_PAIR` | the pair's name |
//! | `HOTPAIR_SLOT` | `0` or `1` |
//! | `HOTPAIR_TAP` | the tap to plug into |
//! | `HOTPAIR_MAC` | the NIC's MAC, `02:68:70:…` |
//! | `HOTPAIR_ENTRY` | the entry addresses, separated by spaces |
//! | `HOTPAIR_INTERNAL_IP` | where the host reaches the member |
//! | `HOTPAIR_GENERATION` | rises with every member made for this place |
//!
//! `status` sees only the first three: it says whether *any* member runs in this place by exiting 0 (yes) or 1 (no),
//! and which one by writing its generation, as it was given to `start`, to its standard output.

use std::fmt::Write as _;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use hotpair_abi::Slot;
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::Command as Process;

use super::orphans::{Noted, Orphans};
use super::{Hypervisor, HypervisorError, MemberSpec, Running};
use crate::config::{self, Release, Vm};

/// What `stop`, `release` and `status` may take.
const DEADLINE: Duration = Duration::from_secs(30);
/// How long the last words of a command that has ended are waited for.
const LAST_WORDS: Duration = Duration::from_millis(100);
/// So much of its end is kept of what a command writes.
const TAIL: usize = 2048;

/// The `command` backend.
#[derive(Debug)]
pub struct Command {
    pairs: Vec<config::Pair>,
    orphans: Orphans,
}

impl Command {
    /// A backend for those of `pairs` that are run by commands. It needs them to know the deadline of a start and the
    /// `status` command; everything else comes with each [`MemberSpec`]. In `run_dir` it notes which commands run.
    #[must_use]
    pub fn new(pairs: &[config::Pair], run_dir: &Path) -> Command {
        let pairs = pairs.iter().filter(|pair| matches!(pair.vm, Vm::Command(_))).cloned().collect();
        Command { pairs, orphans: Orphans::of(run_dir) }
    }

    fn pair(&self, name: &str) -> Option<(&config::Pair, &config::Command)> {
        self.pairs.iter().find(|pair| pair.name == name).and_then(|pair| match &pair.vm {
            Vm::Command(commands) => Some((pair, commands)),
            Vm::Libvirt { .. } => None,
        })
    }
}

impl Command {
    async fn run_for(
        &self,
        argv: &[String],
        member: &MemberSpec,
        deadline: Duration,
        verb: &str,
    ) -> Result<(), HypervisorError> {
        self.orphans.gone(&member.pair).await?;
        let what = format!("{verb} {}", who(member));
        let note = |pid| Some(self.orphans.note(pid, &member.pair, &what, deadline));
        let ended = run(argv, &environment(member), deadline, &what, note).await?;
        if ended.status.success() { Ok(()) } else { Err(ended.failed(&what, argv)) }
    }
}

/// The generation that runs in a place, if any does.
async fn status(argv: &[String], pair: &str, slot: Slot) -> Result<Option<u64>, HypervisorError> {
    let what = format!("ask for the status of {pair}, slot {slot}");
    // One that is left alone does no harm.
    let ended = run(argv, &place(pair, slot), DEADLINE, &what, |_| None).await?;
    match ended.status.code() {
        Some(0) => ended.stdout.trim().parse().map(Some).map_err(|_| {
            HypervisorError::Failed(format!(
                "cannot {what}: `{}` exited 0 and wrote {:?}; it must write the generation of what runs, a number",
                argv.join(" "),
                ended.stdout.trim()
            ))
        }),
        Some(1) => Ok(None),
        _ => Err(ended.failed(&what, argv)),
    }
}

#[async_trait]
impl Hypervisor for Command {
    fn accel(&self) -> &'static str {
        "command"
    }

    async fn start(&self, member: &MemberSpec) -> Result<(), HypervisorError> {
        let commands = commands(member)?;
        let deadline = self.pair(&member.pair).map_or(DEADLINE, |(pair, _)| pair.heartbeat.start);
        self.run_for(&commands.start, member, deadline, "start").await
    }

    async fn stop(&self, member: &MemberSpec) -> Result<(), HypervisorError> {
        let commands = commands(member)?;
        self.run_for(&commands.stop, member, DEADLINE, "stop").await?;
        // Another generation in this place is another member's affair.
        if status(&commands.status, &member.pair, member.slot).await? == Some(member.generation) {
            return Err(HypervisorError::Failed(format!(
                "the stop command of {} has succeeded, but its status command says that the member still runs; \
                 stop must not return before it is gone",
                who(member)
            )));
        }
        Ok(())
    }

    async fn release(&self, member: &MemberSpec, how: Release) -> Result<(), HypervisorError> {
        match how {
            Release::Delete => self.run_for(&commands(member)?.release, member, DEADLINE, "release").await,
            // What belongs to a member of the command's making can only be kept by leaving it alone.
            Release::Keep => Ok(()),
        }
    }

    async fn running(&self, pair: &str) -> Result<Vec<Running>, HypervisorError> {
        let Some((_, commands)) = self.pair(pair) else {
            return Ok(Vec::new());
        };
        self.orphans.gone(pair).await?;
        let mut running = Vec::new();
        for slot in Slot::BOTH {
            let generation = status(&commands.status, pair, slot).await?;
            running.extend(generation.map(|generation| Running { slot, generation }));
        }
        Ok(running)
    }

    async fn leftovers(&self, pair: &str) -> Result<Vec<String>, HypervisorError> {
        let running = self.running(pair).await?;
        Ok(running
            .iter()
            .map(|r| format!("{pair}, slot {}, generation {}: runs", r.slot, r.generation))
            .collect())
    }
}

fn commands(member: &MemberSpec) -> Result<&config::Command, HypervisorError> {
    match &member.vm {
        Vm::Command(commands) => Ok(commands),
        Vm::Libvirt { .. } => Err(HypervisorError::Failed(format!(
            "{} is a libvirt domain, and the hypervisor's kind is \"command\"",
            who(member)
        ))),
    }
}

fn who(member: &MemberSpec) -> String {
    format!("{}, slot {}, generation {}", member.pair, member.slot, member.generation)
}

type Environment = Vec<(&'static str, String)>;

fn place(pair: &str, slot: Slot) -> Environment {
    vec![
        ("HOTPAIR_PAIR", pair.to_string()),
        ("HOTPAIR_SLOT", slot.to_string()),
        ("HOTPAIR_TAP", format!("hp{pair}s{slot}")),
    ]
}

fn environment(member: &MemberSpec) -> Environment {
    let mac = member.mac.map(|byte| format!("{byte:02x}")).join(":");
    let entry: Vec<String> = member.entry.iter().map(ToString::to_string).collect();
    let mut env = place(&member.pair, member.slot);
    env.retain(|(key, _)| *key != "HOTPAIR_TAP");
    env.extend([
        ("HOTPAIR_TAP", member.tap.clone()),
        ("HOTPAIR_MAC", mac),
        ("HOTPAIR_ENTRY", entry.join(" ")),
        ("HOTPAIR_INTERNAL_IP", member.internal_ip.to_string()),
        ("HOTPAIR_GENERATION", member.generation.to_string()),
    ]);
    env
}

/// A command that has ended.
struct Ended {
    status: ExitStatus,
    stdout: String,
    stderr: String,
}

impl Ended {
    fn failed(&self, what: &str, argv: &[String]) -> HypervisorError {
        let mut text = format!("cannot {what}: `{}` ended with {}", argv.join(" "), self.status);
        let words = self.stderr.trim();
        if words.is_empty() {
            text.push_str(" and wrote nothing to stderr");
        } else {
            let _ = write!(text, ": {words}");
        }
        HypervisorError::Failed(text)
    }
}

/// A command that is waited for. If that is given up, because the controller ends, it goes on, and so does its note.
struct Waited(Option<Noted>);

impl Drop for Waited {
    fn drop(&mut self) {
        if let Some(note) = self.0.take() {
            note.leave();
        }
    }
}

async fn run(
    argv: &[String],
    env: &Environment,
    deadline: Duration,
    what: &str,
    note: impl FnOnce(i32) -> Option<Noted>,
) -> Result<Ended, HypervisorError> {
    let Some((program, arguments)) = argv.split_first() else {
        return Err(HypervisorError::Failed(format!("cannot {what}: its command is empty")));
    };
    let mut child = Process::new(program)
        .args(arguments)
        .envs(env.iter().map(|(key, value)| (key, value)))
        // The service manager talks to hotpair alone.
        .env_remove("NOTIFY_SOCKET")
        .env_remove("WATCHDOG_USEC")
        .env_remove("WATCHDOG_PID")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(|e| HypervisorError::Failed(format!("cannot {what}: cannot run `{program}`: {e}")))?;
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok());
    let mut waited = Waited(pid.and_then(note));
    let stdout = Tail::follow(child.stdout.take());
    let stderr = Tail::follow(child.stderr.take());
    let ended = match tokio::time::timeout(deadline, child.wait()).await {
        Ok(ended) => Some(ended),
        // After a time in which this process got none, the deadline may be heard of before the end.
        Err(_) => child.try_wait().transpose(),
    };
    let Some(status) = ended else {
        if let Some(group) = pid.and_then(rustix::process::Pid::from_raw) {
            // It may be gone already.
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        // Reaps it; a killed process ends.
        let _ = child.wait().await;
        drop(waited.0.take());
        return Err(HypervisorError::TimedOut { what: what.to_string(), after: deadline });
    };
    drop(waited.0.take());
    let status = status
        .map_err(|e| HypervisorError::Failed(format!("cannot {what}: lost sight of `{program}`: {e}")))?;
    Ok(Ended { status, stdout: stdout.last_words().await, stderr: stderr.last_words().await })
}

/// The end of what a command writes.
struct Tail {
    kept: Arc<Mutex<Vec<u8>>>,
    reader: tokio::task::JoinHandle<()>,
}

impl Tail {
    /// Reads until the other end is closed, which may be long after the command has ended: what it has left running
    /// may have kept its output, and must not die of a closed pipe.
    fn follow(stream: Option<impl AsyncRead + Unpin + Send + 'static>) -> Tail {
        let kept = Arc::new(Mutex::new(Vec::new()));
        let keep = kept.clone();
        let reader = tokio::spawn(async move {
            let Some(mut stream) = stream else { return };
            let mut chunk = [0; 1024];
            while let Ok(length @ 1..) = stream.read(&mut chunk).await {
                let mut kept = keep.lock().unwrap_or_else(PoisonError::into_inner);
                kept.extend_from_slice(&chunk[..length]);
                let surplus = kept.len().saturating_sub(TAIL);
                kept.drain(..surplus);
            }
        });
        Tail { kept, reader }
    }

    async fn last_words(self) -> String {
        let _ = tokio::time::timeout(LAST_WORDS, self.reader).await;
        String::from_utf8_lossy(&self.kept.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

#[cfg(test)]
#[path = "command_tests.rs"]
mod tests;
