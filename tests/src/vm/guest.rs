//! The inside of a machine: its NIC and its addresses, as a guest would configure them.

use std::fs;
use std::net::IpAddr;

use anyhow::Result;

use super::verbs::Member;
use crate::netns::ip_batch;

/// The NIC's name.
pub(super) const NIC: &str = "eth0";

/// Configures the calling thread's namespace: every guest of a pair alike.
pub(super) fn configure(member: &Member, mtu: u32) -> Result<()> {
    let mut lines = format!(
        "link set lo up\n\
         link set {NIC} address {} mtu {mtu} txqueuelen 10000 addrgenmode none\n",
        member.mac
    );
    ip_batch(&lines)?;
    for (key, value) in [("ipv6/conf/eth0/accept_ra", "0"), ("ipv6/conf/eth0/autoconf", "0")] {
        fs::write(format!("/proc/sys/net/{key}"), value)?;
    }
    lines = format!(
        "link set {NIC} up\n\
         addr add 169.254.77.1/29 dev {NIC}\n\
         addr add fe80::77:1/64 dev {NIC} nodad\n"
    );
    let (mut source_v4, mut source_v6) = (String::new(), String::new());
    for entry in &member.entry {
        match entry {
            IpAddr::V4(v4) => {
                lines.push_str(&format!("addr add {v4}/32 dev {NIC}\n"));
                source_v4 = format!("src {v4}");
            }
            IpAddr::V6(v6) => {
                lines.push_str(&format!("addr add {v6}/128 dev {NIC} nodad\n"));
                source_v6 = format!("src {v6}");
            }
        }
    }
    lines.push_str(&format!(
        "route add default via 169.254.77.3 dev {NIC} onlink {source_v4}\n\
         route add default via fe80::77:3 dev {NIC} {source_v6}\n\
         link show dev {NIC}\n"
    ));
    // The last line: IPv6 is held back until linkwatch gets round to the new link, up to a second later, or until the
    // kernel is asked about that one link.
    ip_batch(&lines)
}

/// Namespaces of one kernel share its secrets: they would give connections nearly the same numbers, which no two real
/// machines do. So slot 0's clock for timestamps has no random offset, slot 1's sequence numbers are SYN cookies if wanted (up
/// to 2^31 away from slot 0's), and their windows are scaled differently. A SYN cookie offers a client without timestamps no
/// option at all: for those there is `numbers.rs`.
pub(super) fn differ(slot: u8, cookies: bool) -> Result<()> {
    let settings: &[(&str, &str)] = if slot == 0 {
        &[("tcp_timestamps", "2"), ("tcp_rmem", "4096 131072 33554432")]
    } else {
        &[("tcp_syncookies", if cookies { "2" } else { "1" }), ("tcp_rmem", "4096 131072 4194304")]
    };
    for (key, value) in settings {
        fs::write(format!("/proc/sys/net/ipv4/{key}"), value)?;
    }
    Ok(())
}
