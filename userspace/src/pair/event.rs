//! What the pair is told: what was seen, what the hypervisor says, what came of what was asked for, what an operator asks.

use hotpair_abi::{Epoch, Slot};

use super::{Nanos, Signs};

/// What happened.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// Somebody looked at the data plane: the signs of life of both members, and the epoch in which its latch tripped.
    Observed {
        /// Slot 0 and slot 1.
        signs: [Signs; 2],
        /// `Epoch(0)` for never.
        tripped: Epoch,
    },
    /// The hypervisor says which members run.
    Running {
        /// Place and generation of each.
        list: Vec<(Slot, u64)>,
        /// When it was asked: it says nothing about what happened since.
        asked_at: Nanos,
    },
    /// The hypervisor cannot be reached: what fails from now on says nothing about what was asked for.
    Unreachable,
    /// The hypervisor can be reached again: what failed may be tried at once.
    Reachable,
    /// What kept something else from being done is over: what failed may be tried at once.
    Retry,
    /// A member of that generation is gone or does not execute any more.
    Lost {
        /// Its place.
        slot: Slot,
        /// Its generation; none where the sign does not tell (a tap's carrier).
        generation: Option<u64>,
        /// Who says so.
        by: Sign,
        /// As a person would say it.
        how: String,
    },
    /// A member that was halted executes again.
    Found {
        /// Its place.
        slot: Slot,
        /// Its generation; none where the sign does not tell.
        generation: Option<u64>,
        /// Whose `Lost` is taken back.
        by: Sign,
    },
    /// An [`Action::Start`] ended.
    Started {
        /// Its place.
        slot: Slot,
        /// Its generation.
        generation: u64,
        /// Why it failed.
        result: Result<(), String>,
    },
    /// An [`Action::Stop`] ended.
    Stopped {
        /// Its place.
        slot: Slot,
        /// Its generation.
        generation: u64,
        /// Why it failed.
        result: Result<(), String>,
    },
    /// An [`Action::Release`] ended.
    Released {
        /// Its place.
        slot: Slot,
        /// Its generation.
        generation: u64,
        /// Why it failed.
        result: Result<(), String>,
    },
    /// Neither member owes anybody an answer: what an [`Action::Watch`](super::Action::Watch) has waited for.
    Quiet {
        /// As in the action.
        since: Nanos,
    },
    /// The operator asks.
    Request(RequestId, Request),
    /// Time has passed.
    Tick,
}

/// What an operator may ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// Planned: nothing is lost.
    Switchover,
    /// Forced: the primary is treated as failed.
    Failover,
    /// Leave everything as it is.
    Pause,
    /// Look after it again.
    Resume,
    /// Make a new member in that place; the standby's if none is named.
    Replace(Option<Slot>),
}

/// Names an operator's request until it is answered.
pub type RequestId = u64;

/// What gives a failure away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sign {
    /// No heartbeat for as long as the timeout.
    Heartbeat,
    /// The member itself says that it fails.
    Agent,
    /// The hypervisor says that it is gone or halted.
    Hypervisor,
    /// Nobody holds its tap any more, or the tap is gone or down.
    Carrier,
    /// The kernel's latch acted.
    Latch,
    /// An operator.
    Operator,
}

impl Sign {
    /// As in the API.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Sign::Heartbeat => "heartbeat",
            Sign::Agent => "agent",
            Sign::Hypervisor => "hypervisor",
            Sign::Carrier => "carrier",
            Sign::Latch => "latch",
            Sign::Operator => "operator",
        }
    }
}
