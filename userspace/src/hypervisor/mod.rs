//! Starting, stopping and releasing members. One trait, a backend a file; nothing in here decides anything.
//!
//! Every operation is idempotent and reports what it has *seen*, not what it has asked for: `stop` returns when the
//! member is known to be gone.

pub mod command;
pub mod domain_xml;
pub mod image;
pub mod kvm;
#[cfg(feature = "libvirt")]
pub mod libvirt;
mod orphans;
pub mod template;

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use async_trait::async_trait;
use hotpair_abi::{PairId, Slot};

use crate::config::{Release, Vm};

/// One member, by everything a backend needs to make it.
#[derive(Clone, Debug)]
pub struct MemberSpec {
    /// The pair's index in the data plane.
    pub pair_id: PairId,
    /// The pair's name.
    pub pair: String,
    /// The member's place.
    pub slot: Slot,
    /// Rises with every member made for this place: the names of its domain and its volume carry it.
    pub generation: u64,
    /// The tap it plugs into; it exists, persistent, and belongs to hotpair.
    pub tap: String,
    /// MAC of its NIC.
    pub mac: [u8; 6],
    /// The pair's entry addresses.
    pub entry: Vec<IpAddr>,
    /// Where the host reaches it.
    pub internal_ip: Ipv4Addr,
    /// What it is made from.
    pub vm: Vm,
}

/// A member that was found running.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Running {
    /// Its place.
    pub slot: Slot,
    /// Its generation.
    pub generation: u64,
}

/// What a backend noticed by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum VmEvent {
    /// A member is gone (crashed, destroyed, shut down) or about to go.
    Gone {
        /// Name of its pair.
        pair: String,
        /// Its place.
        slot: Slot,
        /// Its generation.
        generation: u64,
        /// As a person would say it: "destroyed", "crashed", "shut down".
        how: String,
    },
    /// A member does not execute any more but still exists (paused, suspended, I/O error).
    Halted {
        /// Name of its pair.
        pair: String,
        /// Its place.
        slot: Slot,
        /// Its generation.
        generation: u64,
        /// As a person would say it.
        how: String,
    },
    /// The hypervisor cannot be reached.
    Unreachable {
        /// Why.
        why: String,
    },
    /// It can be reached again.
    Reachable,
}

/// Why an operation failed.
#[derive(Debug, thiserror::Error)]
pub enum HypervisorError {
    /// The hypervisor's own word. The text names what was tried, on what, and the hypervisor's reason.
    #[error("{0}")]
    Failed(String),
    /// It did not answer in time; what was asked may still happen.
    #[error("{what} did not finish within {}", humantime::format_duration(*.after))]
    TimedOut {
        /// What was tried.
        what: String,
        /// How long was waited.
        after: Duration,
    },
}

/// A way to run members.
#[async_trait]
pub trait Hypervisor: Send + Sync {
    /// `kvm`, `tcg` or `command`: what the members run on.
    fn accel(&self) -> &'static str;

    /// Makes the member's storage and starts it. A volume left by an earlier, half-done try of the same generation is
    /// replaced. On failure nothing is left behind.
    async fn start(&self, member: &MemberSpec) -> Result<(), HypervisorError>;

    /// Stops the member at once, whatever it does, and returns when it is seen to be gone. Success when there is none.
    async fn stop(&self, member: &MemberSpec) -> Result<(), HypervisorError>;

    /// Gives up the storage of a member that is gone. Success when there is none.
    async fn release(&self, member: &MemberSpec, how: Release) -> Result<(), HypervisorError>;

    /// The pair's members that run now.
    async fn running(&self, pair: &str) -> Result<Vec<Running>, HypervisorError>;

    /// What is left of the pair on this host, running or not: domains and volumes by name. For `cleanup` and tests.
    async fn leftovers(&self, pair: &str) -> Result<Vec<String>, HypervisorError>;
}
