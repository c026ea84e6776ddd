//! Loads, pins, adopts and talks to the eBPF programs. Knows maps and links; decides nothing.
//!
//! What it must never do: leave a pair half set up, touch a pin or a program that is not ours, or stand in the way of a
//! flip. [`Dataplane::set_role`] is one atomic store into mapped kernel memory: no system call, no lock, no error.

use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use aya::maps::{Array, ArrayOfMaps, HashMap, Map, MapData, PerCpuArray, RingBuf};
use hotpair_abi::count::{Counter, PER_ROW};
use hotpair_abi::handover;
use hotpair_abi::maps::{Host, Member, Pair, Port};
use hotpair_abi::role::HANDOVER_LIMIT_NS;
use hotpair_abi::{Epoch, PairId, RoleWord, Slot};

use crate::config::XdpMode;

mod connections;
mod entries;
mod error;
mod events;
mod hear;
mod hurry;
mod index;
mod layout;
mod load;
#[cfg(feature = "log")]
mod log_lines;
mod pairs;
mod pins;
mod rows;
#[cfg(test)]
mod stack;
mod sys;
mod taps;
mod uplink;

pub use error::DataplaneError;
pub use events::Events;
pub use hurry::Hurry;
pub use sys::has_tcx;
pub use uplink::{Attached, attached};

/// The largest MTU of an uplink: a frame with its headroom must fit into one page, or the kernel cannot duplicate it
/// (`xdpf_clone` gives up, and then the other member does not get it either).
pub const MAX_UPLINK_MTU: u32 = 3498;

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
    /// Whether its TCP connections are kept fit for a takeover.
    pub tcp: bool,
    /// Whether what its members send on a TCP connection is compared.
    pub compare: bool,
    /// Whether of a TCP connection the first answer is heard, whosever it is.
    pub first: bool,
    /// How long the standby may be late with a TCP connection before nothing waits for it.
    pub lag_limit: Duration,
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
///
/// Dropping it stops nothing: everything is pinned.
pub struct Dataplane {
    pins: pins::Pins,
    uplink: String,
    rows: u32,
    pairs: rows::Rows<Pair>,
    members: rows::Rows<Member>,
    programs: Vec<load::Loaded>,
    /// What is changed by system calls, one change at a time.
    maps: Mutex<Maps>,
    events_taken: Arc<AtomicBool>,
    #[cfg(feature = "log")]
    _log: log_lines::Reader,
}

/// A row of `STATS`.
type Counts = [u64; PER_ROW as usize];

struct Maps {
    entries: entries::Entries,
    ports: HashMap<MapData, u32, Port>,
    groups: ArrayOfMaps<MapData, MapData>,
    taps: MapData,
    stats: PerCpuArray<MapData, Counts>,
}

impl Dataplane {
    /// Loads the programs and attaches `from_uplink` to the uplink, or adopts what is pinned under `bpf_dir` and
    /// replaces its programs in place: no packet is lost, role words and members' rows stay.
    ///
    /// The number of pairs is fixed by whoever starts fresh. Needs Linux 6.6.
    ///
    /// # Errors
    /// Says what stands in the way and what to do about it. What ran before goes on running.
    pub fn open(
        bpf_dir: &Path,
        xdp: XdpMode,
        uplink: &Uplink,
        host_internal_ip: Ipv4Addr,
        max_pairs: u32,
    ) -> Result<(Dataplane, Opened), DataplaneError> {
        if !rustix::process::geteuid().is_root() && !may_load() {
            return Err(DataplaneError::NotPermitted);
        }
        let is_veth = uplink::check(uplink)?;
        let pins = pins::Pins::open(bpf_dir)?;
        let plane = match load::load(&pins, uplink, xdp, is_veth, host_internal_ip, max_pairs) {
            Ok(plane) => plane,
            Err(error) => {
                if pins.is_half_made() {
                    pins.forget_half_made();
                }
                return Err(error);
            }
        };
        let (opened, host, before) = (plane.opened, plane.host, plane.before);
        let this = Dataplane::over(pins, uplink, plane)?;
        // The uplink before the taps: an older version addressed frames on their way into a tap, this one before that.
        // Twice does no harm, not at all would.
        let attached = this
            .hear_entries()
            // Before the change of mode: what is planned in generic XDP would arrive without its plan. Should that change be
            // refused, nothing is planned until the next start, which costs some speed and nothing else.
            .and_then(|()| match before {
                Some(before) if before.keeps_metadata > host.keeps_metadata => {
                    load::rewrite_host(&this.pins, Host { keeps_metadata: 0, ..before })
                }
                _ => Ok(()),
            })
            .and_then(|()| uplink::attach(&this.pins, uplink, xdp, this.program("from_uplink").as_fd()))
            .and_then(|()| this.refresh_taps())
            // Last: had anything been refused, what runs would go on with what it knew.
            .and_then(|()| match opened {
                Opened::Fresh => Ok(()),
                Opened::Adopted => load::rewrite_host(&this.pins, host),
            });
        if attached.is_err() && opened == Opened::Fresh {
            this.pins.forget_half_made();
        }
        attached.map(|()| (this, opened))
    }

    fn over(pins: pins::Pins, uplink: &Uplink, plane: load::Plane) -> Result<Dataplane, DataplaneError> {
        let map = |name: &str| {
            let path = pins.map(name);
            MapData::from_pin(&path)
                .map_err(|error| DataplaneError::map(format!("opening {}", path.display()), &error))
        };
        let typed =
            |name: &str, error: aya::maps::MapError| DataplaneError::map(format!("opening {name}"), &error);
        let mapped = |name: &str, source| DataplaneError::kernel(format!("mapping {name}"), source);
        let pairs = map("PAIRS")?;
        let members = map("MEMBERS")?;
        let host =
            Array::try_from(Map::Array(map(layout::HOST)?)).map_err(|error| typed(layout::HOST, error))?;
        let index = index::Index::over(host, &map("INDEX")?, layout::index_rows(plane.pairs))?;
        let maps = Maps {
            entries: HashMap::try_from(Map::HashMap(map("ENTRIES")?))
                .and_then(|entries| entries::Entries::read(entries, index))
                .map_err(|error| typed("ENTRIES", error))?,
            ports: HashMap::try_from(Map::HashMap(map("PORTS")?)).map_err(|error| typed("PORTS", error))?,
            groups: ArrayOfMaps::try_from(Map::ArrayOfMaps(map("GROUPS")?))
                .map_err(|error| typed("GROUPS", error))?,
            taps: map("TAPS")?,
            stats: PerCpuArray::try_from(Map::PerCpuArray(map("STATS")?))
                .map_err(|error| typed("STATS", error))?,
        };
        Ok(Dataplane {
            uplink: uplink.name.clone(),
            rows: plane.pairs,
            pairs: rows::Rows::new(pairs.fd().as_fd(), plane.pairs)
                .map_err(|source| mapped("PAIRS", source))?,
            members: rows::Rows::new(members.fd().as_fd(), plane.pairs * 2)
                .map_err(|source| mapped("MEMBERS", source))?,
            programs: plane.programs,
            maps: Mutex::new(maps),
            events_taken: Arc::new(AtomicBool::new(false)),
            #[cfg(feature = "log")]
            _log: plane.log,
            pins,
        })
    }

    /// The maps. A panic while they were held has left whole system calls behind, never half of one.
    fn maps(&self) -> MutexGuard<'_, Maps> {
        self.maps.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn program(&self, name: &str) -> &aya::programs::ProgramFd {
        &self.programs.iter().find(|program| program.name == name).expect("all programs were loaded").fd
    }

    /// A program's descriptor, for tests that run it on frames of their own.
    #[doc(hidden)]
    #[must_use]
    pub fn program_fd(&self, name: &str) -> Option<BorrowedFd<'_>> {
        self.programs.iter().find(|program| program.name == name).map(|program| program.fd.as_fd())
    }

    /// How many instructions the verifier walked through for each program: its limit is a million.
    #[must_use]
    pub fn verified_instructions(&self) -> Vec<(&'static str, u32)> {
        self.programs.iter().map(|program| (program.name, program.verified)).collect()
    }

    /// How many pairs there is room for.
    #[must_use]
    pub fn max_pairs(&self) -> u32 {
        self.rows
    }

    /// The pair's role word; the all-zero word for a row that does not exist.
    #[must_use]
    pub fn role(&self, id: PairId) -> RoleWord {
        self.pairs.get(id.0).map_or(RoleWord::default(), |row| {
            // SAFETY: a field of a mapped row.
            RoleWord(unsafe { rows::word(&raw mut (*row).role) }.load(Ordering::Acquire))
        })
    }

    /// Writes the pair's role word: one atomic store, effective with the next packet. A row that does not exist is
    /// left alone. A handover ends by itself after [`HANDOVER_LIMIT_NS`].
    pub fn set_role(&self, id: PairId, word: RoleWord) {
        if let Some(row) = self.pairs.get(id.0) {
            if word.handover() {
                let until = crate::controller::boottime() + HANDOVER_LIMIT_NS;
                // SAFETY: a field of a mapped row.
                unsafe { rows::word(&raw mut (*row).handover_until_ns) }.store(until, Ordering::Release);
            }
            // SAFETY: a field of a mapped row.
            unsafe { rows::word(&raw mut (*row).role) }.store(word.0, Ordering::Release);
        }
    }

    /// Has what each conversation of the pair owes be counted, for a switchover that begins in its present epoch.
    pub fn watch(&self, id: PairId) {
        if let Some(row) = self.pairs.get(id.0) {
            let epoch = self.role(id).epoch().0;
            // SAFETY: a field of a mapped row.
            let watch = unsafe { rows::word(&raw mut (*row).watch) };
            let occasion = (watch.load(Ordering::Acquire) as u16).wrapping_add(1);
            watch.store(handover::watch(epoch, occasion), Ordering::Release);
        }
    }

    /// Nothing is counted any more.
    pub fn unwatch(&self, id: PairId) {
        if let Some(row) = self.pairs.get(id.0) {
            // SAFETY: a field of a mapped row.
            let watch = unsafe { rows::word(&raw mut (*row).watch) };
            // The occasion's number stays, so that the next one has another.
            watch.store(handover::watch(0, watch.load(Ordering::Acquire) as u16), Ordering::Release);
        }
    }

    /// The epoch in which the kernel's latch last failed over by itself; zero for never.
    #[must_use]
    pub fn tripped(&self, id: PairId) -> Epoch {
        self.pairs.get(id.0).map_or(Epoch(0), |row| {
            // SAFETY: a field of a mapped row.
            Epoch(unsafe { rows::word(&raw mut (*row).tripped_epoch) }.load(Ordering::Acquire))
        })
    }

    /// Lets packets of the entry addresses out until this CLOCK_BOOTTIME (nanoseconds); `u64::MAX` for ever, which a
    /// new pair has.
    pub fn set_lease(&self, id: PairId, until_ns: u64) {
        if let Some(row) = self.pairs.get(id.0) {
            // SAFETY: a field of a mapped row.
            unsafe { rows::word(&raw mut (*row).lease_until_ns) }.store(until_ns, Ordering::Release);
        }
    }

    fn member_row(&self, id: PairId, slot: Slot) -> Option<*mut Member> {
        if id.0 >= self.rows {
            return None;
        }
        self.members.get(hotpair_abi::ids::member_index(id, slot))
    }

    /// A member's signs of life. Each word is read atomically; the words of one heartbeat may be torn.
    #[must_use]
    pub fn member(&self, id: PairId, slot: Slot) -> Member {
        self.member_row(id, slot).map_or(Member::default(), rows::copy)
    }

    /// Forgets a member's signs of life: what comes next begins a new streak.
    pub fn clear_member(&self, id: PairId, slot: Slot) {
        if let Some(row) = self.member_row(id, slot) {
            rows::clear(row);
        }
        if let Some(row) = self.pairs.get(id.0) {
            let now = crate::controller::boottime();
            // SAFETY: a field of a mapped row.
            unsafe { rows::word(&raw mut (*row).since_ns[slot.index()]) }.store(now, Ordering::Release);
        }
    }

    /// Every counter of a pair, or of no pair (`None`), summed over CPUs: one system call.
    ///
    /// # Errors
    /// When the kernel refuses, or the row does not exist.
    pub fn counters(&self, id: Option<PairId>) -> Result<Vec<(Counter, u64)>, DataplaneError> {
        let row = self.counts(id)?;
        Ok(Counter::ALL.iter().map(|counter| (*counter, row[*counter as usize])).collect())
    }

    /// One counter of a pair, summed over CPUs.
    ///
    /// # Errors
    /// When the kernel refuses, or the row does not exist.
    pub fn counter(&self, id: PairId, counter: Counter) -> Result<u64, DataplaneError> {
        Ok(self.counts(Some(id))?[counter as usize])
    }

    fn counts(&self, id: Option<PairId>) -> Result<Counts, DataplaneError> {
        let row = match id {
            Some(id) if id.0 >= self.rows => return Err(DataplaneError::NoSuchPair(id.0)),
            Some(id) => id.0 + 1,
            None => 0,
        };
        let values = self.maps().stats.get(&row, 0);
        let values = values.map_err(|error| DataplaneError::map("reading STATS", &error))?;
        let mut sum = [0; PER_ROW as usize];
        for cpu in values.iter() {
            for (sum, count) in sum.iter_mut().zip(cpu) {
                *sum += count;
            }
        }
        Ok(sum)
    }

    /// The events of this data plane. One reader at a time; needs a tokio runtime.
    ///
    /// # Errors
    /// When somebody reads them already, or the kernel refuses.
    pub fn events(&self) -> Result<Events, DataplaneError> {
        if self.events_taken.swap(true, Ordering::AcqRel) {
            return Err(DataplaneError::EventsTaken);
        }
        let taken = Arc::clone(&self.events_taken);
        let ring =
            MapData::from_pin(self.pins.map("EVENTS")).and_then(|map| RingBuf::try_from(Map::RingBuf(map)));
        match ring {
            Ok(ring) => Events::new(ring, taken)
                .map_err(|source| DataplaneError::kernel("waiting for EVENTS", source)),
            Err(error) => {
                taken.store(false, Ordering::Release);
                Err(DataplaneError::map("opening EVENTS", &error))
            }
        }
    }

    /// Detaches and unpins all that is ours under `bpf_dir`; returns what was removed, in words. Success when there is
    /// nothing. Must not be called while a [`Dataplane`] of that directory is open.
    ///
    /// # Errors
    /// When a running hotpair uses it, or something of ours cannot be removed; then the rest may have been.
    pub fn remove_all(bpf_dir: &Path) -> Result<Vec<String>, DataplaneError> {
        pins::remove_all(bpf_dir)
    }
}

/// Whether this process has the capabilities without being root.
fn may_load() -> bool {
    use rustix::thread::{CapabilitySet, capabilities};
    capabilities(None).is_ok_and(|sets| {
        sets.effective.contains(CapabilitySet::BPF | CapabilitySet::NET_ADMIN | CapabilitySet::PERFMON)
    })
}

/// Writes a field that is no whole word; the programs read such fields only while they do not change.
///
/// # Safety
/// `field` must point into a mapped row.
unsafe fn put<T>(field: *mut T, value: T) {
    // SAFETY: the caller's promise.
    unsafe { field.write_volatile(value) };
}
