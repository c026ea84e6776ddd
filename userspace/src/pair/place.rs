//! One of the pair's two places: the member there, its signs of life, and what it is going through.

use hotpair_abi::heartbeat;
use hotpair_abi::maps::Member;

use super::{Nanos, Sign};

/// The signs of life of one member, as its row in the data plane has them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Signs {
    /// Last sign of life; 0 for none since the row was cleared.
    pub last: Nanos,
    /// Beating without a gap since.
    pub streak_since: Nanos,
    /// What the last heartbeat said.
    pub state: Option<heartbeat::State>,
    /// Changes with every start of the guest's kernel.
    pub boot_id: u64,
}

impl From<&Member> for Signs {
    fn from(row: &Member) -> Self {
        Signs {
            last: row.last_beat_ns,
            streak_since: row.streak_since_ns,
            state: u8::try_from(row.state).ok().and_then(heartbeat::State::from_u8),
            boot_id: row.boot_id,
        }
    }
}

/// What a place of the pair is going through.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// The hypervisor has not said yet whether something runs here.
    Unknown,
    /// Nothing is here. `retry_at` is when a start may be tried (again).
    Empty {
        /// Not before.
        retry_at: Nanos,
    },
    /// A member is being made; the hypervisor has been asked.
    Starting,
    /// It runs. Unless it serves by then, it is given up.
    Booting {
        /// By then.
        until: Nanos,
    },
    /// It serves, or was serving when last looked at.
    Serving,
    /// It is muted; the hypervisor is being asked to end it.
    Fencing {
        /// Whether a request is under way; otherwise one is due at `retry_at`.
        asked: bool,
        /// Not before.
        retry_at: Nanos,
    },
    /// It is gone for sure; its storage is being released.
    Releasing {
        /// Whether a request is under way; otherwise one is due at `retry_at`.
        asked: bool,
        /// Not before.
        retry_at: Nanos,
    },
}

/// One of the two places.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// What it is going through.
    pub phase: Phase,
    /// Since when.
    pub since: Nanos,
    /// Rises with every member made for this place; 0 before the first.
    pub generation: u64,
    /// Signs of life, as last observed.
    pub signs: Signs,
    /// Known from somebody else than the member itself: it is gone or halted. How, in words.
    pub lost: Option<Lost>,
    /// Nothing of it may go anywhere.
    pub muted: bool,
    /// Whether `generation` is certain: this controller made the member, or the hypervisor has named it.
    pub known: bool,
    /// Highest generation ever used here.
    pub highest: u64,
    /// Members in a row that could not be made or never served.
    pub failures: u32,
    /// Refusals in a row to end the old member or to release its storage.
    pub refusals: u32,
    /// Why the last one failed, or why the member was given up.
    pub why: Option<String>,
    /// Since when a standby has been silent or failing without a break.
    pub ailing_since: Option<Nanos>,
    /// Whether a replacement was asked for by the operator (overrides `auto_replace` and a pause, once).
    pub wanted: bool,
}

/// How a loss was noticed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lost {
    /// `hypervisor` or `carrier`.
    pub by: Sign,
    /// As a person would say it.
    pub how: String,
    /// When it was noticed.
    pub at: Nanos,
}
