//! The ways a connection takes from the client to a member, each in a lab of its own: the real controller, agents and
//! taps, or the host's kernel alone.

use std::cell::Cell;
use std::net::SocketAddr;
use std::os::fd::{AsFd as _, OwnedFd};
use std::time::Duration;

use anyhow::{Result, bail};
use hotpair_abi::GATEWAY_MAC;

use crate::bench::packets::{Count, Devices};
use crate::bench::say;
use crate::bpf::{self, Hook, ifindex};
use crate::lab::{Builder, CLIENT_LINK, CLIENT_V4, Lab, UPLINK};
use crate::netns::{Netns, run};
use crate::stream::PORT;

/// How the packets of a connection get to the members and back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Way {
    /// No hotpair: the host routes to one member.
    Routing,
    /// `takeover = "address"`: the primary alone gets them.
    Steered,
    /// No hotpair: XDP broadcasts every frame to both members, whose kernels number alike, and the host routes what the
    /// first one says. The second one's packets are dropped at its tap.
    Bare,
    /// `ack = "primary"`, `compare = false`
    Primary,
    /// `ack = "both"`, `compare = false`
    Both,
    /// As it is by default: `ack = "both"`, and what both members send is compared.
    Compared,
}

impl Way {
    /// In the order of the table.
    pub(super) const ALL: [Way; 6] =
        [Way::Routing, Way::Steered, Way::Bare, Way::Primary, Way::Both, Way::Compared];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Way::Routing => "kernel routing",
            Way::Steered => "steered",
            Way::Bare => "bare broadcast",
            Way::Primary => "mirrored, ack = primary",
            Way::Both => "mirrored, ack = both",
            Way::Compared => "mirrored, ack = both, compared",
        }
    }

    /// What it is compared with.
    pub(super) const fn beside(self) -> &'static [Way] {
        match self {
            Way::Routing => &[],
            Way::Steered | Way::Bare => &[Way::Routing],
            Way::Primary => &[Way::Bare],
            Way::Both => &[Way::Primary, Way::Bare],
            Way::Compared => &[Way::Both],
        }
    }
}

/// A way, ready for clients.
pub(super) struct Site {
    pub(super) way: Way,
    pub(super) lab: Lab,
    epoch: Cell<u64>,
    /// Programs of the bare way; attached as long as they live.
    _attached: Vec<OwnedFd>,
}

/// The MACs on the wire and in the members, where there is no hotpair to say them.
const CLIENT_MAC: &str = "02:00:00:00:00:c1";
const UPLINK_MAC: &str = "02:00:00:00:00:a1";
const MEMBER_MAC: [u8; 6] = [2, 0x68, 0x70, 0, 0, 1];
const TAPS: [&str; 2] = ["hpwebs0", "hpwebs1"];

impl Site {
    pub(super) fn new(way: Way) -> Result<Site> {
        match way {
            Way::Routing => Site::without_hotpair(way, 1),
            Way::Bare => Site::without_hotpair(way, 2),
            Way::Steered => Site::with_hotpair(way, Lab::builder().address_only()),
            Way::Primary => Site::with_hotpair(way, Lab::builder().carries_tcp_ungated().not_compared()),
            Way::Both => Site::with_hotpair(way, Lab::builder().carries_tcp().not_compared()),
            Way::Compared => Site::with_hotpair(way, Lab::builder().carries_tcp()),
        }
    }

    /// Nobody is to fail here: a member may be silent for as long as a busy machine makes it.
    fn with_hotpair(way: Way, builder: Builder) -> Result<Site> {
        let builder = builder.quiet().heartbeat(Duration::from_millis(50), Duration::from_secs(5));
        let lab = builder.start()?;
        let pair = lab.wait_protected()?;
        Ok(Site { way, lab, epoch: Cell::new(pair.epoch), _attached: Vec::new() })
    }

    fn without_hotpair(way: Way, members: u8) -> Result<Site> {
        let lab = Lab::builder().quiet().probe().without_controller()?;
        let entry = lab.client().entry(false)?;
        let colons = |mac: [u8; 6]| mac.map(|byte| format!("{byte:02x}")).join(":");
        let (gateway, member) = (colons(GATEWAY_MAC), colons(MEMBER_MAC));
        lab.client().netns().ip(&format!(
            "link set {CLIENT_LINK} address {CLIENT_MAC}\n\
             neigh replace {entry} lladdr {UPLINK_MAC} dev {CLIENT_LINK} nud permanent\n"
        ))?;
        // The second one's NIC has no address here: the host is not to speak with it.
        let mut lines = format!(
            "link set {UPLINK} address {UPLINK_MAC}\n\
             neigh replace {CLIENT_V4} lladdr {CLIENT_MAC} dev {UPLINK} nud permanent\n"
        );
        let taps = &TAPS[..members.into()];
        for tap in taps {
            lines += &format!(
                "tuntap add dev {tap} mode tap vnet_hdr\nlink set {tap} address {gateway} txqueuelen 10000 up\n"
            );
        }
        lines += &format!(
            "addr add 169.254.77.3/32 dev lo\n\
             route add {entry}/32 dev {tap} src 169.254.77.3\n\
             neigh replace {entry} lladdr {member} dev {tap} nud permanent\n",
            tap = TAPS[0]
        );
        lab.host().ip(&lines)?;
        for slot in 0..members {
            lab.command_machine("start", slot, 1)?;
            let inside = |command: &str| {
                let pid = lab.machine(slot)?.pid().to_string();
                run(std::process::Command::new("nsenter").args(["-t", &pid, "-n", "sh", "-ec", command]))
            };
            // It asks nobody for its gateway. And cookies of one kernel are the same in all its namespaces, as long as
            // the windows are: what the client says to the one, the other one understands.
            inside(&format!("ip neigh replace 169.254.77.3 lladdr {gateway} dev eth0 nud permanent"))?;
            if way == Way::Bare {
                inside(
                    "cd /proc/sys/net/ipv4; echo 1 >tcp_timestamps; echo 2 >tcp_syncookies; \
                     echo 4096 131072 33554432 >tcp_rmem",
                )?;
            }
        }
        let inside = lab.host().netns().enter()?;
        std::fs::write("/proc/sys/net/ipv4/ip_forward", "1")?;
        let attached = if way == Way::Bare { broadcast()? } else { Vec::new() };
        drop(inside);
        Ok(Site { way, lab, epoch: Cell::new(0), _attached: attached })
    }

    pub(super) fn client(&self) -> &Netns {
        self.lab.client().netns()
    }

    /// Where the streams are served.
    pub(super) fn to(&self) -> Result<SocketAddr> {
        Ok(SocketAddr::new(self.lab.client().entry(false)?, PORT))
    }

    /// What is measured while nothing happens to the pair; measured again if something did: on a machine that is busy a
    /// member may fail its own health check.
    pub(super) fn undisturbed<T>(&self, measure: impl Fn() -> Result<T>) -> Result<T> {
        const TRIES: u32 = 5;
        for _ in 0..TRIES {
            let measured = measure();
            if matches!(self.way, Way::Routing | Way::Bare) {
                return measured;
            }
            let epoch = self.lab.wait_protected()?.epoch;
            if self.epoch.replace(epoch) == epoch {
                return measured;
            }
            say(format_args!("tcp: {}: the pair has failed over by itself; measured again", self.way.name()));
        }
        bail!("this machine is too busy: the pair has failed over by itself {TRIES} times")
    }
}

/// In the host's namespace: every frame of the uplink to both taps, nothing from the second one.
fn broadcast() -> Result<Vec<OwnedFd>> {
    let [speaker, listener] = TAPS.map(ifindex);
    // As hotpair orders them: the last one gets the original.
    let program = Devices::new(&[listener, speaker])?.redirect(true, Some(MEMBER_MAC))?;
    let uplink = bpf::attach(program.as_fd(), Hook::Xdp, UPLINK)?;
    let drop = Count::new()?.and_drop(Hook::Ingress)?;
    Ok(vec![uplink, bpf::attach(drop.as_fd(), Hook::Ingress, TAPS[1])?])
}
