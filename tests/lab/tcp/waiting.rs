//! A standby that stands still costs a client the limit and a moment, whoever is served by whatever frames: behind VLAN tags,
//! and where nobody beats because the host probes.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use hotpair_tests::ethtool;
use hotpair_tests::lab::{CLIENT_LINK, Lab, Machine};
use hotpair_tests::netns::run;

use super::latch;
use crate::scenario::protected;
use crate::takeover::{hasty, open};

/// Uploads over IPv4 and IPv6 while the standby is frozen: half of the stalls must be shorter than any timer of the client's,
/// which begin at 200 ms.
fn nobody_waits(lab: &Lab) -> Result<()> {
    let standby = lab.standby()?;
    let mut gaps = Vec::new();
    for round in 0..8 {
        lab.wait_protected()?;
        let mut conversation = open(lab, round % 2 == 1)?;
        conversation.upload(1 << 20)?;
        conversation.take_gap();
        standby.freeze()?;
        conversation.upload(4 << 20)?;
        gaps.push(conversation.take_gap());
        standby.thaw()?;
    }
    eprintln!("longest gaps {gaps:?}");
    gaps.sort();
    ensure!(gaps[gaps.len() / 2] < Duration::from_millis(100), "{gaps:?}");
    let counters = lab.show()?.counters;
    let opened = counters.iter().find(|count| count.name == "tcp_gate_opened");
    ensure!(opened.is_some_and(|count| count.packets > 0), "{counters:?}");
    Ok(())
}

#[test]
fn with_probes_a_frozen_standby_is_not_waited_for_either() -> Result<()> {
    let name = "with_probes_a_frozen_standby_is_not_waited_for_either";
    let Some(lab) = protected(name, hasty().probe())? else { return Ok(()) };
    nobody_waits(&lab)
}

#[test]
fn behind_a_vlan_a_frozen_standby_is_not_waited_for_either() -> Result<()> {
    let name = "behind_a_vlan_a_frozen_standby_is_not_waited_for_either";
    let Some(lab) = protected(name, hasty())? else { return Ok(()) };
    tag(&lab)?;
    nobody_waits(&lab)?;
    are_tagged(&lab)
}

#[test]
fn behind_a_vlan_nobody_waits_for_a_timer_without_a_controller_either() -> Result<()> {
    let name = "behind_a_vlan_nobody_waits_for_a_timer_without_a_controller_either";
    let Some(mut lab) = protected(name, latch::lab())? else { return Ok(()) };
    latch::stalls_are_short(&mut lab, 3, tag)
}

/// From now on the client is behind two tags: its own interface and the machines' for them, as an administrator would make
/// them. A machine that has them already keeps them.
fn tag(lab: &Lab) -> Result<()> {
    for slot in [0, 1] {
        let inside = lab.machine(slot)?;
        if !has_tags(&inside) {
            interfaces(|line| run(nsenter(&inside).arg("ip").args(line.split_whitespace())), "eth0")?;
            for line in [
                "route add 198.51.100.0/24 dev inner src 203.0.113.10",
                "route add 2001:db8:9::/64 dev inner src 2001:db8::10",
            ] {
                run(nsenter(&inside).arg("ip").args(line.split_whitespace()))?;
            }
        }
    }
    let client = lab.client();
    let ip = |line: &str| run(client.command("ip").args(line.split_whitespace()));
    if ip("link show inner").is_ok() {
        return Ok(());
    }
    {
        // As on a wire: the tag is in the frame.
        let _inside = client.netns().enter()?;
        ethtool::set_flag(CLIENT_LINK, ethtool::TX_VLAN, false)?;
    }
    interfaces(ip, CLIENT_LINK)?;
    for line in [
        "address add 198.51.100.1/24 dev inner",
        "address add 2001:db8:9::1/64 dev inner nodad",
        "route add 203.0.113.10/32 dev inner src 198.51.100.1",
        "route add 2001:db8::10/128 dev inner src 2001:db8:9::1",
    ] {
        ip(line)?;
    }
    Ok(())
}

/// An interface for two tags on this link. Two tags at the link's full MTU would be too long for a tap.
fn interfaces(ip: impl Fn(&str) -> Result<String>, link: &str) -> Result<()> {
    for line in [
        &format!("link add link {link} name outer type vlan id 8"),
        "link add link outer name inner type vlan id 9",
        "link set outer up",
        "link set inner mtu 1400 up",
    ] {
        ip(line).with_context(|| line.to_owned())?;
    }
    Ok(())
}

fn nsenter(machine: &Machine) -> Command {
    let mut command = Command::new("nsenter");
    command.args(["-t", &machine.pid().to_string(), "-n"]);
    command
}

fn has_tags(machine: &Machine) -> bool {
    run(nsenter(machine).args(["ip", "link", "show", "inner"])).is_ok()
}

/// That the conversations were what this is about.
fn are_tagged(lab: &Lab) -> Result<()> {
    let flows = lab.must(&["flows", "web", "-o", "json"])?;
    ensure!(flows.contains("198.51.100.1") && flows.contains("2001:db8:9::1"), "{flows}");
    Ok(())
}
