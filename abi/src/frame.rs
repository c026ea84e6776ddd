//! What a frame is, before anybody asks whom it belongs to.

use crate::address::{Address, Mac};
use crate::count::Counter;
use crate::maps::Tuple;
use crate::neighbour::{self, Arp, Nd, icmpv6};
use crate::packet::{self, Bytes, ETH_ARP, ETH_IPV4, ETH_IPV6, ETH_LEN, Ip, Link, protocol};
use crate::tcp::segment::Segment;

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

/// A client's segment at a glance: one that [`Segment::is_plain`], in a frame without tags, not a fragment, in an IPv4 header without
/// options or right behind an IPv6 header. Writes its connection's key and what it says. Returns where the TCP header begins.
/// `None`: it wants a closer look, and what has been written means nothing.
#[inline(always)]
pub fn plain_segment<B: Bytes + ?Sized>(
    frame: &B,
    tuple: &mut Tuple,
    segment: &mut Segment,
) -> Option<usize> {
    let (bytes, l4) = match u16::from_be_bytes(frame.get::<2>(12)?) {
        ETH_IPV4 => {
            let h = frame.get::<20>(ETH_LEN)?;
            let total = u16::from_be_bytes([h[2], h[3]]) as u32;
            let fragment = u16::from_be_bytes([h[6], h[7]]) & 0x3fff;
            if h[0] != 0x45 || h[9] != protocol::TCP || fragment != 0 || total < 20 {
                return None;
            }
            tuple.remote = Address::v4([h[12], h[13], h[14], h[15]]);
            tuple.entry = Address::v4([h[16], h[17], h[18], h[19]]);
            (total - 20, ETH_LEN + 20)
        }
        ETH_IPV6 => {
            let h = frame.get::<8>(ETH_LEN)?;
            if h[0] >> 4 != 6 || h[6] != protocol::TCP {
                return None;
            }
            let [src, dst] = frame.addresses(ETH_LEN + 8)?;
            if src.is_mapped() || dst.is_mapped() {
                return None;
            }
            tuple.remote = src;
            tuple.entry = dst;
            (u16::from_be_bytes([h[4], h[5]]) as u32, ETH_LEN + 40)
        }
        _ => return None,
    };
    let h = frame.get::<16>(l4)?;
    tuple.ports = u32::from_ne_bytes([h[0], h[1], h[2], h[3]]);
    tuple.outer = 0;
    tuple.inner = 0;
    tuple.pad = 0;
    segment.plain(frame, l4, &h, bytes).then_some(l4)
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
    use crate::packet::Tags;
    use crate::tcp::segment::{self, Header};
    use proptest::prelude::*;

    /// Makes almost any bytes look like ARP, IPv4 or IPv6, or leaves them as they are.
    fn be_honest(bytes: &mut [u8], honest: usize) {
        let ethertype = [0u16, ETH_IPV4, ETH_IPV6, ETH_ARP][honest].to_be_bytes();
        if honest != 0 && bytes.len() > 15 {
            bytes[12..14].copy_from_slice(&ethertype);
            bytes[14] = [0, 0x45, 0x60, 0][honest];
        }
    }

    fn one_in_four(often: u8, else_: u8) -> impl Strategy<Value = u8> {
        proptest::sample::select(vec![often, often, often, else_])
    }

    /// The way that `ebpf::tcp` reads a segment and its key, without maps and helpers; and where it begins.
    fn thorough(bytes: &[u8], link: &Link, ip: &Ip) -> Option<(Segment, Tuple, usize)> {
        let rest = bytes.get(ip.l4..)?;
        let len = usize::from(rest.get(12)? >> 4) * 4;
        let mut header = Header::EMPTY;
        header.0[..len].copy_from_slice(rest.get(..len)?);
        let total = u16::from_be_bytes([bytes[ip.l3 + 2], bytes[ip.l3 + 3]]) as usize;
        let total = if ip.v4 { total.saturating_sub(ip.l4 - ip.l3) } else { ip.payload.into() };
        let segment = segment::read(&header, total as u32).ok()?;
        let ports = u32::from_ne_bytes([rest[0], rest[1], rest[2], rest[3]]);
        let Tags { outer, inner } = link.tags;
        Some((segment, Tuple { remote: ip.src, entry: ip.dst, ports, outer, inner, pad: 0 }, ip.l4))
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

        /// What is read of a segment at a glance is what is read of it thoroughly, and nothing that comes all the time wants more.
        #[test]
        fn a_segment_at_a_glance_is_the_one_that_is_read(
            bytes in proptest::collection::vec(any::<u8>(), 86..120), honest in 1usize..3,
            protocol in one_in_four(6, 17), fragment in one_in_four(0x40, 0x20), ihl in one_in_four(5, 6),
            words in proptest::sample::select(vec![4u8, 5, 5, 6, 8, 8, 8, 9]), flags in one_in_four(0x18, 0x12),
            stamped in one_in_four(1, 0), total in one_in_four(80, 25), len in one_in_four(120, 80),
            mapped in one_in_four(0, 1),
        ) {
            let mut bytes = bytes;
            be_honest(&mut bytes, honest);
            let v4 = honest == 1;
            if v4 {
                bytes[14] = 0x40 | ihl;
                bytes[16..18].copy_from_slice(&[0, total]);
                bytes[20..22].copy_from_slice(&[fragment, 0]);
                bytes[23] = protocol;
            } else {
                bytes[18..20].copy_from_slice(&[0, total]);
                bytes[20] = protocol;
                if mapped == 1 {
                    bytes[22..34].copy_from_slice(&[0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]);
                }
            }
            let l4 = if v4 { 34 } else { 54 };
            bytes[l4 + 12] = words << 4;
            bytes[l4 + 13] = flags;
            if stamped == 1 {
                bytes[l4 + 20..l4 + 24].copy_from_slice(&[1, 1, 8, 10]);
            }
            let bytes = &bytes[..usize::from(len).min(bytes.len())];
            let (mut tuple, mut segment) = (Tuple::default(), Segment::default());
            let seen = plain_segment(bytes, &mut tuple, &mut segment);
            let read = packet::link(bytes, None).ok().and_then(|link| match from_uplink(bytes, &link) {
                Ok(FromUplink::Packet(ip)) if ip.protocol == protocol::TCP && ip.whole => thorough(bytes, &link, &ip),
                _ => None,
            });
            let plain = read.filter(|(segment, tuple, _)| {
                let options = honest == 1 && ihl != 5;
                segment.is_plain() && tuple.outer == 0 && !options
            });
            if let Some((expected, key, at)) = plain {
                prop_assert_eq!((segment, tuple, seen), (expected, key, Some(at)));
            } else {
                prop_assert_eq!(seen, None, "{:?} is not plain", read);
            }
        }

        #[test]
        fn no_bytes_make_a_reader_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..120), honest in 0usize..4,
        ) {
            let mut bytes = bytes;
            be_honest(&mut bytes, honest);
            let _ = plain_segment(&bytes[..], &mut Tuple::default(), &mut Segment::default());
            if let Ok(link) = packet::link(&bytes[..], None) {
                let _ = from_uplink(&bytes[..], &link);
                let _ = from_guest(&bytes[..], &link);
            }
        }
    }
}
