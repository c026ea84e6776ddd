//! What the pair wants done.

use std::time::Duration;

use hotpair_abi::{Epoch, RoleWord, Slot};

use super::{Nanos, RequestId, Saved, Sign};
use crate::api::types::{RecordKind, Refusal};

/// What shall be done. In this order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Write the role word.
    SetRole(RoleWord),
    /// Have what each conversation is owed be counted from now on, and say [`Event::Quiet`](super::Event::Quiet) in a
    /// moment in which nobody is owed anything. The counting ends with the handover that goes by it.
    Watch {
        /// Names the occasion.
        since: Nanos,
        /// Nobody waits for that moment any longer.
        until: Nanos,
    },
    /// No handover comes of it: nothing is counted any more.
    Unwatch,
    /// Tell the pair's connections who speaks, though no other slot has become active.
    Tell {
        /// Whether those that are reset by that are counted. Otherwise an earlier controller may have told them already.
        counts_resets: bool,
    },
    /// Tell the uplink's neighbours where the entry addresses are.
    Announce,
    /// Write what must survive, before anything after this is done.
    Save(Saved),
    /// Forget the signs of life of this place.
    ClearSigns(Slot),
    /// Make and start a member.
    Start {
        /// Its place.
        slot: Slot,
        /// Its generation.
        generation: u64,
    },
    /// End a member and see that it is gone.
    Stop {
        /// Its place.
        slot: Slot,
        /// Its generation.
        generation: u64,
    },
    /// Give up the storage of a member that is gone.
    Release {
        /// Its place.
        slot: Slot,
        /// Its generation.
        generation: u64,
    },
    /// Ask the hypervisor which members run.
    AskRunning,
    /// A line for the history.
    Record(Entry),
    /// Answer an operator's request.
    Answer(RequestId, Result<String, Refusal>),
}

/// A line for the history, before it has a wall clock's time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// What.
    pub kind: RecordKind,
    /// The place it is about.
    pub slot: Option<Slot>,
    /// Generation of the member there.
    pub generation: Option<u64>,
    /// Epoch before.
    pub epoch_before: Epoch,
    /// Epoch after.
    pub epoch_after: Epoch,
    /// What gave it away.
    pub detected_by: Option<Sign>,
    /// From the last sign of life to the decision.
    pub detect: Option<Duration>,
    /// As a sentence.
    pub text: String,
}
