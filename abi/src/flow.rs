//! Which conversation a packet belongs to: what a planned switchover hands over one by one.
//!
//! During a handover every conversation belongs to exactly one slot: to the other one from the first packet on that
//! *begins* something while neither member owes it an answer ([`crate::handover`]), until then to the active one. A TCP
//! connection begins with its SYN; each datagram and each ICMP echo begins something of its own.

use crate::maps::Flow;
use crate::packet::{Bytes, Ip, protocol};

/// Who is asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the entry address.
    ToGuest,
    /// From the entry address to the client.
    FromGuest,
}

/// A packet's conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    /// Key of `HANDOVER`; the same for a request and its answer.
    pub flow: Flow,
    /// Whether it begins something: any packet but one of a TCP connection that is already there.
    pub begins: bool,
}

const SYN: u8 = 0x02;
const RST: u8 = 0x04;
const ACK: u8 = 0x10;

/// The conversation of an IP packet. What cannot be told apart (fragments, extension headers, unknown protocols, a
/// payload cut short) is one conversation per pair of addresses and protocol.
#[inline(always)]
pub fn seen<B: Bytes + ?Sized>(frame: &B, ip: &Ip, direction: Direction) -> Seen {
    let (remote, entry) = match direction {
        Direction::ToGuest => (ip.src, ip.dst),
        Direction::FromGuest => (ip.dst, ip.src),
    };
    let mut flow = Flow { remote, entry, ports: 0, protocol: ip.protocol, pad: [0; 3] };
    let mut begins = true;
    if !ip.whole {
        return Seen { flow, begins };
    }
    match ip.protocol {
        protocol::TCP | protocol::UDP => {
            if let Some(ports) = frame.get_far::<4>(ip.l4) {
                let ports = u32::from_ne_bytes(ports);
                flow.ports = match direction {
                    Direction::ToGuest => ports,
                    // The two ports trade places.
                    Direction::FromGuest => ports.rotate_left(16),
                };
            }
            if ip.protocol == protocol::TCP {
                let flags = match frame.get_far::<1>(ip.l4 + 13) {
                    Some([flags]) => flags,
                    None => 0,
                };
                begins = flags & (SYN | ACK | RST) == SYN;
            }
        }
        protocol::ICMP | protocol::ICMPV6 => {
            if let Some(icmp) = frame.get_far::<8>(ip.l4)
                && is_echo(ip.v4, icmp[0])
            {
                flow.ports = u32::from_ne_bytes([icmp[4], icmp[5], icmp[6], icmp[7]]);
            }
        }
        _ => {}
    }
    Seen { flow, begins }
}

#[inline(always)]
const fn is_echo(v4: bool, kind: u8) -> bool {
    if v4 { kind == 8 || kind == 0 } else { kind == 128 || kind == 129 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::ipv4;
    use crate::packet::tests::v4;

    fn of(packet: &[u8], direction: Direction) -> Seen {
        seen(packet, &ipv4(packet, 0).expect("an IPv4 header"), direction)
    }

    const CLIENT: [u8; 4] = [192, 0, 2, 1];
    const ENTRY: [u8; 4] = [192, 0, 2, 9];

    #[test]
    fn a_request_and_its_answer_are_one_conversation() {
        for protocol in [protocol::UDP, protocol::TCP] {
            let request = v4(CLIENT, ENTRY, protocol, 0, &[1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, SYN]);
            let answer = v4(ENTRY, CLIENT, protocol, 0, &[3, 4, 1, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, SYN | ACK]);
            assert_eq!(of(&request, Direction::ToGuest).flow, of(&answer, Direction::FromGuest).flow);
        }
        let echo = v4(CLIENT, ENTRY, protocol::ICMP, 0, &[8, 0, 0, 0, 0, 7, 0, 9]);
        let reply = v4(ENTRY, CLIENT, protocol::ICMP, 0, &[0, 0, 0, 0, 0, 7, 0, 9]);
        assert_eq!(of(&echo, Direction::ToGuest).flow, of(&reply, Direction::FromGuest).flow);
        let next = v4(CLIENT, ENTRY, protocol::ICMP, 0, &[8, 0, 0, 0, 0, 7, 0, 10]);
        assert_ne!(of(&echo, Direction::ToGuest).flow, of(&next, Direction::ToGuest).flow);
    }

    #[test]
    fn only_a_syn_begins_a_connection() {
        for (flags, begins) in [(SYN, true), (ACK, false), (SYN | ACK, false), (RST, false), (0x18, false)] {
            let segment =
                v4(CLIENT, ENTRY, protocol::TCP, 0, &[1, 2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0, flags]);
            assert_eq!(of(&segment, Direction::ToGuest).begins, begins, "flags {flags:#x}");
        }
        assert!(of(&v4(CLIENT, ENTRY, protocol::UDP, 0, &[1, 2, 3, 4]), Direction::ToGuest).begins);
    }

    #[test]
    fn all_fragments_of_a_datagram_are_one_conversation() {
        let first = v4(CLIENT, ENTRY, protocol::UDP, 0x2000, &[1, 2, 3, 4, 0, 0, 0, 0]);
        let later = v4(CLIENT, ENTRY, protocol::UDP, 1, &[9, 9, 9, 9, 9, 9, 9, 9]);
        assert_eq!(of(&first, Direction::ToGuest).flow, of(&later, Direction::ToGuest).flow);
    }
}
