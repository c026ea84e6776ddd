//! Frames from a wire: everything in `abi` that reads them.

use hotpair_abi::flow::{self, Direction};
use hotpair_abi::frame::{FromGuest, FromUplink, from_guest, from_uplink, glance, plain_segment};
use hotpair_abi::maps::Tuple;
use hotpair_abi::neighbour;
use hotpair_abi::packet::{self, Ip, LinkError};
use hotpair_abi::tcp::segment::{self, Header, Segment};

/// A frame, from its Ethernet header on; its last byte says whether a tag has been taken off before.
pub fn frame(bytes: &[u8]) {
    let stripped = match bytes.last() {
        Some(byte) if byte & 1 == 1 => Some((0x8100, u16::from(*byte))),
        _ => None,
    };
    let link = match packet::link(bytes, stripped) {
        Ok(link) => link,
        Err(LinkError::Short) => return assert!(bytes.len() < 14 + 2 * 4),
        Err(LinkError::TooManyTags) => return,
    };
    assert!(link.l3 <= bytes.len() && link.l3 >= 14);
    // What is seen at a glance is what is read; a tag that has been taken off is not in what is seen.
    if let Some(seen) = glance(bytes) {
        let Ok(FromUplink::Packet(ip)) = from_uplink(bytes, &link) else { panic!("{seen:?} is no packet") };
        assert_eq!((seen.mac, seen.dst, 14), (link.dst, ip.dst, link.l3));
    }
    let (mut tuple, mut seen) = (Tuple::default(), Segment::default());
    if let Some(l4) = plain_segment(bytes, &mut tuple, &mut seen) {
        let Ok(FromUplink::Packet(ip)) = from_uplink(bytes, &link) else { panic!("{seen:?} is no packet") };
        assert!(ip.whole && ip.protocol == packet::protocol::TCP && seen.is_plain());
        assert_eq!((tuple.remote, tuple.entry, l4), (ip.src, ip.dst, ip.l4));
        let mut header = Header::EMPTY;
        let len = seen.header as usize;
        header.0[..len].copy_from_slice(&bytes[l4..l4 + len]);
        assert_eq!(segment::read(&header, seen.header + seen.payload), Ok(seen));
    }
    match from_uplink(bytes, &link) {
        Ok(FromUplink::Packet(ip)) => packet(bytes, &ip),
        Ok(FromUplink::Neighbour { target, ip, .. }) => {
            let _ = neighbour::solicitation_is_valid(bytes, &ip, target);
            assert!(!target.is_mapped());
            let answer = neighbour::advertisement(target, ip.src, link.src);
            assert_eq!(answer.len() * 8, neighbour::ADVERTISEMENT_LEN);
        }
        Ok(FromUplink::Arp(arp)) => {
            let reply = neighbour::arp_reply(&arp, link.dst);
            let words: Vec<u8> = reply.iter().flat_map(|word| word.to_ne_bytes()).collect();
            if !link.dst.is_group() {
                let read = neighbour::arp(&words[..], 0).expect("an answer is ARP");
                assert!(!read.request && read.sender == arp.target && read.target == arp.sender);
            }
        }
        Ok(FromUplink::Other) | Err(_) => {}
    }
    if let Ok(FromGuest::Packet(ip)) = from_guest(bytes, &link) {
        packet(bytes, &ip);
        assert!(!link.dst.is_group() && !ip.dst.is_multicast(ip.v4));
    }
}

fn packet(bytes: &[u8], ip: &Ip) {
    assert!(ip.l3 + 20 <= bytes.len() && ip.l4 >= ip.l3 + 20);
    assert!(ip.v4 || !(ip.src.is_mapped() || ip.dst.is_mapped()));
    assert!(!ip.whole || ip.first);
    let there = flow::seen(bytes, ip, Direction::ToGuest);
    // Its answer is of the same conversation.
    let mut answer = *ip;
    (answer.src, answer.dst) = (ip.dst, ip.src);
    let back = flow::seen(bytes, &answer, Direction::FromGuest);
    assert_eq!((there.flow.remote, there.flow.entry), (back.flow.remote, back.flow.entry));
}
