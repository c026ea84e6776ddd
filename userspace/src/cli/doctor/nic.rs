//! The uplink's NIC and its driver.

use std::net::IpAddr;

use super::Finding;
use crate::config::XdpMode;
use crate::dataplane::{self, Attached};
use crate::network::nic::{self, Offload, XDP_BASIC, XDP_REDIRECT};
use crate::network::{HostAddress, Network};

/// A queue shorter than this drops answers in a burst that a client's window allows.
const QUEUE: u32 = 500;

/// The program's name, as it is in the object.
const OURS: &str = "from_uplink";

pub(super) async fn look(uplink: &str, mode: XdpMode, ipv6: Option<bool>) -> Vec<Finding> {
    // What is wrong with the link itself has been said.
    let Ok(network) = Network::open().await else { return Vec::new() };
    let Ok(Some(link)) = network.link(uplink).await else { return Vec::new() };
    let driver = nic::driver(uplink).unwrap_or_else(|_| "unknown".to_owned());
    let attached = dataplane::attached(link.index);
    let mut findings = vec![
        judge_xdp(uplink, &driver, mode, &nic::xdp_features(link.index)),
        judge_attached(uplink, mode, attached.as_ref().ok().and_then(Option::as_ref)),
    ];
    match nic::offloads(uplink) {
        Ok(offloads) => {
            findings.push(judge_offloads(uplink, &offloads));
            findings.push(judge_tags(uplink, &offloads));
        }
        Err(error) => findings.push(Finding::warn(
            "offloads",
            format!("those of {uplink} cannot be read: {error}"),
            format!("make sure that `ethtool -k {uplink}` has rx-lro and rx-gro-hw off"),
        )),
    }
    if let Ok(addresses) = network.addresses().await {
        findings.push(judge_link_local(uplink, &addresses, ipv6));
    }
    if let Ok(length) = nic::queue_length(uplink) {
        findings.push(judge_queue(uplink, length));
    }
    findings
}

fn judge_xdp(uplink: &str, driver: &str, mode: XdpMode, features: &std::io::Result<u64>) -> Finding {
    if mode == XdpMode::Generic {
        return Finding::warn(
            "xdp",
            format!(
                "{uplink} ({driver}): in the stack, as host.xdp = \"generic\" says: each packet costs several times as much"
            ),
            "a NIC whose driver has XDP, and host.xdp = \"native\", where speed matters",
        );
    }
    let needed = XDP_BASIC | XDP_REDIRECT;
    match features {
        Ok(features) if features & needed == needed => Finding::ok(
            "xdp",
            format!("{uplink} ({driver}): the driver says that it has XDP with redirection"),
        ),
        Ok(_) => Finding::fail(
            "xdp",
            format!("{uplink} ({driver}): the driver names no XDP with redirection"),
            "set host.xdp = \"generic\", or use a NIC whose driver has it",
        ),
        Err(error) => Finding::warn(
            "xdp",
            format!("{uplink} ({driver}): the kernel does not say whether the driver has XDP ({error})"),
            "`hotpair run` refuses a driver without it, before anything is touched; then set host.xdp = \"generic\"",
        ),
    }
}

fn judge_attached(uplink: &str, mode: XdpMode, attached: Option<&Attached>) -> Finding {
    let Some(Attached { id, name, generic }) = attached else {
        return Finding::ok("xdp_program", format!("{uplink} has none"));
    };
    let name = name.as_deref().unwrap_or("unnamed");
    if name != OURS {
        return Finding::fail(
            "xdp_program",
            format!("{uplink} has another one, {name:?} (id {id}), and an interface can have only one"),
            format!(
                "`bpftool prog show id {id}` tells more; stop what attached it, or `ip link set {uplink} xdp off`"
            ),
        );
    }
    let how = if *generic { "in the stack" } else { "in the driver" };
    if *generic == (mode == XdpMode::Generic) {
        Finding::ok("xdp_program", format!("{uplink} has hotpair's own, id {id}, {how}"))
    } else {
        Finding::warn(
            "xdp_program",
            format!("{uplink} has hotpair's own, id {id}, {how}, which is not what host.xdp says"),
            "restart the controller: packets are lost for a moment",
        )
    }
}

/// Joined frames are larger than a page, and such a frame can neither be duplicated nor handed to a guest as it came.
const JOINING: [&str; 2] = ["rx-lro", "rx-gro-hw"];

fn judge_offloads(uplink: &str, offloads: &[Offload]) -> Finding {
    let on: Vec<&Offload> =
        offloads.iter().filter(|offload| offload.on && JOINING.contains(&offload.name.as_str())).collect();
    if on.is_empty() {
        return Finding::ok("offloads", format!("{uplink}: rx-lro and rx-gro-hw are off"));
    }
    let names = on.iter().map(|offload| offload.name.as_str()).collect::<Vec<_>>();
    let what = format!("{uplink}: {} is on: frames are joined before XDP sees them", names.join(", "));
    if on.iter().any(|offload| offload.fixed) {
        let way_out = "this driver cannot turn it off: for a virtio NIC do it in its hypervisor (guest_tso4, guest_tso6 and guest_csum \
                       off), else use another NIC";
        return Finding::fail("offloads", what, way_out);
    }
    Finding::fail(
        "offloads",
        what,
        format!("`ethtool -K {uplink} {} off`, at every boot", names.join(" off ")),
    )
}

/// A tag that the NIC has taken off is not in the frame that XDP sees: the packet looks untagged, and reaches guests so.
fn judge_tags(uplink: &str, offloads: &[Offload]) -> Finding {
    match offloads.iter().find(|offload| offload.name == "rx-vlan-hw-parse" && offload.on) {
        None => Finding::ok("vlan", format!("{uplink} leaves VLAN tags in the frames")),
        Some(offload) => Finding::warn(
            "vlan",
            format!("{uplink} takes VLAN tags off: entry addresses behind a tag cannot be served"),
            if offload.fixed {
                "this driver cannot leave them; use another NIC if entry addresses are behind a VLAN tag"
                    .to_owned()
            } else {
                format!(
                    "`ethtool -K {uplink} rxvlan off`, at every boot, if any entry address is behind a VLAN tag"
                )
            },
        ),
    }
}

/// Answers over IPv6 ask for the next hop from the uplink's link-local address. `needed`: an entry address is IPv6.
fn judge_link_local(uplink: &str, addresses: &[HostAddress], needed: Option<bool>) -> Finding {
    let is_local = |address: &&HostAddress| {
        address.link == uplink && matches!(address.ip, IpAddr::V6(ip) if ip.is_unicast_link_local())
    };
    if let Some(address) = addresses.iter().find(is_local) {
        return Finding::ok("ipv6", format!("{uplink} has {}", address.ip));
    }
    let what = format!("{uplink} has no IPv6 link-local address: answers over IPv6 find no next hop");
    let way_out = format!(
        "`sysctl -w net.ipv6.conf.{uplink}.disable_ipv6=0`, and addr_gen_mode not 1; or `ip addr add fe80::1/64 dev {uplink}`"
    );
    match needed {
        Some(true) => Finding::fail("ipv6", what, way_out),
        Some(false) => {
            Finding::ok("ipv6", format!("{uplink} has no link-local address, and no entry address is IPv6"))
        }
        None => Finding::warn("ipv6", what, way_out),
    }
}

fn judge_queue(uplink: &str, length: u32) -> Finding {
    match length {
        // No queue at all: what is sent is sent.
        0 | QUEUE.. => Finding::ok("txqueuelen", format!("{uplink}: {length}")),
        _ => Finding::warn(
            "txqueuelen",
            format!("{uplink}: {length}: answers are dropped when many leave at once"),
            format!("`ip link set {uplink} txqueuelen 1000`"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::super::Level;
    use super::*;

    #[test]
    fn a_driver_without_xdp_is_refused_unless_generic_is_meant() {
        let judge = |mode, features: std::io::Result<u64>| judge_xdp("eth0", "e1000", mode, &features).level;
        assert_eq!(judge(XdpMode::Native, Ok(0x7f)), Level::Ok);
        assert_eq!(judge(XdpMode::Native, Ok(XDP_BASIC)), Level::Fail);
        assert_eq!(judge(XdpMode::Native, Ok(0)), Level::Fail);
        assert_eq!(judge(XdpMode::Generic, Ok(0)), Level::Warn);
        assert_eq!(judge(XdpMode::Native, Err(std::io::Error::from_raw_os_error(libc::ENOENT))), Level::Warn);
    }

    #[test]
    fn another_program_is_named() {
        let program = |name: &str, generic| Attached { id: 7, name: Some(name.to_owned()), generic };
        assert_eq!(judge_attached("eth0", XdpMode::Native, None).level, Level::Ok);
        assert_eq!(judge_attached("eth0", XdpMode::Native, Some(&program(OURS, false))).level, Level::Ok);
        assert_eq!(judge_attached("eth0", XdpMode::Native, Some(&program(OURS, true))).level, Level::Warn);
        let other = judge_attached("eth0", XdpMode::Native, Some(&program("xdp_filter", false)));
        assert_eq!(other.level, Level::Fail);
        assert!(other.what.contains("\"xdp_filter\" (id 7)"), "{}", other.what);
        let nameless = Attached { id: 7, name: None, generic: false };
        assert_eq!(judge_attached("eth0", XdpMode::Native, Some(&nameless)).level, Level::Fail);
    }

    #[test]
    fn offloads_that_join_frames_are_refused_with_the_command_that_ends_them() {
        let offload = |name: &str, on, fixed| Offload { name: name.to_owned(), on, fixed };
        let judge = |offloads: &[Offload]| judge_offloads("eth0", offloads);
        assert_eq!(judge(&[]).level, Level::Ok);
        assert_eq!(judge(&[offload("rx-lro", false, true), offload("rx-gro", true, false)]).level, Level::Ok);
        let both = judge(&[offload("rx-lro", true, false), offload("rx-gro-hw", true, false)]);
        assert_eq!(both.level, Level::Fail);
        assert!(both.way_out.is_some_and(|way| way.contains("ethtool -K eth0 rx-lro off rx-gro-hw off")));
        let fixed = judge(&[offload("rx-lro", true, true)]);
        assert!(fixed.way_out.is_some_and(|way| way.contains("another NIC")));
    }

    #[test]
    fn a_nic_that_takes_tags_off_is_a_warning_with_the_command_that_ends_it() {
        let offload = |on, fixed| [Offload { name: "rx-vlan-hw-parse".to_owned(), on, fixed }];
        assert_eq!(judge_tags("eth0", &offload(false, false)).level, Level::Ok);
        let on = judge_tags("eth0", &offload(true, false));
        assert!(
            on.level == Level::Warn
                && on.way_out.is_some_and(|way| way.contains("ethtool -K eth0 rxvlan off"))
        );
        let fixed = judge_tags("eth0", &offload(true, true));
        assert!(fixed.way_out.is_some_and(|way| way.contains("another NIC")));
    }

    #[test]
    fn a_missing_link_local_address_matters_when_an_entry_address_is_ipv6() {
        let local = |link: &str| {
            [HostAddress { link: link.into(), ip: "fe80::1".parse().expect("an address"), prefix: 64 }]
        };
        assert_eq!(judge_link_local("eth0", &local("eth0"), Some(true)).level, Level::Ok);
        assert_eq!(judge_link_local("eth0", &local("eth1"), Some(true)).level, Level::Fail);
        assert_eq!(judge_link_local("eth0", &[], Some(false)).level, Level::Ok);
        assert_eq!(judge_link_local("eth0", &[], None).level, Level::Warn);
    }

    #[test]
    fn a_short_queue_is_a_warning_and_none_is_not() {
        for (length, level) in
            [(0, Level::Ok), (1, Level::Warn), (499, Level::Warn), (500, Level::Ok), (1000, Level::Ok)]
        {
            assert_eq!(judge_queue("eth0", length).level, level, "{length}");
        }
    }
}
