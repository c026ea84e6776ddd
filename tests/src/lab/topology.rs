//! The namespaces of a lab and the wire between them.

use std::os::fd::OwnedFd;
use std::time::Duration;

use anyhow::Result;

use super::cable::{Cable, finished_frames};
use super::reaper::netns_name;
use crate::netns::{Netns, ip_batch};
use crate::xdp_pass;

/// The client's NIC, in its namespace.
pub const CLIENT_LINK: &str = "lan0";
/// The host's uplink, in its namespace.
pub const UPLINK: &str = "uplink0";
/// The client's address.
pub const CLIENT_V4: &str = "203.0.113.1";
/// The client's IPv6 address.
pub const CLIENT_V6: &str = "2001:db8::1";
/// The host's own address on the uplink.
pub const HOST_V4: &str = "203.0.113.2";
/// The host's own IPv6 address on the uplink.
pub const HOST_V6: &str = "2001:db8::2";

pub(super) struct Topology {
    pub(super) client: Netns,
    pub(super) host: Netns,
    /// Makes the client's NIC take what the host's XDP sends back.
    _pass: OwnedFd,
    /// What the wire leads through, if it can be bad.
    pub(super) cable: Option<Cable>,
}

impl Topology {
    pub(super) fn build(id: &str, cable: Option<Duration>) -> Result<Topology> {
        let client = Netns::create(&netns_name(id, "client"))?;
        let host = Netns::create(&netns_name(id, "host"))?;
        for side in [&client, &host] {
            // The kernel asks for IPv6 neighbours from its link-local address, which has to be there at once.
            let _inside = side.enter()?;
            std::fs::write("/proc/sys/net/ipv6/conf/default/accept_dad", "0")?;
        }
        let lay = |delay| Cable::lay(&netns_name(id, "cable"), &client, &host, delay);
        let cable = cable.map(lay).transpose()?;
        if cable.is_none() {
            link(&client, &host)?;
            // What XDP redirects on the host must be complete frames, as from a real wire.
            finished_frames(CLIENT_LINK, &client)?;
        }
        let pass = plug(&client, &host)?;
        Ok(Topology { client, host, _pass: pass, cable })
    }

    /// The host's NIC is taken out.
    pub(super) fn remove_uplink(&self) -> Result<()> {
        self.host.ip(&format!("link del {UPLINK}"))
    }

    /// A new one of the same name is put in, with a new cable.
    pub(super) fn lay_wire(&mut self) -> Result<()> {
        link(&self.client, &self.host)?;
        finished_frames(CLIENT_LINK, &self.client)?;
        self._pass = plug(&self.client, &self.host)?;
        Ok(())
    }
}

/// Lays the wire.
fn link(client: &Netns, host: &Netns) -> Result<()> {
    host.ip(&format!("link add {UPLINK} type veth peer name {CLIENT_LINK} netns {}", client.name()))
}

/// Gives the NICs on both sides what they need. What is returned keeps a program on the client's.
fn plug(client: &Netns, host: &Netns) -> Result<OwnedFd> {
    host.ip(&format!(
        "addr add {HOST_V4}/24 dev {UPLINK}\n\
             addr add {HOST_V6}/64 dev {UPLINK} nodad\n\
             link set {UPLINK} up\n"
    ))?;
    let inside = client.enter()?;
    ip_batch(&format!(
        "addr add {CLIENT_V4}/24 dev {CLIENT_LINK}\n\
             addr add {CLIENT_V6}/64 dev {CLIENT_LINK} nodad\n\
             link set {CLIENT_LINK} up\n"
    ))?;
    let pass = xdp_pass::attach(CLIENT_LINK)?;
    // linkwatch brings a link's routes up when it gets round to it, which may be a second later. Asked about one
    // link (no dump), the kernel does it first (rtnl_getlink).
    ip_batch(&format!("link show dev {CLIENT_LINK}"))?;
    drop(inside);
    host.ip(&format!("link show dev {UPLINK}"))?;
    Ok(pass)
}
