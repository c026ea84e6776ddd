//! What this member says of itself at this moment: written by the checks, read by the pulse.
//!
//! Only atomics: the pulse never waits for whoever writes.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU32, AtomicU64, Ordering::Relaxed};

use hotpair_abi::heartbeat::State;
use tokio::sync::Notify;

/// What the next heartbeat carries, and what has become of the earlier ones.
#[derive(Debug)]
pub struct Vitals {
    state: AtomicU8,
    /// Wakes the pulse when the state has changed: such news does not wait for the next beat.
    pub(crate) changed: Notify,
    /// Requests processed since boot.
    pub requests: AtomicU64,
    /// Requests in flight.
    pub in_flight: AtomicU32,
    /// Whether the socket is open, that is: whether the address is there.
    pub bound: AtomicBool,
    /// Heartbeats sent.
    pub sent: AtomicU64,
    /// Heartbeats the kernel did not take.
    pub send_errors: AtomicU64,
    /// Beats that were left out because the guest did not run in time (its host was busy, or it was paused).
    pub left_out: AtomicU64,
    /// The latest that a beat has been in the present second, microseconds.
    pub late_us: AtomicU64,
    /// Datagrams received, of any kind.
    pub received: AtomicU64,
    /// Datagrams from the peer's address that were not heartbeats.
    pub malformed: AtomicU64,
    /// Datagrams from somebody else.
    pub strangers: AtomicU64,
}

impl Vitals {
    /// A member that has this state.
    #[must_use]
    pub fn new(state: State) -> Vitals {
        Vitals {
            state: AtomicU8::new(state as u8),
            changed: Notify::new(),
            requests: AtomicU64::new(0),
            in_flight: AtomicU32::new(0),
            bound: AtomicBool::new(false),
            sent: AtomicU64::new(0),
            send_errors: AtomicU64::new(0),
            left_out: AtomicU64::new(0),
            late_us: AtomicU64::new(0),
            received: AtomicU64::new(0),
            malformed: AtomicU64::new(0),
            strangers: AtomicU64::new(0),
        }
    }

    /// The present state.
    #[must_use]
    pub fn state(&self) -> State {
        State::from_u8(self.state.load(Relaxed)).expect("only states are stored")
    }

    /// Takes on a state and has it sent at once. `stopping` is final: a check that succeeds once more must not take it
    /// back. Returns the state before, if it was another.
    pub fn become_state(&self, next: State) -> Option<State> {
        let before = self
            .state
            .fetch_update(Relaxed, Relaxed, |now| {
                (now != State::Stopping as u8 && now != next as u8).then_some(next as u8)
            })
            .ok()?;
        self.changed.notify_one();
        State::from_u8(before)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stopping_is_final() {
        let vitals = Vitals::new(State::Starting);
        assert_eq!(vitals.become_state(State::Serving), Some(State::Starting));
        assert_eq!(vitals.become_state(State::Serving), None, "no news");
        assert_eq!(vitals.become_state(State::Stopping), Some(State::Serving));
        assert_eq!(vitals.become_state(State::Serving), None);
        assert_eq!(vitals.state(), State::Stopping);
    }
}
