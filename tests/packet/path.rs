//! Real frames on a real path: a veth as the uplink, taps as the guests' NICs, the kernel's own redirects between.

use std::time::Duration;

use hotpair::config::XdpMode;
use hotpair_abi::count::Counter;
use hotpair_abi::{Epoch, GATEWAY_MAC, HOST_V4, HOST_V6, ME_V4, ME_V6, PEER_V4, Slot};

use crate::bench::{Bench, DB, WEB, alone, entry_v4, entry_v6, pair_mac};
use crate::frames::{
    BROADCAST, CLIENT_MAC, CLIENT_V4, CLIENT_V6, Ip, UPLINK_MAC, addressed, arp, echo, group_mac, lladdr, nd,
    raw_v4, raw_v6, service, solicited_node, tagged, tcp, udp, vlan,
};
use crate::ports::Port;

const MAC: [u8; 6] = pair_mac(WEB);
const V4: Ip = Ip::V4(entry_v4(WEB));
const V6: Ip = Ip::V6(entry_v6(WEB));
const CLIENT4: Ip = Ip::V4(CLIENT_V4);
const CLIENT6: Ip = Ip::V6(CLIENT_V6);

pub(crate) fn question(payload: &[u8]) -> Vec<u8> {
    udp(UPLINK_MAC, CLIENT_MAC, CLIENT4, V4, (4000, 53), payload)
}

pub(crate) fn answer(payload: &[u8]) -> Vec<u8> {
    udp(GATEWAY_MAC, MAC, V4, CLIENT4, (53, 4000), payload)
}

/// As the client sees it.
pub(crate) fn on_the_wire(answer: &[u8]) -> Vec<u8> {
    addressed(answer, CLIENT_MAC, UPLINK_MAC)
}

fn every_kind_of_frame() -> Vec<(&'static str, Vec<u8>)> {
    let large: Vec<u8> = (0..1400u16).map(|i| i as u8).collect();
    let plain = question(b"tagged");
    vec![
        ("UDP", question(b"hello")),
        ("an empty datagram", question(b"")),
        ("a large datagram", question(&large)),
        ("UDP over IPv6", udp(UPLINK_MAC, CLIENT_MAC, CLIENT6, V6, (4000, 53), b"hello")),
        ("a SYN", tcp(UPLINK_MAC, CLIENT_MAC, CLIENT4, V4, (4000, 80), true)),
        ("TCP data of no known connection", tcp(UPLINK_MAC, CLIENT_MAC, CLIENT4, V4, (4001, 80), false)),
        ("TCP over IPv6", tcp(UPLINK_MAC, CLIENT_MAC, CLIENT6, V6, (4000, 80), false)),
        ("ICMP", echo(UPLINK_MAC, CLIENT_MAC, CLIENT4, V4, 3, false)),
        ("ICMPv6", echo(UPLINK_MAC, CLIENT_MAC, CLIENT6, V6, 3, false)),
        (
            "a first fragment",
            raw_v4(UPLINK_MAC, CLIENT_MAC, CLIENT_V4, entry_v4(WEB), 17, 0x2000, &[], &large[..1200]),
        ),
        (
            "a later fragment",
            raw_v4(UPLINK_MAC, CLIENT_MAC, CLIENT_V4, entry_v4(WEB), 17, 150, &[], b"the rest of it"),
        ),
        ("an IPv6 fragment", {
            let rest = [&[17, 0, 0, 9, 0, 0, 0, 1][..], b"the rest of it"].concat();
            raw_v6(UPLINK_MAC, CLIENT_MAC, CLIENT_V6, entry_v6(WEB), 44, 64, &rest)
        }),
        (
            "IP options",
            raw_v4(
                UPLINK_MAC,
                CLIENT_MAC,
                CLIENT_V4,
                entry_v4(WEB),
                253,
                0,
                &[7, 7, 4, 0, 0, 0, 0, 0],
                b"rr",
            ),
        ),
        ("a wrong checksum", {
            let mut frame = question(b"broken");
            frame[41] ^= 0xff;
            frame
        }),
        ("one VLAN tag", tagged(&plain, &[[0x81, 0, 0xa0, 5]])),
        ("two VLAN tags", tagged(&plain, &[service(7), vlan(5)])),
        (
            "two VLAN tags over IPv6",
            tagged(&udp(UPLINK_MAC, CLIENT_MAC, CLIENT6, V6, (1, 2), b"x"), &[service(7), vlan(5)]),
        ),
    ]
}

fn both_members_get_everything(xdp: XdpMode) {
    alone(|| {
        let bench = Bench::with(xdp, false);
        let frames = every_kind_of_frame();
        for (what, frame) in &frames {
            bench.client.send(frame);
            for slot in Slot::BOTH {
                bench
                    .tap(WEB, slot)
                    .expect(&format!("{what} at slot {slot}"), &addressed(frame, MAC, CLIENT_MAC));
            }
        }
        let sent = frames.len() as u64;
        assert_eq!(bench.count(WEB, Counter::UplinkMirrored), sent);
        for slot in Slot::BOTH {
            assert_eq!(bench.tap(DB, slot).sees(|_| true), None, "another pair got something");
        }
    });
}

#[test]
fn both_members_receive_every_frame_byte_for_byte() {
    both_members_get_everything(XdpMode::Native);
}

#[test]
fn both_members_receive_every_frame_byte_for_byte_in_generic_mode() {
    both_members_get_everything(XdpMode::Generic);
}

#[test]
fn only_the_active_ones_packets_leave_and_a_flip_is_one_store() {
    alone(|| {
        let bench = Bench::new();
        let from = |slot: Slot| answer(&[slot as u8; 9]);
        for round in 0..6u64 {
            let active = Slot::from_bit(round);
            bench.plane.set_role(WEB, Bench::word().with_epoch(Epoch(10 + round)).with_active(active));
            // The very next packets: nothing is waited for.
            bench.tap(WEB, active.other()).send(&from(active.other()));
            bench.tap(WEB, active).send(&from(active));
            bench.client.expect("the active one's answer", &on_the_wire(&from(active)));
            let other = on_the_wire(&from(active.other()));
            assert_eq!(bench.client.sees(|frame| frame[12..] == other[12..]), None, "the standby was heard");
        }
        assert_eq!(bench.count(WEB, Counter::ActiveSent), 6);
        assert_eq!(bench.count(WEB, Counter::StandbySuppressed), 6);
        // IPv6, to the same end.
        let frame = udp(GATEWAY_MAC, MAC, V6, CLIENT6, (53, 4000), b"six");
        bench.tap(WEB, Slot::One).send(&frame);
        bench.client.expect("an IPv6 answer", &on_the_wire(&frame));
    });
}

#[test]
fn a_muted_member_neither_speaks_nor_hears() {
    alone(|| {
        let bench = Bench::new();
        bench.plane.set_role(WEB, Bench::word().with_muted(Slot::Zero, true).with_active(Slot::One));
        bench.client.send(&question(b"hello"));
        bench
            .tap(WEB, Slot::One)
            .expect("the other one's copy", &addressed(&question(b"hello"), MAC, CLIENT_MAC));
        bench.tap(WEB, Slot::Zero).send(&answer(b"I am back"));
        bench.tap(WEB, Slot::Zero).send(&udp(
            GATEWAY_MAC,
            MAC,
            Ip::V4(ME_V4),
            Ip::V4(PEER_V4),
            (1, 2),
            b"peer?",
        ));
        bench.tap(WEB, Slot::One).send(&udp(
            GATEWAY_MAC,
            MAC,
            Ip::V4(ME_V4),
            Ip::V4(PEER_V4),
            (1, 2),
            b"peer?",
        ));
        assert_eq!(bench.tap(WEB, Slot::Zero).sees(|_| true), None, "it hears");
        assert_eq!(bench.tap(WEB, Slot::One).sees(|_| true), None, "its peer hears it");
        assert_eq!(
            bench.client.sees(|frame| frame[6..12] == UPLINK_MAC && frame[12] == 8 && frame[13] == 0),
            None
        );
        assert_eq!(bench.count(WEB, Counter::GuestMuted), 1);
        assert_eq!(bench.count(WEB, Counter::MutedDropped), 2);
        assert_eq!(bench.count(WEB, Counter::FromHostMuted), 1);
    });
}

#[test]
fn neighbours_are_answered_on_both_sides() {
    alone(|| {
        let bench = Bench::new();
        // The client asks for the entry addresses.
        bench.client.send(&arp(BROADCAST, CLIENT_MAC, 1, (CLIENT_MAC, CLIENT_V4), ([0; 6], entry_v4(WEB))));
        let reply = arp(CLIENT_MAC, UPLINK_MAC, 2, (UPLINK_MAC, entry_v4(WEB)), (CLIENT_MAC, CLIENT_V4));
        bench.client.expect("the ARP reply", &reply);
        let entry = entry_v6(WEB);
        let group = solicited_node(entry);
        let told = nd(CLIENT_MAC, UPLINK_MAC, entry, CLIENT_V6, (136, 0x60), entry, &lladdr(2, UPLINK_MAC));
        bench.client.send(&nd(
            group_mac(group),
            CLIENT_MAC,
            CLIENT_V6,
            group,
            (135, 0),
            entry,
            &lladdr(1, CLIENT_MAC),
        ));
        bench.client.expect("the advertisement", &told);
        // Without an option the frame must grow.
        bench.client.send(&nd(UPLINK_MAC, CLIENT_MAC, CLIENT_V6, entry, (135, 0), entry, &[]));
        bench.client.expect("the grown advertisement", &told);
        for slot in Slot::BOTH {
            assert_eq!(bench.tap(WEB, slot).sees(|_| true), None, "a member was asked");
        }
        // A guest asks for its gateway and for a client.
        let tap = bench.tap(WEB, Slot::One);
        tap.send(&arp(BROADCAST, MAC, 1, (MAC, ME_V4), ([0; 6], HOST_V4)));
        tap.expect("the gateway's reply", &arp(MAC, GATEWAY_MAC, 2, (GATEWAY_MAC, HOST_V4), (MAC, ME_V4)));
        tap.send(&tagged(&arp(BROADCAST, MAC, 1, (MAC, entry_v4(WEB)), ([0; 6], CLIENT_V4)), &[vlan(5)]));
        let reply = arp(MAC, GATEWAY_MAC, 2, (GATEWAY_MAC, CLIENT_V4), (MAC, entry_v4(WEB)));
        tap.expect("a tagged reply", &tagged(&reply, &[vlan(5)]));
        tap.send(&nd(GATEWAY_MAC, MAC, ME_V6, HOST_V6, (135, 0), HOST_V6, &[]));
        let told = nd(MAC, GATEWAY_MAC, HOST_V6, ME_V6, (136, 0x60), HOST_V6, &lladdr(2, GATEWAY_MAC));
        tap.expect("the gateway's advertisement", &told);
        tap.send(&arp(BROADCAST, MAC, 1, (MAC, [0; 4]), ([0; 6], CLIENT_V4)));
        assert_eq!(tap.sees(|_| true), None, "a probe was answered");
        assert_eq!(bench.client.sees(|frame| frame[6..12] == MAC), None, "a guest's question left");
    });
}

#[test]
fn nothing_of_a_guest_leaves_but_its_own_packets() {
    alone(|| {
        let bench = Bench::new();
        let tap = bench.tap(WEB, Slot::Zero);
        let mut sent = 0;
        for frame in [
            addressed(&answer(b"spoofed MAC"), GATEWAY_MAC, CLIENT_MAC),
            udp(GATEWAY_MAC, MAC, Ip::V4([192, 0, 2, 66]), CLIENT4, (53, 4000), b"spoofed address"),
            udp(GATEWAY_MAC, MAC, Ip::V4(entry_v4(DB)), CLIENT4, (53, 4000), b"another pair's"),
            arp(BROADCAST, MAC, 1, (MAC, entry_v4(WEB)), ([0; 6], entry_v4(WEB))),
            nd(
                group_mac([0xff; 16]),
                MAC,
                entry_v6(WEB),
                [0xff; 16],
                (136, 0x20),
                entry_v6(WEB),
                &lladdr(2, MAC),
            ),
            udp(BROADCAST, MAC, Ip::V4([0; 4]), Ip::V4([255; 4]), (68, 67), &[1; 240]),
            raw_v4(
                [1, 0, 0x5e, 0, 0, 0x16],
                MAC,
                entry_v4(WEB),
                [224, 0, 0, 22],
                2,
                0,
                &[0x94, 4, 0, 0],
                &[0x22; 16],
            ),
            crate::frames::eth([1, 0x80, 0xc2, 0, 0, 0xe], MAC, 0x88cc, &[1; 46]),
            answer(b"cut off")[..30].to_vec(),
            udp(GATEWAY_MAC, MAC, V6, CLIENT6, (53, 4000), b"cut off")[..50].to_vec(),
        ] {
            tap.send(&frame);
            sent += 1;
        }
        tap.send(&answer(b"the last"));
        bench.client.receive("the last one", |frame| {
            assert!(frame[6..12] != MAC, "left as it came: {frame:02x?}");
            *frame == on_the_wire(&answer(b"the last"))[..]
        });
        let dropped: u64 = [
            Counter::SpoofedMac,
            Counter::SpoofedAddress,
            Counter::GuestArpDropped,
            Counter::GuestNdDropped,
            Counter::GuestDhcpDropped,
            Counter::GuestMulticast,
            Counter::GuestUnknownProtocol,
            Counter::GuestUnparsed,
        ]
        .map(|counter| bench.count(WEB, counter))
        .iter()
        .sum();
        assert_eq!(dropped, sent);
    });
}

#[test]
fn a_tagged_answer_goes_back_with_its_tags() {
    alone(|| {
        let bench = Bench::new();
        for tags in [vec![vlan(5)], vec![service(7), vlan(5)]] {
            let asked = tagged(&question(b"tagged"), &tags);
            bench.client.send(&asked);
            bench.tap(WEB, Slot::Zero).expect("the question", &addressed(&asked, MAC, CLIENT_MAC));
            let told = tagged(&answer(b"tagged"), &tags);
            bench.tap(WEB, Slot::Zero).send(&told);
            bench.client.expect("the answer", &on_the_wire(&told));
        }
        bench.tap(WEB, Slot::Zero).send(&tagged(&answer(b"lost"), &[vlan(6)]));
        assert_eq!(bench.client.sees(|frame| frame.ends_with(b"lost")), None);
        assert_eq!(bench.count(WEB, Counter::VlanNoReturnPath), 1);
    });
}

#[test]
fn what_passes_reaches_the_host_untouched() {
    alone(|| {
        let bench = Bench::new();
        let socket = std::net::UdpSocket::bind("192.0.2.1:9000").expect("a socket");
        socket.set_read_timeout(Some(Duration::from_secs(2))).expect("a timeout");
        bench.client.send(&udp(
            UPLINK_MAC,
            CLIENT_MAC,
            CLIENT4,
            Ip::V4([192, 0, 2, 1]),
            (5, 9000),
            b"to the host",
        ));
        let mut buffer = [0; 100];
        let (len, from) = socket.recv_from(&mut buffer).expect("a datagram");
        assert_eq!(
            (&buffer[..len], from),
            (&b"to the host"[..], (std::net::Ipv4Addr::from(CLIENT_V4), 5).into())
        );
        socket.send_to(b"and back", from).expect("sending");
        bench.client.receive("the host's answer", |frame| frame.ends_with(b"and back"));
    });
}

#[test]
fn pairs_on_one_host_reach_each_other() {
    alone(|| {
        let bench = Bench::new();
        let to_db = udp(GATEWAY_MAC, MAC, V4, Ip::V4(entry_v4(DB)), (1, 2), b"a query");
        bench.tap(WEB, Slot::Zero).send(&to_db);
        bench.tap(WEB, Slot::One).send(&to_db);
        for slot in Slot::BOTH {
            let tap = bench.tap(DB, slot);
            tap.expect("the query", &addressed(&to_db, pair_mac(DB), GATEWAY_MAC));
            assert_eq!(tap.sees(|_| true), None, "the standby's query arrived as well");
        }
        assert_eq!(bench.client.sees(|frame| frame.ends_with(b"a query")), None, "it left");
    });
}

#[test]
fn a_tap_that_is_gone_takes_nothing_from_the_other_member() {
    alone(|| {
        let mut bench = Bench::new();
        let gone = std::mem::take(&mut bench.taps);
        let mut kept = Vec::new();
        for [zero, one] in gone {
            drop(zero);
            kept.push(one);
        }
        bench.client.send(&question(b"still there?"));
        kept[0].expect("the other one's copy", &addressed(&question(b"still there?"), MAC, CLIENT_MAC));
    });
}
