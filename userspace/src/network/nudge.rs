//! Segments in the name of a client or of an entry address, onto the link where they are awaited.

use std::io;

use hotpair_abi::checksum::fold64;
use hotpair_abi::maps::Tuple;
use hotpair_abi::packet::{ETH_IPV4, ETH_IPV6};
use hotpair_abi::tcp::pure::{Pure, address_sum, header_sum, pseudo_sum};
use hotpair_abi::{Address, is_v4_key};

use super::packet_socket::PacketSocket;

/// Sends on one link. Needs CAP_NET_RAW.
#[derive(Debug)]
pub struct Segments {
    socket: PacketSocket,
}

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Towards {
    /// From the client to a member.
    Member,
    /// From the entry address to the client.
    Client,
}

impl Segments {
    /// On the link with this index; frames carry hotpair's own mark.
    ///
    /// # Errors
    /// The kernel's, e.g. EPERM without CAP_NET_RAW, ENODEV when the link is gone.
    pub fn open(index: u32) -> io::Result<Segments> {
        let socket = PacketSocket::open(index)?;
        socket.mark(hotpair_abi::MARK)?;
        Ok(Segments { socket })
    }

    /// Sends one segment. `macs`: destination and source.
    ///
    /// # Errors
    /// The kernel's, e.g. ENETDOWN, ENOBUFS.
    pub fn send(
        &self,
        tuple: &Tuple,
        towards: Towards,
        macs: [[u8; 6]; 2],
        pure: &Pure,
        payload: &[u8],
    ) -> io::Result<()> {
        self.socket.send(&frame(tuple, towards, macs, pure, payload))
    }
}

/// A whole Ethernet frame.
fn frame(tuple: &Tuple, towards: Towards, macs: [[u8; 6]; 2], pure: &Pure, payload: &[u8]) -> Vec<u8> {
    let (from, to, ports) = match towards {
        Towards::Member => (tuple.remote, tuple.entry, tuple.ports),
        Towards::Client => (tuple.entry, tuple.remote, tuple.ports.rotate_left(16)),
    };
    let v4 = is_v4_key(&from.bytes());
    let mut frame = Vec::with_capacity(128);
    frame.extend_from_slice(&macs[0]);
    frame.extend_from_slice(&macs[1]);
    for tag in [tuple.outer, tuple.inner] {
        if tag != 0 {
            frame.extend_from_slice(&tag.to_be_bytes());
        }
    }
    frame.extend_from_slice(&if v4 { ETH_IPV4 } else { ETH_IPV6 }.to_be_bytes());
    let len = pure.len() + payload.len();
    frame.extend_from_slice(&network_header(from, to, v4, len));
    let mut header = pure.header(ports);
    let mut sum = pseudo_sum(address_sum(from, v4) + address_sum(to, v4), len) + header_sum(&header);
    for pair in payload.chunks(2) {
        sum += u64::from(u16::from_ne_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
    }
    let [a, b] = (!fold64(sum)).to_ne_bytes();
    header[4] = u32::from_ne_bytes([a, b, 0, 0]);
    let bytes: Vec<u8> = header.iter().flat_map(|word| word.to_ne_bytes()).collect();
    frame.extend_from_slice(&bytes[..pure.len()]);
    frame.extend_from_slice(payload);
    frame
}

fn network_header(from: Address, to: Address, v4: bool, len: usize) -> Vec<u8> {
    let len = u16::try_from(len).unwrap_or(u16::MAX);
    if !v4 {
        let mut header = vec![0x60, 0, 0, 0];
        header.extend_from_slice(&len.to_be_bytes());
        header.extend_from_slice(&[6, 64]);
        header.extend_from_slice(&from.bytes());
        header.extend_from_slice(&to.bytes());
        return header;
    }
    let mut header = vec![0x45, 0];
    header.extend_from_slice(&(len + 20).to_be_bytes());
    header.extend_from_slice(&[0, 0, 0x40, 0, 64, 6, 0, 0]);
    header.extend_from_slice(&from.bytes()[12..]);
    header.extend_from_slice(&to.bytes()[12..]);
    let sum = header.chunks(2).map(|pair| u64::from(u16::from_ne_bytes([pair[0], pair[1]]))).sum();
    header[10..12].copy_from_slice(&(!fold64(sum)).to_ne_bytes());
    header
}

#[cfg(test)]
mod tests {
    use super::*;
    use hotpair_abi::packet;

    fn sum(bytes: &[u8]) -> u64 {
        bytes.chunks(2).map(|pair| u64::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]))).sum()
    }

    #[test]
    fn both_checksums_are_right_and_the_tags_are_there() {
        let pure = Pure { seq: 7, ack: 9, window: 100, flags: 0x10, stamped: 1, stamps: [3, 4] };
        let v6 = |last| Address::new([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, last]);
        for (remote, entry) in
            [(Address::v4([192, 0, 2, 1]), Address::v4([203, 0, 113, 10])), (v6(1), v6(10))]
        {
            for (outer, payload) in [(0, &b""[..]), (0x8100_0005, &b"x"[..])] {
                let tuple = Tuple { remote, entry, ports: 0x0102_0304, outer, ..Tuple::default() };
                let frame = frame(&tuple, Towards::Client, [[2; 6], [4; 6]], &pure, payload);
                let link = packet::link(&frame[..], None).expect("a link layer");
                assert_eq!(link.tags.outer, outer);
                let v4 = link.ethertype == ETH_IPV4;
                let ip =
                    if v4 { packet::ipv4(&frame[..], link.l3) } else { packet::ipv6(&frame[..], link.l3) };
                let ip = ip.expect("a network layer");
                assert_eq!((ip.src, ip.dst), (entry, remote));
                if v4 {
                    assert_eq!(sum(&frame[link.l3..ip.l4]) % 0xffff, 0);
                }
                let segment = &frame[ip.l4..];
                let addresses = if v4 { &frame[ip.l4 - 8..ip.l4] } else { &frame[ip.l4 - 32..ip.l4] };
                assert_eq!((sum(segment) + sum(addresses) + segment.len() as u64 + 6) % 0xffff, 0);
                assert_eq!(&segment[..4], &[2, 1, 4, 3]);
            }
        }
    }
}
