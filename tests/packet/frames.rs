//! Frames, built by etherparse (an independent writer of headers and checksums) or by hand where it cannot.

use etherparse::{PacketBuilder, PacketBuilderStep, VlanId};
use hotpair_abi::heartbeat::{Heartbeat, PORT, State};
use hotpair_abi::{GATEWAY_MAC, ME_V4, PEER_V4};

/// MAC of the uplink under test.
pub(crate) const UPLINK_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xa1];
/// MAC of the client.
pub(crate) const CLIENT_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xc1];
/// The client.
pub(crate) const CLIENT_V4: [u8; 4] = [192, 0, 2, 50];
/// The client.
pub(crate) const CLIENT_V6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x50];
/// Everybody.
pub(crate) const BROADCAST: [u8; 6] = [0xff; 6];

/// `02:00:...`
pub(crate) fn colons(mac: [u8; 6]) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}

/// Adds VLAN tags (TPID and TCI) after the MACs.
pub(crate) fn tagged(frame: &[u8], tags: &[[u8; 4]]) -> Vec<u8> {
    let mut out = frame[..12].to_vec();
    for tag in tags {
        out.extend_from_slice(tag);
    }
    out.extend_from_slice(&frame[12..]);
    out
}

/// With other MACs.
pub(crate) fn addressed(frame: &[u8], dst: [u8; 6], src: [u8; 6]) -> Vec<u8> {
    let mut out = frame.to_vec();
    out[..6].copy_from_slice(&dst);
    out[6..12].copy_from_slice(&src);
    out
}

/// An address of either family.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Ip {
    V4([u8; 4]),
    V6([u8; 16]),
}

/// Begins a packet.
fn ip(dst_mac: [u8; 6], src_mac: [u8; 6], src: Ip, dst: Ip) -> PacketBuilderStep<etherparse::IpHeaders> {
    let eth = PacketBuilder::ethernet2(src_mac, dst_mac);
    match (src, dst) {
        (Ip::V4(src), Ip::V4(dst)) => eth.ipv4(src, dst, 64),
        (Ip::V6(src), Ip::V6(dst)) => eth.ipv6(src, dst, 64),
        _ => panic!("both addresses are of one family"),
    }
}

/// A UDP datagram.
pub(crate) fn udp(
    dst_mac: [u8; 6],
    src_mac: [u8; 6],
    src: Ip,
    dst: Ip,
    ports: (u16, u16),
    payload: &[u8],
) -> Vec<u8> {
    let mut out = Vec::new();
    ip(dst_mac, src_mac, src, dst).udp(ports.0, ports.1).write(&mut out, payload).expect("a datagram");
    out
}

/// A TCP segment: a SYN with options, or an ACK with payload.
pub(crate) fn tcp(
    dst_mac: [u8; 6],
    src_mac: [u8; 6],
    src: Ip,
    dst: Ip,
    ports: (u16, u16),
    syn: bool,
) -> Vec<u8> {
    use etherparse::TcpOptionElement::{
        MaximumSegmentSize, SelectiveAcknowledgementPermitted, Timestamp, WindowScale,
    };
    let step = ip(dst_mac, src_mac, src, dst).tcp(ports.0, ports.1, 0x1234_5678, 29200);
    let step = if syn { step.syn() } else { step.ack(77).psh() };
    let options =
        [MaximumSegmentSize(1460), SelectiveAcknowledgementPermitted, Timestamp(1, 2), WindowScale(7)];
    let mut out = Vec::new();
    step.options(&options)
        .expect("options")
        .write(&mut out, if syn { &[] } else { b"GET / HTTP/1.0\r\n\r\n" })
        .expect("a segment");
    out
}

/// An echo request (or a reply).
pub(crate) fn echo(dst_mac: [u8; 6], src_mac: [u8; 6], src: Ip, dst: Ip, seq: u16, reply: bool) -> Vec<u8> {
    let step = ip(dst_mac, src_mac, src, dst);
    let mut out = Vec::new();
    match (dst, reply) {
        (Ip::V4(_), false) => step.icmpv4_echo_request(7, seq).write(&mut out, b"ping"),
        (Ip::V4(_), true) => step.icmpv4_echo_reply(7, seq).write(&mut out, b"ping"),
        (Ip::V6(_), false) => step.icmpv6_echo_request(7, seq).write(&mut out, b"ping"),
        (Ip::V6(_), true) => step.icmpv6_echo_reply(7, seq).write(&mut out, b"ping"),
    }
    .expect("an echo");
    out
}

/// An IPv4 packet by hand: any protocol, options, fragment field.
#[allow(clippy::too_many_arguments, reason = "one for each field of the packet")]
pub(crate) fn raw_v4(
    dst_mac: [u8; 6],
    src_mac: [u8; 6],
    src: [u8; 4],
    dst: [u8; 4],
    protocol: u8,
    fragment: u16,
    options: &[u8],
    payload: &[u8],
) -> Vec<u8> {
    let mut header = vec![0x45 + (options.len() / 4) as u8, 0];
    header.extend_from_slice(&((20 + options.len() + payload.len()) as u16).to_be_bytes());
    header.extend_from_slice(&[0x12, 0x34]);
    header.extend_from_slice(&fragment.to_be_bytes());
    header.extend_from_slice(&[64, protocol, 0, 0]);
    header.extend_from_slice(&src);
    header.extend_from_slice(&dst);
    header.extend_from_slice(options);
    let check = checksum(&header);
    header[10..12].copy_from_slice(&check);
    let mut out = eth(dst_mac, src_mac, 0x0800, &header);
    out.extend_from_slice(payload);
    out
}

/// An IPv6 packet by hand.
pub(crate) fn raw_v6(
    dst_mac: [u8; 6],
    src_mac: [u8; 6],
    src: [u8; 16],
    dst: [u8; 16],
    next: u8,
    hops: u8,
    payload: &[u8],
) -> Vec<u8> {
    let mut header = vec![0x60, 0, 0, 0];
    header.extend_from_slice(&(payload.len() as u16).to_be_bytes());
    header.extend_from_slice(&[next, hops]);
    header.extend_from_slice(&src);
    header.extend_from_slice(&dst);
    header.extend_from_slice(payload);
    eth(dst_mac, src_mac, 0x86dd, &header)
}

/// An Ethernet frame.
pub(crate) fn eth(dst: [u8; 6], src: [u8; 6], ethertype: u16, payload: &[u8]) -> Vec<u8> {
    [&dst[..], &src[..], &ethertype.to_be_bytes()[..], payload].concat()
}

/// An ARP packet in its frame.
pub(crate) fn arp(
    dst: [u8; 6],
    src: [u8; 6],
    op: u8,
    (sender_mac, sender): ([u8; 6], [u8; 4]),
    (target_mac, target): ([u8; 6], [u8; 4]),
) -> Vec<u8> {
    let head = [0, 1, 8, 0, 6, 4, 0, op];
    let mut out = eth(dst, src, 0x0806, &[&head[..], &sender_mac, &sender, &target_mac, &target].concat());
    // As on a real wire.
    out.resize(out.len().max(60), 0);
    out
}

/// A neighbour solicitation or advertisement with a right checksum.
pub(crate) fn nd(
    dst_mac: [u8; 6],
    src_mac: [u8; 6],
    src: [u8; 16],
    dst: [u8; 16],
    (kind, flags): (u8, u8),
    target: [u8; 16],
    options: &[u8],
) -> Vec<u8> {
    icmpv6(dst_mac, src_mac, src, dst, &[&[kind, 0, 0, 0, flags, 0, 0, 0][..], &target, options].concat())
}

/// An ICMPv6 packet with hop limit 255 and a right checksum.
pub(crate) fn icmpv6(
    dst_mac: [u8; 6],
    src_mac: [u8; 6],
    src: [u8; 16],
    dst: [u8; 16],
    message: &[u8],
) -> Vec<u8> {
    let mut message = message.to_vec();
    let pseudo =
        [&src[..], &dst[..], &(message.len() as u32).to_be_bytes()[..], &[0, 0, 0, 58][..], &message]
            .concat();
    let check = checksum(&pseudo);
    message[2..4].copy_from_slice(&check);
    raw_v6(dst_mac, src_mac, src, dst, 58, 255, &message)
}

/// `ff02::1:ffXX:XXXX`
pub(crate) fn solicited_node(target: [u8; 16]) -> [u8; 16] {
    let mut group = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0, 0];
    group[13..].copy_from_slice(&target[13..]);
    group
}

/// The MAC of an IPv6 multicast group.
pub(crate) fn group_mac(group: [u8; 16]) -> [u8; 6] {
    [0x33, 0x33, group[12], group[13], group[14], group[15]]
}

/// The link-layer address option.
pub(crate) fn lladdr(kind: u8, mac: [u8; 6]) -> [u8; 8] {
    [kind, 1, mac[0], mac[1], mac[2], mac[3], mac[4], mac[5]]
}

/// A heartbeat from one member to the other.
pub(crate) fn heartbeat(mac: [u8; 6], boot_id: u64, sequence: u64, state: State) -> Vec<u8> {
    let beat =
        Heartbeat { state, boot_id, sequence, sent_ns: 3, requests: 4, in_flight: 5, interval_us: 6000 };
    udp(GATEWAY_MAC, mac, Ip::V4(ME_V4), Ip::V4(PEER_V4), (PORT, PORT), &beat.to_bytes())
}

/// The Internet checksum, by the textbook.
pub(crate) fn checksum(bytes: &[u8]) -> [u8; 2] {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
        sum = (sum & 0xffff) + (sum >> 16);
    }
    (!(sum as u16)).to_be_bytes()
}

/// Panics unless every checksum of the packet (IPv4 header, TCP, UDP, ICMP) is right.
pub(crate) fn assert_checksums(frame: &[u8]) {
    let packet = etherparse::PacketHeaders::from_ethernet_slice(frame).expect("a packet");
    let net = packet.net.as_ref().expect("an IP packet");
    if let etherparse::NetHeaders::Ipv4(header, _) = net {
        assert_eq!(header.header_checksum, header.calc_header_checksum(), "IPv4 header checksum");
    }
    let payload = packet.payload.slice();
    match (packet.transport, net) {
        (Some(etherparse::TransportHeader::Udp(udp)), etherparse::NetHeaders::Ipv4(ip, _))
            if udp.checksum != 0 =>
        {
            assert_eq!(udp.checksum, udp.calc_checksum_ipv4(ip, payload).expect("sum"), "UDP checksum");
        }
        (Some(etherparse::TransportHeader::Udp(udp)), etherparse::NetHeaders::Ipv6(ip, _)) => {
            assert_eq!(udp.checksum, udp.calc_checksum_ipv6(ip, payload).expect("sum"), "UDP checksum");
        }
        (Some(etherparse::TransportHeader::Tcp(tcp)), etherparse::NetHeaders::Ipv4(ip, _)) => {
            assert_eq!(tcp.checksum, tcp.calc_checksum_ipv4(ip, payload).expect("sum"), "TCP checksum");
        }
        (Some(etherparse::TransportHeader::Tcp(tcp)), etherparse::NetHeaders::Ipv6(ip, _)) => {
            assert_eq!(tcp.checksum, tcp.calc_checksum_ipv6(ip, payload).expect("sum"), "TCP checksum");
        }
        (Some(etherparse::TransportHeader::Icmpv4(icmp)), _) => {
            assert_eq!(icmp.checksum, icmp.icmp_type.calc_checksum(payload), "ICMP checksum");
        }
        _ => {}
    }
}

/// A VLAN tag: TPID 0x8100.
pub(crate) fn vlan(id: u16) -> [u8; 4] {
    let id = VlanId::try_new(id).expect("a VLAN id").value().to_be_bytes();
    [0x81, 0, id[0], id[1]]
}

/// A service tag: TPID 0x88a8.
pub(crate) fn service(id: u16) -> [u8; 4] {
    let [_, _, a, b] = vlan(id);
    [0x88, 0xa8, a, b]
}
