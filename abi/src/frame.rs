//! What a frame is, before anybody asks whom it belongs to.

use crate::address::{Address, Mac};
use crate::count::Counter;
use crate::neighbour::{self, Arp, Nd, icmpv6};
use crate::packet::{self, Bytes, ETH_ARP, ETH_IPV4, ETH_IPV6, ETH_LEN, Ip, Link, protocol};

/// A frame from the uplink.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FromUplink {
    /// ARP.
    Arp(Arp),
    /// A neighbour solicitation or advertisement for this target.
    Neighbour {
        /// A solicitation, else an advertisement.
        solicitation: bool,
        /// The address asked or spoken for.
        target: Address,
        /// Its network layer.
        ip: Ip,
    },
    /// Any other IP packet.
    Packet(Ip),
    /// Not for an entry address, whatever it is.
    Other,
}

/// Says what a frame from the uplink is.
///
/// # Errors
/// The counter of what is too short or inconsistent to say.
#[inline(always)]
pub fn from_uplink<B: Bytes + ?Sized>(frame: &B, link: &Link) -> Result<FromUplink, Counter> {
    match link.ethertype {
        ETH_IPV4 => match packet::ipv4(frame, link.l3) {
            Some(ip) => Ok(FromUplink::Packet(ip)),
            None => Err(Counter::UplinkUnparsed),
        },
        ETH_IPV6 => {
            let Some(ip) = packet::ipv6(frame, link.l3) else {
                return Err(Counter::UplinkUnparsed);
            };
            if ip.protocol != protocol::ICMPV6 {
                return Ok(FromUplink::Packet(ip));
            }
            match neighbour::nd(frame, ip.l4) {
                Nd::Neighbour(n) => {
                    Ok(FromUplink::Neighbour { solicitation: n.solicitation, target: n.target, ip })
                }
                // Router discovery and redirects must not reach the guests: their neighbour is the data plane.
                Nd::Other => Ok(FromUplink::Other),
                Nd::No | Nd::Short => Ok(FromUplink::Packet(ip)),
            }
        }
        ETH_ARP => match neighbour::arp(frame, link.l3) {
            Some(arp) => Ok(FromUplink::Arp(arp)),
            None => Err(Counter::UplinkUnparsed),
        },
        _ => Ok(FromUplink::Other),
    }
}

/// What steering must know of most frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Glance {
    /// Destination MAC.
    pub mac: Mac,
    /// Destination address.
    pub dst: Address,
    /// Whether it may be a TCP segment, or an ICMP error about one, where these are looked into.
    pub is_deep: bool,
}

/// The frame at a glance: an IPv4 or IPv6 packet without tags. `None`: it wants [`from_uplink`], which says the same of all others,
/// and more.
#[inline(always)]
pub fn glance<B: Bytes + ?Sized>(frame: &B) -> Option<Glance> {
    let eth = frame.get::<ETH_LEN>(0)?;
    let mac = Mac::new([eth[0], eth[1], eth[2], eth[3], eth[4], eth[5]]);
    match u16::from_be_bytes([eth[12], eth[13]]) {
        ETH_IPV4 => {
            let ip = packet::ipv4(frame, ETH_LEN)?;
            let is_deep = ip.protocol == protocol::TCP || ip.protocol == protocol::ICMP;
            Some(Glance { mac, dst: ip.dst, is_deep })
        }
        ETH_IPV6 => {
            let header = frame.get::<24>(ETH_LEN)?;
            let dst = frame.get::<16>(ETH_LEN + 24)?;
            // Neighbour discovery, and addresses that must not be taken for IPv4 ones, are for who has more time.
            let is_plain = header[0] >> 4 == 6
                && header[6] != protocol::ICMPV6
                && header[8] | header[9] != 0
                && dst[0] | dst[1] != 0;
            let is_deep = header[6] == protocol::TCP;
            is_plain.then_some(Glance { mac, dst: Address::new(dst), is_deep })
        }
        _ => None,
    }
}

/// A frame from a guest that is not dropped for what it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FromGuest {
    /// A question for this address.
    Arp(Arp),
    /// A question for this target.
    Solicitation {
        /// Who asks.
        asker: Address,
        /// The address asked for.
        target: Address,
    },
    /// A unicast IP packet.
    Packet(Ip),
}

const DHCP_SERVER: [u8; 2] = 67u16.to_be_bytes();
const DHCPV6_SERVER: [u8; 2] = 547u16.to_be_bytes();

/// Says what a frame from a guest is.
///
/// # Errors
/// The counter under which it is dropped: what never leaves a guest, whoever it is from.
#[inline(always)]
pub fn from_guest<B: Bytes + ?Sized>(frame: &B, link: &Link) -> Result<FromGuest, Counter> {
    match link.ethertype {
        ETH_IPV4 => {
            let Some(ip) = packet::ipv4(frame, link.l3) else {
                return Err(Counter::GuestUnparsed);
            };
            if link.dst.is_group() || ip.dst.is_multicast(true) || ip.protocol == protocol::IGMP {
                return Err(multicast(frame, &ip, DHCP_SERVER));
            }
            Ok(FromGuest::Packet(ip))
        }
        ETH_IPV6 => {
            let Some(ip) = packet::ipv6(frame, link.l3) else {
                return Err(Counter::GuestUnparsed);
            };
            if ip.protocol == protocol::ICMPV6 {
                match neighbour::nd(frame, ip.l4) {
                    // From the unspecified address: DAD, which is never answered.
                    Nd::Neighbour(n)
                        if n.solicitation
                            && ip.hops == 255
                            && !ip.src.is_unspecified()
                            && !n.target.is_multicast(false) =>
                    {
                        return Ok(FromGuest::Solicitation { asker: ip.src, target: n.target });
                    }
                    Nd::Neighbour(_) | Nd::Other => return Err(Counter::GuestNdDropped),
                    Nd::Short => return Err(Counter::GuestUnparsed),
                    Nd::No => {}
                }
            }
            if link.dst.is_group() || ip.dst.is_multicast(false) {
                return Err(if is_mld(frame, &ip) {
                    Counter::GuestNdDropped
                } else {
                    multicast(frame, &ip, DHCPV6_SERVER)
                });
            }
            Ok(FromGuest::Packet(ip))
        }
        ETH_ARP => match neighbour::arp(frame, link.l3) {
            Some(arp) => Ok(FromGuest::Arp(arp)),
            None => Err(Counter::GuestUnparsed),
        },
        _ => Err(Counter::GuestUnknownProtocol),
    }
}

/// Multicast listener messages follow a hop-by-hop header with the router alert (RFC 3810 section 5).
#[inline(always)]
fn is_mld<B: Bytes + ?Sized>(frame: &B, ip: &Ip) -> bool {
    ip.protocol == 0
        && match frame.get::<9>(ip.l4) {
            Some(b) => {
                b[0] == protocol::ICMPV6
                    && b[1] == 0
                    && (matches!(b[8], icmpv6::MLD_QUERY..=icmpv6::MLD_DONE) || b[8] == icmpv6::MLD2_REPORT)
            }
            None => false,
        }
}

#[inline(always)]
fn multicast<B: Bytes + ?Sized>(frame: &B, ip: &Ip, dhcp: [u8; 2]) -> Counter {
    if ip.protocol == protocol::UDP
        && ip.whole
        && let Some(port) = frame.get_far::<2>(ip.l4 + 2)
        && port == dhcp
    {
        return Counter::GuestDhcpDropped;
    }
    Counter::GuestMulticast
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Makes almost any bytes look like ARP, IPv4 or IPv6, or leaves them as they are.
    fn be_honest(bytes: &mut [u8], honest: usize) {
        let ethertype = [0u16, ETH_IPV4, ETH_IPV6, ETH_ARP][honest].to_be_bytes();
        if honest != 0 && bytes.len() > 15 {
            bytes[12..14].copy_from_slice(&ethertype);
            bytes[14] = [0, 0x45, 0x60, 0][honest];
        }
    }

    proptest! {
        #[test]
        fn what_is_seen_at_a_glance_is_what_is_read(
            bytes in proptest::collection::vec(any::<u8>(), 0..120), honest in 0usize..4,
            mapped: bool, protocol in proptest::sample::select(vec![0u8, 1, 6, 17, 58]),
        ) {
            let mut bytes = bytes;
            be_honest(&mut bytes, honest);
            if let Some(at) = bytes.get_mut(if honest == 1 { 23 } else { 20 }) {
                *at = protocol;
            }
            if mapped && bytes.len() > 54 {
                bytes[38..50].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]);
            }
            let seen = glance(&bytes[..]);
            let link = packet::link(&bytes[..], None);
            let read = link.map(|link| from_uplink(&bytes[..], &link));
            if let Some(seen) = seen {
                let (Ok(link), Ok(Ok(FromUplink::Packet(ip)))) = (link, read) else {
                    panic!("{seen:?} was seen in {read:?}")
                };
                prop_assert!(!link.tags.any());
                prop_assert_eq!((link.dst, ip.dst), (seen.mac, seen.dst));
                let is_deep = ip.protocol == protocol::TCP || crate::tcp::quoted::may_quote(&ip);
                prop_assert!(seen.is_deep || !is_deep, "{:?} of {:?}", seen, ip);
            } else if let (Ok(link), Ok(Ok(FromUplink::Packet(ip)))) = (link, read) {
                // Nothing ordinary wants more than a glance.
                let odd = link.tags.any() || ip.protocol == protocol::ICMPV6
                    || !ip.v4 && [ip.src, ip.dst].iter().any(|address| address.bytes().starts_with(&[0, 0]));
                prop_assert!(odd, "{:?} was not seen", ip);
            }
        }

        #[test]
        fn no_bytes_make_a_reader_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..120), honest in 0usize..4,
        ) {
            let mut bytes = bytes;
            be_honest(&mut bytes, honest);
            if let Ok(link) = packet::link(&bytes[..], None) {
                let _ = from_uplink(&bytes[..], &link);
                let _ = from_guest(&bytes[..], &link);
            }
        }
    }
}
