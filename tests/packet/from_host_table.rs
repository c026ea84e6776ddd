//! `to_guest_from_host`, frame by frame: what the host's stack sends to WEB's slot 0.

use std::collections::BTreeSet;

use hotpair_abi::count::Counter;
use hotpair_abi::{GATEWAY_MAC, HOST_V4, HOST_V6, MARK, ME_V4, ME_V6, Slot};

use crate::bench::{Bench, HOST_INTERNAL, WEB, alone, entry_v4, ifindex, internal, pair_mac, tap_name};
use crate::frames::{
    BROADCAST, Ip, arp, assert_checksums, echo, eth, nd, raw_v4, solicited_node, tagged, tcp, udp, vlan,
};
use crate::table::{Case, run};
use crate::test_run::{self, OK, SHOT};

const MAC: [u8; 6] = pair_mac(WEB);
const HOST: Ip = Ip::V4(HOST_INTERNAL);
const MEMBER: Ip = Ip::V4(internal(WEB, Slot::Zero));
const INSIDE_HOST: Ip = Ip::V4(HOST_V4);
const ME: Ip = Ip::V4(ME_V4);

fn cases() -> Vec<Case> {
    let delivered = |name, frame, seen: Vec<u8>| {
        assert_checksums(&seen);
        Case::new(name, frame, OK, (Some(WEB), Counter::FromHostDelivered)).gives(seen)
    };
    let drop = |name, frame| Case::new(name, frame, SHOT, (Some(WEB), Counter::FromHostDropped)).dropped();
    let datagram = |src, dst| udp(MAC, GATEWAY_MAC, src, dst, (1, 2), b"odd");
    let segment = |src, dst| tcp(MAC, GATEWAY_MAC, src, dst, (1, 22), true);
    let ping = |src, dst| echo(MAC, GATEWAY_MAC, src, dst, 1, false);
    let Ip::V4(member) = MEMBER else { unreachable!() };
    vec![
        delivered("UDP is translated", datagram(HOST, MEMBER), datagram(INSIDE_HOST, ME)),
        delivered("TCP is translated", segment(HOST, MEMBER), segment(INSIDE_HOST, ME)),
        delivered("ICMP is translated", ping(HOST, MEMBER), ping(INSIDE_HOST, ME)),
        delivered(
            "a later fragment is translated",
            raw_v4(MAC, GATEWAY_MAC, HOST_INTERNAL, member, 6, 9, &[], b"rest"),
            raw_v4(MAC, GATEWAY_MAC, HOST_V4, ME_V4, 6, 9, &[], b"rest"),
        ),
        Case::new(
            "IPv6 needs no translation",
            datagram(Ip::V6(HOST_V6), Ip::V6(ME_V6)),
            OK,
            (Some(WEB), Counter::FromHostDelivered),
        ),
        drop("another source", datagram(Ip::V4([10, 78, 0, 99]), MEMBER)),
        drop("another destination", datagram(HOST, Ip::V4(internal(WEB, Slot::One)))),
        drop("the entry address", datagram(HOST, Ip::V4(entry_v4(WEB)))),
        drop("another IPv6 source", datagram(Ip::V6([0xfe; 16]), Ip::V6(ME_V6))),
        drop("a tagged frame", tagged(&datagram(HOST, MEMBER), &[vlan(1)])),
        drop(
            "the kernel's own ARP",
            arp(BROADCAST, GATEWAY_MAC, 1, (GATEWAY_MAC, HOST_INTERNAL), ([0; 6], ME_V4)),
        ),
        drop("the kernel's own solicitation", nd(MAC, GATEWAY_MAC, HOST_V6, ME_V6, (135, 0), ME_V6, &[])),
        drop(
            "the kernel's own multicast",
            nd(MAC, GATEWAY_MAC, HOST_V6, solicited_node(ME_V6), (135, 0), ME_V6, &[]),
        ),
        drop("what is no IP", eth(MAC, GATEWAY_MAC, 0x88cc, &[0; 46])),
        Case::new(
            "a header that cannot be rewritten",
            raw_v4(MAC, GATEWAY_MAC, HOST_INTERNAL, member, 6, 0, &[], &[0; 4]),
            SHOT,
            (Some(WEB), Counter::FromHostRewriteFailed),
        )
        .dropped(),
        Case::new(
            "a muted member hears nothing",
            datagram(HOST, MEMBER),
            SHOT,
            (Some(WEB), Counter::FromHostMuted),
        )
        .when(|bench| bench.plane.set_role(WEB, Bench::word().with_muted(Slot::Zero, true)))
        .dropped(),
    ]
}

fn own() -> Vec<Case> {
    let probe = arp(BROADCAST, GATEWAY_MAC, 1, (GATEWAY_MAC, HOST_V4), ([0; 6], ME_V4));
    vec![
        Case::new("hotpair's own frames pass", probe.clone(), OK, (Some(WEB), Counter::FromHostOwn)),
        Case::new("but not to a muted member", probe, SHOT, (Some(WEB), Counter::FromHostMuted))
            .when(|bench| bench.plane.set_role(WEB, Bench::word().with_muted(Slot::Zero, true)))
            .dropped(),
    ]
}

/// Runs the whole table; returns the counters that have risen.
pub(crate) fn all(bench: &Bench) -> BTreeSet<Counter> {
    let program = bench.plane.program_fd("to_guest_from_host").expect("the program");
    let tap = ifindex(&tap_name(WEB, Slot::Zero));
    let mut seen = run(bench, &cases(), |case| test_run::tc(program, &case.frame, tap, 0));
    seen.extend(run(bench, &own(), |case| test_run::tc(program, &case.frame, tap, MARK)));
    seen
}

#[test]
fn each_frame_from_the_host_goes_where_it_should() {
    alone(|| {
        all(&Bench::new());
    });
}
