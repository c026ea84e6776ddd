//! On a tap's way in: a client's segment in the member's own numbers.

use aya_ebpf::bindings::xdp_md;
use aya_ebpf::helpers::generated::bpf_xdp_store_bytes;
use hotpair_abi::maps::{Pair, Port};
use hotpair_abi::packet::{self, ETH_IPV4, ETH_IPV6};
use hotpair_abi::tcp::edit::checksum_after;
use hotpair_abi::tcp::segment::{EXTENDED, SYN, USUAL, hide_extended};
use hotpair_abi::tcp::to_member::{AS_IS as AS_HEARD, EDITED_LATE, NOT_FOR_IT};
use hotpair_abi::{RoleWord, voice};

use crate::packet::XdpFrame;
use crate::tcp::{From, Scratch, key, late, locked, lookup, read, scene, turns_back};
use crate::{maps, role};

/// The frame is the member's as it is.
pub const AS_IS: u32 = 0;
/// The frame has been translated.
pub const TRANSLATED: u32 = 1;
/// The member does not get it.
pub const REFUSED: u32 = 2;
/// The kernel refused: the frame may be half rewritten.
pub const FAILED: u32 = 3;
/// The role word has changed, and somebody has acted on it already: nothing was done.
pub const STALE: u32 = 4;

/// Translates a segment of a known connection.
#[inline(never)]
pub fn to_member(ctx: *mut xdp_md, pair: *mut Pair, word: RoleWord, port: &Port) -> u32 {
    let frame = XdpFrame(ctx);
    let Ok(link) = packet::link(&frame, None) else {
        return AS_IS;
    };
    let ip = match link.ethertype {
        ETH_IPV4 => packet::ipv4(&frame, link.l3),
        ETH_IPV6 => packet::ipv6(&frame, link.l3),
        _ => None,
    };
    let (Some(ip), Some(scratch)) = (ip, maps::scratch()) else {
        return AS_IS;
    };
    if read(&frame, &ip, scratch).is_none() {
        return AS_IS;
    }
    key(scratch, &ip, &link.tags, From::Client);
    let Some(connection) = lookup(scratch) else {
        return AS_IS;
    };
    // A connection that began during a handover belongs to the other slot already.
    let speaker = voice::active(word, role::tripped(pair)) as u32
        ^ (word.handover() && maps::taken(&crate::tcp::flow(scratch), word.epoch().0)) as u32;
    let slot = port.slot & 1;
    // Only what the speaker hears depends on the time, and looking at the clock takes a while.
    let now_ns = if slot == speaker || word.handover() { role::now_ns() } else { 0 };
    scene(scratch, pair, word, speaker, now_ns);
    let how = locked(connection, |connection| {
        connection.settle(&mut scratch.scene);
        if turns_back(connection, &scratch.scene, pair) {
            return STALE;
        }
        connection.to_member(slot, &scratch.segment, &scratch.scene, &mut scratch.edit)
    });
    if how == STALE {
        return STALE;
    }
    if how == NOT_FOR_IT {
        return REFUSED;
    }
    if scratch.segment.flags & SYN != 0
        && (scratch.segment.odd & EXTENDED != 0 || scratch.header.asks_for_ecn())
    {
        return hide(ctx, ip.l4, scratch);
    }
    if how == EDITED_LATE {
        late::push(scratch);
    }
    if how == AS_HEARD || !scratch.edit.changes(&scratch.segment) {
        return AS_IS;
    }
    write(ctx, ip.l4, scratch)
}

/// Hides what cannot be handed over from a SYN.
#[inline(never)]
fn hide(ctx: *mut xdp_md, l4: usize, scratch: &mut Scratch) -> u32 {
    let before = scratch.header.sum();
    scratch.header.hide_ecn();
    scratch.segment.cursor = 20;
    let mut step = 0;
    while step < hotpair_abi::tcp::segment::MOST_OPTIONS {
        if hide_option(scratch) == 0 {
            break;
        }
        step += 1;
    }
    let diff = scratch.header.sum() + !hotpair_abi::checksum::fold64(before) as u64;
    let header = &raw mut scratch.header.0;
    if scratch.segment.header >= 32 {
        // SAFETY: 32 bytes of the buffer; the helper checks the offset.
        if unsafe { bpf_xdp_store_bytes(ctx, l4 as u32, header.cast(), 32) } != 0 {
            return FAILED;
        }
    }
    let mut at = if scratch.segment.header >= 32 { 32u32 } else { 20 };
    let mut word = 0;
    while word < 7 {
        if at + 4 <= scratch.segment.header {
            if copy::<4>(ctx, l4, scratch, at).is_none() {
                return FAILED;
            }
            at += 4;
        }
        word += 1;
    }
    checksum(ctx, l4, scratch, diff)
}

#[inline(never)]
fn hide_option(scratch: &mut Scratch) -> u32 {
    let next = hide_extended(&mut scratch.header, scratch.segment.cursor, scratch.segment.header);
    scratch.segment.cursor = next;
    next
}

/// Writes the `N` bytes of the header that begin at `at` to their place in the frame.
#[inline(always)]
fn copy<const N: usize>(ctx: *mut xdp_md, l4: usize, scratch: &Scratch, at: u32) -> Option<()> {
    let bytes = scratch.header.from(at);
    // SAFETY: 64 bytes lie behind the pointer; the helper checks the offset.
    let result = unsafe { bpf_xdp_store_bytes(ctx, l4 as u32 + at, bytes.cast_mut().cast(), N as u32) };
    (result == 0).then_some(())
}

/// Makes the header say what it shall.
#[inline(never)]
fn write(ctx: *mut xdp_md, l4: usize, scratch: &mut Scratch) -> u32 {
    let diff = scratch.edit.apply(&mut scratch.header, &scratch.segment);
    let at = scratch.segment.stamps_at;
    if at != 0 && at != USUAL && copy::<8>(ctx, l4, scratch, at).is_none() {
        return FAILED;
    }
    let segment = &scratch.segment;
    if scratch.edit.sack != 0 && segment.sacks != 0 && write_sacks(ctx, l4, scratch) == FAILED {
        return FAILED;
    }
    checksum(ctx, l4, scratch, diff)
}

#[inline(never)]
fn write_sacks(ctx: *mut xdp_md, l4: usize, scratch: &mut Scratch) -> u32 {
    let at = scratch.segment.sack_at;
    if copy::<2>(ctx, l4, scratch, at - 2).is_none() {
        return FAILED;
    }
    let mut block = 0;
    while block < 4 {
        if block < scratch.segment.sacks {
            let at = at + 8 * block;
            if copy::<8>(ctx, l4, scratch, at).is_none() {
                return FAILED;
            }
        }
        block += 1;
    }
    TRANSLATED
}

/// Mends the checksum and writes the fixed part of the header.
#[inline(always)]
fn checksum(ctx: *mut xdp_md, l4: usize, scratch: &mut Scratch, diff: u64) -> u32 {
    let h = &mut scratch.header.0;
    let [a, b] = checksum_after(u16::from_ne_bytes([h[16], h[17]]), diff).to_ne_bytes();
    h[16] = a;
    h[17] = b;
    // With the timestamps, where they are as usual; a whole option of the header lies in those bytes then.
    let with_stamps = scratch.segment.stamps_at == USUAL;
    // SAFETY: 32 or 20 bytes of the buffer; the helper checks the offset.
    let result = unsafe {
        if with_stamps {
            bpf_xdp_store_bytes(ctx, l4 as u32, h.as_mut_ptr().cast(), 32)
        } else {
            bpf_xdp_store_bytes(ctx, l4 as u32, h.as_mut_ptr().cast(), 20)
        }
    };
    if result != 0 {
        return FAILED;
    }
    TRANSLATED
}
