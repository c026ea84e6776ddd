//! Frames that something has happened to.
//!
//! Every frame comes from a seed: the same number, the same frames.

use hotpair_abi::heartbeat::State;
use hotpair_abi::{GATEWAY_MAC, HOST_V4, HOST_V6, ME_V4, ME_V6, PEER_V4, PEER_V6, PairId, Slot};

use super::read::{Addr, Ethernet, ethernet, ipv4, ipv6, ones_sum};
use crate::bench::{AWAY, DB, HOST_INTERNAL, WEB, entry_v4, entry_v6, internal, pair_mac};
use crate::frames::{
    BROADCAST, CLIENT_MAC, CLIENT_V4, CLIENT_V6, Ip, UPLINK_MAC, arp, echo, eth, group_mac, heartbeat,
    icmpv6, lladdr, nd, raw_v4, raw_v6, service, solicited_node, tagged, tcp, udp, vlan,
};

/// The longest frame that is made: what a test run takes into one page.
const LONGEST: usize = 3400;

/// splitmix64: small, and good enough to shake a parser.
#[derive(Clone, Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Random {
        Random(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `end`; 0 for 0.
    pub(super) fn below(&mut self, end: usize) -> usize {
        if end == 0 { 0 } else { (self.next() % end as u64) as usize }
    }

    pub(super) fn one_in(&mut self, n: usize) -> bool {
        self.below(n) == 0
    }

    pub(super) fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        &from[self.below(from.len())]
    }
}

/// The addresses that mean something here, one of them IPv4's in IPv6's clothes.
fn v4_addresses() -> Vec<[u8; 4]> {
    vec![
        entry_v4(WEB),
        entry_v4(DB),
        entry_v4(AWAY),
        CLIENT_V4,
        ME_V4,
        PEER_V4,
        HOST_V4,
        HOST_INTERNAL,
        internal(WEB, Slot::Zero),
        internal(WEB, Slot::One),
        [0; 4],
        [255; 4],
        [224, 0, 0, 1],
        [127, 0, 0, 1],
    ]
}

fn mapped(v4: [u8; 4]) -> [u8; 16] {
    std::net::Ipv4Addr::from(v4).to_ipv6_mapped().octets()
}

fn v6_addresses() -> Vec<[u8; 16]> {
    vec![
        entry_v6(WEB),
        entry_v6(DB),
        entry_v6(AWAY),
        CLIENT_V6,
        ME_V6,
        PEER_V6,
        HOST_V6,
        [0; 16],
        mapped(entry_v4(WEB)),
        mapped(ME_V4),
        mapped(PEER_V4),
        solicited_node(entry_v6(WEB)),
    ]
}

fn macs() -> Vec<[u8; 6]> {
    vec![
        UPLINK_MAC,
        CLIENT_MAC,
        GATEWAY_MAC,
        BROADCAST,
        pair_mac(WEB),
        pair_mac(DB),
        [0; 6],
        [0x33, 0x33, 0, 0, 0, 1],
    ]
}

const PLAIN: &[u8] = b"the quick brown fox jumps over the lazy dog";

/// Valid frames of every kind that the programs know, as clients, guests and the host send them.
pub(super) fn valid() -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    let long: Vec<u8> = (0..1400u16).map(|i| i as u8).collect();
    // Everything that is IP, between every two ends that talk.
    let talk = |all: &mut Vec<Vec<u8>>, dst_mac, src_mac, src: Ip, dst: Ip| {
        all.push(udp(dst_mac, src_mac, src, dst, (4000, 53), PLAIN));
        all.push(udp(dst_mac, src_mac, src, dst, (68, 67), &[]));
        all.push(tcp(dst_mac, src_mac, src, dst, (4000, 80), true));
        all.push(tcp(dst_mac, src_mac, src, dst, (80, 4000), false));
        all.push(echo(dst_mac, src_mac, src, dst, 1, false));
        all.push(echo(dst_mac, src_mac, src, dst, 1, true));
        match (src, dst) {
            (Ip::V4(src), Ip::V4(dst)) => {
                let raw = |protocol, fragment, options: &[u8], payload: &[u8]| {
                    raw_v4(dst_mac, src_mac, src, dst, protocol, fragment, options, payload)
                };
                all.push(raw(17, 0x2000, &[], &long[..1200]));
                all.push(raw(17, 150, &[], PLAIN));
                all.push(raw(6, 0, &[7, 4, 4, 0, 1, 1, 1, 0], &tcp_header()));
                all.push(raw(47, 0, &[], PLAIN));
                all.push(raw(2, 0, &[0x94, 4, 0, 0], &[0x16, 0, 0, 0, 224, 0, 0, 1]));
                all.push(raw(17, 0x4000, &[], &[0x1f, 0x90, 0, 53, 0, 8, 0, 0]));
            }
            (Ip::V6(src), Ip::V6(dst)) => {
                let raw = |next, payload: &[u8]| raw_v6(dst_mac, src_mac, src, dst, next, 64, payload);
                all.push(raw(44, &[&[17, 0, 0, 1, 0, 0, 0, 1][..], PLAIN].concat()));
                all.push(raw(44, &[&[17, 0, 0, 9, 0, 0, 0, 1][..], PLAIN].concat()));
                all.push(raw(0, &[&[6, 0, 1, 4, 0, 0, 0, 0][..], &tcp_header()].concat()));
                all.push(raw(0, &[58, 0, 5, 2, 0, 0, 1, 0, 143, 0, 0, 0, 0, 0, 0, 0]));
                all.push(raw(43, &[&[17, 0, 4, 0, 0, 0, 0, 0][..], PLAIN].concat()));
                all.push(raw(60, &[&[59, 0, 1, 4, 0, 0, 0, 0][..], PLAIN].concat()));
                all.push(icmpv6(
                    dst_mac,
                    src_mac,
                    src,
                    dst,
                    &[&[133, 0, 0, 0, 0, 0, 0, 0][..], &lladdr(1, src_mac)].concat(),
                ));
            }
            _ => unreachable!("one family"),
        }
    };
    for id in [WEB, DB, AWAY] {
        talk(&mut all, UPLINK_MAC, CLIENT_MAC, Ip::V4(CLIENT_V4), Ip::V4(entry_v4(id)));
        talk(&mut all, UPLINK_MAC, CLIENT_MAC, Ip::V6(CLIENT_V6), Ip::V6(entry_v6(id)));
        talk(&mut all, GATEWAY_MAC, pair_mac(id), Ip::V4(entry_v4(id)), Ip::V4(CLIENT_V4));
        talk(&mut all, GATEWAY_MAC, pair_mac(id), Ip::V6(entry_v6(id)), Ip::V6(CLIENT_V6));
        let group = solicited_node(entry_v6(id));
        for (src, options) in [(CLIENT_V6, &lladdr(1, CLIENT_MAC)[..]), ([0; 16], &[])] {
            all.push(nd(group_mac(group), CLIENT_MAC, src, group, (135, 0), entry_v6(id), options));
        }
        all.push(nd(
            BROADCAST,
            CLIENT_MAC,
            entry_v6(id),
            CLIENT_V6,
            (136, 0x60),
            entry_v6(id),
            &lladdr(2, CLIENT_MAC),
        ));
        all.push(arp(BROADCAST, CLIENT_MAC, 1, (CLIENT_MAC, CLIENT_V4), ([0; 6], entry_v4(id))));
        all.push(arp(BROADCAST, CLIENT_MAC, 1, (CLIENT_MAC, entry_v4(id)), ([0; 6], entry_v4(id))));
        all.extend(of_a_guest(id));
        for slot in Slot::BOTH {
            talk(&mut all, pair_mac(id), GATEWAY_MAC, Ip::V4(HOST_INTERNAL), Ip::V4(internal(id, slot)));
        }
        talk(&mut all, pair_mac(id), GATEWAY_MAC, Ip::V6(HOST_V6), Ip::V6(ME_V6));
    }
    // From one pair's member to another pair: in at one tap, out at others.
    talk(&mut all, GATEWAY_MAC, pair_mac(WEB), Ip::V4(entry_v4(WEB)), Ip::V4(entry_v4(DB)));
    talk(&mut all, GATEWAY_MAC, pair_mac(WEB), Ip::V6(entry_v6(WEB)), Ip::V6(entry_v6(DB)));
    // And all of it behind one tag and behind two.
    let plain = all.clone();
    all.extend(plain.iter().step_by(3).map(|frame| tagged(frame, &[vlan(5)])));
    all.extend(plain.iter().step_by(5).map(|frame| tagged(frame, &[service(7), vlan(5)])));
    all.push(tagged(&plain[0], &[vlan(5), vlan(6), vlan(7)]));
    all.push(eth(BROADCAST, CLIENT_MAC, 0x88cc, PLAIN));
    all
}

fn tcp_header() -> Vec<u8> {
    [&[0x0f, 0xa0, 0, 80, 0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x10, 0xff, 0xff, 0x12, 0x34, 0, 0][..], PLAIN]
        .concat()
}

/// What a guest says besides its service.
fn of_a_guest(id: PairId) -> Vec<Vec<u8>> {
    let mac = pair_mac(id);
    let mut all = Vec::new();
    for state in [State::Starting, State::Serving, State::Failing, State::Stopping] {
        all.push(heartbeat(mac, 1 + state as u64, 7, state));
    }
    let inside = [
        (Ip::V4(ME_V4), Ip::V4(PEER_V4)),
        (Ip::V4(ME_V4), Ip::V4(HOST_V4)),
        (Ip::V6(ME_V6), Ip::V6(PEER_V6)),
        (Ip::V6(ME_V6), Ip::V6(HOST_V6)),
    ];
    for (src, dst) in inside {
        all.push(udp(GATEWAY_MAC, mac, src, dst, (7077, 7078), PLAIN));
        all.push(tcp(GATEWAY_MAC, mac, src, dst, (22, 4000), true));
        all.push(echo(GATEWAY_MAC, mac, src, dst, 1, false));
    }
    let group = solicited_node(CLIENT_V6);
    all.push(arp(BROADCAST, mac, 1, (mac, ME_V4), ([0; 6], HOST_V4)));
    all.push(arp(BROADCAST, mac, 1, (mac, entry_v4(id)), ([0; 6], CLIENT_V4)));
    all.push(arp(BROADCAST, mac, 1, (mac, [0; 4]), ([0; 6], ME_V4)));
    all.push(arp(GATEWAY_MAC, mac, 2, (mac, entry_v4(id)), (GATEWAY_MAC, CLIENT_V4)));
    all.push(nd(group_mac(group), mac, entry_v6(id), group, (135, 0), CLIENT_V6, &lladdr(1, mac)));
    all.push(nd(group_mac(group), mac, [0; 16], group, (135, 0), entry_v6(id), &[]));
    all.push(nd(GATEWAY_MAC, mac, ME_V6, HOST_V6, (136, 0x60), ME_V6, &lladdr(2, mac)));
    all
}

/// The next frame: a valid one, to which up to three things happen, or just bytes.
pub(super) fn next(random: &mut Random, valid: &[Vec<u8>]) -> Vec<u8> {
    if random.one_in(64) {
        return (0..14 + random.below(200)).map(|_| random.next() as u8).collect();
    }
    let mut frame = random.pick(valid).clone();
    for _ in 0..random.below(4) {
        happens(random, &mut frame, valid);
    }
    if random.one_in(3) {
        mend(&mut frame);
    }
    // The kernel lets nothing shorter in than an Ethernet header.
    let shortest = frame.len().max(14);
    frame.resize(shortest, 0);
    frame.truncate(LONGEST);
    frame
}

fn overwrite(frame: &mut [u8], at: usize, with: &[u8]) {
    for (to, from) in frame.iter_mut().skip(at).zip(with) {
        *to = *from;
    }
}

pub(super) fn happens(random: &mut Random, frame: &mut Vec<u8>, valid: &[Vec<u8>]) {
    let len = frame.len();
    // Headers are where decisions are made.
    let somewhere = if random.one_in(4) { random.below(len) } else { random.below(len.min(80)) };
    match random.below(12) {
        0 => {
            for _ in 0..=random.below(8) {
                let bit = random.below(len * 8);
                if let Some(byte) = frame.get_mut(bit / 8) {
                    *byte ^= 1 << (bit % 8);
                }
            }
        }
        1 => {
            let value = *random
                .pick(&[0, 1, 2, 4, 5, 6, 17, 44, 58, 60, 0x45, 0x46, 0x4f, 0x60, 0x7f, 0x80, 135, 136, 255]);
            overwrite(frame, somewhere, &[value]);
        }
        2 => {
            let value: u16 = *random.pick(&[
                0, 1, 7077, 56, 67, 547, 0x0800, 0x0806, 0x86dd, 0x8100, 0x88a8, 0x2000, 0x3fff, 0xffff,
            ]);
            overwrite(frame, somewhere & !1, &value.to_be_bytes());
        }
        3 => frame.truncate(14 + random.below(len.saturating_sub(13))),
        4 => {
            let more = if random.one_in(8) { random.below(LONGEST) } else { random.below(64) };
            frame.extend((0..more).map(|_| random.next() as u8));
        }
        5 => {
            let other = random.pick(valid);
            let cut = random.below(len.min(100));
            frame.truncate(cut);
            frame.extend_from_slice(&other[cut.min(other.len())..]);
        }
        6 => {
            let places: [usize; 6] = [26, 30, 28, 38, 30 + random.below(8), somewhere];
            overwrite(frame, *random.pick(&places), &random.pick(&v4_addresses())[..]);
        }
        7 => {
            let places: [usize; 4] = [22, 38, 62, somewhere];
            overwrite(frame, *random.pick(&places), &random.pick(&v6_addresses())[..]);
        }
        8 => overwrite(frame, *random.pick(&[0, 6, 6, 0, 22, 32, 80]), &random.pick(&macs())[..]),
        9 => {
            let id = random.below(4096) as u16;
            let tag = if random.one_in(2) { vlan(id) } else { service(id) };
            if len >= 12 {
                *frame = tagged(frame, &[tag]);
            }
        }
        10 => {
            let end = (somewhere + 1 + random.below(8)).min(len);
            frame.drain(somewhere.min(end)..end);
        }
        _ => {
            let end = (somewhere + 1 + random.below(8)).min(len);
            let twice = frame[somewhere.min(end)..end].to_vec();
            frame.splice(end..end, twice);
        }
    }
}

/// Makes the checksums right again that a program looks at, so that what happened is not found out by them: those of
/// neighbour discovery and of heartbeats.
fn mend(frame: &mut [u8]) {
    let Ethernet::Whole { ethertype, at, .. } = ethernet(frame) else { return };
    if ethertype == 0x86dd
        && let Some(ip) = ipv6(frame, at)
        && let (Addr::V6(src), Addr::V6(dst)) = (ip.src, ip.dst)
        && ip.protocol == 58
    {
        let end = ip.inside + usize::from(ip.length);
        if ip.length >= 4 && end <= frame.len() {
            overwrite(frame, ip.inside + 2, &[0, 0]);
            let pseudo = [&src[..], &dst, &u32::from(ip.length).to_be_bytes(), &[0, 0, 0, 58]].concat();
            let sum = !ones_sum(&[&pseudo, &frame[ip.inside..end]]);
            overwrite(frame, ip.inside + 2, &sum.to_be_bytes());
        }
    }
    if ethertype == 0x0800
        && let Some(ip) = ipv4(frame, at)
        && let beat = ip.inside + 8
        && frame.get(beat..beat + 4) == Some(b"HPHB")
        && frame.len() >= beat + 48
    {
        overwrite(frame, beat + 6, &[0, 0]);
        let sum = !ones_sum(&[&frame[beat..beat + 48]]);
        overwrite(frame, beat + 6, &sum.to_be_bytes());
    }
}
