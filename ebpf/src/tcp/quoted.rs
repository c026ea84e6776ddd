//! On the uplink: an ICMP error about a member's segment is given the speaker's numbers (`hotpair_abi::tcp::quoted`).

use hotpair_abi::RoleWord;
use hotpair_abi::count::Counter;
use hotpair_abi::packet::{Ip, Tags};
use hotpair_abi::tcp::edit::checksum_after;
use hotpair_abi::tcp::quoted::quoted;

use crate::count::{count, row};
use crate::maps;
use crate::packet::XdpFrame;
use crate::tcp::{flow, locked, lookup};

/// Bytes from the beginning of an ICMP message to its checksum.
const CHECKSUM: usize = 2;

/// Renumbers the quoted segment, by the scene that is in the scratch. `None`: it is no such error, or not about a known
/// connection; it goes on as it is.
#[inline(never)]
pub fn renumber(frame: XdpFrame, ip: &Ip, tags: &Tags, id: u32) -> Option<()> {
    let scratch = maps::scratch()?;
    let quoted = quoted(&frame, ip)?;
    let tuple = &mut scratch.tuple;
    tuple.remote = quoted.remote;
    tuple.entry = quoted.entry;
    tuple.ports = quoted.ports;
    tuple.outer = tags.outer;
    tuple.inner = tags.inner;
    tuple.pad = 0;
    let connection = lookup(scratch)?;
    let word = RoleWord(scratch.word);
    // As for a segment of that connection (`to_member`).
    scratch.scene.speaker ^= (word.handover() && maps::taken(&flow(scratch), word.epoch().0)) as u32;
    let seq = locked(connection, |connection| {
        connection.settle(&mut scratch.scene);
        connection.renumbered(scratch.scene.speaker, quoted.seq)
    });
    if seq == quoted.seq {
        return Some(());
    }
    // SAFETY: `halves` has checked that they lie within the frame, and they do not overlap.
    let (field, sum) =
        unsafe { (&mut *frame.halves::<2>(quoted.seq_at)?, &mut *frame.halves::<1>(ip.l4 + CHECKSUM)?) };
    let [a, b, c, d] = seq.to_be_bytes();
    let to = [u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d])];
    // In ones' complement, taking away is adding the complement.
    let diff = to[0] as u64 + to[1] as u64 + !field[0] as u64 + !field[1] as u64;
    *field = to;
    sum[0] = checksum_after(sum[0], diff);
    count(row(id), Counter::TcpQuoteTranslated);
    Some(())
}
