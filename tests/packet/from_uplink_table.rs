//! `from_uplink`, frame by frame.

use std::collections::BTreeSet;

use hotpair_abi::Slot;
use hotpair_abi::count::Counter;

use crate::bench::{AWAY, Bench, WEB, alone, entry_v4, entry_v6, pair_mac};
use crate::frames::{
    BROADCAST, CLIENT_MAC, CLIENT_V4, CLIENT_V6, Ip, UPLINK_MAC, addressed, arp, echo, eth, group_mac,
    icmpv6, lladdr, nd, raw_v4, raw_v6, service, solicited_node, tagged, tcp, udp, vlan,
};
use crate::table::{Case, run};

const DROP: i32 = 1;
const PASS: i32 = 2;
const REDIRECT: i32 = 4;
/// How a veth's answers leave; `adopt.rs` has an uplink that sends them back by XDP_TX.
const ANSWER: i32 = REDIRECT;

const OTHER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0x99];
const OTHER_V4: [u8; 4] = [192, 0, 2, 77];
const OTHER_V6: [u8; 16] = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x77];
const NOBODY: [u8; 6] = [0; 6];
const V4: Ip = Ip::V4(entry_v4(WEB));
const V6: Ip = Ip::V6(entry_v6(WEB));

/// From the client to the uplink.
fn udp_to(dst: Ip) -> Vec<u8> {
    let src = if matches!(dst, Ip::V4(_)) { Ip::V4(CLIENT_V4) } else { Ip::V6(CLIENT_V6) };
    udp(UPLINK_MAC, CLIENT_MAC, src, dst, (4000, 53), b"question")
}

/// A solicitation for the entry address as the client would multicast it.
fn ask(target: [u8; 16], src: [u8; 16], options: &[u8]) -> Vec<u8> {
    let group = solicited_node(target);
    nd(group_mac(group), CLIENT_MAC, src, group, (135, 0), target, options)
}

/// Our answer.
fn tell(target: [u8; 16], to_mac: [u8; 6], to: [u8; 16], flags: u8) -> Vec<u8> {
    nd(to_mac, UPLINK_MAC, target, to, (136, flags), target, &lladdr(2, UPLINK_MAC))
}

/// Our answer to an ARP request from the client.
fn tell_arp(sender: [u8; 4]) -> Vec<u8> {
    arp(CLIENT_MAC, UPLINK_MAC, 2, (UPLINK_MAC, entry_v4(WEB)), (CLIENT_MAC, sender))
}

const ALL_NODES: [u8; 16] = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];

fn no_taps(bench: &Bench) {
    for slot in Slot::BOTH {
        bench.plane.detach_tap(WEB, slot).expect("detaching");
    }
}

fn steering() -> Vec<Case> {
    let members = |frame: &[u8]| addressed(frame, pair_mac(WEB), CLIENT_MAC);
    let mirrored = |name, frame: Vec<u8>| {
        let theirs = members(&frame);
        Case::new(name, frame, REDIRECT, (Some(WEB), Counter::UplinkMirrored)).gives(theirs)
    };
    let passed = |name, frame| Case::new(name, frame, PASS, (None, Counter::UplinkPassed));
    let unparsed = |name, frame| Case::new(name, frame, PASS, (None, Counter::UplinkUnparsed));
    let client4 = Ip::V4(CLIENT_V4);
    let client6 = Ip::V6(CLIENT_V6);
    let two = [service(7), vlan(5)];
    vec![
        mirrored("UDP over IPv4 goes to both members", udp_to(V4)),
        mirrored("UDP over IPv6 goes to both members", udp_to(V6)),
        mirrored("TCP over IPv4", tcp(UPLINK_MAC, CLIENT_MAC, client4, V4, (1, 80), true)),
        mirrored("TCP over IPv6", tcp(UPLINK_MAC, CLIENT_MAC, client6, V6, (1, 80), false)),
        mirrored("ICMP", echo(UPLINK_MAC, CLIENT_MAC, client4, V4, 1, false)),
        mirrored(
            "ICMPv6 that is no neighbour discovery",
            echo(UPLINK_MAC, CLIENT_MAC, client6, V6, 1, false),
        ),
        mirrored(
            "a later fragment",
            raw_v4(UPLINK_MAC, CLIENT_MAC, CLIENT_V4, entry_v4(WEB), 17, 0x2010, &[], b"rest"),
        ),
        mirrored(
            "a packet with IP options",
            raw_v4(
                UPLINK_MAC,
                CLIENT_MAC,
                CLIENT_V4,
                entry_v4(WEB),
                99,
                0,
                &[7, 7, 4, 0, 0, 0, 0, 0],
                b"options",
            ),
        ),
        mirrored(
            "a packet with an extension header",
            raw_v6(UPLINK_MAC, CLIENT_MAC, CLIENT_V6, entry_v6(WEB), 60, 64, &[59, 0, 1, 4, 0, 0, 0, 0]),
        ),
        mirrored("one VLAN tag", tagged(&udp_to(V4), &two[1..])),
        mirrored("two VLAN tags", tagged(&udp_to(V6), &two)),
        Case::new(
            "three VLAN tags are left to the host",
            tagged(&udp_to(V4), &[two[0], two[0], two[1]]),
            PASS,
            (None, Counter::UplinkTooManyTags),
        ),
        passed("what is not for an entry address", udp_to(Ip::V4(OTHER_V4))),
        passed("what is not for an entry address, IPv6", udp_to(Ip::V6(OTHER_V6))),
        passed("what is not IP", eth(UPLINK_MAC, CLIENT_MAC, 0x88cc, &[0; 46])),
        passed(
            "a redirect for the entry address's owner",
            icmpv6(UPLINK_MAC, CLIENT_MAC, CLIENT_V6, entry_v6(WEB), &[137, 0, 0, 0, 0, 0, 0, 0]),
        ),
        Case::new(
            "what another machine's MAC gets is not ours",
            addressed(&udp_to(V4), OTHER_MAC, CLIENT_MAC),
            PASS,
            (Some(WEB), Counter::UplinkNotOurMac),
        ),
        unparsed("a cut IPv4 header", udp_to(V4)[..30].to_vec()),
        unparsed("a cut IPv6 header", udp_to(V6)[..50].to_vec()),
        unparsed("an IPv4 header that says it is none", eth(UPLINK_MAC, CLIENT_MAC, 0x0800, &[0x65; 40])),
        unparsed("an IPv6 header that says it is none", eth(UPLINK_MAC, CLIENT_MAC, 0x86dd, &[0x45; 60])),
        unparsed("a cut tag", tagged(&udp_to(V4), &two[1..])[..16].to_vec()),
        Case::new(
            "a pair that another host holds gets nothing here",
            udp_to(Ip::V4(entry_v4(AWAY))),
            DROP,
            (Some(AWAY), Counter::UplinkNotHeld),
        )
        .dropped(),
        Case::new("a pair without taps drops", udp_to(V4), DROP, (Some(WEB), Counter::UplinkNoMember))
            .when(no_taps)
            .dropped(),
        Case::new(
            "a pair without taps drops, not mirrored either",
            udp_to(V4),
            DROP,
            (Some(WEB), Counter::UplinkNoMember),
        )
        .when(|bench| {
            no_taps(bench);
            bench.plane.set_role(WEB, Bench::word().with_mirror(false));
        })
        .dropped(),
        Case::new(
            "without mirroring only the active member gets it",
            udp_to(V4),
            REDIRECT,
            (Some(WEB), Counter::UplinkSteered),
        )
        .gives(members(&udp_to(V4)))
        .when(|bench| bench.plane.set_role(WEB, Bench::word().with_mirror(false))),
        mirrored("a muted member gets no copy", udp_to(V4))
            .when(|bench| bench.plane.set_role(WEB, Bench::word().with_muted(Slot::Zero, true)))
            .and(WEB, Counter::GuestMuted),
        Case::new("when both are muted nobody gets it", udp_to(V4), DROP, (Some(WEB), Counter::GuestMuted))
            .when(|bench| {
                let word = Bench::word().with_muted(Slot::Zero, true).with_muted(Slot::One, true);
                bench.plane.set_role(WEB, word);
            })
            .dropped(),
        Case::new(
            "without mirroring a muted member gets nothing, and nobody instead of it",
            udp_to(V4),
            DROP,
            (Some(WEB), Counter::GuestMuted),
        )
        .when(|bench| {
            bench.plane.set_role(WEB, Bench::word().with_mirror(false).with_muted(Slot::Zero, true));
        })
        .dropped(),
    ]
}

fn neighbours() -> Vec<Case> {
    let arp_answered = |name, frame| Case::new(name, frame, ANSWER, (Some(WEB), Counter::UplinkArpAnswered));
    let nd_answered = |name, frame| Case::new(name, frame, ANSWER, (Some(WEB), Counter::UplinkNdAnswered));
    let invalid = |name, frame| Case::new(name, frame, DROP, (Some(WEB), Counter::UplinkNdInvalid)).dropped();
    let conflict = |name, frame| Case::new(name, frame, PASS, (Some(WEB), Counter::UplinkAddressConflict));
    let passed = |name, frame| Case::new(name, frame, PASS, (None, Counter::UplinkPassed));
    let entry = entry_v6(WEB);
    let request = |target| arp(BROADCAST, CLIENT_MAC, 1, (CLIENT_MAC, CLIENT_V4), (NOBODY, target));
    let probe = arp(BROADCAST, CLIENT_MAC, 1, (CLIENT_MAC, [0; 4]), (NOBODY, entry_v4(WEB)));
    let source = lladdr(1, CLIENT_MAC);
    let nonce = [14, 1, 1, 2, 3, 4, 5, 6];
    let mut bad_checksum = ask(entry, CLIENT_V6, &source);
    bad_checksum[56] ^= 1;
    let mut hops = ask(entry, CLIENT_V6, &source);
    hops[21] = 254;
    let tags = [service(7), vlan(5)];
    vec![
        arp_answered("who has the entry address?", request(entry_v4(WEB))).gives(tell_arp(CLIENT_V4)),
        arp_answered("an ARP probe is answered: the address is ours", probe).gives(tell_arp([0; 4])),
        arp_answered("a unicast ARP request", addressed(&request(entry_v4(WEB)), UPLINK_MAC, CLIENT_MAC))
            .gives(tell_arp(CLIENT_V4)),
        arp_answered("a tagged ARP request keeps its tags", tagged(&request(entry_v4(WEB)), &tags))
            .gives(tagged(&tell_arp(CLIENT_V4), &tags)),
        passed("who has another address?", request(OTHER_V4)),
        passed(
            "an ARP reply between others",
            arp(CLIENT_MAC, OTHER_MAC, 2, (OTHER_MAC, OTHER_V4), (CLIENT_MAC, CLIENT_V4)),
        ),
        passed(
            "our own announcement",
            arp(BROADCAST, UPLINK_MAC, 1, (UPLINK_MAC, entry_v4(WEB)), (NOBODY, entry_v4(WEB))),
        ),
        Case::new(
            "who has an entry address of another host's?",
            request(entry_v4(AWAY)),
            DROP,
            (Some(AWAY), Counter::UplinkNeighbourNotHeld),
        )
        .dropped(),
        Case::new(
            "the other host announces what it holds",
            arp(BROADCAST, OTHER_MAC, 1, (OTHER_MAC, entry_v4(AWAY)), (NOBODY, entry_v4(AWAY))),
            PASS,
            (Some(AWAY), Counter::UplinkPassed),
        ),
        conflict(
            "somebody announces our entry address",
            arp(BROADCAST, OTHER_MAC, 1, (OTHER_MAC, entry_v4(WEB)), (NOBODY, entry_v4(WEB))),
        ),
        conflict(
            "somebody answers for our entry address",
            arp(UPLINK_MAC, OTHER_MAC, 2, (OTHER_MAC, entry_v4(WEB)), (UPLINK_MAC, CLIENT_V4)),
        ),
        Case::new(
            "ARP for something else than Ethernet",
            eth(BROADCAST, CLIENT_MAC, 0x0806, &[0; 46]),
            PASS,
            (None, Counter::UplinkUnparsed),
        ),
        Case::new(
            "an ARP sender that is a group",
            arp(BROADCAST, CLIENT_MAC, 1, (BROADCAST, CLIENT_V4), (NOBODY, entry_v4(WEB))),
            PASS,
            (None, Counter::UplinkUnparsed),
        ),
        nd_answered("a solicitation for the entry address", ask(entry, CLIENT_V6, &source))
            .gives(tell(entry, CLIENT_MAC, CLIENT_V6, 0x60)),
        nd_answered(
            "a unicast solicitation (NUD), which has no room for the answer",
            nd(UPLINK_MAC, CLIENT_MAC, CLIENT_V6, entry, (135, 0), entry, &[]),
        )
        .gives(tell(entry, CLIENT_MAC, CLIENT_V6, 0x60)),
        nd_answered("duplicate address detection is answered to everybody", ask(entry, [0; 16], &nonce))
            .gives(tell(entry, group_mac(ALL_NODES), ALL_NODES, 0x20)),
        nd_answered("duplicate address detection without a nonce", ask(entry, [0; 16], &[])).gives(tell(
            entry,
            group_mac(ALL_NODES),
            ALL_NODES,
            0x20,
        )),
        nd_answered("more options than the answer has", ask(entry, CLIENT_V6, &[source, nonce].concat()))
            .gives(tell(entry, CLIENT_MAC, CLIENT_V6, 0x60)),
        nd_answered("a tagged solicitation keeps its tags", tagged(&ask(entry, CLIENT_V6, &[]), &tags))
            .gives(tagged(&tell(entry, CLIENT_MAC, CLIENT_V6, 0x60), &tags)),
        invalid("a wrong checksum", bad_checksum),
        invalid("a hop limit that a router has touched", hops),
        invalid("an option of no length", ask(entry, CLIENT_V6, &[1, 0, 0, 0, 0, 0, 0, 0])),
        invalid("an option longer than the packet", ask(entry, CLIENT_V6, &[1, 2, 0, 0, 0, 0, 0, 0])),
        invalid("a DAD that names its MAC", ask(entry, [0; 16], &source)),
        invalid("more options than anybody has", ask(entry, CLIENT_V6, &[nonce; 5].concat())),
        passed("a solicitation for somebody else", ask(OTHER_V6, CLIENT_V6, &source)),
        Case::new(
            "a solicitation for an entry address of another host's",
            ask(entry_v6(AWAY), CLIENT_V6, &source),
            DROP,
            (Some(AWAY), Counter::UplinkNeighbourNotHeld),
        )
        .dropped(),
        conflict(
            "an advertisement of our entry address",
            nd(group_mac(ALL_NODES), OTHER_MAC, entry, ALL_NODES, (136, 0x20), entry, &lladdr(2, OTHER_MAC)),
        ),
        passed("our own advertisement", tell(entry, group_mac(ALL_NODES), ALL_NODES, 0x20)),
        passed(
            "an advertisement of another address",
            nd(UPLINK_MAC, OTHER_MAC, OTHER_V6, CLIENT_V6, (136, 0x60), OTHER_V6, &lladdr(2, OTHER_MAC)),
        ),
    ]
}

/// Runs the whole table; returns the counters that have risen.
pub(crate) fn all(bench: &Bench) -> BTreeSet<Counter> {
    let mut seen = run(bench, &neighbours(), |case| bench.run_from_uplink(&case.frame));
    seen.extend(run(bench, &steering(), |case| {
        let ran = bench.run_from_uplink(&case.frame);
        for slot in Slot::BOTH {
            bench.attach(WEB, slot);
        }
        ran
    }));
    seen
}

#[test]
fn each_frame_from_the_uplink_goes_where_it_should() {
    alone(|| {
        all(&Bench::new());
    });
}
