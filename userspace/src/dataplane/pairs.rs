//! Pairs: their rows, their addresses, their groups of taps.

use std::net::IpAddr;
use std::sync::atomic::Ordering;

use aya::maps::MapData;
use aya_obj::generated::bpf_map_type::BPF_MAP_TYPE_DEVMAP;
use hotpair_abi::count::PER_ROW;
use hotpair_abi::maps::{PAIR_COMPARE, PAIR_FIRST, PAIR_IN_USE, PAIR_PROBE, PAIR_TCP, Pair};
use hotpair_abi::{PairId, RoleWord, Slot, address_key, is_v4_key};

use super::pins::Pins;
use super::{Dataplane, DataplaneError, Maps, PairSetup, hear, put, rows, sys};

fn key(address: IpAddr) -> [u8; 16] {
    match address {
        IpAddr::V4(v4) => address_key(v4.octets()),
        IpAddr::V6(v6) => v6.octets(),
    }
}

fn address(key: [u8; 16]) -> IpAddr {
    if is_v4_key(&key) { [key[12], key[13], key[14], key[15]].into() } else { key.into() }
}

impl Dataplane {
    pub(super) fn row(&self, id: PairId) -> Result<*mut Pair, DataplaneError> {
        self.pairs.get(id.0).ok_or(DataplaneError::NoSuchPair(id.0))
    }

    fn in_use(row: *mut Pair) -> bool {
        // SAFETY: a field of a mapped row.
        unsafe { rows::half(&raw mut (*row).flags) }.load(Ordering::Acquire) & PAIR_IN_USE != 0
    }

    /// Whether the pair's TCP connections are kept fit for a takeover.
    pub(super) fn carries_tcp(&self, id: PairId) -> bool {
        self.pairs.get(id.0).is_some_and(|row| rows::copy(row).flags & PAIR_TCP != 0)
    }

    /// A row that is in use.
    pub(super) fn used_row(&self, id: PairId) -> Result<*mut Pair, DataplaneError> {
        self.row(id)
            .and_then(|row| if Self::in_use(row) { Ok(row) } else { Err(DataplaneError::NoSuchPair(id.0)) })
    }

    fn name(row: *mut Pair) -> String {
        let name = rows::copy(row).name;
        let len = name.iter().position(|byte| *byte == 0).unwrap_or(name.len());
        String::from_utf8_lossy(&name[..len]).into_owned()
    }

    /// The rows in use, with their pairs' names.
    #[must_use]
    pub fn pairs(&self) -> Vec<(PairId, String)> {
        (0..self.rows)
            .filter_map(|index| self.pairs.get(index).map(|row| (PairId(index), row)))
            .filter(|(_, row)| Self::in_use(*row))
            .map(|(id, row)| (id, Self::name(row)))
            .collect()
    }

    /// Makes or changes a pair. Keeps its role word, its lease, its taps and its members' rows. A new pair is not held
    /// (the all-zero word) and has a lease without end.
    ///
    /// # Errors
    /// When the row does not exist, an entry address belongs to another pair, or the kernel refuses. Then nothing has
    /// been changed, or the pair's addresses are incomplete; calling again completes them.
    pub fn put_pair(&self, id: PairId, setup: &PairSetup) -> Result<(), DataplaneError> {
        let row = self.row(id)?;
        let mut name = [0; 16];
        if setup.name.is_empty() || setup.name.len() >= name.len() || setup.name.contains('\0') {
            return Err(DataplaneError::BadName(setup.name.clone()));
        }
        name[..setup.name.len()].copy_from_slice(setup.name.as_bytes());
        let mut maps = self.maps();
        let wanted: Vec<_> = setup.entry.iter().map(|address| key(*address)).collect();
        if let Some((taken, owner)) = wanted
            .iter()
            .find_map(|key| maps.entries.owner(key).filter(|owner| *owner != id.0).map(|o| (key, o)))
        {
            let owner = self.row(PairId(owner)).map_or_else(|_| "unknown".to_owned(), Self::name);
            return Err(DataplaneError::AddressTaken { address: address(*taken), owner });
        }
        let obsolete: Vec<_> =
            maps.entries.of(id.0).iter().filter(|key| !wanted.contains(key)).copied().collect();
        let is_new = !Self::in_use(row);
        if is_new {
            rows::clear(row);
            for slot in Slot::BOTH {
                self.clear_member(id, slot);
            }
            self.set_lease(id, u64::MAX);
        }
        // A controller that died while it prepared a switchover.
        self.unwatch(id);
        let flags = [
            (true, PAIR_IN_USE),
            (setup.probe, PAIR_PROBE),
            (self.carries_tcp(id), PAIR_TCP),
            (setup.compare, PAIR_COMPARE),
            (setup.first, PAIR_FIRST),
        ]
        .iter()
        .fold(0, |flags, (set, flag)| if *set { flags | flag } else { flags });
        let timeout = u64::try_from(setup.timeout.as_nanos()).unwrap_or(u64::MAX);
        let lag_limit = u64::try_from(setup.lag_limit.as_nanos()).unwrap_or(u64::MAX);
        // SAFETY: fields of a mapped row.
        unsafe {
            rows::word(&raw mut (*row).timeout_ns).store(timeout, Ordering::Release);
            rows::word(&raw mut (*row).lag_limit_ns).store(lag_limit, Ordering::Release);
            put(&raw mut (*row).mac, setup.mac);
            put(&raw mut (*row).name, name);
            rows::half(&raw mut (*row).flags).store(flags, Ordering::Release);
        }
        group(&self.pins, &mut maps, id)?;
        for key in obsolete {
            self.remove_entry(&mut maps, key)?;
        }
        for key in wanted {
            self.hear(key, true);
            maps.entries.insert(key, id.0)?;
        }
        drop(maps);
        if setup.tcp && !is_new && !self.carries_tcp(id) {
            // Nobody has kept up what was known of its connections.
            self.forget_connections(|connection| connection.pair == id.0)?;
        }
        self.carry_tcp(id, row, setup.tcp)
    }

    /// Has the programs find entry addresses faster: for when all pairs have been made or changed. Costs the kernel some 10 ms,
    /// and so does the next change.
    ///
    /// # Errors
    /// When the kernel refuses; then they are found as before.
    pub fn index_entries(&self) -> Result<(), DataplaneError> {
        self.maps().entries.index()
    }

    /// Has a pair's TCP connections carried on, or no longer. A tap that is attached already gets the program that
    /// takes care of marked segments before any is marked: without it they would reach nobody's MAC.
    fn carry_tcp(&self, id: PairId, row: *mut Pair, on: bool) -> Result<(), DataplaneError> {
        if on && !self.carries_tcp(id) {
            for slot in Slot::BOTH {
                self.enter_again(id, slot)?;
            }
        }
        // SAFETY: a field of a mapped row.
        let flags = unsafe { rows::half(&raw mut (*row).flags) };
        if on {
            flags.fetch_or(PAIR_TCP, Ordering::AcqRel);
        } else {
            flags.fetch_and(!PAIR_TCP, Ordering::AcqRel);
        }
        Ok(())
    }

    /// Removes a pair with its addresses, taps, counters and connections. Success when there is none.
    ///
    /// # Errors
    /// When the kernel refuses; the pair speaks no more all the same.
    pub fn remove_pair(&self, id: PairId) -> Result<(), DataplaneError> {
        let Some(row) = self.pairs.get(id.0) else {
            return Ok(());
        };
        self.set_role(id, RoleWord::default());
        for slot in Slot::BOTH {
            self.detach_tap(id, slot)?;
        }
        let mut maps = self.maps();
        for key in maps.entries.of(id.0).to_vec() {
            self.remove_entry(&mut maps, key)?;
        }
        let cpus =
            aya::util::nr_cpus().map_err(|(_, source)| DataplaneError::kernel("counting CPUs", source))?;
        let zeros = aya::maps::PerCpuValues::try_from(vec![[0u64; PER_ROW as usize]; cpus])
            .map_err(|source| DataplaneError::kernel("resetting STATS", source))?;
        maps.stats.set(id.0 + 1, zeros, 0).map_err(|error| DataplaneError::map("resetting STATS", &error))?;
        rows::clear(row);
        for slot in Slot::BOTH {
            self.clear_member(id, slot);
        }
        self.forget_connections(|connection| connection.pair == id.0)
    }

    fn remove_entry(&self, maps: &mut Maps, key: [u8; 16]) -> Result<(), DataplaneError> {
        maps.entries.remove(&key)?;
        // Another entry address may be of the same solicited-node group.
        let mac = hear::solicited_node_mac(key);
        let shared =
            maps.entries.keys().any(|other| !is_v4_key(other) && hear::solicited_node_mac(*other) == mac);
        if !shared {
            self.hear(key, false);
        }
        Ok(())
    }

    /// Lets the questions for an IPv6 entry address in. Not being able to is no reason not to serve: many NICs let all
    /// multicast in, and others are told by unsolicited advertisements.
    fn hear(&self, key: [u8; 16], on: bool) {
        if is_v4_key(&key) {
            return;
        }
        if let Err(error) = hear::hear(&self.uplink, hear::solicited_node_mac(key), on) {
            let address = address(key);
            tracing::warn!(uplink = self.uplink, %address, %error, "cannot change what multicast the uplink lets in");
        }
    }

    /// After adoption: the uplink may be a new one, which lets nothing in yet.
    pub(super) fn hear_entries(&self) -> Result<(), DataplaneError> {
        let maps = self.maps();
        for key in maps.entries.keys() {
            self.hear(*key, true);
        }
        Ok(())
    }
}

/// Makes sure that the pair has its devmap of two. Made once per row and kept: storing a map in a map waits for RCU,
/// 8 to 20 ms, which nobody should wait for twice.
fn group(pins: &Pins, maps: &mut Maps, id: PairId) -> Result<(), DataplaneError> {
    let path = pins.group(id);
    if sys::open_pin(&path).is_ok() {
        return Ok(());
    }
    let failed =
        |error: &(dyn std::error::Error + 'static)| DataplaneError::map("making a pair's devmap", error);
    let pin = |source| DataplaneError::kernel(format!("pinning {}", path.display()), source);
    // Made by a version that did not pin it, or by a start that was interrupted here.
    if let Ok(map) = maps.groups.get(&id.0, 0) {
        return sys::pin(map.fd(), &path).map_err(pin);
    }
    let obj = aya_obj::Map::new_from_params(BPF_MAP_TYPE_DEVMAP as u32, 4, 8, 2, 0);
    let map = MapData::create(obj, "GROUP", None).map_err(|error| failed(&error))?;
    maps.groups.set(id.0, &map, 0).map_err(|error| failed(&error))?;
    // Last: a pin says that the map is in its place.
    sys::pin(map.fd(), &path).map_err(pin)
}
