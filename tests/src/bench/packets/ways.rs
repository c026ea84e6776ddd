//! The ways that are compared.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::{AsFd as _, OwnedFd};
use std::process::Command;
use std::rc::Rc;
use std::time::Duration;

use anyhow::Result;
use hotpair::config::XdpMode;
use hotpair::dataplane::{Dataplane, PairSetup, Uplink};
use hotpair_abi::{Epoch, PairId, RoleWord, Slot};

use super::code::Devices;
use super::path::{Gate, Member, Path};
use crate::bpf::{self, Hook, ifindex};
use crate::frames::{self, Macs};
use crate::netns::{ip_batch, run};

pub(in crate::bench) const SENDER_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xc1];
/// Frames are addressed to it when they come in: hotpair's uplink has it, the others' do not care.
pub(in crate::bench) const UPLINK_MAC: [u8; 6] = [2, 0, 0, 0, 0, 0xa1];
/// And to it when they are at a member.
pub(in crate::bench) const MEMBER_MAC: [u8; 6] = [2, 0x68, 0x70, 0, 0, 0x10];
pub(in crate::bench) const V4: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 50)), IpAddr::V4(Ipv4Addr::new(192, 0, 2, 100))];
const V6: [IpAddr; 2] = [
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x50)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x100)),
];
pub(in crate::bench) const WEB: PairId = PairId(0);

const ONE: &str = "bare redirect, 1 device";
const ONE_ADDRESSED: &str = "bare redirect and address, 1 device";
const TWO: &str = "bare broadcast, 2 devices";
const TWO_ADDRESSED: &str = "bare broadcast and address, 2 devices";
const MIRRED: &str = "tc mirred mirror + redirect";
const BRIDGE: &str = "Linux bridge, flooding";

/// All of them, in the order of the table. Needs a network namespace of its own.
pub(super) fn all(payload: u16) -> Result<Vec<Path>> {
    // The kernel's own chatter (MLD, router solicitations) would be counted among the frames.
    std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1")?;
    let mut paths = Vec::new();
    for (name, make) in [
        ("XDP_DROP", drop as fn(&Gate) -> Result<Vec<Rc<Member>>>),
        (ONE, |gate| redirect(gate, 1, false)),
        (ONE_ADDRESSED, |gate| redirect(gate, 1, true)),
        (TWO, |gate| redirect(gate, 2, false)),
        (TWO_ADDRESSED, |gate| redirect(gate, 2, true)),
        (MIRRED, mirred),
        (BRIDGE, bridge),
    ] {
        let gate = Gate::new(paths.len(), UPLINK_MAC)?;
        let members = make(&gate)?;
        let (name, frame) = (name.to_owned(), frame(V4, payload));
        paths.push(Path { name, beside: Vec::new(), gate: Rc::new(gate), frame, members, prepare: None });
    }
    paths.extend(hotpair(paths.len(), payload)?);
    Ok(paths)
}

fn frame([from, to]: [IpAddr; 2], payload: u16) -> Vec<u8> {
    let macs = Macs { from: SENDER_MAC, to: UPLINK_MAC };
    frames::udp(macs, SocketAddr::new(from, 4000), SocketAddr::new(to, 53), &vec![0; payload.into()])
}

/// Two members for the way of this gate.
fn members(gate: &Gate, hook: Hook) -> Result<[Rc<Member>; 2]> {
    Ok([Member::new(&format!("{}a", gate.uplink), hook)?, Member::new(&format!("{}b", gate.uplink), hook)?])
}

/// A program stays attached until the namespace goes.
fn attach(program: &OwnedFd, uplink: &str) -> Result<()> {
    std::mem::forget(bpf::attach(program.as_fd(), Hook::Xdp, uplink)?);
    Ok(())
}

fn drop(gate: &Gate) -> Result<Vec<Rc<Member>>> {
    Ok(vec![Member::uplink(gate)?])
}

fn redirect(gate: &Gate, devices: usize, addressed: bool) -> Result<Vec<Rc<Member>>> {
    let mut members: Vec<Rc<Member>> = members(gate, Hook::Xdp)?.into();
    members.truncate(devices);
    let indexes: Vec<u32> = members.iter().map(|member| member.index()).collect();
    let program = Devices::new(&indexes)?.redirect(devices > 1, addressed.then_some(MEMBER_MAC))?;
    attach(&program, &gate.uplink)?;
    Ok(members)
}

/// What `tc` does without any eBPF: a filter that takes everything, one action for each member.
fn mirred(gate: &Gate) -> Result<Vec<Rc<Member>>> {
    let members = members(gate, Hook::Ingress)?;
    let tc = |arguments: &str| run(Command::new("tc").args(arguments.split_whitespace()));
    let (uplink, [a, b]) = (&gate.uplink, [&members[0].device, &members[1].device]);
    tc(&format!("qdisc add dev {uplink} clsact"))?;
    tc(&format!(
        "filter add dev {uplink} ingress protocol all u32 match u32 0 0 \
         action mirred egress mirror dev {a} action mirred egress redirect dev {b}"
    ))?;
    Ok(members.into())
}

/// A bridge that does not know the frames' destination sends them to every other port.
fn bridge(gate: &Gate) -> Result<Vec<Rc<Member>>> {
    let members = members(gate, Hook::Ingress)?;
    let bridge = format!("br-{}", gate.uplink);
    let mut lines =
        format!("link add {bridge} type bridge stp_state 0 mcast_snooping 0\nlink set {bridge} up\n");
    for port in [&gate.uplink, &members[0].device, &members[1].device] {
        lines += &format!("link set {port} master {bridge}\n");
    }
    ip_batch(&lines)?;
    Ok(members.into())
}

/// A data plane with one pair, held, and its two members.
pub(in crate::bench) fn data_plane(gate: &Gate, tcp: bool) -> Result<(Dataplane, [Rc<Member>; 2])> {
    let name = gate.uplink.clone();
    let mac = UPLINK_MAC.map(|byte| format!("{byte:02x}")).join(":");
    ip_batch(&format!("link set {name} address {mac}"))?;
    let pins = format!("/mnt/bpf-{name}");
    let uplink = Uplink { index: ifindex(&name), name, mac: UPLINK_MAC, mtu: 1500 };
    let internal = |host| Ipv4Addr::new(10, 78, 0, host);
    let (plane, _) = Dataplane::open(pins.as_ref(), XdpMode::Native, &uplink, internal(1), 64)?;
    let setup = PairSetup {
        name: "web".to_owned(),
        entry: vec![V4[1], V6[1]],
        mac: MEMBER_MAC,
        timeout: Duration::from_millis(5),
        probe: false,
        tcp,
        compare: tcp,
        first: false,
        lag_limit: Duration::from_millis(10),
    };
    plane.put_pair(WEB, &setup)?;
    plane.index_entries()?;
    plane.set_lease(WEB, u64::MAX);
    let members = members(gate, Hook::Xdp)?;
    for (slot, member) in Slot::BOTH.into_iter().zip(members.iter()) {
        plane.attach_tap(WEB, slot, &member.device, member.index(), internal(2 + slot as u8))?;
    }
    Ok((plane, members))
}

/// One data plane with one pair, steered and mirrored, over IPv4 and IPv6.
fn hotpair(number: usize, payload: u16) -> Result<Vec<Path>> {
    let gate = Rc::new(Gate::new(number, UPLINK_MAC)?);
    let (plane, members) = data_plane(&gate, false)?;
    let plane = Rc::new(plane);
    let mut paths = Vec::new();
    for mirror in [false, true] {
        for (family, addresses) in [("IPv4", V4), ("IPv6", V6)] {
            let (what, beside) = match mirror {
                false => ("steering to 1", vec![ONE, ONE_ADDRESSED]),
                true => ("duplicating to 2", vec![TWO, TWO_ADDRESSED, MIRRED, BRIDGE]),
            };
            let (plane, word) = (Rc::clone(&plane), RoleWord::new(Epoch(5), Slot::Zero));
            let word = word.with_held(true).with_mirror(mirror);
            paths.push(Path {
                name: format!("hotpair {what}, {family}"),
                beside,
                gate: Rc::clone(&gate),
                frame: frame(addresses, payload),
                members: members[..if mirror { 2 } else { 1 }].to_vec(),
                prepare: Some(Box::new(move || plane.set_role(WEB, word))),
            });
        }
    }
    Ok(paths)
}
