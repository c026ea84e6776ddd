//! `from_guest`, frame by frame. Unless a case says otherwise the frame comes from WEB's slot 0, which is active.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};

use hotpair_abi::count::Counter;
use hotpair_abi::heartbeat::State;
use hotpair_abi::{
    Epoch, GATEWAY_MAC, HOST_V4, HOST_V6, MARK, ME_V4, ME_V6, PEER_V4, PEER_V6, RoleWord, Slot,
};

use crate::bench::{
    AWAY, Bench, DB, HOST_INTERNAL, WEB, alone, boottime_ns, entry_v4, entry_v6, internal, pair_mac,
};
use crate::frames::{
    BROADCAST, CLIENT_MAC, CLIENT_V4, CLIENT_V6, Ip, UPLINK_MAC, addressed, arp, assert_checksums, checksum,
    echo, eth, group_mac, heartbeat, icmpv6, lladdr, nd, raw_v4, raw_v6, service, solicited_node, tagged,
    tcp, udp, vlan,
};
use crate::table::{Case, run};
use crate::test_run::{self, OK, REDIRECT, SHOT};

const MAC: [u8; 6] = pair_mac(WEB);
const V4: Ip = Ip::V4(entry_v4(WEB));
const V6: Ip = Ip::V6(entry_v6(WEB));
const ME4: Ip = Ip::V4(ME_V4);
const ME6: Ip = Ip::V6(ME_V6);
const NOBODY: [u8; 6] = [0; 6];
/// What a guest's kernel makes of its MAC.
const EUI64: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0x68, 0x70, 0xff, 0xfe, 0, 0, 0x10];

/// From the guest to its gateway.
fn from(src: Ip, dst: Ip) -> Vec<u8> {
    udp(GATEWAY_MAC, MAC, src, dst, (53, 4000), b"answer")
}

fn word(bench: &Bench, change: impl Fn(RoleWord) -> RoleWord) {
    bench.plane.set_role(WEB, change(Bench::word()));
}

/// One voice: packets of an entry address.
fn voice() -> Vec<Case> {
    let dropped =
        |name, counter| Case::new(name, from(V4, Ip::V4(CLIENT_V4)), SHOT, (Some(WEB), counter)).dropped();
    let sent = |name, frame| Case::new(name, frame, REDIRECT, (Some(WEB), Counter::ActiveSent));
    vec![
        sent("the active member's answer leaves", from(V4, Ip::V4(CLIENT_V4))),
        sent("the active member's answer leaves, IPv6", from(V6, Ip::V6(CLIENT_V6))),
        sent(
            "a fragment leaves",
            raw_v4(GATEWAY_MAC, MAC, entry_v4(WEB), CLIENT_V4, 17, 0x2010, &[], b"rest"),
        ),
        dropped("the standby's answer does not leave", Counter::StandbySuppressed)
            .when(|bench| word(bench, |word| word.with_active(Slot::One))),
        dropped("a muted member's answer does not leave", Counter::MutedDropped)
            .when(|bench| word(bench, |word| word.with_muted(Slot::Zero, true))),
        dropped("what this host does not hold does not leave", Counter::NotHeldDropped)
            .when(|bench| word(bench, |word| word.with_held(false))),
        dropped("after the lease nothing leaves", Counter::LeaseExpired)
            .when(|bench| bench.plane.set_lease(WEB, boottime_ns())),
        sent("before the end of the lease it does", from(V4, Ip::V4(CLIENT_V4)))
            .when(|bench| bench.plane.set_lease(WEB, boottime_ns() + 60_000_000_000)),
        Case {
            frame: tagged(&from(V4, Ip::V4([192, 0, 2, 51])), &[vlan(9)]),
            ..dropped("no tagged frame came from there", Counter::VlanNoReturnPath)
        },
        sent(
            "a tagged answer goes back where the question came from",
            tagged(&from(V4, Ip::V4(CLIENT_V4)), &[service(7), vlan(5)]),
        )
        .when(|bench| {
            let question = udp(UPLINK_MAC, CLIENT_MAC, Ip::V4(CLIENT_V4), V4, (4000, 53), b"?");
            // The priority is not part of a path.
            let question = tagged(&question, &[[0x88, 0xa8, 0x60, 7], [0x81, 0, 0xe0, 5]]);
            bench.run_from_uplink(&question);
        })
        .gives(tagged(
            &addressed(&from(V4, Ip::V4(CLIENT_V4)), CLIENT_MAC, UPLINK_MAC),
            &[service(7), vlan(5)],
        )),
        Case::new(
            "another pair on this host gets it without the wire",
            from(V4, Ip::V4(entry_v4(DB))),
            SHOT,
            (Some(DB), Counter::Hairpinned),
        )
        // Once for each member.
        .and(DB, Counter::FromHostOwn)
        .and(DB, Counter::FromHostOwn)
        .dropped(),
        sent("another pair that another host holds is reached by the wire", from(V4, Ip::V4(entry_v4(AWAY)))),
    ]
}

/// Handover: flows are recorded by running a question through `from_uplink` first.
fn handover() -> Vec<Case> {
    static EPOCH: AtomicU64 = AtomicU64::new(1000);
    let question = |src_port: u16| udp(UPLINK_MAC, CLIENT_MAC, Ip::V4(CLIENT_V4), V4, (src_port, 53), b"?");
    let answer = |port: u16| udp(GATEWAY_MAC, MAC, V4, Ip::V4(CLIENT_V4), (53, port), b"!");
    let state = |active: Slot, questions: Vec<Vec<u8>>| {
        move |bench: &Bench| {
            // Each case is a handover of its own: what the one before recorded must not count.
            let epoch = Epoch(EPOCH.fetch_add(1, Ordering::Relaxed));
            word(bench, |word| word.with_epoch(epoch).with_active(active).with_handover(true));
            for question in &questions {
                bench.run_from_uplink(question);
            }
        }
    };
    let sent = |name, frame| Case::new(name, frame, REDIRECT, (Some(WEB), Counter::ActiveSent));
    let kept = |name, frame| Case::new(name, frame, SHOT, (Some(WEB), Counter::HandoverSuppressed)).dropped();
    let tcp_answer = |port| tcp(GATEWAY_MAC, MAC, V4, Ip::V4(CLIENT_V4), (80, port), false);
    let tcp_question = |port, syn| tcp(UPLINK_MAC, CLIENT_MAC, Ip::V4(CLIENT_V4), V4, (port, 80), syn);
    let ping = |seq| echo(UPLINK_MAC, CLIENT_MAC, Ip::V4(CLIENT_V4), V4, seq, false);
    let pong = |seq| echo(GATEWAY_MAC, MAC, V4, Ip::V4(CLIENT_V4), seq, true);
    vec![
        sent("what was asked before the handover is answered by the old one", answer(4001))
            .when(state(Slot::Zero, vec![])),
        kept("and not by the new one", answer(4001)).when(state(Slot::One, vec![])),
        kept("what is asked in the handover is not answered by the old one", answer(4002))
            .when(state(Slot::Zero, vec![question(4002)])),
        sent("but by the new one", answer(4002)).when(state(Slot::One, vec![question(4002)])),
        sent("a connection that was there stays with the old one", tcp_answer(5001))
            .when(state(Slot::Zero, vec![tcp_question(5001, false)])),
        sent("a connection that begins is the new one's", tcp_answer(5002))
            .when(state(Slot::One, vec![tcp_question(5002, true)])),
        sent("an echo is the new one's", pong(8)).when(state(Slot::One, vec![ping(8)])),
        kept("the echo before it is not", pong(7)).when(state(Slot::One, vec![ping(8)])),
    ]
}

/// What a guest must not send.
fn refused() -> Vec<Case> {
    let drop = |name, frame, counter| Case::new(name, frame, SHOT, (Some(WEB), counter)).dropped();
    let group = [0x01, 0, 0x5e, 0, 0, 1];
    let dhcp = |dst_mac, src, dst| udp(dst_mac, MAC, Ip::V4(src), Ip::V4(dst), (68, 67), &[1; 240]);
    let mld = raw_v6(
        [0x33, 0x33, 0, 0, 0, 0x16],
        MAC,
        EUI64,
        [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x16],
        0,
        1,
        &[58, 0, 5, 2, 0, 0, 1, 0, 143, 0, 0, 0, 0, 0, 0, 0],
    );
    let all_dhcp = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 2];
    let dhcpv6 = udp(group_mac(all_dhcp), MAC, Ip::V6(EUI64), Ip::V6(all_dhcp), (546, 547), &[1; 20]);
    vec![
        drop(
            "another MAC",
            addressed(&from(V4, Ip::V4(CLIENT_V4)), GATEWAY_MAC, CLIENT_MAC),
            Counter::SpoofedMac,
        ),
        drop("another address", from(Ip::V4(CLIENT_V4), Ip::V4([9, 9, 9, 9])), Counter::SpoofedAddress),
        drop("another IPv6 address", from(Ip::V6(EUI64), Ip::V6(CLIENT_V6)), Counter::SpoofedAddress),
        drop(
            "another pair's entry address",
            from(Ip::V4(entry_v4(DB)), Ip::V4(CLIENT_V4)),
            Counter::SpoofedAddress,
        ),
        drop(
            "an IPv4 header that says it is none",
            eth(GATEWAY_MAC, MAC, 0x0800, &[0x65; 40]),
            Counter::GuestUnparsed,
        ),
        drop(
            "an IPv6 header that says it is none",
            eth(GATEWAY_MAC, MAC, 0x86dd, &[0x45; 60]),
            Counter::GuestUnparsed,
        ),
        drop(
            "a cut ARP",
            arp(BROADCAST, MAC, 1, (MAC, entry_v4(WEB)), (NOBODY, CLIENT_V4))[..30].to_vec(),
            Counter::GuestUnparsed,
        ),
        drop(
            "three tags",
            tagged(&from(V4, Ip::V4(CLIENT_V4)), &[vlan(1), vlan(2), vlan(3)]),
            Counter::GuestUnparsed,
        ),
        drop("LLDP", eth([1, 0x80, 0xc2, 0, 0, 0xe], MAC, 0x88cc, &[0; 46]), Counter::GuestUnknownProtocol),
        drop("STP", eth([1, 0x80, 0xc2, 0, 0, 0], MAC, 38, &[0x42; 46]), Counter::GuestUnknownProtocol),
        drop("a multicast MAC", addressed(&from(V4, Ip::V4(CLIENT_V4)), group, MAC), Counter::GuestMulticast),
        drop("a multicast address", from(V4, Ip::V4([224, 0, 0, 251])), Counter::GuestMulticast),
        drop("the broadcast address", from(V4, Ip::V4([255; 4])), Counter::GuestMulticast),
        drop("an IPv6 multicast address", from(V6, Ip::V6([0xff; 16])), Counter::GuestMulticast),
        drop(
            "IGMP",
            raw_v4(group, MAC, entry_v4(WEB), [224, 0, 0, 22], 2, 0, &[0x94, 4, 0, 0], &[0x22; 16]),
            Counter::GuestMulticast,
        ),
        drop("DHCP", dhcp(BROADCAST, [0; 4], [255; 4]), Counter::GuestDhcpDropped),
        drop("DHCPv6", dhcpv6, Counter::GuestDhcpDropped),
        drop("MLD", mld, Counter::GuestNdDropped),
        drop(
            "a router solicitation",
            icmpv6(
                [0x33, 0x33, 0, 0, 0, 2],
                MAC,
                EUI64,
                [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2],
                &[133, 0, 0, 0, 0, 0, 0, 0],
            ),
            Counter::GuestNdDropped,
        ),
        drop(
            "a router advertisement",
            icmpv6(GATEWAY_MAC, MAC, EUI64, ME_V6, &[134, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
            Counter::GuestNdDropped,
        ),
        drop(
            "an advertisement",
            nd(GATEWAY_MAC, MAC, entry_v6(WEB), CLIENT_V6, (136, 0x60), entry_v6(WEB), &lladdr(2, MAC)),
            Counter::GuestNdDropped,
        ),
        drop("the entry address to the peer", from(V4, Ip::V4(PEER_V4)), Counter::InternalUnreachable),
        drop("the entry address to the host", from(V6, Ip::V6(HOST_V6)), Counter::InternalUnreachable),
        drop("the internal address to a client", from(ME4, Ip::V4(CLIENT_V4)), Counter::InternalUnreachable),
        drop(
            "the internal address to a client, IPv6",
            from(ME6, Ip::V6(CLIENT_V6)),
            Counter::InternalUnreachable,
        ),
        drop(
            "the internal address, tagged",
            tagged(&from(ME4, Ip::V4(PEER_V4)), &[vlan(1)]),
            Counter::InternalUnreachable,
        ),
    ]
}

fn neighbours() -> Vec<Case> {
    let drop = |name, frame, counter| Case::new(name, frame, SHOT, (Some(WEB), counter)).dropped();
    let request = |sender, target| arp(BROADCAST, MAC, 1, (MAC, sender), (NOBODY, target));
    let reply = |sender, target| arp(MAC, GATEWAY_MAC, 2, (GATEWAY_MAC, target), (MAC, sender));
    let ask = |src, target: [u8; 16], options: &[u8]| {
        let group = solicited_node(target);
        nd(group_mac(group), MAC, src, group, (135, 0), target, options)
    };
    let tell = |target, to| nd(MAC, GATEWAY_MAC, target, to, (136, 0x60), target, &lladdr(2, GATEWAY_MAC));
    let source = lladdr(1, MAC);
    let arp_answered = |name, frame| Case::new(name, frame, REDIRECT, (Some(WEB), Counter::GuestArpAnswered));
    let nd_answered = |name, frame| Case::new(name, frame, REDIRECT, (Some(WEB), Counter::GuestNdAnswered));
    vec![
        arp_answered("who has the gateway?", request(ME_V4, HOST_V4)).gives(reply(ME_V4, HOST_V4)),
        arp_answered("who has the peer?", request(ME_V4, PEER_V4)).gives(reply(ME_V4, PEER_V4)),
        arp_answered("who has a client?", request(entry_v4(WEB), CLIENT_V4))
            .gives(reply(entry_v4(WEB), CLIENT_V4)),
        arp_answered(
            "a tagged question keeps its tag",
            tagged(&request(entry_v4(WEB), CLIENT_V4), &[vlan(5)]),
        )
        .gives(tagged(&reply(entry_v4(WEB), CLIENT_V4), &[vlan(5)])),
        drop("a probe is not answered", request([0; 4], CLIENT_V4), Counter::GuestArpDropped),
        drop(
            "an announcement is not answered",
            request(entry_v4(WEB), entry_v4(WEB)),
            Counter::GuestArpDropped,
        ),
        drop("its own internal address is its own", request(entry_v4(WEB), ME_V4), Counter::GuestArpDropped),
        drop("its own entry address is its own", request(ME_V4, entry_v4(WEB)), Counter::GuestArpDropped),
        drop(
            "a reply is not answered",
            arp(GATEWAY_MAC, MAC, 2, (MAC, ME_V4), (GATEWAY_MAC, HOST_V4)),
            Counter::GuestArpDropped,
        ),
        nd_answered("who has the gateway, IPv6?", ask(ME_V6, HOST_V6, &source)).gives(tell(HOST_V6, ME_V6)),
        nd_answered("who has a client, IPv6?", ask(entry_v6(WEB), CLIENT_V6, &source))
            .gives(tell(CLIENT_V6, entry_v6(WEB))),
        nd_answered(
            "asked in unicast, with no room for the answer",
            nd(GATEWAY_MAC, MAC, ME_V6, HOST_V6, (135, 0), HOST_V6, &[]),
        )
        .gives(tell(HOST_V6, ME_V6)),
        drop("DAD is not answered", ask([0; 16], CLIENT_V6, &[]), Counter::GuestNdDropped),
        drop(
            "its own internal address is its own, IPv6",
            ask(entry_v6(WEB), ME_V6, &source),
            Counter::GuestNdDropped,
        ),
        drop(
            "its own entry address is its own, IPv6",
            ask(ME_V6, entry_v6(WEB), &source),
            Counter::GuestNdDropped,
        ),
    ]
}

/// Peer and host.
fn inside() -> Vec<Case> {
    let peer = |name, frame: Vec<u8>| {
        let mut there = addressed(&frame, MAC, GATEWAY_MAC);
        if there[12] == 8 {
            there[26..30].copy_from_slice(&PEER_V4);
            there[30..34].copy_from_slice(&ME_V4);
        } else {
            there[22..38].copy_from_slice(&PEER_V6);
            there[38..54].copy_from_slice(&ME_V6);
        }
        assert_checksums(&there);
        Case::new(name, frame, REDIRECT, (Some(WEB), Counter::PeerSent)).gives(there)
    };
    let host = |name, frame: Vec<u8>, seen: Vec<u8>| {
        assert_checksums(&seen);
        Case::new(name, frame, OK, (Some(WEB), Counter::HostSent)).gives(seen)
    };
    let (here, there) = (Ip::V4(internal(WEB, Slot::Zero)), Ip::V4(HOST_INTERNAL));
    let host4 = Ip::V4(HOST_V4);
    let mut no_checksum = udp(GATEWAY_MAC, MAC, ME4, host4, (9, 9), b"unsummed");
    no_checksum[40..42].copy_from_slice(&[0, 0]);
    let mut no_checksum_there = udp(GATEWAY_MAC, MAC, here, there, (9, 9), b"unsummed");
    no_checksum_there[40..42].copy_from_slice(&[0, 0]);
    let Ip::V4(here_v4) = here else { unreachable!() };
    vec![
        peer("UDP to the peer", udp(GATEWAY_MAC, MAC, ME4, Ip::V4(PEER_V4), (1, 2), b"odd")),
        peer("TCP to the peer", tcp(GATEWAY_MAC, MAC, ME4, Ip::V4(PEER_V4), (1, 2), true)),
        peer("ICMP to the peer", echo(GATEWAY_MAC, MAC, ME4, Ip::V4(PEER_V4), 1, false)),
        peer("UDP to the peer, IPv6", udp(GATEWAY_MAC, MAC, ME6, Ip::V6(PEER_V6), (1, 2), b"odd")),
        peer("TCP to the peer, IPv6", tcp(GATEWAY_MAC, MAC, ME6, Ip::V6(PEER_V6), (1, 2), false)),
        peer("a standby reaches its peer too", udp(GATEWAY_MAC, MAC, ME4, Ip::V4(PEER_V4), (1, 2), b"hello"))
            .when(|bench| word(bench, |word| word.with_active(Slot::One).with_held(false))),
        Case::new(
            "a peer that is not there",
            udp(GATEWAY_MAC, MAC, ME4, Ip::V4(PEER_V4), (1, 2), b"hello"),
            SHOT,
            (Some(WEB), Counter::PeerAbsent),
        )
        .when(|bench| bench.plane.detach_tap(WEB, Slot::One).expect("detaching"))
        .dropped(),
        host(
            "UDP to the host",
            udp(GATEWAY_MAC, MAC, ME4, host4, (1, 2), b"odd"),
            udp(GATEWAY_MAC, MAC, here, there, (1, 2), b"odd"),
        ),
        host("UDP without a checksum stays without", no_checksum, no_checksum_there),
        host(
            "TCP to the host",
            tcp(GATEWAY_MAC, MAC, ME4, host4, (1, 22), true),
            tcp(GATEWAY_MAC, MAC, here, there, (1, 22), true),
        ),
        host(
            "ICMP to the host",
            echo(GATEWAY_MAC, MAC, ME4, host4, 1, false),
            echo(GATEWAY_MAC, MAC, here, there, 1, false),
        ),
        host(
            "a later fragment to the host",
            raw_v4(GATEWAY_MAC, MAC, ME_V4, HOST_V4, 17, 1, &[], b"rest of it"),
            raw_v4(GATEWAY_MAC, MAC, here_v4, HOST_INTERNAL, 17, 1, &[], b"rest of it"),
        ),
        host(
            "options do not mislead the checksum",
            raw_v4(GATEWAY_MAC, MAC, ME_V4, HOST_V4, 17, 0, &[1, 1, 1, 0], &[0, 1, 0, 2, 0, 8, 0, 0]),
            raw_v4(GATEWAY_MAC, MAC, here_v4, HOST_INTERNAL, 17, 0, &[1, 1, 1, 0], &[0, 1, 0, 2, 0, 8, 0, 0]),
        ),
        Case::new(
            "IPv6 to the host needs no translation",
            from(ME6, Ip::V6(HOST_V6)),
            OK,
            (Some(WEB), Counter::HostSent),
        ),
        Case::new(
            "a TCP header cut off before its checksum is not half rewritten",
            raw_v4(GATEWAY_MAC, MAC, ME_V4, HOST_V4, 6, 0, &[], &[0, 1, 0, 2]),
            SHOT,
            (Some(WEB), Counter::GuestRewriteFailed),
        )
        .dropped(),
    ]
}

fn heartbeats() -> Vec<Case> {
    let beat = |sequence| heartbeat(MAC, 11, sequence, State::Serving);
    let passed_on = |frame: &[u8]| {
        let mut there = addressed(frame, MAC, GATEWAY_MAC);
        there[26..30].copy_from_slice(&PEER_V4);
        there[30..34].copy_from_slice(&ME_V4);
        there
    };
    let good = |name, frame: Vec<u8>| {
        let there = passed_on(&frame);
        Case::new(name, frame, REDIRECT, (Some(WEB), Counter::PeerSent))
            .and(WEB, Counter::Heartbeat)
            .gives(there)
    };
    let bad = |name, frame, counter| Case::new(name, frame, SHOT, (Some(WEB), counter)).dropped();
    let after = |sequence: u64, boot: u64| {
        move |bench: &Bench| {
            let frame = heartbeat(MAC, boot, sequence, State::Serving);
            bench.run_from_guest(WEB, Slot::Zero, &frame);
        }
    };
    let changed = |at: usize, value: u8| {
        let mut frame = beat(1);
        frame[at] = value;
        frame
    };
    let mended = |mut frame: Vec<u8>| {
        frame[48..50].copy_from_slice(&[0, 0]);
        let check = checksum(&frame[42..90]);
        frame[48..50].copy_from_slice(&check);
        frame
    };
    let mut malformed = beat(1);
    malformed[42] = b'X';
    let mut long = udp(GATEWAY_MAC, MAC, ME4, Ip::V4(PEER_V4), (7077, 7077), &[0; 49]);
    long[42..46].copy_from_slice(b"HPHB");
    vec![
        good("a heartbeat is stamped and handed on", beat(1)),
        bad("one that is malformed is not", malformed, Counter::HeartbeatMalformed),
        bad("one that is too long is not", long, Counter::HeartbeatMalformed),
        bad(
            "one that is too short is not",
            udp(GATEWAY_MAC, MAC, ME4, Ip::V4(PEER_V4), (7077, 7077), &[0; 20]),
            Counter::HeartbeatMalformed,
        ),
        bad("one that is not newer is not", beat(5), Counter::HeartbeatStale).when(after(5, 11)),
        bad("one that is older is not", beat(4), Counter::HeartbeatStale).when(after(5, 11)),
        good("another boot begins anew", heartbeat(MAC, 12, 1, State::Serving)).when(after(5, 11)),
        bad("one of the boot before is a replay", beat(6), Counter::HeartbeatOldBoot).when(move |bench| {
            after(5, 11)(bench);
            after(1, 12)(bench);
        }),
        bad("one of another version is not understood", changed(46, 1), Counter::HeartbeatVersion),
        bad(
            "one in a state that does not exist is malformed",
            mended(changed(47, 9)),
            Counter::HeartbeatMalformed,
        ),
        bad("one flipped bit is found out", changed(65, 2), Counter::HeartbeatDamaged),
        bad(
            "one with another pair's MAC is spoofed",
            heartbeat(pair_mac(DB), 11, 1, State::Serving),
            Counter::SpoofedMac,
        ),
        bad(
            "one in the peer's name is spoofed",
            udp(GATEWAY_MAC, MAC, Ip::V4(PEER_V4), ME4, (7077, 7077), &beat(1)[42..]),
            Counter::SpoofedAddress,
        ),
    ]
}

/// Runs the whole table; returns the counters that have risen.
pub(crate) fn all(bench: &Bench) -> BTreeSet<Counter> {
    let mut seen = BTreeSet::new();
    for cases in [voice(), handover(), refused(), neighbours(), inside(), heartbeats()] {
        seen.extend(run(bench, &cases, |case| {
            let ran = bench.run_from_guest(WEB, Slot::Zero, &case.frame);
            bench.attach(WEB, Slot::One);
            // What goes back into a tap must not be taken for the host's.
            let counters: Vec<_> = case.counters.iter().map(|(_, counter)| *counter).collect();
            let own = [Counter::PeerSent, Counter::GuestArpAnswered, Counter::GuestNdAnswered];
            if case.verdict == REDIRECT && own.iter().any(|own| counters.contains(own)) {
                assert_eq!(ran.mark, MARK, "{}: the mark", case.name);
            }
            ran
        }));
    }
    seen
}

#[test]
fn each_frame_from_a_guest_goes_where_it_should() {
    alone(|| {
        all(&Bench::new());
    });
}

#[test]
fn a_tap_of_no_pair_lets_nothing_through() {
    alone(|| {
        let bench = Bench::new();
        let before = bench.plane.counters(None).expect("counters");
        let program = bench.plane.program_fd("from_guest").expect("the program");
        let ran = test_run::tc(program, &from(V4, Ip::V4(CLIENT_V4)), bench.uplink.index, 0);
        assert_eq!(ran.verdict as i32, SHOT);
        let after = bench.plane.counters(None).expect("counters");
        let unknown = |counters: &[(Counter, u64)]| {
            counters.iter().find(|(counter, _)| *counter == Counter::FromUnknownPort).expect("there").1
        };
        assert_eq!(unknown(&after), unknown(&before) + 1);
    });
}
