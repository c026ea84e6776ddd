//! Loads, pins, adopts and talks to the eBPF programs. Knows maps and links; decides nothing.
//!
//! What it must never do: leave a pair half set up, touch a pin or a program that is not ours, or stand in the way of a
//! flip. [`Dataplane::set_role`] is one atomic store into mapped kernel memory: no system call, no lock, no error.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::time::Duration;

use hotpair_abi::count::Counter;
use hotpair_abi::event::Event;
use hotpair_abi::maps::Member;
use hotpair_abi::{Epoch, PairId, RoleWord, Slot};

use crate::config::XdpMode;

mod error;

pub use error::DataplaneError;

/// The NIC through which clients reach the entry addresses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uplink {
    /// Its name.
    pub name: String,
    /// Its interface index.
    pub index: u32,
    /// Its MAC: what ARP and ND for entry addresses are answered with.
    pub mac: [u8; 6],
    /// Its MTU.
    pub mtu: u32,
}

/// A pair, as the data plane must know it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PairSetup {
    /// The pair's name, at most 15 bytes: how its row is found again after a restart.
    pub name: String,
    /// Its entry addresses.
    pub entry: Vec<IpAddr>,
    /// Both members' MAC.
    pub mac: [u8; 6],
    /// A member silent for this long is silent.
    pub timeout: Duration,
    /// Whether any frame of a member is a sign of life (`heartbeat.source = "probe"`).
    pub probe: bool,
}

/// How a data plane came to be open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Opened {
    /// Nothing was there: loaded, attached, pinned.
    Fresh,
    /// It ran already: its maps and its state were kept, its programs replaced in place.
    Adopted,
}

/// The running data plane of this host.
pub struct Dataplane {}

/// What the data plane reports at once.
pub struct Events {}

impl Events {
    /// The next event; waits for one. Dropping the future loses nothing.
    ///
    /// # Errors
    /// Never ends by itself; fails only when the ring buffer cannot be waited for any more.
    pub async fn next(&mut self) -> Event {
        std::future::pending().await
    }
}

impl Dataplane {
    /// Loads the programs and attaches `from_uplink` to the uplink, or adopts what is pinned under `bpf_dir`.
    ///
    /// # Errors
    /// Says what stands in the way and what to do about it; then nothing has been changed.
    pub fn open(
        bpf_dir: &Path,
        xdp: XdpMode,
        uplink: &Uplink,
        host_internal_ip: Ipv4Addr,
        max_pairs: u32,
    ) -> Result<(Dataplane, Opened), DataplaneError> {
        let _ = (bpf_dir, xdp, uplink, host_internal_ip, max_pairs);
        Err(DataplaneError::NotBuilt)
    }

    /// The rows in use, with their pairs' names.
    #[must_use]
    pub fn pairs(&self) -> Vec<(PairId, String)> {
        Vec::new()
    }

    /// Makes or changes a pair. Keeps its role word, its taps and its members' rows.
    ///
    /// # Errors
    /// When the row does not exist, an entry address belongs to another pair, or the kernel refuses.
    pub fn put_pair(&self, id: PairId, setup: &PairSetup) -> Result<(), DataplaneError> {
        let _ = (id, setup);
        Err(DataplaneError::NotBuilt)
    }

    /// Removes a pair with its addresses and taps. Success when there is none.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn remove_pair(&self, id: PairId) -> Result<(), DataplaneError> {
        let _ = id;
        Err(DataplaneError::NotBuilt)
    }

    /// Attaches a slot's tap, in place of the one it had. The same tap again only refreshes it.
    ///
    /// # Errors
    /// When the tap is not there, is not a link frames can be redirected to, or the kernel refuses.
    pub fn attach_tap(
        &self,
        id: PairId,
        slot: Slot,
        tap: &str,
        ifindex: u32,
        internal_ip: Ipv4Addr,
    ) -> Result<(), DataplaneError> {
        let _ = (id, slot, tap, ifindex, internal_ip);
        Err(DataplaneError::NotBuilt)
    }

    /// Detaches a slot's tap. Success when there is none.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn detach_tap(&self, id: PairId, slot: Slot) -> Result<(), DataplaneError> {
        let _ = (id, slot);
        Err(DataplaneError::NotBuilt)
    }

    /// The pair's role word; the all-zero word for a row that does not exist.
    #[must_use]
    pub fn role(&self, id: PairId) -> RoleWord {
        let _ = id;
        RoleWord::default()
    }

    /// Writes the pair's role word: one atomic store, effective with the next packet.
    pub fn set_role(&self, id: PairId, word: RoleWord) {
        let _ = (id, word);
    }

    /// The epoch in which the kernel's latch last failed over by itself; zero for never.
    #[must_use]
    pub fn tripped(&self, id: PairId) -> Epoch {
        let _ = id;
        Epoch(0)
    }

    /// Lets packets of the entry addresses out until this CLOCK_BOOTTIME (nanoseconds); `u64::MAX` for ever.
    pub fn set_lease(&self, id: PairId, until_ns: u64) {
        let _ = (id, until_ns);
    }

    /// A member's signs of life. Each field is read atomically; the fields of one heartbeat may be torn.
    #[must_use]
    pub fn member(&self, id: PairId, slot: Slot) -> Member {
        let _ = (id, slot);
        Member::default()
    }

    /// Forgets a member's signs of life: what comes next begins a new streak.
    pub fn clear_member(&self, id: PairId, slot: Slot) {
        let _ = (id, slot);
    }

    /// Every counter of a pair, or of no pair (`None`), summed over CPUs.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn counters(&self, id: Option<PairId>) -> Result<Vec<(Counter, u64)>, DataplaneError> {
        let _ = id;
        Err(DataplaneError::NotBuilt)
    }

    /// The events of this data plane. One reader at a time.
    ///
    /// # Errors
    /// When somebody reads them already, or the kernel refuses.
    pub fn events(&self) -> Result<Events, DataplaneError> {
        Err(DataplaneError::NotBuilt)
    }

    /// Detaches and unpins all that is ours under `bpf_dir`; returns what was removed, in words. Success when there is
    /// nothing.
    ///
    /// # Errors
    /// When something of ours cannot be removed; the rest has been.
    pub fn remove_all(bpf_dir: &Path) -> Result<Vec<String>, DataplaneError> {
        let _ = bpf_dir;
        Err(DataplaneError::NotBuilt)
    }
}
