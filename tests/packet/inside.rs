//! What members say to each other and to the host, on the real path: nothing of it leaves.

use std::time::Duration;

use hotpair::config::XdpMode;
use hotpair_abi::count::Counter;
use hotpair_abi::{GATEWAY_MAC, HOST_V4, HOST_V6, ME_V4, ME_V6, PEER_V4, Slot};
use hotpair_tests::netns::ip_batch;

use crate::bench::{Bench, HOST_INTERNAL, WEB, alone, ifindex, internal, pair_mac, tap_name};
use crate::frames::{Ip, assert_checksums, colons, echo, heartbeat, tcp, udp};
use crate::ports::Port;

const MAC: [u8; 6] = pair_mac(WEB);

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
