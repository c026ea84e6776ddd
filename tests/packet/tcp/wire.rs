//! TCP segments, written and read by RFC 9293 and without a line of the code under test.

use std::ops::Range;

use crate::bad::read::{self, Ethernet, IpHeader, ones_sum};
use crate::frames::{Ip, raw_v4, raw_v6, tagged};

pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const PSH: u8 = 0x08;
pub(crate) const ACK: u8 = 0x10;
pub(crate) const ECE: u8 = 0x40;
pub(crate) const CWR: u8 = 0x80;
/// AE, in the byte before the other flags (RFC 9768).
pub(crate) const AE: u8 = 0x01;

/// A segment to be written.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    /// A multiple of four bytes, forty at most.
    pub(crate) options: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

/// Who sends it to whom, and behind which tags.
#[derive(Clone, Debug)]
pub(crate) struct Way {
    pub(crate) macs: [[u8; 6]; 2],
    pub(crate) src: Ip,
    pub(crate) dst: Ip,
    pub(crate) ports: (u16, u16),
    pub(crate) tags: Vec<[u8; 4]>,
}

/// The option with a SYN's or any segment's timestamps, aligned as Linux does it.
pub(crate) fn stamps(value: u32, echo: u32) -> Vec<u8> {
    [&[1, 1, 8, 10][..], &value.to_be_bytes(), &echo.to_be_bytes()].concat()
}

/// SACK blocks, aligned.
pub(crate) fn sacks(blocks: &[[u32; 2]]) -> Vec<u8> {
    let mut option = vec![1, 1, 5, 2 + 8 * blocks.len() as u8];
    option.extend(blocks.iter().flatten().flat_map(|edge| edge.to_be_bytes()));
    option
}

/// The options of a SYN: MSS, SACK permitted, window scale, timestamps.
pub(crate) fn syn_options(shift: u8, value: u32, echo: u32) -> Vec<u8> {
    [&[2, 4, 0x05, 0xb4, 1, 1, 4, 2, 1, 3, 3, shift][..], &stamps(value, echo)].concat()
}

/// The frame, with right checksums.
pub(crate) fn frame(way: &Way, segment: &Segment) -> Vec<u8> {
    assert!(segment.options.len().is_multiple_of(4) && segment.options.len() <= 40);
    let words = 5 + segment.options.len() as u8 / 4;
    let mut bytes = [way.ports.0.to_be_bytes(), way.ports.1.to_be_bytes()].concat();
    bytes.extend(segment.seq.to_be_bytes());
    bytes.extend(segment.ack.to_be_bytes());
    bytes.extend([words << 4, segment.flags]);
    bytes.extend(segment.window.to_be_bytes());
    bytes.extend([0; 4]);
    bytes.extend(&segment.options);
    bytes.extend(&segment.payload);
    let [to, from] = way.macs;
    let plain = match (way.src, way.dst) {
        (Ip::V4(src), Ip::V4(dst)) => raw_v4(to, from, src, dst, 6, 0x4000, &[], &bytes),
        (Ip::V6(src), Ip::V6(dst)) => raw_v6(to, from, src, dst, 6, 64, &bytes),
        _ => unreachable!("one family"),
    };
    let mut frame = tagged(&plain, &way.tags);
    mend(&mut frame);
    frame
}

/// A segment in its frame, read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Read {
    pub(crate) seq: u32,
    pub(crate) ack: u32,
    pub(crate) flags: u8,
    pub(crate) window: u16,
    /// Where the TCP header lies in the frame.
    pub(crate) header: Range<usize>,
    /// Where the payload lies in the frame.
    pub(crate) payload: Range<usize>,
    /// By how much the checksum is wrong, in ones' complement: 0 for a right one.
    pub(crate) wrong_by: u16,
    /// IPv4: by how much the header's checksum is wrong.
    pub(crate) header_wrong_by: u16,
}

fn network(frame: &[u8]) -> Option<IpHeader> {
    match read::ethernet(frame) {
        Ethernet::Whole { ethertype: 0x0800, at, .. } => read::ipv4(frame, at),
        Ethernet::Whole { ethertype: 0x86dd, at, .. } => read::ipv6(frame, at),
        _ => None,
    }
}

/// Whether it says that it is TCP.
pub(crate) fn is_tcp(frame: &[u8]) -> bool {
    network(frame).is_some_and(|ip| ip.protocol == 6)
}

/// Where TCP header and payload lie, by the network layer's own word.
fn transport(frame: &[u8]) -> Option<(IpHeader, Range<usize>)> {
    let ip = network(frame).filter(|ip| ip.protocol == 6 && ip.is_whole())?;
    let end = if ip.is_v4() {
        ip.at + usize::from(read::word(frame, ip.at + 2)?)
    } else {
        ip.inside + usize::from(ip.length)
    };
    (ip.inside + 20 <= end && end <= frame.len()).then_some((ip, ip.inside..end))
}

fn pseudo(ip: &IpHeader, len: usize) -> Vec<u8> {
    let bytes = |address: &read::Addr| match address {
        read::Addr::V4(v4) => v4.to_vec(),
        read::Addr::V6(v6) => v6.to_vec(),
    };
    [&bytes(&ip.src)[..], &bytes(&ip.dst), &(len as u32).to_be_bytes(), &[0, 0, 0, 6]].concat()
}

/// Makes both checksums right.
pub(crate) fn mend(frame: &mut [u8]) {
    let Some((ip, at)) = transport(frame) else { return };
    if ip.is_v4() && ip.inside <= frame.len() {
        frame[ip.at + 10..ip.at + 12].fill(0);
        let sum = !ones_sum(&[&frame[ip.at..ip.inside]]);
        frame[ip.at + 10..ip.at + 12].copy_from_slice(&sum.to_be_bytes());
    }
    frame[at.start + 16..at.start + 18].fill(0);
    let sum = !ones_sum(&[&pseudo(&ip, at.len()), &frame[at.clone()]]);
    frame[at.start + 16..at.start + 18].copy_from_slice(&sum.to_be_bytes());
}

/// Where a TCP header lies that is all there, whatever has become of the payload.
pub(crate) fn header_in(frame: &[u8]) -> Option<Range<usize>> {
    let ip = network(frame).filter(|ip| ip.protocol == 6 && ip.is_whole())?;
    let end = ip.inside + usize::from(frame.get(ip.inside + 12)? >> 4) * 4;
    (ip.inside + 20 <= end && end <= frame.len()).then_some(ip.inside..end)
}

/// Whether a header is all there that fits into what the network layer says to carry.
pub(crate) fn is_readable(frame: &[u8]) -> bool {
    let (Some(ip), Some(header)) = (network(frame), header_in(frame)) else { return false };
    let carries = if ip.is_v4() {
        read::word(frame, ip.at + 2).map(|total| usize::from(total).saturating_sub(ip.inside - ip.at))
    } else {
        Some(usize::from(ip.length))
    };
    carries.is_some_and(|bytes| header.len() <= bytes)
}

/// Reads a whole segment; `None` for everything else.
pub(crate) fn read(frame: &[u8]) -> Option<Read> {
    let (ip, at) = transport(frame)?;
    let bytes = &frame[at.clone()];
    let header = usize::from(bytes[12] >> 4) * 4;
    if header < 20 || header > bytes.len() {
        return None;
    }
    let word = |at: usize| u32::from_be_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
    // A sum with its checksum in it comes out as 0xffff when it is right.
    let wrong = |sum: u16| if sum == 0xffff { 0 } else { sum };
    Some(Read {
        seq: word(4),
        ack: word(8),
        flags: bytes[13],
        window: u16::from_be_bytes([bytes[14], bytes[15]]),
        header: at.start..at.start + header,
        payload: at.start + header..at.end,
        wrong_by: wrong(ones_sum(&[&pseudo(&ip, bytes.len()), bytes])),
        header_wrong_by: if ip.is_v4() { wrong(ones_sum(&[&frame[ip.at..ip.inside]])) } else { 0 },
    })
}
