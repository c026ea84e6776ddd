//! Reading a pair's row. The role word is read once per packet: whoever needs it gets it handed on.

use aya_ebpf::helpers::generated::{bpf_jiffies64, bpf_ktime_get_boot_ns};
use hotpair_abi::event::{Event, Kind};
use hotpair_abi::maps::{PAIR_COMPARE, PAIR_FIRST, PAIR_PROBE, PAIR_TCP, Pair};
use hotpair_abi::{Mac, RoleWord};

use crate::maps;

/// CLOCK_BOOTTIME, nanoseconds.
#[inline(always)]
pub fn now_ns() -> u64 {
    // SAFETY: takes nothing, touches nothing.
    unsafe { bpf_ktime_get_boot_ns() }
}

/// As [`now_ns`], but up to a tick of the kernel's behind (1 to 10 ms), and the fresher of two answers may be the smaller one.
/// The count of ticks is a load where the clock is a call, and a wait for whatever the processor has begun before it.
#[inline(always)]
pub fn by_the_tick(seen: &mut Tick) -> u64 {
    // SAFETY: takes nothing, touches nothing.
    let count = unsafe { bpf_jiffies64() };
    if seen.count != count {
        *seen = Tick { count, now_ns: now_ns() };
    }
    seen.now_ns
}

/// When this CPU has last looked at the clock for [`by_the_tick`].
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Tick {
    /// The kernel's ticks. Never 0, which is what a new row says: it begins to count shortly before 2^32.
    count: u64,
    /// [`now_ns`].
    now_ns: u64,
}

/// The role word as it is written, be its planned change over or not: one aligned load, never repeated by the compiler.
#[inline(always)]
pub fn written(pair: *mut Pair) -> RoleWord {
    // SAFETY: `pair` points into the array map; the controller stores the word with one aligned store.
    RoleWord(unsafe { (&raw const (*pair).role).read_volatile() })
}

/// The role word that is in force.
#[inline(always)]
pub fn word(pair: *mut Pair) -> RoleWord {
    let word = written(pair);
    // SAFETY: as in `written`.
    let until = unsafe { (&raw const (*pair).handover_until_ns).read_volatile() };
    word.in_force(until, now_ns)
}

/// The epoch in which the latch has tripped.
#[inline(always)]
pub fn tripped(pair: *mut Pair) -> u64 {
    // SAFETY: as in `written`.
    unsafe { (&raw const (*pair).tripped_epoch).read_volatile() }
}

/// What is counted for a switchover to come.
#[inline(always)]
pub fn watch(pair: *mut Pair) -> u64 {
    // SAFETY: as in `written`.
    unsafe { (&raw const (*pair).watch).read_volatile() }
}

/// The epoch in which the latch has tripped and connections are yet to be put into `LATE`, with [`hotpair_abi::maps::REST`].
#[inline(always)]
pub fn untold(pair: *mut Pair) -> u64 {
    // SAFETY: as in `written`.
    unsafe { (&raw const (*pair).untold_epoch).read_volatile() }
}

/// Until when packets may leave.
#[inline(always)]
pub fn lease(pair: *mut Pair) -> u64 {
    // SAFETY: as in `written`.
    unsafe { (&raw const (*pair).lease_until_ns).read_volatile() }
}

/// The tap of a slot, 0 for none.
#[inline(always)]
pub fn tap(pair: *mut Pair, slot: u32) -> u32 {
    // SAFETY: as in `written`; the index is masked to the array's length.
    unsafe { (&raw const (*pair).tap_ifindex[(slot & 1) as usize]).read_volatile() }
}

/// Both members' MAC as a frame has it, two bytes at a time.
#[inline(always)]
pub fn mac_pairs(pair: *mut Pair) -> [u16; 3] {
    const { assert!(core::mem::offset_of!(Pair, mac).is_multiple_of(2)) };
    // SAFETY: as in `mac`; a row is aligned to eight bytes, and the MAC within it to two.
    unsafe { (&raw const (*pair).mac).cast::<[u16; 3]>().read() }
}

/// Whether any frame of a member is a sign of life, and the host asks for them.
#[inline(always)]
pub fn is_probed(pair: *mut Pair) -> bool {
    // SAFETY: as in `written`.
    unsafe { (&raw const (*pair).flags).read_volatile() & PAIR_PROBE != 0 }
}

/// Whether the pair's TCP connections are kept fit for a takeover.
#[inline(always)]
pub fn carries_tcp(pair: *mut Pair) -> bool {
    // SAFETY: as in `written`.
    unsafe { (&raw const (*pair).flags).read_volatile() & PAIR_TCP != 0 }
}

/// Whether what the pair's members send is compared.
#[inline(always)]
pub fn compares(pair: *mut Pair) -> bool {
    // SAFETY: as in `written`.
    unsafe { (&raw const (*pair).flags).read_volatile() & PAIR_COMPARE != 0 }
}

/// Whether the first answer is heard, whosever it is.
#[inline(always)]
pub fn first_answers(pair: *mut Pair) -> bool {
    // SAFETY: as in `written`.
    unsafe { (&raw const (*pair).flags).read_volatile() & PAIR_FIRST != 0 }
}

/// Both members' MAC.
#[inline(always)]
pub fn mac(pair: *mut Pair) -> Mac {
    // SAFETY: six bytes inside the row. The controller changes them only while no frame flows.
    Mac::new(unsafe { (*pair).mac })
}

/// One second: the least time between two reports of the same kind about the same subject.
const REPORT_EVERY_NS: u64 = 1_000_000_000;

/// Whether a report is due, and if so, that it has been made now.
#[inline(always)]
pub fn report_is_due(last_ns: *mut u64, now: u64) -> bool {
    // SAFETY: `last_ns` points to an aligned word of a map's row. Two CPUs may both find a report due: then there are two.
    unsafe {
        let last = last_ns.read_volatile();
        if last != 0 && now.saturating_sub(last) < REPORT_EVERY_NS {
            return false;
        }
        last_ns.write_volatile(now);
    }
    true
}

/// Hands an event to the controller.
#[inline(always)]
pub fn report(now: u64, kind: Kind, pair: u32, slot: u32, ifindex: u32, word: RoleWord, data: [u8; 24]) {
    maps::report(&Event { at_ns: now, kind: kind as u32, pair, slot, ifindex, role: word.0, data });
}
