//! What a segment may have become when it leaves a program.

use super::oracle::World;
use super::read::{self, Addr, Ethernet};
use crate::bench::{AWAY, DB, WEB, entry_v4, entry_v6};
use crate::tcp::wire::{self, ACK, CWR, ECE, RST, SYN};

/// Whether the programs look into it: a whole segment between a pair's entry address and somebody, mirrored.
pub(super) fn carried(world: &World, frame: &[u8]) -> bool {
    let ip = match read::ethernet(frame) {
        Ethernet::Whole { ethertype: 0x0800, at, .. } => read::ipv4(frame, at),
        Ethernet::Whole { ethertype: 0x86dd, at, .. } => read::ipv6(frame, at),
        _ => None,
    };
    let ours = |address| {
        [WEB, DB, AWAY].iter().any(|id| {
            (address == Addr::V4(entry_v4(*id)) || address == Addr::V6(entry_v6(*id)))
                && world.word(*id).mirror()
        })
    };
    ip.is_some_and(|ip| ip.protocol == 6 && ip.is_whole() && (ours(ip.src) || ours(ip.dst)))
}

/// The same frame but for numbers, window, flags, timestamps and blocks, and its checksum as right or wrong as before.
pub(super) fn same_but_for_its_numbers(before: &[u8], after: &[u8]) -> Result<(), String> {
    let differ = |why: &str| Err(format!("{why}: {before:02x?} became {after:02x?}"));
    if before.len() != after.len() {
        return differ("another length");
    }
    // MACs are looked at where they are not learnt.
    if before[12..] == after[12..] {
        return Ok(());
    }
    let Some(at) = wire::header_in(before) else { return differ("no segment, and changed") };
    let may_change = |index: usize| {
        let place = index.wrapping_sub(at.start);
        index < 12 || (at.contains(&index) && place >= 4 && place != 12 && !(18..20).contains(&place))
    };
    // Of a SYN, that it asks for accurate congestion notification.
    let unasked = |index: usize| {
        index == at.start + 12
            && before[at.start + 13] & SYN != 0
            && before[index] & !1 == after[index]
            && after[at.start + 13] & (ECE | CWR) == 0
    };
    let changed = |index: usize| before[index] != after[index] && !may_change(index) && !unasked(index);
    if (0..before.len()).any(changed) {
        return differ("changed where it must not be");
    }
    let sum = |frame: &[u8]| read::ones_sum(&[&frame[at.start & !1..]]) % 0xffff;
    if sum(before) != sum(after) {
        return differ("the checksum does not fit any more");
    }
    Ok(())
}

/// The header alone, between the same two, with right checksums.
pub(super) fn cut_down(before: &[u8], after: &[u8]) -> Result<(), String> {
    let (Some(was), Some(read)) = (wire::header_in(before), wire::read(after)) else {
        return Err(format!("neither the frame nor its header: {before:02x?} became {after:02x?}"));
    };
    let ports = |frame: &[u8], at: usize| frame[at..at + 4].to_vec();
    let right = read.wrong_by == 0 && read.payload.is_empty() && read.header == was;
    if right && ports(before, was.start) == ports(after, was.start) && read.flags & (ACK | RST) != 0 {
        return Ok(());
    }
    Err(format!("not its header: {before:02x?} became {after:02x?} ({read:?})"))
}
