//! The demo's held connections: what they are asked to do, and what a round says of them.

use std::fs;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hotpair::api::types::Flows;
use serde::Serialize;

use super::Stage;
use crate::held::{End, Held, Kind, Plan, Story, sum_of};

/// A file of the guest's as `xtask/src/guest_image/mod.rs` makes it, how long it is, and how much of it a client takes in a
/// second: ten seconds of work, or more where the machine is slow, so that it lasts until the fault. And between two bursts of
/// writes.
const KVM: (&str, u64, u64, Duration) = ("64m.bin", 64 << 20, 6 << 20, Duration::from_millis(20));
/// An emulated guest shares the machine with two others, and has to be able to do something else, too.
const TCG: (&str, u64, u64, Duration) = ("8m.bin", 8 << 20, 3 << 18, Duration::from_millis(100));
/// Connections that say nothing while it happens.
const SILENT: usize = 20;

/// Connections that were open when the fault struck.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Connections {
    /// All of them.
    pub open: usize,
    /// The same connection went on to its end, with every byte as it should be.
    pub survived: usize,
    /// Reset, closed, or silent for too long.
    pub reset: usize,
    /// Brought a byte that should not have come, or were found by hotpair to be answered differently by the members.
    pub diverged: usize,
}

/// One of the three clients that work.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Working {
    /// Bytes, or writes, that were done at the end.
    pub done: u64,
    /// And when the fault struck.
    pub done_at_fault: u64,
    /// Its longest stall.
    pub stall_ms: f64,
    /// The one at the failover.
    pub failover_stall_ms: f64,
}

/// What became of the connections that were held through a round. No client connects a second time.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Kept {
    /// How many.
    pub connections: Connections,
    /// Every byte of the download was right.
    pub download_sha256_ok: bool,
    /// The server says the same of the upload as the client.
    pub upload_sha256_ok: bool,
    /// Writes to the key-value server that were answered and that the survivor does not have.
    pub acked_writes_lost: u64,
    /// Of a web server.
    pub download: Working,
    /// To a web server.
    pub upload: Working,
    /// Pipelined INCR and SET to a redis.
    pub key_value: Working,
    /// What went wrong, one sentence a connection.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub troubles: Vec<String>,
}

impl Stage {
    /// Opens them; `keys` is what no earlier one has written to.
    pub(super) fn hold(&self, keys: String) -> Result<Held> {
        let list = self.guest().join("SHA256SUMS");
        let sums = fs::read_to_string(&list).with_context(|| format!("cannot read {}", list.display()))?;
        let [v4, v6] = self.entries();
        let (file, bytes, rate, every) = if self.status()?.hypervisor.accel == "kvm" { KVM } else { TCG };
        let plan = Plan {
            download: (v4, 80).into(),
            file: file.to_owned(),
            file_bytes: bytes,
            file_sha256: sum_of(&sums, file)?,
            upload: (v6, 8080).into(),
            upload_bytes: bytes,
            rate,
            every,
            key_value: (v4, 6379).into(),
            keys,
            silent: SILENT,
        };
        self.as_client(|| Held::open(&plan))
    }

    /// Which of these connections hotpair would not carry through a failover now, and why; with how many it has found to be
    /// answered differently.
    pub(super) fn not_carried(&self, held: &Held) -> Result<(Vec<String>, usize)> {
        let flows: Flows =
            serde_json::from_str(&self.ask_json(&["flows", super::stage::PAIR, "-n", "100000"])?)?;
        ensure!(flows.carried, "the pair carries no connections");
        let mut not = Vec::new();
        let mut diverged = 0;
        for local in held.locals().map(|local| local.to_string()) {
            match flows.flows.iter().find(|flow| flow.client == local) {
                Some(flow) if flow.verdict == "in_sync" => {}
                Some(flow) => {
                    diverged += usize::from(flow.verdict == "diverged");
                    not.push(format!("{local}: {}: {}", flow.verdict, flow.why));
                }
                None => not.push(format!("{local}: unknown")),
            }
        }
        Ok((not, diverged))
    }
}

impl Kept {
    /// Adds up the stories of connections through a fault and the failover that came of it (Unix milliseconds).
    pub(super) fn new(stories: &[Story], diverged: usize, fault_ms: f64, failover_ms: f64) -> Kept {
        let count = |what: fn(&End) -> bool| stories.iter().filter(|story| what(&story.end)).count();
        let of = |kind| stories.iter().find(|story| story.kind == kind);
        let well = |kind| of(kind).is_some_and(|story| story.end == End::Well);
        let exact = |ms: f64| (ms * 1e3).round() / 1e3;
        let working = |kind| {
            of(kind).map_or_else(Working::default, |story| Working {
                done: story.account.total(),
                done_at_fault: story.account.total_at(fault_ms),
                stall_ms: exact(story.account.longest()),
                failover_stall_ms: exact(story.account.longest_within(fault_ms, failover_ms)),
            })
        };
        let trouble = |story: &Story| match &story.end {
            End::Well => None,
            End::Lost(why) | End::Wrong(why) => Some(format!("{:?} from {}: {why}", story.kind, story.local)),
        };
        Kept {
            connections: Connections {
                open: stories.len(),
                survived: count(|end| *end == End::Well),
                reset: count(|end| matches!(end, End::Lost(_))),
                diverged: diverged.max(count(|end| matches!(end, End::Wrong(_)))),
            },
            download_sha256_ok: well(Kind::Download),
            upload_sha256_ok: well(Kind::Upload),
            acked_writes_lost: stories.iter().map(|story| story.lost_writes).sum(),
            download: working(Kind::Download),
            upload: working(Kind::Upload),
            key_value: working(Kind::KeyValue),
            troubles: stories.iter().filter_map(trouble).collect(),
        }
    }

    /// What should not be so.
    pub(super) fn faults(&self) -> Vec<String> {
        let Connections { open, survived, reset, diverged } = self.connections;
        let mut faults = Vec::new();
        if survived != open || reset + diverged > 0 {
            faults.push(format!(
                "of {open} connections {survived} survived, {reset} were reset, {diverged} diverged: {}",
                self.troubles.join("; ")
            ));
        }
        for (well, what) in [
            (self.download_sha256_ok, "the download is not the file"),
            (self.upload_sha256_ok, "what the server received is not the upload"),
            (self.acked_writes_lost == 0, "writes that were answered are lost"),
        ] {
            if !well {
                faults.push(what.to_owned());
            }
        }
        let working = [&self.download, &self.upload, &self.key_value];
        if !working.iter().all(|client| (1..client.done).contains(&client.done_at_fault)) {
            faults.push("a transfer was not under way when the fault struck".to_owned());
        }
        faults
    }

    /// One line.
    pub(super) fn line(&self) -> String {
        let Connections { open, survived, .. } = self.connections;
        format!(
            "{survived} of {open} connections survived; they stalled for {:.1} ms (download), {:.1} ms (upload), {:.1} ms \
             (key-value); {} writes answered, {} lost",
            self.download.failover_stall_ms,
            self.upload.failover_stall_ms,
            self.key_value.failover_stall_ms,
            self.key_value.done,
            self.acked_writes_lost
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept() -> Kept {
        let half = Working { done: 100, done_at_fault: 50, ..Working::default() };
        Kept {
            connections: Connections { open: 3, survived: 3, reset: 0, diverged: 0 },
            download_sha256_ok: true,
            upload_sha256_ok: true,
            download: half.clone(),
            upload: half.clone(),
            key_value: half,
            ..Kept::default()
        }
    }

    #[test]
    fn whatever_is_not_kept_is_a_fault() {
        assert_eq!(kept().faults(), Vec::<String>::new());
        let over = Working { done: 100, done_at_fault: 100, ..Working::default() };
        let reset = Connections { survived: 2, reset: 1, ..kept().connections };
        for broken in [
            Kept { connections: reset, ..kept() },
            Kept { connections: Connections { diverged: 1, ..kept().connections }, ..kept() },
            Kept { download_sha256_ok: false, ..kept() },
            Kept { upload_sha256_ok: false, ..kept() },
            Kept { acked_writes_lost: 1, ..kept() },
            Kept { upload: over, ..kept() },
            Kept { key_value: Working::default(), ..kept() },
        ] {
            assert_eq!(broken.faults().len(), 1, "{broken:?}");
        }
    }
}
