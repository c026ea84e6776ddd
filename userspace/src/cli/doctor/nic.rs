//! The uplink's NIC and its driver.

use super::Finding;
use crate::config::XdpMode;
use crate::dataplane::{self, Attached};
use crate::network::Network;
use crate::network::nic::{self, Offload, XDP_BASIC, XDP_REDIRECT};

/// A queue shorter than this drops answers in a burst that a client's window allows.
const QUEUE: u32 = 500;

/// The program's name, as it is in the object.
const OURS: &str = "from_uplink";

pub(super) async fn look(uplink: &str, mode: XdpMode) -> Vec<Finding> {
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
        Ok(offloads) => findings.push(judge_offloads(uplink, &offloads)),
        Err(error) => findings.push(Finding::warn(
            "offloads",
            format!("those of {uplink} cannot be read: {error}"),
            format!("make sure that `ethtool -k {uplink}` has rx-lro and rx-gro-hw off"),
        )),
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
    fn a_short_queue_is_a_warning_and_none_is_not() {
        for (length, level) in
            [(0, Level::Ok), (1, Level::Warn), (499, Level::Warn), (500, Level::Ok), (1000, Level::Ok)]
        {
            assert_eq!(judge_queue("eth0", length).level, level, "{length}");
        }
    }
}
