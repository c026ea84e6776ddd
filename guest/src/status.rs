//! The status file: what the agent says and hears, for people and scripts inside the guest.
//!
//! Written whole or not at all (a new file renamed over the old one), once a second and at each change of state.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;

use serde::{Deserialize, Serialize};

use crate::boot;
use crate::peer::{Peer, PeerStatus};
use crate::vitals::Vitals;

/// Everything in the file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Status {
    /// CLOCK_BOOTTIME at which it was written, nanoseconds.
    pub written_ns: u64,
    /// The agent's process id.
    pub pid: u32,
    /// Its version.
    pub version: String,
    /// This member's state.
    pub state: String,
    /// This boot, hexadecimal.
    pub boot_id: String,
    /// Milliseconds between heartbeats.
    pub interval_ms: f64,
    /// Whether the socket is open.
    pub bound: bool,
    /// Heartbeats sent.
    pub sent: u64,
    /// Heartbeats the kernel did not take.
    pub send_errors: u64,
    /// Beats left out because the guest did not run in time.
    pub left_out: u64,
    /// The latest beat since the last writing, microseconds.
    pub late_us: u64,
    /// Requests processed.
    pub requests: u64,
    /// Requests in flight.
    pub in_flight: u32,
    /// Datagrams from the peer that were no heartbeats.
    pub malformed: u64,
    /// Datagrams from somebody else.
    pub strangers: u64,
    /// The other member.
    pub peer: PeerStatus,
}

impl Status {
    /// Takes everything together. Begins a new second for the latest beat.
    #[must_use]
    pub fn now(vitals: &Vitals, peer: &Peer, boot_id: u64, interval: std::time::Duration) -> Status {
        let now_ns = boot::now_ns();
        Status {
            written_ns: now_ns,
            pid: std::process::id(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            state: vitals.state().name().to_owned(),
            boot_id: format!("{boot_id:016x}"),
            interval_ms: interval.as_secs_f64() * 1e3,
            bound: vitals.bound.load(Relaxed),
            sent: vitals.sent.load(Relaxed),
            send_errors: vitals.send_errors.load(Relaxed),
            left_out: vitals.left_out.load(Relaxed),
            late_us: vitals.late_us.swap(0, Relaxed),
            requests: vitals.requests.load(Relaxed),
            in_flight: vitals.in_flight.load(Relaxed),
            malformed: vitals.malformed.load(Relaxed),
            strangers: vitals.strangers.load(Relaxed),
            peer: peer.status(now_ns),
        }
    }

    /// Replaces the file in one step.
    ///
    /// # Errors
    /// When the directory is missing or not writable.
    pub fn write(&self, path: &Path) -> io::Result<()> {
        let mut text = serde_json::to_vec_pretty(self)?;
        text.push(b'\n');
        let fresh = path.with_extension("new");
        fs::write(&fresh, text)?;
        fs::rename(&fresh, path)
    }

    /// For people.
    #[must_use]
    pub fn text(&self) -> String {
        use std::fmt::Write;
        let mut out = String::new();
        let age_s = boot::now_ns().saturating_sub(self.written_ns) as f64 / 1e9;
        let Status { state, interval_ms, sent, send_errors, left_out, late_us, requests, in_flight, .. } =
            self;
        if age_s > 3.0 {
            let _ = writeln!(out, "the agent does not write its status any more: this is {age_s:.0} s old");
        }
        if !self.bound {
            let _ = writeln!(out, "no heartbeats leave: the address to send from is not there");
        }
        let _ = writeln!(
            out,
            "me    {state}, a heartbeat every {interval_ms} ms: {sent} sent, {send_errors} failed, {left_out} left \
             out, at most {late_us} µs late; {requests} requests, {in_flight} in flight"
        );
        let PeerStatus { state, received, lost, reordered, .. } = &self.peer;
        let _ = write!(out, "peer  {state}");
        if let Some(age_ms) = self.peer.age_ms {
            let _ = write!(
                out,
                ", heard {age_ms:.1} ms before: {received} received, {lost} lost, {reordered} out of order"
            );
        }
        if let Some((requests, in_flight)) = self.peer.requests.zip(self.peer.in_flight) {
            let _ = write!(out, "; {requests} requests, {in_flight} in flight");
        }
        out.push('\n');
        if self.malformed + self.strangers > 0 {
            let _ = writeln!(
                out,
                "ignored: {} datagrams of the peer that were no heartbeats, {} from somebody else",
                self.malformed, self.strangers
            );
        }
        out
    }
}

/// Reads the file of a running agent.
///
/// # Errors
/// When there is none, or it was written by something else.
pub fn read(path: &Path) -> Result<Status, StatusError> {
    let shown = path.display().to_string();
    let text = fs::read(path).map_err(|source| StatusError::Missing { path: shown.clone(), source })?;
    serde_json::from_slice(&text).map_err(|source| StatusError::Unreadable { path: shown, source })
}

/// Why there is no status to show.
#[derive(Debug, thiserror::Error)]
pub enum StatusError {
    /// No file.
    #[error("cannot read {path}: does the agent run? (systemctl status hotpair-guest)")]
    Missing {
        /// Which file.
        path: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Not a status.
    #[error("{path} is not a status file of this version")]
    Unreadable {
        /// Which file.
        path: String,
        /// Why.
        #[source]
        source: serde_json::Error,
    },
}
