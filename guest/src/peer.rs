//! What the other member says, and how long ago.

use hotpair_abi::heartbeat::{Heartbeat, State};
use serde::{Deserialize, Serialize};

/// What has been heard from the peer.
#[derive(Clone, Debug, Default)]
pub struct Peer {
    last: Option<Heard>,
    /// The boot before the last one's: what still comes of it is late or replayed.
    boot_before: Option<u64>,
    received: u64,
    lost: u64,
    reordered: u64,
}

#[derive(Clone, Copy, Debug)]
struct Heard {
    beat: Heartbeat,
    at_ns: u64,
}

/// News about the peer that is worth a line in the journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// The first heartbeat.
    Appeared(State),
    /// Another boot: the peer was restarted or replaced.
    Rebooted(State),
    /// Another state.
    State(State, State),
}

/// The peer as `status` shows it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// `unknown` before the first heartbeat, `silent` when overdue, else the peer's own word.
    pub state: String,
    /// Milliseconds since its last heartbeat.
    pub age_ms: Option<f64>,
    /// Its boot id, hexadecimal.
    pub boot_id: Option<String>,
    /// Requests it has processed since its boot.
    pub requests: Option<u64>,
    /// Its requests in flight.
    pub in_flight: Option<u32>,
    /// Heartbeats received.
    pub received: u64,
    /// Heartbeats that were missing in the sequence.
    pub lost: u64,
    /// Heartbeats that came after a later one, or twice, or of the boot before.
    pub reordered: u64,
}

impl Peer {
    /// Takes in a heartbeat that arrived at `now_ns` (CLOCK_BOOTTIME).
    pub fn hear(&mut self, beat: Heartbeat, now_ns: u64) -> Option<News> {
        self.received += 1;
        let Some(Heard { beat: last, .. }) = self.last else {
            self.last = Some(Heard { beat, at_ns: now_ns });
            return Some(News::Appeared(beat.state));
        };
        if beat.boot_id == last.boot_id {
            if beat.sequence <= last.sequence {
                self.reordered += 1;
                return None;
            }
            let gap = beat.sequence - last.sequence - 1;
            // A restarted agent begins far above its predecessor: that is no loss. No network loses a second in a
            // row without this being the smaller of the worries.
            let longest = 1_000_000 / u64::from(beat.interval_us.max(1_000)) + 1;
            if gap <= longest {
                self.lost += gap;
            }
        }
        if self.boot_before == Some(beat.boot_id) {
            self.reordered += 1;
            return None;
        }
        self.last = Some(Heard { beat, at_ns: now_ns });
        if beat.boot_id != last.boot_id {
            self.boot_before = Some(last.boot_id);
            Some(News::Rebooted(beat.state))
        } else if beat.state != last.state {
            Some(News::State(last.state, beat.state))
        } else {
            None
        }
    }

    /// Whether its next heartbeat is overdue: five of its own intervals, at least 100 ms.
    #[must_use]
    pub fn is_silent(&self, now_ns: u64) -> bool {
        self.last.is_some_and(|heard| {
            let patience = (u64::from(heard.beat.interval_us) * 5_000).max(100_000_000);
            now_ns.saturating_sub(heard.at_ns) > patience
        })
    }

    /// The peer as `status` shows it.
    #[must_use]
    pub fn status(&self, now_ns: u64) -> PeerStatus {
        let last = self.last.as_ref();
        PeerStatus {
            state: match last {
                None => "unknown",
                Some(_) if self.is_silent(now_ns) => "silent",
                Some(heard) => heard.beat.state.name(),
            }
            .to_owned(),
            age_ms: last.map(|heard| (now_ns.saturating_sub(heard.at_ns) / 1_000) as f64 / 1_000.0),
            boot_id: last.map(|heard| format!("{:016x}", heard.beat.boot_id)),
            requests: last.map(|heard| heard.beat.requests),
            in_flight: last.map(|heard| heard.beat.in_flight),
            received: self.received,
            lost: self.lost,
            reordered: self.reordered,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn beat(boot_id: u64, sequence: u64, state: State) -> Heartbeat {
        Heartbeat { state, boot_id, sequence, sent_ns: 0, requests: 5, in_flight: 1, interval_us: 2_000 }
    }

    #[test]
    fn every_change_is_news_once() {
        let mut peer = Peer::default();
        assert_eq!(peer.status(0).state, "unknown");
        assert_eq!(peer.hear(beat(1, 10, State::Starting), 0), Some(News::Appeared(State::Starting)));
        assert_eq!(peer.hear(beat(1, 11, State::Starting), 1), None);
        assert_eq!(
            peer.hear(beat(1, 12, State::Serving), 2),
            Some(News::State(State::Starting, State::Serving))
        );
        assert_eq!(peer.hear(beat(2, 3, State::Serving), 3), Some(News::Rebooted(State::Serving)));
        assert_eq!(peer.hear(beat(2, 4, State::Serving), 4), None);
        assert_eq!(peer.hear(beat(1, 13, State::Serving), 5), None, "of the boot before");
        assert_eq!(peer.status(5).boot_id.as_deref(), Some("0000000000000002"));
    }

    #[test]
    fn losses_are_counted_and_an_agents_restart_is_none() {
        let mut peer = Peer::default();
        for sequence in [100, 101, 104, 103, 104, 105, 5_000_000, 5_000_001] {
            peer.hear(beat(1, sequence, State::Serving), 0);
        }
        let status = peer.status(0);
        assert_eq!((status.received, status.lost, status.reordered), (8, 2, 2));
    }

    #[test]
    fn a_late_heartbeat_does_not_bring_back_an_older_state() {
        let mut peer = Peer::default();
        peer.hear(beat(1, 10, State::Serving), 0);
        peer.hear(beat(1, 12, State::Stopping), 0);
        assert_eq!(peer.hear(beat(1, 11, State::Serving), 0), None);
        assert_eq!(peer.status(0).state, "stopping");
    }

    #[test]
    fn a_peer_that_is_overdue_is_silent() {
        let mut peer = Peer::default();
        peer.hear(beat(1, 10, State::Serving), 1_000);
        assert_eq!(peer.status(100_000_000).state, "serving");
        assert_eq!(peer.status(100_002_000).state, "silent");
    }
}
