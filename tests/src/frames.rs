//! Frames made by hand: what clients and guests say, and what they should not.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use etherparse::{IpNumber, Ipv4Header, PacketBuilder};

/// Where a frame comes from and goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Macs {
    /// Source.
    pub from: [u8; 6],
    /// Destination.
    pub to: [u8; 6],
}

/// An Ethernet header before anything.
#[must_use]
pub fn ethernet(macs: Macs, ethertype: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [macs.to, macs.from].concat();
    frame.extend(ethertype.to_be_bytes());
    frame.extend(payload);
    // The shortest frame an Ethernet carries.
    frame.resize(frame.len().max(60), 0);
    frame
}

/// A VLAN tag put into a frame, in front of those it has.
#[must_use]
pub fn tagged(frame: &[u8], tpid: u16, id: u16) -> Vec<u8> {
    let mut tagged = frame[..12].to_vec();
    tagged.extend(tpid.to_be_bytes());
    tagged.extend(id.to_be_bytes());
    tagged.extend(&frame[12..]);
    tagged
}

fn ip(macs: Macs, from: IpAddr, to: IpAddr) -> etherparse::PacketBuilderStep<etherparse::IpHeaders> {
    let step = PacketBuilder::ethernet2(macs.from, macs.to);
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => step.ipv4(from.octets(), to.octets(), 64),
        (IpAddr::V6(from), IpAddr::V6(to)) => step.ipv6(from.octets(), to.octets(), 64),
        _ => panic!("from {from} to {to}: one family"),
    }
}

/// A datagram, checksums and all.
#[must_use]
pub fn udp(macs: Macs, from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let step = ip(macs, from.ip(), to.ip()).udp(from.port(), to.port());
    step.write(&mut frame, payload).expect("a Vec takes everything");
    frame
}

/// A SYN that carries data.
#[must_use]
pub fn syn(macs: Macs, from: SocketAddr, to: SocketAddr, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let step = ip(macs, from.ip(), to.ip()).tcp(from.port(), to.port(), 1, 1024).syn();
    step.write(&mut frame, payload).expect("a Vec takes everything");
    frame
}

/// An echo request of either family.
#[must_use]
pub fn echo_request(macs: Macs, from: IpAddr, to: IpAddr, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    match to {
        IpAddr::V4(_) => ip(macs, from, to).icmpv4_echo_request(7, 1).write(&mut frame, payload),
        IpAddr::V6(_) => ip(macs, from, to).icmpv6_echo_request(7, 1).write(&mut frame, payload),
    }
    .expect("a Vec takes everything");
    frame
}

/// A fragment of a datagram of some protocol. `offset` counts bytes and is a multiple of 8.
#[must_use]
pub fn fragment(
    macs: Macs,
    from: Ipv4Addr,
    to: Ipv4Addr,
    offset: u16,
    more: bool,
    payload: &[u8],
) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("a fragment fits");
    let mut header = Ipv4Header::new(length, 64, IpNumber::UDP, from.octets(), to.octets()).expect("it fits");
    header.identification = 0x4850;
    header.dont_fragment = false;
    header.more_fragments = more;
    header.fragment_offset = (offset / 8).try_into().expect("13 bits");
    header.header_checksum = header.calc_header_checksum();
    ethernet(macs, 0x0800, &[&header.to_bytes()[..], payload].concat())
}

/// Any IPv4 protocol.
#[must_use]
pub fn ipv4(macs: Macs, protocol: u8, from: Ipv4Addr, to: Ipv4Addr, payload: &[u8]) -> Vec<u8> {
    let length = u16::try_from(payload.len()).expect("a packet fits");
    let mut header =
        Ipv4Header::new(length, 1, IpNumber(protocol), from.octets(), to.octets()).expect("it fits");
    header.header_checksum = header.calc_header_checksum();
    ethernet(macs, 0x0800, &[&header.to_bytes()[..], payload].concat())
}

/// ARP: operation 1 asks, 2 answers. `padding` fills the rest of the frame.
#[must_use]
pub fn arp(macs: Macs, operation: u8, sender: Ipv4Addr, target: Ipv4Addr, padding: &[u8]) -> Vec<u8> {
    let mut packet = vec![0, 1, 8, 0, 6, 4, 0, operation];
    packet.extend(macs.from);
    packet.extend(sender.octets());
    packet.extend(if operation == 1 { [0; 6] } else { macs.to });
    packet.extend(target.octets());
    packet.extend(padding);
    ethernet(macs, 0x0806, &packet)
}

/// An ICMPv6 message with hop limit 255 and its checksum.
#[must_use]
pub fn icmpv6(macs: Macs, from: Ipv6Addr, to: Ipv6Addr, kind: u8, body: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    let mut first = [0; 4];
    let rest = body.split_at(4.min(body.len()));
    first[..rest.0.len()].copy_from_slice(rest.0);
    PacketBuilder::ethernet2(macs.from, macs.to)
        .ipv6(from.octets(), to.octets(), 255)
        .icmpv6_raw(kind, 0, first)
        .write(&mut frame, rest.1)
        .expect("a Vec takes everything");
    frame
}

/// A neighbour advertisement with the override flag: "`target` is at the sender's MAC".
#[must_use]
pub fn advertisement(
    macs: Macs,
    from: Ipv6Addr,
    to: Ipv6Addr,
    target: Ipv6Addr,
    padding: &[u8; 8],
) -> Vec<u8> {
    let mut body = vec![0x20, 0, 0, 0];
    body.extend(target.octets());
    body.extend([2, 1]);
    body.extend(macs.from);
    // An option that nobody knows.
    body.extend([253, 2, 0, 0, 0, 0, 0, 0]);
    body.extend(padding);
    icmpv6(macs, from, to, 136, &body)
}

/// The IP packet in a frame: no Ethernet header, no VLAN tags, no padding.
#[must_use]
pub fn ip_packet(frame: &[u8]) -> Option<&[u8]> {
    let mut at = 12;
    while matches!(frame.get(at..at + 2)?, [0x81, 0x00] | [0x88, 0xa8]) {
        at += 4;
    }
    let packet = frame.get(at + 2..)?;
    let length = match frame.get(at..at + 2)? {
        [0x08, 0x00] => usize::from(u16::from_be_bytes([*packet.get(2)?, *packet.get(3)?])),
        [0x86, 0xdd] => 40 + usize::from(u16::from_be_bytes([*packet.get(4)?, *packet.get(5)?])),
        _ => return None,
    };
    packet.get(..length)
}
