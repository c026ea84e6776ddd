//! Which addresses can be what.

use std::net::{IpAddr, Ipv4Addr};

use super::Ipv4Net;

impl Ipv4Net {
    /// Whether it holds this address.
    #[must_use]
    pub fn contains(&self, address: Ipv4Addr) -> bool {
        let mask = u32::MAX << (32 - u32::from(self.prefix));
        u32::from(address) & mask == u32::from(self.address)
    }

    /// Whether both have an address in common.
    #[must_use]
    pub fn overlaps(&self, other: Ipv4Net) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }
}

/// Addresses that every guest has on its own link.
pub(super) const LINK_LOCAL: Ipv4Net = Ipv4Net { address: Ipv4Addr::new(169, 254, 0, 0), prefix: 16 };

/// Why an address cannot be an entry address, if it cannot.
pub(super) fn entry_objection(ip: IpAddr) -> Option<&'static str> {
    if ip.is_unspecified() {
        return Some("is no address of anybody");
    }
    if ip.is_loopback() {
        return Some("is a loopback address, which no client can reach");
    }
    if ip.is_multicast() {
        return Some("is a multicast address");
    }
    match ip {
        IpAddr::V4(v4) if v4.is_link_local() => {
            Some("is a link-local address, which hotpair uses between the members")
        }
        IpAddr::V4(v4) if v4.octets()[0] == 0 || v4.octets()[0] >= 240 => Some("is not a unicast address"),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => {
            Some("is a link-local address, which hotpair uses between the members")
        }
        _ => None,
    }
}

/// Reads `10.78.0.0/16`. `Err` holds what is wrong and what to write instead.
pub(super) fn parse_net(text: &str) -> Result<Ipv4Net, (String, String)> {
    let form = "write address and prefix length, like \"10.78.0.0/16\"".to_owned();
    let Some((address, prefix)) = text.split_once('/') else {
        return Err((format!("{text:?} has no prefix length"), form));
    };
    let Ok(address) = address.parse::<Ipv4Addr>() else {
        let what = if address.parse::<IpAddr>().is_ok() {
            format!("{text:?} is an IPv6 network, and must be an IPv4 one")
        } else {
            format!("{text:?} is not a network")
        };
        return Err((what, form));
    };
    let Some(prefix) = prefix.parse::<u8>().ok().filter(|_| prefix.bytes().all(|byte| byte.is_ascii_digit()))
    else {
        return Err((format!("{prefix:?} is not a prefix length"), form));
    };
    if !(8..=30).contains(&prefix) {
        return Err((
            format!("a prefix length of {prefix} is out of range"),
            format!("write a prefix length from 8 to 30, like \"{address}/24\""),
        ));
    }
    let mask = u32::MAX << (32 - u32::from(prefix));
    let network = Ipv4Addr::from(u32::from(address) & mask);
    if network != address {
        return Err((
            format!("{address} is an address within the network, not the network"),
            format!("write \"{network}/{prefix}\""),
        ));
    }
    let net = Ipv4Net { address, prefix };
    if entry_objection(address.into()).is_some() || net.overlaps(LINK_LOCAL) {
        return Err((
            format!("{text} is not a network for hosts"),
            "choose a private network that nothing else here uses, like \"10.78.0.0/16\"".to_owned(),
        ));
    }
    Ok(net)
}

/// Reads a unicast MAC address. `Err` holds what is wrong and what to write instead.
pub(super) fn parse_mac(text: &str) -> Result<[u8; 6], (String, String)> {
    let form = || "write six bytes in hexadecimal, like \"02:68:70:00:00:01\"".to_owned();
    let bytes: Vec<u8> = text
        .split([':', '-'])
        .map_while(|byte| {
            (byte.len() == 2 && byte.bytes().all(|c| c.is_ascii_hexdigit()))
                .then(|| u8::from_str_radix(byte, 16).ok())
                .flatten()
        })
        .collect();
    let Ok(mac) = <[u8; 6]>::try_from(bytes) else {
        return Err((format!("{text:?} is not a MAC address"), form()));
    };
    if text.len() != 17 {
        return Err((format!("{text:?} is not a MAC address"), form()));
    }
    if mac[0] & 1 == 1 {
        return Err((
            format!("{text} is a group address, which no NIC can have"),
            format!("make the first byte even: \"{:02x}{}\"", mac[0] & !1, &text[2..]),
        ));
    }
    if mac == [0; 6] {
        return Err((format!("{text} is no address of anybody"), form()));
    }
    if mac == hotpair_abi::GATEWAY_MAC {
        return Err((format!("{text} is the MAC of the guests' gateway"), form()));
    }
    Ok(mac)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_know_what_they_hold() {
        let net = parse_net("10.78.0.0/16").expect("a network");
        assert!(net.contains(Ipv4Addr::new(10, 78, 255, 255)) && !net.contains(Ipv4Addr::new(10, 79, 0, 0)));
        assert!(net.overlaps(parse_net("10.0.0.0/8").expect("a network")));
        assert!(net.overlaps(parse_net("10.78.9.0/24").expect("a network")));
        assert!(!net.overlaps(parse_net("10.79.0.0/16").expect("a network")));
    }
}
