//! A machine whose TCP numbers are its own. Namespaces of one kernel share its secrets and would number a connection
//! nearly alike; so one of two machines moves its sequence numbers on their way, as far as no clock would.

use super::tap::VNET_HEADER;

/// How far: more than half of all numbers, so that it is a short way back.
pub(super) const FAR: u32 = 0x9000_0000;

/// `VIRTIO_NET_HDR_F_NEEDS_CSUM`: the checksum field has the pseudo header's sum and nothing else yet.
const UNFINISHED: u8 = 1;

const SYN: u8 = 1 << 1;
const ACK: u8 = 1 << 4;

/// A segment of the machine on its way out: its own sequence number is moved.
pub(super) fn leaving(frame: &mut [u8]) {
    if let Some(tcp) = header(frame) {
        add(frame, tcp, tcp + 4, FAR);
    }
}

/// A segment for the machine: what is said about its numbers, the acknowledgement and SACK blocks, is moved back.
pub(super) fn entering(frame: &mut [u8]) {
    let Some(tcp) = header(frame) else { return };
    let flags = frame[tcp + 13];
    if flags & ACK == 0 {
        return;
    }
    let back = FAR.wrapping_neg();
    add(frame, tcp, tcp + 8, back);
    if flags & SYN != 0 {
        return;
    }
    let end = (tcp + usize::from(frame[tcp + 12] >> 4) * 4).min(frame.len());
    let mut at = tcp + 20;
    while at + 1 < end {
        let (kind, length) = (frame[at], usize::from(frame[at + 1]));
        match kind {
            0 => return,
            1 => at += 1,
            _ if length < 2 || at + length > end => return,
            5 => {
                for edge in (at + 2..at + length).step_by(4) {
                    add(frame, tcp, edge, back);
                }
                at += length;
            }
            _ => at += length,
        }
    }
}

/// Where an untagged frame's TCP header begins, if it has one that is all there.
fn header(frame: &[u8]) -> Option<usize> {
    let ip = VNET_HEADER + 14;
    let tcp = match frame.get(ip - 2..ip)? {
        // Whole, or the first fragment.
        [0x08, 0x00] if *frame.get(ip + 9)? == 6 && frame[ip + 6] & 0x1f == 0 && frame[ip + 7] == 0 => {
            ip + usize::from(frame[ip] & 0xf) * 4
        }
        [0x86, 0xdd] if *frame.get(ip + 6)? == 6 => ip + 40,
        _ => return None,
    };
    frame.get(tcp..tcp + 20).map(|_| tcp)
}

/// Adds to the four bytes at `at`, and makes the segment's checksum right again (RFC 1624 equation 3).
fn add(frame: &mut [u8], tcp: usize, at: usize, by: u32) {
    let Some(Ok(old)) = frame.get(at..at + 4).map(<[u8; 4]>::try_from) else { return };
    let new = u32::from_be_bytes(old).wrapping_add(by).to_be_bytes();
    frame[at..at + 4].copy_from_slice(&new);
    if frame[0] & UNFINISHED != 0 {
        return;
    }
    // At an odd place each byte counts for the other half of a word.
    let turn = |word: [u8; 2]| if (at - tcp).is_multiple_of(2) { word } else { [word[1], word[0]] };
    let mut sum = u32::from(!u16::from_be_bytes([frame[tcp + 16], frame[tcp + 17]]));
    for half in [0, 2] {
        sum += u32::from(!u16::from_be_bytes(turn([old[half], old[half + 1]])));
        sum += u32::from(u16::from_be_bytes(turn([new[half], new[half + 1]])));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    frame[tcp + 16..tcp + 18].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers as they are in a segment.
    #[derive(Clone, Copy, Debug, PartialEq, Eq)]
    struct Says {
        seq: u32,
        ack: u32,
        block: [u32; 2],
    }

    const SAID: Says = Says { seq: 0xffff_fff0, ack: 0x7000_0001, block: [0x6fff_ffff, 0x8000_0000] };

    /// A frame with virtio header and one SACK block, which begins at an odd place or an even one.
    fn frame(v6: bool, flags: u8, odd: bool, says: Says) -> Vec<u8> {
        let mut tcp = vec![0, 80, 0x10, 0];
        tcp.extend([says.seq, says.ack].into_iter().flat_map(u32::to_be_bytes));
        tcp.extend([8 << 4, flags, 1, 0xf4, 0, 0, 0, 0]);
        let edges = says.block.into_iter().flat_map(u32::to_be_bytes);
        let (before, after): (&[u8], &[u8]) = if odd { (&[1, 5, 10], &[1]) } else { (&[1, 1, 5, 10], &[]) };
        tcp.extend(before.iter().copied().chain(edges).chain(after.iter().copied()));
        tcp.extend(b"payload");
        let mut frame = vec![0; VNET_HEADER + 12];
        if v6 {
            frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, tcp.len() as u8, 6, 64]);
            frame.extend([0x20; 32]);
        } else {
            frame.extend([8, 0, 0x45, 0, 0, 20 + tcp.len() as u8, 0, 0, 0x40, 0, 64, 6, 0, 0]);
            frame.extend([10; 8]);
        }
        let at = frame.len();
        frame.extend(tcp);
        let sum = !sum_of(&frame, at);
        frame[at + 16..at + 18].copy_from_slice(&sum.to_be_bytes());
        frame
    }

    /// The ones' complement sum over the segment and its pseudo header: 0xffff if the checksum in it is right.
    fn sum_of(frame: &[u8], at: usize) -> u16 {
        let addresses = if frame[VNET_HEADER + 12] == 8 { 8 } else { 32 };
        let parts = [&frame[at - addresses..at], &frame[at..]];
        let words = parts.iter().flat_map(|part| part.chunks(2));
        let sum = words.map(|pair| u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0)));
        let mut sum = sum.sum::<u64>() + 6 + (frame.len() - at) as u64;
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    fn said(frame: &[u8], v6: bool, odd: bool) -> Says {
        let at = VNET_HEADER + 14 + if v6 { 40 } else { 20 };
        assert_eq!(sum_of(frame, at), 0xffff, "{frame:02x?}");
        let word = |at: usize| u32::from_be_bytes(frame[at..at + 4].try_into().expect("four bytes"));
        let block = at + 24 - usize::from(odd);
        Says { seq: word(at + 4), ack: word(at + 8), block: [word(block), word(block + 4)] }
    }

    #[test]
    fn what_is_moved_on_its_way_out_is_moved_back_on_the_way_in_and_checksums_stay_right() {
        for v6 in [false, true] {
            for odd in [false, true] {
                let mut out = frame(v6, ACK, odd, SAID);
                leaving(&mut out);
                assert_eq!(said(&out, v6, odd), Says { seq: SAID.seq.wrapping_add(FAR), ..SAID });
                let mut inward = frame(v6, ACK, odd, SAID);
                entering(&mut inward);
                let back = |number: u32| number.wrapping_sub(FAR);
                let expected = Says { ack: back(SAID.ack), block: SAID.block.map(back), ..SAID };
                assert_eq!(said(&inward, v6, odd), expected);
            }
            // A SYN acknowledges nothing.
            let mut syn = frame(v6, SYN, false, SAID);
            entering(&mut syn);
            assert_eq!(syn, frame(v6, SYN, false, SAID));
        }
    }

    #[test]
    fn an_unfinished_checksum_is_left_alone_and_so_is_what_is_not_tcp() {
        let mut out = frame(false, ACK, false, SAID);
        out[0] = UNFINISHED;
        let before = out.clone();
        leaving(&mut out);
        let at = VNET_HEADER + 34;
        assert_eq!(out[at + 16..at + 18], before[at + 16..at + 18]);
        assert_ne!(out[at + 4..at + 8], before[at + 4..at + 8]);
        for length in 0..before.len() {
            // Whatever is cut off, nobody reads beyond it.
            leaving(&mut before[..length].to_vec());
            entering(&mut before[..length].to_vec());
        }
        let mut udp = frame(true, ACK, false, SAID);
        udp[VNET_HEADER + 14 + 6] = 17;
        let before = udp.clone();
        leaving(&mut udp);
        entering(&mut udp);
        assert_eq!(udp, before);
    }
}
