//! What each pinned map must look like. Reused maps are not checked by aya, so they are checked here, byte by byte: a
//! program that takes another version's map for its own reads nonsense, or is refused by the verifier half way.

use std::path::Path;

use aya::maps::MapData;
use aya_obj::generated::{bpf_map_info, bpf_map_type};
use hotpair_abi::event::Event;
use hotpair_abi::handover::Turn;
use hotpair_abi::index;
use hotpair_abi::maps::{Entry, Flow, Host, Late, Member, Pair, Port, ReturnKey, ReturnPath, Tuple, Turned};
use hotpair_abi::tcp::connection::Connection;

use super::{Counts, DataplaneError};

/// One map.
pub(super) struct Layout {
    pub(super) name: &'static str,
    kind: bpf_map_type,
    key: u32,
    value: u32,
    pub(super) max_entries: u32,
}

/// Entry addresses that a pair may have on average.
const ADDRESSES_PER_PAIR: u32 = 16;
/// Conversations that one handover can tell apart.
const HANDOVER_FLOWS: u32 = 65_536;
/// TCP connections that can be kept fit for a takeover at the same time, of all pairs together.
const CONNECTIONS: u32 = 131_072;
/// Connections that wait for their standby at the same time; those beyond are looked at when a segment passes.
const LATE: u32 = 16_384;
/// Connections that are to be told of a takeover at the same time; those beyond are looked for again.
const TURNED: u32 = 16_384;
/// Senders of tagged frames that are remembered.
const RETURN_PATHS: u32 = 16_384;
/// Bytes of the event ring.
const EVENT_BYTES: u32 = 64 * 1024;

/// Rows of `INDEX`.
pub(super) const fn index_rows(pairs: u32) -> u32 {
    index::rows(pairs * ADDRESSES_PER_PAIR)
}

/// The map that says whether the others are whole: written and pinned last.
pub(super) const HOST: &str = "HOST";

/// Every map, for this many pairs.
pub(super) fn all(pairs: u32) -> Vec<Layout> {
    use bpf_map_type::{
        BPF_MAP_TYPE_ARRAY as ARRAY, BPF_MAP_TYPE_ARRAY_OF_MAPS as ARRAY_OF_MAPS,
        BPF_MAP_TYPE_DEVMAP as DEVMAP, BPF_MAP_TYPE_HASH as HASH, BPF_MAP_TYPE_LRU_HASH as LRU_HASH,
        BPF_MAP_TYPE_PERCPU_ARRAY as PERCPU_ARRAY, BPF_MAP_TYPE_QUEUE as QUEUE,
        BPF_MAP_TYPE_RINGBUF as RINGBUF,
    };
    let map = |name, kind, key: usize, value: usize, max_entries| Layout {
        name,
        kind,
        key: key as u32,
        value: value as u32,
        max_entries,
    };
    vec![
        map("ENTRIES", HASH, 16, size_of::<Entry>(), pairs * ADDRESSES_PER_PAIR),
        map("INDEX", ARRAY, 4, size_of::<index::Row>(), index_rows(pairs)),
        map("PAIRS", ARRAY, 4, size_of::<Pair>(), pairs),
        map("MEMBERS", ARRAY, 4, size_of::<Member>(), pairs * 2),
        // Twice as many as there are taps: a slot has its old and its new one for a moment.
        map("PORTS", HASH, 4, size_of::<Port>(), pairs * 4),
        map("GROUPS", ARRAY_OF_MAPS, 4, 4, pairs),
        map("TAPS", DEVMAP, 4, 8, pairs * 2),
        map("CONNECTIONS", HASH, size_of::<Tuple>(), size_of::<Connection>(), CONNECTIONS),
        map("LATE", QUEUE, 0, size_of::<Late>(), LATE),
        map("TURNED", QUEUE, 0, size_of::<Turned>(), TURNED),
        map("HANDOVER", LRU_HASH, size_of::<Flow>(), size_of::<Turn>(), HANDOVER_FLOWS),
        map("RETURN", LRU_HASH, size_of::<ReturnKey>(), size_of::<ReturnPath>(), RETURN_PATHS),
        map("STATS", PERCPU_ARRAY, 4, size_of::<Counts>(), pairs + 1),
        map("EVENTS", RINGBUF, 0, 0, EVENT_BYTES),
        map(HOST, ARRAY, 4, size_of::<Host>(), 1),
    ]
}

const _: () = assert!(size_of::<Event>().is_multiple_of(8));

impl Layout {
    /// Checks a map that is there.
    pub(super) fn check(&self, path: &Path, map: &MapData) -> Result<(), DataplaneError> {
        let info = info(map)
            .map_err(|source| DataplaneError::kernel(format!("reading about {}", path.display()), source))?;
        let properties = [
            ("type", info.type_, self.kind as u32),
            ("key size", info.key_size, self.key),
            ("value size", info.value_size, self.value),
            ("number of entries", info.max_entries, self.max_entries),
        ];
        for (what, found, expected) in properties {
            if found != expected {
                return Err(DataplaneError::OtherMap { path: path.to_owned(), what, found, expected });
            }
        }
        Ok(())
    }
}

fn info(map: &MapData) -> std::io::Result<bpf_map_info> {
    use std::os::fd::{AsFd, AsRawFd};
    super::sys::map_info(map.fd().as_fd().as_raw_fd())
}
