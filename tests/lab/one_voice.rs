//! At any moment at most one member is heard. Seen from the client's side of the wire.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Result, ensure};
use hotpair::api::types::MemberPhase;
use hotpair_tests::frames::{self, Macs};
use hotpair_tests::lab::{CLIENT_V4, CLIENT_V6, ENTRY, HOST_V4, Lab, Machine, PAIR};
use hotpair_tests::ping::ping;
use hotpair_tests::wire::{Capture, containing};

use crate::scenario::{load, protected};

type Marker = [u8; 8];

/// The MAC of the lab's members.
fn guest_mac() -> [u8; 6] {
    hotpair::controller::derived_mac(PAIR)
}

/// What a primary may say to a client, with `marker` in it.
fn answers(marker: &Marker) -> Result<Vec<Vec<u8>>> {
    let macs = Macs { from: guest_mac(), to: hotpair_abi::GATEWAY_MAC };
    let at = |address: &str, port: u16| -> Result<SocketAddr> { Ok(SocketAddr::new(address.parse()?, port)) };
    Ok(vec![
        frames::udp(macs, at(ENTRY[0], 4000)?, at(CLIENT_V4, 4001)?, marker),
        frames::udp(macs, at(ENTRY[1], 4000)?, at(CLIENT_V6, 4001)?, marker),
        frames::syn(macs, at(ENTRY[0], 4000)?, at(CLIENT_V4, 4001)?, marker),
        frames::syn(macs, at(ENTRY[1], 4000)?, at(CLIENT_V6, 4001)?, marker),
        frames::echo_request(macs, ENTRY[0].parse()?, CLIENT_V4.parse()?, marker),
        frames::echo_request(macs, ENTRY[1].parse()?, CLIENT_V6.parse()?, marker),
    ])
}

/// What never leaves, whoever says it.
fn noise(marker: &Marker) -> Result<Vec<Vec<u8>>> {
    let from = guest_mac();
    let everybody = Macs { from, to: [0xff; 6] };
    let (entry, entry6): (Ipv4Addr, Ipv6Addr) = (ENTRY[0].parse()?, ENTRY[1].parse()?);
    let client: Ipv4Addr = CLIENT_V4.parse()?;
    let padding = [&[0; 2], &marker[..]].concat();
    let all_nodes = (Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1), Macs { from, to: [0x33, 0x33, 0, 0, 0, 1] });
    let mut dhcp = vec![0; 240];
    dhcp[..4].copy_from_slice(&[1, 1, 6, 0]);
    dhcp[28..34].copy_from_slice(&from);
    dhcp[100..108].copy_from_slice(marker);
    dhcp[236..240].copy_from_slice(&[99, 130, 83, 99]);
    let any = Ipv4Addr::UNSPECIFIED;
    let broadcast = Ipv4Addr::BROADCAST;
    Ok(vec![
        // ARP: an announcement, a question, an answer to the client.
        frames::arp(everybody, 1, entry, entry, &padding),
        frames::arp(everybody, 1, entry, client, &padding),
        frames::arp(Macs { from, to: hotpair_abi::GATEWAY_MAC }, 2, entry, client, &padding),
        frames::arp(everybody, 2, entry, entry, &padding),
        // ND: unsolicited advertisement, solicitation for DAD, router solicitation and advertisement, MLD.
        frames::advertisement(all_nodes.1, entry6, all_nodes.0, entry6, marker),
        frames::icmpv6(
            all_nodes.1,
            Ipv6Addr::UNSPECIFIED,
            all_nodes.0,
            135,
            &[&[0; 4], &entry6.octets()[..], marker].concat(),
        ),
        frames::icmpv6(all_nodes.1, entry6, all_nodes.0, 133, &[&[0; 4], &marker[..]].concat()),
        frames::icmpv6(
            all_nodes.1,
            hotpair_abi::ME_V6.into(),
            all_nodes.0,
            134,
            &[&[0; 12], &marker[..]].concat(),
        ),
        frames::icmpv6(
            all_nodes.1,
            hotpair_abi::ME_V6.into(),
            all_nodes.0,
            143,
            &[&[0; 4], &marker[..]].concat(),
        ),
        // IGMP, DHCP, mDNS, broadcast.
        frames::ipv4(
            Macs { from, to: [1, 0, 0x5e, 0, 0, 0x16] },
            2,
            entry,
            Ipv4Addr::new(224, 0, 0, 22),
            marker,
        ),
        frames::udp(everybody, SocketAddr::new(any.into(), 68), SocketAddr::new(broadcast.into(), 67), &dhcp),
        frames::udp(
            Macs { from, to: [1, 0, 0x5e, 0, 0, 0xfb] },
            SocketAddr::new(entry.into(), 5353),
            SocketAddr::new(Ipv4Addr::new(224, 0, 0, 251).into(), 5353),
            marker,
        ),
        frames::udp(
            everybody,
            SocketAddr::new(entry.into(), 9),
            SocketAddr::new(broadcast.into(), 9),
            marker,
        ),
        // LLDP, spanning tree, and something nobody knows.
        frames::ethernet(Macs { from, to: [1, 0x80, 0xc2, 0, 0, 0x0e] }, 0x88cc, marker),
        frames::ethernet(
            Macs { from, to: [1, 0x80, 0xc2, 0, 0, 0] },
            0x0026,
            &[&[0x42, 0x42, 3], &marker[..]].concat(),
        ),
        frames::ethernet(everybody, 0x1234, marker),
        // Somebody else's addresses.
        frames::udp(
            Macs { from, to: hotpair_abi::GATEWAY_MAC },
            SocketAddr::new(HOST_V4.parse()?, 4000),
            SocketAddr::new(client.into(), 4001),
            marker,
        ),
        frames::udp(
            Macs { from: [2, 0, 0, 0, 0, 0x66], to: hotpair_abi::GATEWAY_MAC },
            SocketAddr::new(entry.into(), 4000),
            SocketAddr::new(client.into(), 4001),
            marker,
        ),
    ])
}

/// Lets a machine say everything, and counts the frames of it that reach the client.
fn heard(lab: &Lab, machine: &Machine, marker: &Marker, frames: &[Vec<u8>]) -> Result<usize> {
    let capture = lab.client().capture()?;
    machine.inject(frames)?;
    let heard = capture.stop()?;
    Ok(containing(&heard, marker).count())
}

/// Whether a datagram from one member to its peer arrives there.
fn peer_hears(from: &Machine, peer: &Machine, marker: &Marker) -> Result<bool> {
    let (me, other) = (Ipv4Addr::from(hotpair_abi::ME_V4), Ipv4Addr::from(hotpair_abi::PEER_V4));
    let macs = Macs { from: guest_mac(), to: hotpair_abi::GATEWAY_MAC };
    peer.capture()?;
    from.inject(&[frames::udp(macs, (me, 4000).into(), (other, 4001).into(), marker)])?;
    std::thread::sleep(Duration::from_millis(100));
    Ok(peer.captured()?.iter().any(|frame| frame.windows(marker.len()).any(|window| window == marker)))
}

#[test]
fn of_the_standby_nothing_is_heard_and_of_the_primary_only_answers() -> Result<()> {
    let name = "of_the_standby_nothing_is_heard_and_of_the_primary_only_answers";
    let Some(lab) = protected(name, Lab::builder())? else { return Ok(()) };
    let (primary, standby) = (lab.primary()?, lab.standby()?);
    let all = |marker| -> Result<Vec<_>> { Ok([answers(marker)?, noise(marker)?].concat()) };
    let of_primary = heard(&lab, &primary, b"ANSWER01", &answers(b"ANSWER01")?)?;
    ensure!(of_primary == 6, "the capture sees what leaves, {of_primary} of 6");
    ensure!(heard(&lab, &primary, b"PRIMNOIS", &noise(b"PRIMNOIS")?)? == 0, "the primary's noise");
    ensure!(heard(&lab, &standby, b"STANDBY1", &all(b"STANDBY1")?)? == 0, "the standby");

    lab.must(&["switchover", PAIR])?;
    // Until it has drained, the old primary may still answer what it was asked before.
    lab.wait_protected()?;
    ensure!(
        heard(&lab, &primary, b"OLDPRIM1", &all(b"OLDPRIM1")?)? == 0,
        "the old primary after a switchover"
    );
    ensure!(heard(&lab, &standby, b"ANSWER02", &answers(b"ANSWER02")?)? == 6, "the new one");
    ensure!(heard(&lab, &standby, b"PRIMNOI2", &noise(b"PRIMNOI2")?)? == 0, "the new one's noise");
    Ok(())
}

#[test]
fn of_a_failed_primary_nothing_is_heard_any_more_even_when_it_cannot_be_stopped() -> Result<()> {
    let name = "of_a_failed_primary_nothing_is_heard_any_more_even_when_it_cannot_be_stopped";
    let Some(lab) = protected(name, Lab::builder())? else { return Ok(()) };
    let (old, survivor) = (lab.primary()?, lab.standby()?);
    let epoch = lab.pair()?.epoch;
    let internal_ip = lab.pair()?.members[usize::from(old.slot())].internal_ip;
    let host_reaches_it = |deadline| -> Result<bool> {
        let _inside = lab.host().netns().enter()?;
        Ok(ping(internal_ip.into(), deadline).is_ok())
    };
    ensure!(peer_hears(&old, &survivor, b"PEERHEAR")?, "while it serves its peer hears it");
    ensure!(host_reaches_it(Duration::from_secs(2))?, "and the host reaches it");
    lab.refuse_stop(true)?;
    old.kill_agent()?;
    lab.wait_pair("the failover", |pair| pair.epoch > epoch && pair.primary == Some(survivor.slot()))?;
    ensure!(!peer_hears(&old, &survivor, b"PEERDEAF")?, "a muted member is not heard by its peer either");
    ensure!(!host_reaches_it(Duration::from_millis(300))?, "nor reached by the host");
    old.capture()?;
    load(&lab)?;
    ensure!(old.captured()?.is_empty(), "a muted member receives nothing any more");
    let everything = [answers(b"OLDPRIM2")?, noise(b"OLDPRIM2")?].concat();
    ensure!(heard(&lab, &old, b"OLDPRIM2", &everything)? == 0);
    let pair = lab.pair()?;
    ensure!(pair.members[usize::from(old.slot())].phase == MemberPhase::Fencing, "{pair:?}");
    let why = pair.members[usize::from(old.slot())].why.clone().unwrap_or_default();
    ensure!(why.contains("it cannot be reached, by order"), "the status says why: {why}");
    // Its agent may come back: a fenced member stays fenced.
    old.start_agent()?;
    std::thread::sleep(Duration::from_millis(300));
    ensure!(heard(&lab, &old, b"OLDPRIM3", &[answers(b"OLDPRIM3")?, noise(b"OLDPRIM3")?].concat())? == 0);
    lab.refuse_stop(false)?;
    lab.wait_protected()?;
    ensure!(!old.is_alive());
    Ok(())
}

#[test]
fn of_a_frozen_primary_nothing_is_heard_when_it_thaws() -> Result<()> {
    let name = "of_a_frozen_primary_nothing_is_heard_when_it_thaws";
    let Some(lab) = protected(name, Lab::builder())? else { return Ok(()) };
    let (old, survivor) = (lab.primary()?, lab.standby()?);
    let epoch = lab.pair()?.epoch;
    let load = load(&lab)?;
    lab.refuse_stop(true)?;
    old.freeze()?;
    lab.wait_pair("the failover", |pair| pair.epoch > epoch && pair.primary == Some(survivor.slot()))?;
    // Requests have queued up for it meanwhile; thawed, it answers all of them at once.
    std::thread::sleep(Duration::from_millis(200));
    let capture: Capture = lab.client().capture()?;
    let thawed_at = load.elapsed();
    old.thaw()?;
    std::thread::sleep(Duration::from_millis(300));
    let captured = capture.stop()?;
    let report = load.stop();
    let says = |machine: &Machine| machine.by().to_string().into_bytes();
    ensure!(containing(&captured, &says(&old)).count() == 0, "an answer of the old primary was heard");
    ensure!(containing(&captured, &says(&survivor)).count() > 100, "the capture sees the new one's answers");
    let late = report.requests.iter().filter(|r| r.sent_at > thawed_at && r.by == Some(old.by())).count();
    ensure!(late == 0, "{late} requests were answered by the old primary");
    ensure!(heard(&lab, &old, b"OLDPRIM4", &[answers(b"OLDPRIM4")?, noise(b"OLDPRIM4")?].concat())? == 0);
    lab.refuse_stop(false)?;
    lab.wait_protected()?;
    Ok(())
}
