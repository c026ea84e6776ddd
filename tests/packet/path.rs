//! Real frames on a real path: a veth as the uplink, taps as the guests' NICs, the kernel's own redirects between.

use std::time::Duration;

use hotpair::config::XdpMode;
use hotpair_abi::count::Counter;
use hotpair_abi::{Epoch, GATEWAY_MAC, HOST_V4, HOST_V6, ME_V4, ME_V6, PEER_V4, Slot};
use hotpair_tests::netns::ip_batch;

use crate::bench::{
    Bench, DB, HOST_INTERNAL, WEB, alone, entry_v4, entry_v6, ifindex, internal, pair_mac, tap_name,
};
use crate::frames::{
    BROADCAST, CLIENT_MAC, CLIENT_V4, CLIENT_V6, Ip, UPLINK_MAC, addressed, arp, assert_checksums, colons,
    echo, group_mac, heartbeat, lladdr, nd, raw_v4, raw_v6, service, solicited_node, tagged, tcp, udp, vlan,
};
use crate::ports::Port;

const MAC: [u8; 6] = pair_mac(WEB);
const V4: Ip = Ip::V4(entry_v4(WEB));
const V6: Ip = Ip::V6(entry_v6(WEB));
const CLIENT4: Ip = Ip::V4(CLIENT_V4);
const CLIENT6: Ip = Ip::V6(CLIENT_V6);

fn question(payload: &[u8]) -> Vec<u8> {
    udp(UPLINK_MAC, CLIENT_MAC, CLIENT4, V4, (4000, 53), payload)
}

fn answer(payload: &[u8]) -> Vec<u8> {
    udp(GATEWAY_MAC, MAC, V4, CLIENT4, (53, 4000), payload)
}

/// As the client sees it.
fn on_the_wire(answer: &[u8]) -> Vec<u8> {
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
fn members_reach_each_other_with_valid_checksums() {
    alone(|| {
        // With virtio headers, so that one of the frames can leave its checksum undone.
        let bench = Bench::with(XdpMode::Native, true);
        for slot in Slot::BOTH {
            let swapped = |make: &dyn Fn([u8; 6], [u8; 6], Ip, Ip) -> Vec<u8>| {
                let sent = make(GATEWAY_MAC, MAC, Ip::V4(ME_V4), Ip::V4(PEER_V4));
                let seen = make(MAC, GATEWAY_MAC, Ip::V4(PEER_V4), Ip::V4(ME_V4));
                (sent, seen)
            };
            for (what, (sent, seen)) in [
                ("UDP", swapped(&|dst, src, from, to| udp(dst, src, from, to, (7, 8), b"to my peer"))),
                ("TCP", swapped(&|dst, src, from, to| tcp(dst, src, from, to, (7, 8), true))),
                ("ICMP", swapped(&|dst, src, from, to| echo(dst, src, from, to, 1, false))),
            ] {
                bench.tap(WEB, slot).send(&sent);
                bench.tap(WEB, slot.other()).expect(what, &seen);
            }
            let beat = heartbeat(MAC, 1, 1, hotpair_abi::heartbeat::State::Serving);
            bench.tap(WEB, slot).send(&beat);
            let seen =
                bench.tap(WEB, slot.other()).receive("the heartbeat", |frame| frame.len() == beat.len());
            assert_checksums(&seen);
            assert_eq!((&seen[26..30], &seen[30..34]), (&PEER_V4[..], &ME_V4[..]));
            assert_eq!(bench.plane.member(WEB, slot).beats, 1);
        }
        // Nothing of it leaves.
        assert_eq!(bench.client.sees(|frame| frame[6..12] == MAC || frame[6..12] == GATEWAY_MAC), None);
    });
}

/// The host's side of a member: what the network room sets up in earnest.
fn host_side(slot: Slot) {
    let tap = tap_name(WEB, slot);
    let member = std::net::Ipv4Addr::from(internal(WEB, slot));
    let host = std::net::Ipv4Addr::from(HOST_INTERNAL);
    ip_batch(&format!(
        "addr replace {host}/32 dev lo
         route add {member}/32 dev {tap} src {host}
         neigh add {member} lladdr {mac} dev {tap} nud permanent",
        mac = colons(MAC),
    ))
    .expect("the host's side");
}

#[test]
fn the_host_and_a_member_reach_each_other_by_translation() {
    alone(|| {
        let bench = Bench::with(XdpMode::Native, true);
        for slot in Slot::BOTH {
            host_side(slot);
            let tap = bench.tap(WEB, slot);
            let port = 9000 + slot as u16;
            let socket =
                std::net::UdpSocket::bind((std::net::Ipv4Addr::from(HOST_INTERNAL), port)).expect("a socket");
            socket.set_read_timeout(Some(Duration::from_secs(2))).expect("a timeout");
            // Host to member.
            socket
                .send_to(b"from the host", (std::net::Ipv4Addr::from(internal(WEB, slot)), 22))
                .expect("sending");
            let seen = tap.receive("the host's datagram", |frame| frame.ends_with(b"from the host"));
            let expected =
                udp(MAC, GATEWAY_MAC, Ip::V4(HOST_V4), Ip::V4(ME_V4), (port, 22), b"from the host");
            assert_eq!(seen[..6], expected[..6]);
            assert_eq!((&seen[26..30], &seen[30..34]), (&HOST_V4[..], &ME_V4[..]));
            assert_checksums_of_header(&seen);
            // And back, once with a whole checksum and once with one that is left to the NIC.
            let back = udp(GATEWAY_MAC, MAC, Ip::V4(ME_V4), Ip::V4(HOST_V4), (22, port), b"from the member");
            tap.send(&back);
            let mut partial = back.clone();
            partial[40..42].copy_from_slice(&pseudo_sum(&back));
            tap.send_partial(&partial, 34, 6);
            for what in ["summed", "partial"] {
                let mut buffer = [0; 100];
                let (len, from) =
                    socket.recv_from(&mut buffer).unwrap_or_else(|error| panic!("{what}: {error}"));
                assert_eq!(&buffer[..len], b"from the member");
                assert_eq!(from, (std::net::Ipv4Addr::from(internal(WEB, slot)), 22).into(), "{what}");
            }
        }
        assert_eq!(bench.count(WEB, Counter::HostSent), 4);
    });
}

/// The IPv4 header's checksum; the datagram's may be left to the NIC by the host, too.
fn assert_checksums_of_header(frame: &[u8]) {
    assert_eq!(crate::frames::checksum(&frame[14..34]), [0, 0], "IPv4 header checksum");
}

/// What a stack writes into the checksum field when it leaves the rest to the NIC.
fn pseudo_sum(frame: &[u8]) -> [u8; 2] {
    let len = (frame.len() - 34) as u16;
    let pseudo = [&frame[26..34], &[0, 17], &len.to_be_bytes()[..]].concat();
    crate::frames::checksum(&pseudo).map(|byte| !byte)
}

#[test]
fn the_host_reaches_a_member_by_ipv6_link_local() {
    alone(|| {
        let bench = Bench::new();
        let tap_name = tap_name(WEB, Slot::Zero);
        std::fs::write(format!("/proc/sys/net/ipv6/conf/{tap_name}/disable_ipv6"), "0").expect("a sysctl");
        ip_batch(&format!(
            "addr add fe80::77:3/64 dev {tap_name} nodad
             neigh add fe80::77:1 lladdr {mac} dev {tap_name} nud permanent
             link show dev {tap_name}",
            mac = colons(MAC)
        ))
        .expect("the tap's address");
        let scope = ifindex(&tap_name);
        let at = |address: [u8; 16], port| std::net::SocketAddrV6::new(address.into(), port, 0, scope);
        let socket = std::net::UdpSocket::bind(at(HOST_V6, 9000)).expect("a socket");
        socket.set_read_timeout(Some(Duration::from_secs(2))).expect("a timeout");
        socket.send_to(b"hello", at(ME_V6, 22)).expect("sending");
        let tap = bench.tap(WEB, Slot::Zero);
        let expected = udp(MAC, GATEWAY_MAC, Ip::V6(HOST_V6), Ip::V6(ME_V6), (9000, 22), b"hello");
        let seen = tap.receive("the host's datagram", |frame| frame.ends_with(b"hello"));
        // All but the flow label, which the host chooses.
        assert_eq!((&seen[..15], &seen[18..]), (&expected[..15], &expected[18..]));
        let back = udp(GATEWAY_MAC, MAC, Ip::V6(ME_V6), Ip::V6(HOST_V6), (22, 9000), b"hello yourself");
        socket.set_read_timeout(Some(Duration::from_millis(200))).expect("a timeout");
        // The kernel takes frames for a new address a moment after it lets it be used.
        let (len, from, buffer) = (0..10)
            .find_map(|_| {
                tap.send(&back);
                let mut buffer = [0; 100];
                socket.recv_from(&mut buffer).ok().map(|(len, from)| (len, from, buffer))
            })
            .expect("an answer");
        assert_eq!(&buffer[..len], b"hello yourself");
        assert_eq!(from, at(ME_V6, 22).into());
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

/// Requests at a steady pace through a whole switchover, there and back: each is answered exactly once.
#[test]
fn a_handover_loses_and_doubles_no_answer() {
    hand_over(true);
}

/// Only one member is asked: during the handover it must be the one whose answer may leave.
#[test]
fn a_handover_without_mirroring_asks_whoever_is_to_answer() {
    hand_over(false);
}

fn hand_over(mirror: bool) {
    alone(|| {
        let bench = Bench::new();
        let ask = |number: u32| question(&number.to_be_bytes());
        let tell = |number: u32| answer(&number.to_be_bytes());
        let number = |frame: &[u8]| u32::from_be_bytes(frame[42..46].try_into().expect("four bytes"));
        let mut epoch = 20;
        let mut sent = 0u32;
        let mut told = std::collections::BTreeMap::new();
        for active in [Slot::Zero, Slot::One] {
            let before = Bench::word().with_active(active).with_mirror(mirror);
            let words = [
                before.with_epoch(Epoch(epoch)),
                before.with_epoch(Epoch(epoch + 1)).with_handover(true),
                before.with_epoch(Epoch(epoch + 2)).with_active(active.other()),
            ];
            epoch += 3;
            for word in words {
                bench.plane.set_role(WEB, word);
                let asked = if word.handover() { active.other() } else { word.active() };
                let asked = Slot::BOTH.into_iter().filter(|slot| mirror || *slot == asked);
                for _ in 0..20 {
                    bench.client.send(&ask(sent));
                    for slot in asked.clone() {
                        let asked = bench.tap(WEB, slot).receive("the question", |frame| frame.len() == 46);
                        bench.tap(WEB, slot).send(&tell(number(&asked)));
                    }
                    sent += 1;
                }
            }
        }
        while let Some(frame) = bench.client.try_receive() {
            if frame.len() >= 46 && frame[..6] == CLIENT_MAC && frame[34..36] == 53u16.to_be_bytes() {
                *told.entry(number(&frame)).or_insert(0) += 1;
            }
        }
        assert_eq!(told.len() as u32, sent, "answered");
        assert!(told.values().all(|times| *times == 1), "each once: {told:?}");
        assert_eq!(bench.count(WEB, Counter::HandoverSuppressed) > 0, mirror);
    });
}

/// A question of before the handover whose answer comes within it: the old one's answer leaves, the new one's does not.
#[test]
fn an_answer_under_way_when_the_handover_begins_still_leaves() {
    alone(|| {
        let bench = Bench::new();
        bench.plane.set_role(WEB, Bench::word().with_epoch(Epoch(30)));
        bench.client.send(&question(b"slow"));
        for slot in Slot::BOTH {
            bench.tap(WEB, slot).receive("the question", |frame| frame.ends_with(b"slow"));
        }
        bench.plane.set_role(WEB, Bench::word().with_epoch(Epoch(31)).with_handover(true));
        for slot in [Slot::One, Slot::Zero] {
            bench.tap(WEB, slot).send(&answer(b"slow answer"));
        }
        bench.client.expect("the old one's answer", &on_the_wire(&answer(b"slow answer")));
        assert_eq!(bench.client.sees(|frame| frame.ends_with(b"slow answer")), None, "twice");
    });
}

/// The standby is late when the handover begins: each conversation goes over when neither member owes it anything, so that
/// no answer leaves twice, and none not at all.
#[test]
fn a_conversation_goes_over_when_its_late_standby_has_caught_up() {
    alone(|| {
        let bench = Bench::new();
        bench.plane.set_role(WEB, Bench::word().with_epoch(Epoch(40)));
        bench.plane.watch(WEB);
        let ask = |number: u8| {
            bench.client.send(&question(&[b'q', number]));
            for slot in Slot::BOTH {
                bench.tap(WEB, slot).receive("the question", |frame| frame.ends_with(&[b'q', number]));
            }
        };
        let tell = |slot: Slot, number: u8| bench.tap(WEB, slot).send(&answer(&[b'a', number]));
        ask(1);
        tell(Slot::Zero, 1);
        tell(Slot::One, 1);
        ask(2);
        tell(Slot::Zero, 2);
        bench.plane.set_role(WEB, Bench::word().with_epoch(Epoch(41)).with_handover(true));
        ask(3);
        // Nobody has heard the new one yet: this must not be the second answer to that question.
        tell(Slot::One, 2);
        tell(Slot::Zero, 3);
        tell(Slot::One, 3);
        // Now it is even: from here on the new one answers.
        ask(4);
        tell(Slot::One, 4);
        tell(Slot::Zero, 4);
        bench.plane.set_role(WEB, Bench::word().with_epoch(Epoch(42)).with_active(Slot::One));
        ask(5);
        for slot in Slot::BOTH {
            tell(slot, 5);
        }
        let mut heard = Vec::new();
        while let Some(frame) = bench.client.try_receive() {
            if let [.., b'a', number @ 1..=5] = frame[..] {
                heard.push(number);
            }
        }
        assert_eq!(heard, [1, 2, 3, 4, 5]);
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
