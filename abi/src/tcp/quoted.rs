//! ICMP errors about a connection: they quote the segment that they are about, as the client's side of the network has seen
//! it, in the base's numbering (RFC 792, RFC 4443 section 3). A kernel believes such an error only if the quoted sequence
//! number is in flight (RFC 5927 section 4.1), so for a speaker that is not the base it is renumbered. Else a router that
//! can forward less from some day on would not be heard after a takeover, and large segments would vanish.
//!
//! The standby has nothing in flight, and takes no notice. What a member says in an error of its own quotes the client's
//! segment, whose sequence number is everybody's.

use crate::address::Address;
use crate::packet::{Bytes, Ip, ipv4, ipv6, protocol};
use crate::tcp::connection::{Connection, HAS_BASE, SYN_ACK};

/// What every ICMP error begins with, before the quoted packet.
pub const ICMP_HEADER: usize = 8;

/// A quoted TCP segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quoted {
    /// The client: to whom it was sent.
    pub remote: Address,
    /// The entry address that sent it.
    pub entry: Address,
    /// Client port and entry port, in the order of memory.
    pub ports: u32,
    /// Its sequence number.
    pub seq: u32,
    /// Where in the frame that is.
    pub seq_at: usize,
}

/// Whether a packet may be such an error at all.
#[inline(always)]
#[must_use]
pub const fn may_quote(ip: &Ip) -> bool {
    ip.whole && ip.protocol == if ip.v4 { protocol::ICMP } else { protocol::ICMPV6 }
}

/// Whether this ICMP type is an error's (RFC 792: destination unreachable, time exceeded, parameter problem; RFC 4443
/// section 2.1: all below 128).
#[inline(always)]
const fn is_error(v4: bool, kind: u8) -> bool {
    if v4 { matches!(kind, 3 | 11 | 12) } else { kind < 128 && kind != 0 }
}

/// The TCP segment that an ICMP error quotes, if it is one and quotes one.
#[inline(always)]
#[must_use]
pub fn quoted<B: Bytes + ?Sized>(frame: &B, ip: &Ip) -> Option<Quoted> {
    if !may_quote(ip) {
        return None;
    }
    let [kind] = frame.get::<1>(ip.l4)?;
    if !is_error(ip.v4, kind) {
        return None;
    }
    let at = ip.l4 + ICMP_HEADER;
    let inner = if ip.v4 { ipv4(frame, at)? } else { ipv6(frame, at)? };
    if inner.protocol != protocol::TCP || !inner.first {
        return None;
    }
    let tcp = frame.get::<8>(inner.l4)?;
    Some(Quoted {
        remote: inner.dst,
        entry: inner.src,
        // The two ports trade places.
        ports: u32::from_ne_bytes([tcp[2], tcp[3], tcp[0], tcp[1]]),
        seq: u32::from_be_bytes([tcp[4], tcp[5], tcp[6], tcp[7]]),
        seq_at: inner.l4 + 4,
    })
}

impl Connection {
    /// A sequence number that the client's side has seen, as this member numbers it.
    #[inline(always)]
    #[must_use]
    pub const fn renumbered(&self, slot: u32, seq: u32) -> u32 {
        if self.flags & HAS_BASE == 0 || self.half(slot).flags & SYN_ACK == 0 {
            return seq;
        }
        seq.wrapping_add(self.offset(slot))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::tests::v4;
    use crate::tcp::connection::Half;
    use proptest::prelude::*;

    const CLIENT: [u8; 4] = [192, 0, 2, 1];
    const ENTRY: [u8; 4] = [192, 0, 2, 9];
    const TCP: [u8; 8] = [0, 80, 0x9c, 0x40, 1, 2, 3, 4];

    fn error(kind: u8, quote: &[u8]) -> Vec<u8> {
        let mut icmp = vec![kind, 4, 0, 0, 0, 0, 5, 0];
        icmp.extend_from_slice(quote);
        v4([198, 51, 100, 1], ENTRY, protocol::ICMP, 0, &icmp)
    }

    fn read(packet: &[u8]) -> Option<Quoted> {
        quoted(packet, &ipv4(packet, 0).expect("an IPv4 header"))
    }

    #[test]
    fn the_segment_is_found_as_the_client_knows_it() {
        let segment = v4(ENTRY, CLIENT, protocol::TCP, 0x4000, &TCP);
        let found = read(&error(3, &segment)).expect("a quoted segment");
        assert_eq!((found.remote, found.entry), (Address::v4(CLIENT), Address::v4(ENTRY)));
        assert_eq!(found.ports, u32::from_ne_bytes([0x9c, 0x40, 0, 80]));
        assert_eq!((found.seq, found.seq_at), (0x0102_0304, 20 + 8 + 20 + 4));
    }

    #[test]
    fn over_ipv6_too() {
        let head = |next: u8, src: u8, dst: u8| {
            let mut header = vec![0x60, 0, 0, 0, 0, 0, next, 64];
            header.extend_from_slice(&[[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, src]].concat());
            header.extend_from_slice(&[[0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, dst]].concat());
            header
        };
        let packet = [
            head(protocol::ICMPV6, 7, 9),
            vec![2, 0, 0, 0, 0, 0, 5, 0],
            head(protocol::TCP, 9, 1),
            TCP.to_vec(),
        ]
        .concat();
        let ip = ipv6(&packet[..], 0).expect("an IPv6 header");
        let found = quoted(&packet[..], &ip).expect("a quoted segment");
        assert_eq!((found.seq, found.seq_at), (0x0102_0304, 40 + 8 + 40 + 4));
        let mut question = packet;
        question[40] = 128;
        assert_eq!(quoted(&question[..], &ip), None);
    }

    #[test]
    fn what_is_no_error_or_quotes_no_segment_is_left_alone() {
        let segment = v4(ENTRY, CLIENT, protocol::TCP, 0, &TCP);
        assert_eq!(read(&error(8, &segment)), None, "an echo");
        assert_eq!(read(&error(5, &segment)), None, "a redirect");
        assert_eq!(read(&error(3, &v4(ENTRY, CLIENT, protocol::UDP, 0, &TCP))), None);
        assert_eq!(read(&error(3, &v4(ENTRY, CLIENT, protocol::TCP, 9, &TCP))), None, "a later fragment");
        assert_eq!(read(&error(3, &segment[..27])), None, "cut off");
    }

    proptest! {
        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 20..90), v4: bool) {
            let ip = if v4 { ipv4(&bytes[..], 0) } else { ipv6(&bytes[..], 0) };
            if let Some(ip) = ip {
                let _ = quoted(&bytes[..], &ip);
            }
        }

        #[test]
        fn a_member_finds_its_own_number(isn: [u32; 2], base in 0u32..2, sent: u32) {
            let half = |isn| Half { isn, flags: SYN_ACK, ..Half::default() };
            let connection = Connection { flags: HAS_BASE, base, half: isn.map(half), ..Connection::FRESH };
            for slot in 0..2 {
                let seen = isn[base as usize].wrapping_add(sent);
                prop_assert_eq!(connection.renumbered(slot, seen), isn[slot as usize].wrapping_add(sent));
            }
        }
    }
}
