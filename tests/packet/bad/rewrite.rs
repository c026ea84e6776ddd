//! Frames as they must look after a program has rewritten them, and when a solicitation may be answered at all.

use super::read::{self, Addr, IpHeader, word};
use crate::frames::{arp, lladdr, nd, solicited_node};

/// With other IPv4 addresses, every checksum wrong by as much as it was (RFC 1624); `None` when its checksum is cut off.
pub(super) fn translated(frame: &[u8], ip: &IpHeader, src: [u8; 4], dst: [u8; 4]) -> Option<Vec<u8>> {
    let mut out = frame.to_vec();
    out[ip.at + 12..ip.at + 16].copy_from_slice(&src);
    out[ip.at + 16..ip.at + 20].copy_from_slice(&dst);
    let (before, after) = (&frame[ip.at + 12..ip.at + 20], [src, dst].concat());
    let mend = |out: &mut [u8], at: usize| {
        let old = word(out, at)?;
        // HC' = ~(~HC + ~m + m')
        let removed: Vec<u8> = before.iter().map(|byte| !byte).collect();
        let sum = !read::ones_sum(&[&(!old).to_be_bytes(), &removed, &after]);
        out[at..at + 2].copy_from_slice(&sum.to_be_bytes());
        Some(sum)
    };
    mend(&mut out, ip.at + 10)?;
    if ip.offset == 0 {
        match ip.protocol {
            6 => {
                mend(&mut out, ip.inside + 16)?;
            }
            // Without a checksum it stays; one that comes out as zero is written as its other zero (RFC 768).
            17 if word(&out, ip.inside + 6)? != 0 && mend(&mut out, ip.inside + 6)? == 0 => {
                out[ip.inside + 6..ip.inside + 8].copy_from_slice(&[0xff, 0xff]);
            }
            _ => {}
        }
    }
    Some(out)
}

pub(super) fn arp_reply(
    frame: &[u8],
    at: usize,
    question: &read::ArpPacket,
    to: [u8; 6],
    from: [u8; 6],
) -> Vec<u8> {
    let reply = arp(to, from, 2, (from, question.target), (question.sender_mac, question.sender));
    let mut out = frame.to_vec();
    out[..12].copy_from_slice(&reply[..12]);
    out[at..at + 28].copy_from_slice(&reply[14..42]);
    out
}

/// An advertisement where the solicitation was, behind the same tags.
pub(super) fn na(
    frame: &[u8],
    at: usize,
    to: [u8; 6],
    from: [u8; 6],
    asker: [u8; 16],
    flags: u8,
    target: [u8; 16],
) -> Vec<u8> {
    let plain = nd(to, from, target, asker, (136, flags), target, &lladdr(2, from));
    [&plain[..12], &frame[12..at], &plain[14..]].concat()
}

/// RFC 4861 section 7.1.1; at most four words of options, as documented.
pub(super) fn is_valid_solicitation(frame: &[u8], ip: &IpHeader, target: &[u8; 16]) -> bool {
    let length = usize::from(ip.length);
    let Some(message) = frame.get(ip.inside..ip.inside + length) else { return false };
    let (Addr::V6(src), Addr::V6(dst)) = (ip.src, ip.dst) else { return false };
    if ip.hops != 255 || !(24..=56).contains(&length) || message[1] != 0 || target[0] == 0xff {
        return false;
    }
    let pseudo = [&src[..], &dst, &(length as u32).to_be_bytes(), &[0, 0, 0, 58]].concat();
    if read::ones_sum(&[&pseudo, message]) != 0xffff {
        return false;
    }
    let (mut options, mut names_its_mac) = (&message[24..], false);
    while let &[kind, words, ..] = options {
        let bytes = usize::from(words) * 8;
        if bytes == 0 || bytes > options.len() {
            return false;
        }
        names_its_mac |= kind == 1;
        options = &options[bytes..];
    }
    if !options.is_empty() || frame[6] & 1 == 1 || src[0] == 0xff {
        return false;
    }
    src != [0; 16] || (!names_its_mac && dst == solicited_node(*target))
}
