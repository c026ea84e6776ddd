//! `[host]`

use std::path::{Path, PathBuf};

use super::reader::{Section, Value, or_default};
use super::{Host, Ipv4Net, XdpMode, address};

/// The network that members' internal IPs come from, and where it is written.
pub(super) type InternalNet<'r, 't> = (Ipv4Net, Value<'r, 't>);

/// The section, and apart from it the network, which can be known even if the rest is not.
pub(super) fn read<'r, 't>(root: &mut Section<'r, 't>) -> (Option<Host>, Option<InternalNet<'r, 't>>) {
    let Some(value) = root.get("host") else {
        root.missing(
            "host",
            "add a section [host] with uplink = \"eth0\" and internal_net = \"10.78.0.0/16\"",
        );
        return (None, None);
    };
    let Some(mut section) = value.section() else {
        return (None, None);
    };
    let name = match section.get("name") {
        None => Some(hostname()),
        Some(value) => value.text().filter(|name| is_host_name(name, &value)).map(str::to_owned),
    };
    let uplink = section.require("uplink").and_then(|value| {
        let text = value.text()?;
        is_link_name(text, &value).then(|| text.to_owned())
    });
    let modes = [("native", XdpMode::Native), ("generic", XdpMode::Generic)];
    let xdp = or_default(section.get("xdp"), |value| value.choice(&modes), XdpMode::Native);
    let internal_net =
        section.require("internal_net").and_then(|value| match address::parse_net(value.text()?) {
            Ok(net) => Some((net, value)),
            Err((what, way_out)) => {
                value.refuse(&what, &way_out);
                None
            }
        });
    let mut directory =
        |key, default: &str| or_default(section.get(key), Value::file, PathBuf::from(default));
    let state_dir = directory("state_dir", "/var/lib/hotpair");
    let run_dir = directory("run_dir", "/run/hotpair");
    let bpf_dir = directory("bpf_dir", "/sys/fs/bpf/hotpair");
    let metrics = or_default(section.get("metrics"), |value| value.socket_address().map(Some), None);
    section.finish();

    let host = || {
        Some(Host {
            name: name?,
            uplink: uplink?,
            xdp: xdp?,
            internal_net: internal_net.as_ref()?.0,
            state_dir: state_dir?,
            run_dir: run_dir?,
            bpf_dir: bpf_dir?,
            metrics: metrics?,
        })
    };
    (host(), internal_net)
}

/// The machine's name, as uname(2) says it.
fn hostname() -> String {
    std::fs::read_to_string(Path::new("/proc/sys/kernel/hostname"))
        .map(|name| name.trim().to_owned())
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "localhost".to_owned())
}

fn is_host_name(name: &str, value: &Value<'_, '_>) -> bool {
    let well = name.len() <= 64 && name.bytes().all(|c| c.is_ascii_alphanumeric() || b"-._".contains(&c));
    if !well {
        value.refuse(
            &format!("{name:?} is not a host's name"),
            "write at most 64 letters, digits, dots and hyphens, like \"hv1\"",
        );
    }
    well
}

/// What the kernel accepts as a link's name (dev_valid_name), and what is not one of hotpair's own taps.
fn is_link_name(name: &str, value: &Value<'_, '_>) -> bool {
    let well = name.len() <= 15
        && name != "."
        && name != ".."
        && !name.bytes().any(|c| c == b'/' || c == b':' || c.is_ascii_whitespace() || c == 0);
    if !well {
        value.refuse(
            &format!("{name:?} is not the name of a NIC"),
            "write a name from `ip link`, at most 15 characters, like \"eth0\"",
        );
    }
    well
}
