//! The maps, by the names and layouts of `hotpair_abi::maps`. The sizes here are placeholders: the loader sets them.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::{bpf_for_each_map_elem, bpf_map_peek_elem, bpf_map_pop_elem};
use aya_ebpf::{
    btf_maps::{Array, ArrayOfMaps, DevMap, HashMap, LruHashMap, PerCpuArray, Queue, RingBuf},
    macros::btf_map,
};
use hotpair_abi::Address;
use hotpair_abi::count::PER_ROW;
use hotpair_abi::event::Event;
use hotpair_abi::handover::Turn;
use hotpair_abi::index::{self, Says};
use hotpair_abi::maps::{self, Entry, Flow, Port, ReturnKey, ReturnPath, Tuple};
use hotpair_abi::tcp::connection::Connection;

use crate::tcp::Scratch;

/// BPF_F_MMAPABLE
const MMAPABLE: usize = 1 << 10;

/// BPF_F_NO_PREALLOC: most hosts need few rows of what may be many.
const NO_PREALLOC: usize = 1;

#[btf_map]
static HOST: Array<maps::Host, 1> = Array::new();
#[btf_map]
static ENTRIES: HashMap<Address, Entry, 1> = HashMap::new();
#[btf_map]
static INDEX: Array<index::Row, 1, MMAPABLE> = Array::new();
#[btf_map]
static PAIRS: Array<maps::Pair, 1, MMAPABLE> = Array::new();
#[btf_map]
static MEMBERS: Array<maps::Member, 1, MMAPABLE> = Array::new();
#[btf_map]
static PORTS: HashMap<u32, Port, 1> = HashMap::new();
#[btf_map]
static GROUPS: ArrayOfMaps<DevMap<2>, 1> = ArrayOfMaps::new();
#[btf_map]
static TAPS: DevMap<1> = DevMap::new();
#[btf_map]
static CONNECTIONS: HashMap<Tuple, Connection, 1, NO_PREALLOC> = HashMap::new();
#[btf_map]
static LATE: Queue<maps::Late, 1> = Queue::new();
#[btf_map]
static TURNED: Queue<maps::Turned, 1> = Queue::new();
#[btf_map]
static SCRATCH: PerCpuArray<Scratch, 1> = PerCpuArray::new();
#[btf_map]
static HANDOVER: LruHashMap<Flow, Turn, 1> = LruHashMap::new();
#[btf_map]
static RETURN: LruHashMap<ReturnKey, ReturnPath, 1> = LruHashMap::new();
#[btf_map]
static STATS: PerCpuArray<[u64; PER_ROW as usize], 1> = PerCpuArray::new();
#[btf_map]
static EVENTS: RingBuf<Event, 4096> = RingBuf::new();

/// What the programs must know about their host.
#[inline(always)]
pub fn host() -> Option<&'static maps::Host> {
    HOST.get(0)
}

/// What `INDEX` says about an address.
#[inline(always)]
pub fn indexed(address: Address) -> Says {
    if let Some(host) = host()
        && host.spread.mask != 0
        && let Some(row) = INDEX.get(index::place(address, &host.spread))
    {
        return row.says(address);
    }
    Says::Ask
}

/// The pair that an address belongs to.
#[inline(always)]
pub fn entry(address: Address) -> Option<u32> {
    let [high, low] = address.words();
    // No pair has a number as large as that.
    u32::try_from(find(high, low)).ok()
}

/// [`entry`], in registers; `u64::MAX` for none. A function of its own: many call it, and some have no room on the stack for
/// what it needs.
#[inline(never)]
fn find(high: u64, low: u64) -> u64 {
    let address = Address::of_words([high, low]);
    let pair = match indexed(address) {
        Says::Pair(pair) => Some(pair),
        Says::Nobody => None,
        // SAFETY: the value is four bytes and is copied at once; entries are never reused for another layout.
        Says::Ask => unsafe { ENTRIES.get(address) }.map(|entry| entry.pair),
    };
    pair.map_or(u64::MAX, u64::from)
}

/// A pair's row.
#[inline(always)]
pub fn pair(id: u32) -> Option<*mut maps::Pair> {
    PAIRS.get_ptr_mut(id)
}

/// A member's row.
#[inline(always)]
pub fn member(id: u32, slot: u32) -> Option<*mut maps::Member> {
    MEMBERS.get_ptr_mut(id * 2 + slot)
}

/// Whose tap this is.
#[inline(always)]
pub fn port(ifindex: u32) -> Option<Port> {
    // SAFETY: as in `entry`; a port is replaced as a whole, and twelve bytes of an old one are still a port.
    unsafe { PORTS.get(ifindex) }.copied()
}

/// Hands the frame to all taps of a pair. `None` if the pair has no devmap.
#[inline(always)]
pub fn broadcast(id: u32) -> Option<u32> {
    /// BPF_F_BROADCAST
    const BROADCAST: u64 = 1 << 3;
    GROUPS.get(id)?.redirect(0, BROADCAST).ok()
}

/// Hands the frame to one tap. `None` if there is none.
#[inline(always)]
pub fn steer(id: u32, slot: u32) -> Option<u32> {
    TAPS.redirect(id * 2 + slot, 0).ok()
}

/// What is known of a conversation that may be handed over.
#[inline(always)]
pub fn turn(flow: &Flow) -> Option<*mut Turn> {
    HANDOVER.get_ptr_mut(flow)
}

/// Enters a conversation.
#[inline(always)]
pub fn enter(flow: &Flow, turn: &Turn) {
    // A full map evicts the least recently used conversation, so this fails only out of memory; then the conversation
    // stays with the active slot.
    let _ = HANDOVER.insert(flow, turn, 0);
}

/// Whether a conversation has gone over in this epoch.
#[inline(always)]
pub fn taken(flow: &Flow, epoch: u64) -> bool {
    // SAFETY: an aligned word of the value, written whole.
    turn(flow).is_some_and(|turn| unsafe { (&raw const (*turn).taken).read_volatile() } == epoch)
}

/// Remembers where a tagged frame came from.
#[inline(always)]
pub fn remember(key: &ReturnKey, mac: [u8; 6]) {
    // SAFETY: eight bytes, copied at once; a torn MAC costs one frame, which its sender repeats.
    if unsafe { RETURN.get(key) }.is_some_and(|path| path.mac == mac) {
        return;
    }
    let _ = RETURN.insert(key, ReturnPath { mac, pad: [0; 2] }, 0);
}

/// Where a tagged frame goes.
#[inline(always)]
pub fn return_path(key: &ReturnKey) -> Option<[u8; 6]> {
    // SAFETY: as in `remember`.
    unsafe { RETURN.get(key) }.map(|path| path.mac)
}

/// A TCP connection's row.
#[inline(always)]
pub fn connection(tuple: &Tuple) -> Option<*mut Connection> {
    CONNECTIONS.get_ptr_mut(tuple)
}

/// Calls `each` with every row of `CONNECTIONS`: the map, the key, the row and `context`; until it returns 1.
///
/// # Safety
/// `each` must have the type that the helper wants: `extern "C" fn(*mut c_void, *const Tuple, *mut Connection, *mut C) ->
/// i64`, where `context` is a `*mut C`.
#[inline(always)]
pub unsafe fn each_connection(each: *mut c_void, context: *mut c_void) {
    // SAFETY: the caller's promise.
    unsafe { bpf_for_each_map_elem((&raw const CONNECTIONS).cast_mut().cast(), each, context, 0) };
}

/// A new row for a TCP connection, all zero. `None` if the table is full.
#[inline(always)]
pub fn new_connection(tuple: &Tuple) -> Option<*mut Connection> {
    /// BPF_NOEXIST
    const NOEXIST: u64 = 1;
    static FRESH: Connection = Connection::FRESH;
    // Another CPU may have been faster: then the row is there as well.
    #[allow(clippy::needless_borrows_for_generic_args, reason = "by value it would be copied to the stack")]
    let _ = CONNECTIONS.insert(tuple, &FRESH, NOEXIST);
    connection(tuple)
}

/// Appends a connection to those that are looked at again. Returns whether there was room for it.
#[inline(always)]
pub fn push_late(late: &maps::Late) -> bool {
    LATE.push(late, 0).is_ok()
}

/// The first of the connections that are looked at again, which stays.
#[inline(always)]
pub fn first_late(to: &mut maps::Late) -> bool {
    // SAFETY: the helper writes the whole value or fails.
    unsafe { bpf_map_peek_elem((&raw const LATE).cast_mut().cast(), (&raw mut *to).cast()) == 0 }
}

/// Takes the first of the connections that are looked at again.
#[inline(always)]
pub fn take_late(to: &mut maps::Late) -> bool {
    // SAFETY: as in `first_late`.
    unsafe { bpf_map_pop_elem((&raw const LATE).cast_mut().cast(), (&raw mut *to).cast()) == 0 }
}

/// Appends a connection to those that are to be told of a takeover. Returns whether there was room for it.
#[inline(always)]
pub fn push_turned(turned: &maps::Turned) -> bool {
    TURNED.push(turned, 0).is_ok()
}

/// The first of the connections that are to be told of a takeover, which stays.
#[inline(always)]
pub fn first_turned(to: &mut maps::Turned) -> bool {
    // SAFETY: as in `first_late`.
    unsafe { bpf_map_peek_elem((&raw const TURNED).cast_mut().cast(), (&raw mut *to).cast()) == 0 }
}

/// Takes the first of the connections that are to be told of a takeover.
#[inline(always)]
pub fn take_turned(to: &mut maps::Turned) -> bool {
    // SAFETY: as in `first_late`.
    unsafe { bpf_map_pop_elem((&raw const TURNED).cast_mut().cast(), (&raw mut *to).cast()) == 0 }
}

/// This CPU's room for what does not fit on the stack.
#[inline(always)]
pub fn scratch() -> Option<&'static mut Scratch> {
    // SAFETY: a program that uses it is not interrupted by another one that does: both run with softirqs off.
    SCRATCH.get_ptr_mut(0).map(|scratch| unsafe { &mut *scratch })
}

/// A counter's cell on this CPU.
#[inline(always)]
pub fn cell(row: u32, counter: u32) -> Option<*mut u64> {
    let row = STATS.get_ptr_mut(row)?.cast::<u64>();
    // SAFETY: within the row, by the mask.
    Some(unsafe { row.add((counter & (PER_ROW - 1)) as usize) })
}

/// Hands an event to the controller; lost if it has not read for too long.
#[inline(always)]
pub fn report(event: &Event) {
    let _ = EVENTS.output(event, 0);
}
