//! Both members receive every packet for the entry address, byte for byte.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hotpair_tests::frames::{self, Macs, ip_packet};
use hotpair_tests::lab::{CLIENT_V4, CLIENT_V6, ENTRY, HOST_V4, HOST_V6, Lab};
use hotpair_tests::load::Plan;
use hotpair_tests::netns::run;
use hotpair_tests::ping::ping;

use crate::scenario::{numbers, patient, protected};

/// Sends frames from the client, and returns what IP packets with `needle` in them each member received: primary,
/// standby.
fn delivered(lab: &Lab, sent: &[Vec<u8>], needle: &[u8]) -> Result<[Vec<Vec<u8>>; 2]> {
    let members = [lab.primary()?, lab.standby()?];
    for member in &members {
        member.capture()?;
    }
    let wire = lab.client().wire()?;
    for frame in sent {
        wire.send(frame)?;
    }
    std::thread::sleep(Duration::from_millis(100));
    let mut received = members.iter().map(|member| -> Result<Vec<Vec<u8>>> {
        let frames = member.captured()?;
        let ours = frames.iter().filter(|frame| frame.windows(needle.len()).any(|window| window == needle));
        ours.map(|frame| ip_packet(frame).map(<[u8]>::to_vec).context("not IP")).collect()
    });
    Ok([received.next().context("primary")??, received.next().context("standby")??])
}

fn macs(lab: &Lab) -> Result<Macs> {
    let mac = |netns: &hotpair_tests::netns::Netns, link: &str| -> Result<[u8; 6]> {
        let text = run(netns.command("ip").args(["-br", "link", "show", link]))?;
        let text = text.split_whitespace().nth(2).context("no MAC")?;
        let bytes: Vec<u8> =
            text.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect::<Result<_, _>>()?;
        bytes.try_into().ok().context("not a MAC")
    };
    Ok(Macs {
        from: mac(lab.client().netns(), hotpair_tests::lab::CLIENT_LINK)?,
        to: mac(lab.host().netns(), hotpair_tests::lab::UPLINK)?,
    })
}

#[test]
fn both_members_receive_every_kind_of_packet_byte_for_byte() -> Result<()> {
    let name = "both_members_receive_every_kind_of_packet_byte_for_byte";
    let Some(lab) = protected(name, patient())? else { return Ok(()) };
    let macs = macs(&lab)?;
    let needle = b"EVERYBYTE";
    let at = |address: &str, port: u16| -> Result<SocketAddr> { Ok(SocketAddr::new(address.parse()?, port)) };
    let mut sent = Vec::new();
    for (from, to) in [(CLIENT_V4, ENTRY[0]), (CLIENT_V6, ENTRY[1])] {
        // A port without a server: an answer would be answered by the client's kernel, with a copy of the bytes.
        sent.push(frames::udp(macs, at(from, 5000)?, at(to, 9)?, needle));
        sent.push(frames::udp(macs, at(from, 5000)?, at(to, 9)?, &[&needle[..], &[0xa5; 1400]].concat()));
        sent.push(frames::syn(macs, at(from, 5000)?, at(to, 80)?, needle));
        let (from, to): (IpAddr, IpAddr) = (from.parse()?, to.parse()?);
        sent.push(frames::echo_request(macs, from, to, needle));
    }
    let (from, to): (Ipv4Addr, Ipv4Addr) = (CLIENT_V4.parse()?, ENTRY[0].parse()?);
    // Fragments, the last one first; a protocol without ports.
    let piece = [&needle[..], &[7; 791]].concat();
    sent.push(frames::fragment(macs, from, to, 800, false, &piece));
    sent.push(frames::fragment(macs, from, to, 0, true, &piece));
    sent.push(frames::ipv4(macs, 47, from, to, needle));
    let expected: Vec<_> = sent.iter().map(|frame| ip_packet(frame).expect("IP").to_vec()).collect();

    for (tags, sent) in [
        ("untagged", sent.clone()),
        ("VLAN 5", sent.iter().map(|f| frames::tagged(f, 0x8100, 5)).collect()),
        (
            "VLAN 5 in 9",
            sent.iter().map(|f| frames::tagged(&frames::tagged(f, 0x8100, 5), 0x88a8, 9)).collect(),
        ),
    ] {
        let received = delivered(&lab, &sent, needle)?;
        for (who, received) in ["primary", "standby"].iter().zip(received) {
            ensure!(
                received.len() == expected.len(),
                "{tags}, {who}: {} of {}",
                received.len(),
                expected.len()
            );
            for (received, expected) in received.iter().zip(&expected) {
                ensure!(received == expected, "{tags}, {who}: {received:02x?} instead of {expected:02x?}");
            }
        }
    }
    Ok(())
}

#[test]
fn both_members_receive_every_datagram_of_a_load() -> Result<()> {
    let name = "both_members_receive_every_datagram_of_a_load";
    let Some(lab) = protected(name, patient())? else { return Ok(()) };
    let (primary, standby) = (lab.primary()?, lab.standby()?);
    primary.capture()?;
    standby.capture()?;
    let report = lab.client().load(Plan::udp(lab.client().echo()?).during(Duration::from_secs(1)))?.wait();
    let expected: Vec<u64> = (0..report.sent() as u64).collect();
    ensure!(report.lost().count() == 0 && report.doubled().count() == 0, "{}", report.line());
    ensure!(report.answerers() == [primary.by()], "{:?}", report.answerers());
    ensure!(numbers(&primary.captured()?) == expected, "the primary");
    ensure!(numbers(&standby.captured()?) == expected, "the standby");
    Ok(())
}

#[test]
fn a_pair_that_replicates_itself_gets_each_packet_once() -> Result<()> {
    let name = "a_pair_that_replicates_itself_gets_each_packet_once";
    let Some(lab) = protected(name, patient().address_only())? else { return Ok(()) };
    let (primary, standby) = (lab.primary()?, lab.standby()?);
    primary.capture()?;
    standby.capture()?;
    let report =
        lab.client().load(Plan::udp(lab.client().echo()?).during(Duration::from_millis(300)))?.wait();
    ensure!(report.lost().count() == 0, "{}", report.line());
    ensure!(numbers(&primary.captured()?).len() == report.sent(), "the primary");
    ensure!(numbers(&standby.captured()?).is_empty(), "the standby");
    Ok(())
}

#[test]
fn what_is_not_for_an_entry_address_is_the_hosts() -> Result<()> {
    let name = "what_is_not_for_an_entry_address_is_the_hosts";
    let Some(lab) = protected(name, patient())? else { return Ok(()) };
    let ask = |netns: &hotpair_tests::netns::Netns, who: IpAddr| -> Result<()> {
        let _inside = netns.enter()?;
        for _ in 0..3 {
            ping(who, Duration::from_secs(2))?;
        }
        Ok(())
    };
    for host in [HOST_V4, HOST_V6] {
        ask(lab.client().netns(), host.parse()?)?;
    }
    // And the entry addresses are the pair's, with ARP and ND from the start.
    for entry in ENTRY {
        ask(lab.client().netns(), entry.parse()?)?;
    }
    // The host reaches each member at its internal address.
    for member in lab.pair()?.members {
        ask(lab.host().netns(), member.internal_ip.into())?;
    }
    Ok(())
}
