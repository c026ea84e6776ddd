//! The host's links and addresses.

use std::collections::{HashMap, HashSet};
use std::net::IpAddr;

use hotpair_abi::Slot;

use super::Finding;
use crate::config::{Config, Ipv4Net};
use crate::controller::tap_name;
use crate::error::chain;
use crate::network::{HostAddress, Link, Network, NetworkError};

/// The largest frame payload that the kernel can duplicate: XDP redirects frames of one page, and a broadcast copies
/// them with their headroom.
const MTU: u32 = 3498;

/// The uplink alone, where there is no configuration.
pub(in crate::cli) async fn look_at_uplink(name: &str) -> Finding {
    let link = match Network::open().await {
        Ok(network) => network.link(name).await,
        Err(error) => Err(error),
    };
    match link {
        Ok(link) => judge_uplink(name, link.as_ref()),
        Err(error) => Finding::fail("uplink", chain(&error), "`ip link` lists the interfaces there are"),
    }
}

pub(super) async fn look(config: &Config) -> Vec<Finding> {
    match ask(config).await {
        Ok(findings) => findings,
        Err(error) => vec![Finding::fail("links", chain(&error), "look at `dmesg`")],
    }
}

async fn ask(config: &Config) -> Result<Vec<Finding>, NetworkError> {
    let network = Network::open().await?;
    let name = &config.host.uplink;
    let link = network.link(name).await?;
    let addresses = network.addresses().await?;
    let taps: Vec<String> =
        config.pairs.iter().flat_map(|pair| Slot::BOTH.map(|slot| tap_name(&pair.name, slot))).collect();
    let mut findings = vec![judge_uplink(name, link.as_ref())];
    findings.push(judge_internal_net(config.host.internal_net, &addresses, &taps));
    findings.push(judge_entries(config, &addresses));
    findings.extend(look_at_taps(&network, &taps, name).await?);
    Ok(findings)
}

fn judge_uplink(name: &str, link: Option<&Link>) -> Finding {
    let fail = |what: String, way_out: &str| Finding::fail("uplink", what, way_out);
    let Some(link) = link else {
        return fail(
            format!("there is no interface {name} here"),
            "`ip link` lists those there are; name the one towards the clients as host.uplink",
        );
    };
    if !link.ethernet {
        return fail(
            format!("{name} is not an Ethernet interface"),
            "name the Ethernet interface towards the clients as host.uplink",
        );
    }
    if link.mtu > MTU {
        let Link { mtu, .. } = link;
        return fail(
            format!("{name} has an MTU of {mtu}: frames above {MTU} bytes cannot be duplicated"),
            &format!("`ip link set {name} mtu 1500`, here and on what it is connected to"),
        );
    }
    if !link.up {
        return fail(format!("{name} is down"), &format!("`ip link set {name} up`"));
    }
    if !link.carrier {
        return Finding::warn(
            "uplink",
            format!("{name} is up but has no carrier: no client can reach it"),
            "look at its cable and at the switch",
        );
    }
    Finding::ok("uplink", format!("{name} is up, MTU {}", link.mtu))
}

fn judge_internal_net(net: Ipv4Net, addresses: &[HostAddress], taps: &[String]) -> Finding {
    let taps: HashSet<&str> = taps.iter().map(String::as_str).collect();
    let taken = addresses.iter().find(|address| match address.ip {
        IpAddr::V4(ip) if !taps.contains(address.link.as_str()) => {
            let mask = u32::MAX.checked_shl(32 - u32::from(address.prefix)).unwrap_or(0);
            let theirs = Ipv4Net { address: (u32::from(ip) & mask).into(), prefix: address.prefix.max(1) };
            // A host that is its own network (/32) does not hide others behind it.
            net.contains(ip) || (address.prefix < 32 && address.prefix > 0 && net.overlaps(theirs))
        }
        _ => false,
    });
    match taken {
        None => Finding::ok("internal_net", format!("{net} is used by nothing else on this host")),
        Some(HostAddress { link, ip, prefix }) => Finding::fail(
            "internal_net",
            format!("{net} overlaps {ip}/{prefix} on {link}"),
            "choose a private network that nothing else here uses as host.internal_net",
        ),
    }
}

fn judge_entries(config: &Config, addresses: &[HostAddress]) -> Finding {
    let links: HashMap<IpAddr, &str> = addresses.iter().map(|address| (address.ip, &*address.link)).collect();
    for pair in &config.pairs {
        for entry in &pair.entry {
            if let Some(link) = links.get(entry) {
                return Finding::fail(
                    "entry",
                    format!("{entry} of pair {} is an address of this host, on {link}", pair.name),
                    format!(
                        "`ip addr del {entry} dev {link}`: it belongs to the pair, in both members and nowhere else"
                    ),
                );
            }
        }
    }
    let count: usize = config.pairs.iter().map(|pair| pair.entry.len()).sum();
    Finding::ok("entry", format!("{count} on no link of this host"))
}

async fn look_at_taps(
    network: &Network,
    taps: &[String],
    uplink: &str,
) -> Result<Vec<Finding>, NetworkError> {
    let mut findings = Vec::new();
    let mut there = 0;
    for tap in taps {
        if tap == uplink {
            let what = format!("{tap} is the uplink, and would be a tap of a pair of this name");
            findings.push(Finding::fail("taps", what, "give the pair another name"));
            continue;
        }
        match network.tap(tap).await {
            Ok(Some(_)) => there += 1,
            Ok(None) => {}
            Err(error @ NetworkError::NotOurs { .. }) => {
                let what = format!("the name {tap} is taken");
                findings.push(Finding::fail("taps", what, error.to_string()));
            }
            Err(error) => return Err(error),
        }
    }
    if findings.is_empty() {
        let what = match there {
            0 => format!("{} names are free", taps.len()),
            _ => format!("{there} of {} are there from before and are used", taps.len()),
        };
        findings.push(Finding::ok("taps", what));
    }
    Ok(findings)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Level;
    use super::*;

    fn link() -> Link {
        Link {
            name: "eth0".into(),
            index: 2,
            mac: [2, 0, 0, 0, 0, 1],
            mtu: 1500,
            up: true,
            carrier: true,
            ethernet: true,
        }
    }

    #[test]
    fn an_uplink_that_cannot_serve_is_refused() {
        for (link, level, what) in [
            (Some(link()), Level::Ok, "eth0 is up, MTU 1500"),
            (Some(Link { mtu: MTU, ..link() }), Level::Ok, "MTU 3498"),
            (None, Level::Fail, "there is no interface eth0"),
            (Some(Link { ethernet: false, ..link() }), Level::Fail, "not an Ethernet interface"),
            (Some(Link { mtu: MTU + 1, ..link() }), Level::Fail, "MTU of 3499"),
            (Some(Link { up: false, ..link() }), Level::Fail, "is down"),
            (Some(Link { carrier: false, ..link() }), Level::Warn, "no carrier"),
        ] {
            let finding = judge_uplink("eth0", link.as_ref());
            assert_eq!(finding.level, level, "{finding:?}");
            assert!(finding.what.contains(what), "{finding:?}");
        }
    }

    #[test]
    fn an_internal_net_that_is_used_is_refused_except_by_the_taps_themselves() {
        let net = Ipv4Net { address: [10, 78, 0, 0].into(), prefix: 16 };
        let on = |link: &str, ip: [u8; 4], prefix| HostAddress { link: link.into(), ip: ip.into(), prefix };
        let taps = ["hpwebs0".to_owned()];
        for (address, level) in [
            (on("eth0", [192, 0, 2, 1], 24), Level::Ok),
            (on("eth0", [10, 78, 3, 4], 24), Level::Fail),
            (on("eth0", [10, 1, 2, 3], 8), Level::Fail),
            (on("eth0", [10, 1, 2, 3], 32), Level::Ok),
            (on("eth0", [10, 78, 0, 1], 32), Level::Fail),
            (on("hpwebs0", [10, 78, 0, 1], 32), Level::Ok),
            (on("tun0", [10, 79, 0, 1], 0), Level::Ok),
        ] {
            let finding = judge_internal_net(net, std::slice::from_ref(&address), &taps);
            assert_eq!(finding.level, level, "{address:?}: {finding:?}");
        }
    }

    #[test]
    fn an_entry_address_on_the_host_itself_is_refused() {
        let text = "[host]\nuplink='e'\ninternal_net='10.0.0.0/8'\n[[pair]]\nname='a'\n\
                    entry=['198.51.100.1','2001:db8::1']\ndomain='d'\nimage='i'\n";
        let config = crate::config::parse(text, Path::new("x.toml")).expect("right");
        assert_eq!(judge_entries(&config, &[]).level, Level::Ok);
        let ip: IpAddr = "2001:db8::1".parse().expect("an address");
        let finding = judge_entries(&config, &[HostAddress { link: "eth0".into(), ip, prefix: 64 }]);
        assert_eq!(finding.level, Level::Fail);
        assert!(finding.way_out.is_some_and(|way| way.contains("ip addr del 2001:db8::1 dev eth0")));
    }
}
