//! The few frames hotpair makes itself: ARP and neighbour discovery, complete with checksums.

use std::net::{Ipv4Addr, Ipv6Addr};

const BROADCAST: [u8; 6] = [0xff; 6];
const ETHERTYPE_ARP: [u8; 2] = [0x08, 0x06];
const ETHERTYPE_IPV6: [u8; 2] = [0x86, 0xdd];
/// All-nodes, and its MAC (RFC 2464 section 7).
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ALL_NODES_MAC: [u8; 6] = [0x33, 0x33, 0, 0, 0, 1];
/// RFC 4861 section 4.4: the answer replaces what a neighbour had cached.
const NA_OVERRIDE: u8 = 0x20;

/// ARP operation (RFC 826).
#[derive(Clone, Copy)]
enum Arp {
    Request = 1,
    Reply = 2,
}

fn arp(
    to: [u8; 6],
    from: [u8; 6],
    op: Arp,
    sender: Ipv4Addr,
    target_mac: [u8; 6],
    target: Ipv4Addr,
) -> Vec<u8> {
    let mut frame = Vec::with_capacity(60);
    frame.extend(to);
    frame.extend(from);
    frame.extend(ETHERTYPE_ARP);
    // Ethernet, IPv4, their address lengths.
    frame.extend([0, 1, 8, 0, 6, 4, 0, op as u8]);
    frame.extend(from);
    frame.extend(sender.octets());
    frame.extend(target_mac);
    frame.extend(target.octets());
    // The shortest frame an Ethernet carries, without its FCS.
    frame.resize(60, 0);
    frame
}

/// "`address` is at `mac`", as a request for itself (RFC 5227 section 3: what most caches learn from).
pub(super) fn gratuitous_request(mac: [u8; 6], address: Ipv4Addr) -> Vec<u8> {
    arp(BROADCAST, mac, Arp::Request, address, [0; 6], address)
}

/// The same as a reply (RFC 5944 section 4.6: the target's MAC is the announced one too), for caches that ignore requests.
pub(super) fn gratuitous_reply(mac: [u8; 6], address: Ipv4Addr) -> Vec<u8> {
    arp(BROADCAST, mac, Arp::Reply, address, mac, address)
}

/// "Who has `target`?", asked of `to` alone.
pub(super) fn arp_probe(to: [u8; 6], from: [u8; 6], sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
    arp(to, from, Arp::Request, sender, [0; 6], target)
}

/// Ones'-complement sum over the pseudo-header and the message (RFC 4443 section 2.3).
fn icmpv6_checksum(source: Ipv6Addr, destination: Ipv6Addr, message: &[u8]) -> u16 {
    let mut sum = message.len() as u32 + 58;
    for bytes in [&source.octets()[..], &destination.octets()[..], message] {
        for pair in bytes.chunks(2) {
            sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

fn icmpv6(
    to: [u8; 6],
    from: [u8; 6],
    source: Ipv6Addr,
    destination: Ipv6Addr,
    mut message: Vec<u8>,
) -> Vec<u8> {
    let checksum = icmpv6_checksum(source, destination, &message);
    message[2..4].copy_from_slice(&checksum.to_be_bytes());
    let mut frame = Vec::with_capacity(54 + message.len());
    frame.extend(to);
    frame.extend(from);
    frame.extend(ETHERTYPE_IPV6);
    frame.extend([0x60, 0, 0, 0]);
    frame.extend((message.len() as u16).to_be_bytes());
    // ICMPv6, and the hop limit that proves the sender is on this link (RFC 4861 section 7.1).
    frame.extend([58, 255]);
    frame.extend(source.octets());
    frame.extend(destination.octets());
    frame.extend(message);
    frame
}

/// "`address` is at `mac`, forget what you knew", to everybody (RFC 4861 section 7.2.6).
pub(super) fn unsolicited_na(mac: [u8; 6], address: Ipv6Addr) -> Vec<u8> {
    let mut message = vec![136, 0, 0, 0, NA_OVERRIDE, 0, 0, 0];
    message.extend(address.octets());
    // Target link-layer address.
    message.extend([2, 1]);
    message.extend(mac);
    icmpv6(ALL_NODES_MAC, mac, address, ALL_NODES, message)
}

/// "Are you still at `target`?", asked of `to` alone (RFC 4861 section 7.3.1).
pub(super) fn ns_probe(to: [u8; 6], from: [u8; 6], sender: Ipv6Addr, target: Ipv6Addr) -> Vec<u8> {
    let mut message = vec![135, 0, 0, 0, 0, 0, 0, 0];
    message.extend(target.octets());
    // Source link-layer address.
    message.extend([1, 1]);
    message.extend(from);
    icmpv6(to, from, sender, target, message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use etherparse::{Icmpv6Slice, NetSlice, SlicedPacket, TransportSlice};
    use proptest::prelude::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];
    const GUEST: [u8; 6] = [2, 0, 0, 0, 0, 1];

    fn arp_fields(frame: &[u8]) -> (u16, [u8; 4], [u8; 6], [u8; 4], [u8; 6]) {
        let packet = SlicedPacket::from_ethernet(frame).expect("a whole frame");
        let Some(NetSlice::Arp(arp)) = packet.net else { panic!("not ARP: {packet:?}") };
        let arp = arp.to_packet();
        let arp = arp.try_eth_ipv4().expect("Ethernet and IPv4");
        (arp.operation.0, arp.sender_ipv4, arp.sender_mac, arp.target_ipv4, arp.target_mac)
    }

    #[test]
    fn both_forms_of_gratuitous_arp_say_where_the_address_is() {
        let address = Ipv4Addr::new(203, 0, 113, 10);
        let request = gratuitous_request(MAC, address);
        assert_eq!(request[..12], [[0xff; 6], MAC].concat());
        assert_eq!(arp_fields(&request), (1, address.octets(), MAC, address.octets(), [0; 6]));
        let reply = gratuitous_reply(MAC, address);
        assert_eq!(reply[..12], [[0xff; 6], MAC].concat());
        assert_eq!(arp_fields(&reply), (2, address.octets(), MAC, address.octets(), MAC));
        assert_eq!((request.len(), reply.len()), (60, 60), "no runts");
    }

    #[test]
    fn an_arp_probe_goes_to_the_guest_alone() {
        let probe = arp_probe(GUEST, MAC, Ipv4Addr::new(169, 254, 77, 3), Ipv4Addr::new(203, 0, 113, 10));
        assert_eq!(probe[..6], GUEST);
        assert_eq!(arp_fields(&probe), (1, [169, 254, 77, 3], MAC, [203, 0, 113, 10], [0; 6]));
    }

    /// Parsed and checked by somebody else's code.
    fn valid_icmpv6(frame: &[u8]) -> (Ipv6Addr, Ipv6Addr, Vec<u8>) {
        let packet = SlicedPacket::from_ethernet(frame).expect("a whole frame");
        let Some(NetSlice::Ipv6(ip)) = packet.net else { panic!("not IPv6") };
        let header = ip.header();
        assert_eq!(header.hop_limit(), 255);
        let Some(TransportSlice::Icmpv6(icmp)) = packet.transport else { panic!("not ICMPv6") };
        assert!(Icmpv6Slice::is_checksum_valid(&icmp, header.source(), header.destination()), "checksum");
        (header.source_addr(), header.destination_addr(), icmp.slice().to_vec())
    }

    proptest! {
        #[test]
        fn neighbour_messages_are_valid_for_any_address(address: [u8; 16], mac: [u8; 6], host: [u8; 16]) {
            let (address, host) = (Ipv6Addr::from(address), Ipv6Addr::from(host));
            let (source, destination, na) = valid_icmpv6(&unsolicited_na(mac, address));
            prop_assert_eq!((source, destination), (address, ALL_NODES));
            prop_assert_eq!(&na[..2], &[136, 0]);
            prop_assert_eq!(na[4], 0x20, "override, neither router nor solicited");
            prop_assert_eq!(&na[8..24], &address.octets());
            prop_assert_eq!(&na[24..], &[&[2, 1], &mac[..]].concat());

            let (source, destination, ns) = valid_icmpv6(&ns_probe(GUEST, mac, host, address));
            prop_assert_eq!((source, destination), (host, address));
            prop_assert_eq!(&ns[..2], &[135, 0]);
            prop_assert_eq!(&ns[8..24], &address.octets());
            prop_assert_eq!(&ns[24..], &[&[1, 1], &mac[..]].concat());
        }
    }
}
