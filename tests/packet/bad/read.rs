//! A second reader of frames, by the RFCs, that shares no line with the one in `hotpair_abi`: plain slices, one cursor.
//!
//! It says what a frame *is*. What is to come of it, `oracle.rs` says.

/// Big endian 16 bits at an offset.
pub(crate) fn word(frame: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(frame.get(at..at + 2)?.try_into().ok()?))
}

fn array<const N: usize>(frame: &[u8], at: usize) -> Option<[u8; N]> {
    frame.get(at..at + N)?.try_into().ok()
}

/// An address with its family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Addr {
    V4([u8; 4]),
    V6([u8; 16]),
}

impl Addr {
    pub(crate) fn is_group(self) -> bool {
        match self {
            // 224/4, and what lies above it: reserved and limited broadcast.
            Addr::V4(v4) => v4[0] >= 224,
            Addr::V6(v6) => v6[0] == 0xff,
        }
    }
}

/// The Ethernet header and its tags.
pub(crate) enum Ethernet {
    /// Ends within it.
    Short,
    /// Three tags or more.
    TooManyTags,
    /// Whole.
    Whole {
        /// VLAN tags, but for those that name no VLAN.
        tags: usize,
        /// What follows.
        ethertype: u16,
        /// Where.
        at: usize,
    },
}

/// Reads it.
pub(crate) fn ethernet(frame: &[u8]) -> Ethernet {
    let mut at = 12;
    let mut tags = 0;
    loop {
        match word(frame, at) {
            None => return Ethernet::Short,
            Some(0x8100 | 0x88a8) if at == 20 => return Ethernet::TooManyTags,
            Some(0x8100 | 0x88a8) => {
                tags += usize::from(word(frame, at + 2).is_some_and(|tci| tci & 0xfff != 0));
                at += 4;
            }
            Some(ethertype) => return Ethernet::Whole { tags, ethertype, at: at + 2 },
        }
    }
}

/// An IP header.
#[derive(Clone, Copy, Debug)]
pub(crate) struct IpHeader {
    pub(crate) src: Addr,
    pub(crate) dst: Addr,
    /// Protocol or next header.
    pub(crate) protocol: u8,
    /// TTL or hop limit.
    pub(crate) hops: u8,
    /// Where it begins.
    pub(crate) at: usize,
    /// Where what it carries begins.
    pub(crate) inside: usize,
    /// Fragment offset in units of 8 bytes.
    pub(crate) offset: u16,
    /// More fragments follow.
    pub(crate) more: bool,
    /// IPv6: its payload length.
    pub(crate) length: u16,
}

impl IpHeader {
    pub(crate) fn is_whole(&self) -> bool {
        self.offset == 0 && !self.more
    }

    pub(crate) fn is_v4(&self) -> bool {
        matches!(self.src, Addr::V4(_))
    }
}

/// RFC 791.
pub(crate) fn ipv4(frame: &[u8], at: usize) -> Option<IpHeader> {
    let header = frame.get(at..at + 20)?;
    let (version, words) = (header[0] >> 4, usize::from(header[0] & 15));
    if version != 4 || words < 5 {
        return None;
    }
    let fragment = word(header, 6)?;
    Some(IpHeader {
        src: Addr::V4(array(header, 12)?),
        dst: Addr::V4(array(header, 16)?),
        protocol: header[9],
        hops: header[8],
        at,
        inside: at + words * 4,
        offset: fragment & 0x1fff,
        more: fragment & 0x2000 != 0,
        length: 0,
    })
}

/// RFC 8200. An address that stands for an IPv4 one (`::ffff:a.b.c.d`) has no business on a wire (RFC 4291 section
/// 2.5.5.2): whoever takes it for that one is fooled.
pub(crate) fn ipv6(frame: &[u8], at: usize) -> Option<IpHeader> {
    let header = frame.get(at..at + 40)?;
    let (src, dst) = (array(header, 8)?, array(header, 24)?);
    if header[0] >> 4 != 6 || is_mapped(&src) || is_mapped(&dst) {
        return None;
    }
    Some(IpHeader {
        src: Addr::V6(src),
        dst: Addr::V6(dst),
        protocol: header[6],
        hops: header[7],
        at,
        inside: at + 40,
        offset: 0,
        more: false,
        length: word(header, 4)?,
    })
}

pub(crate) fn is_mapped(address: &[u8; 16]) -> bool {
    std::net::Ipv6Addr::from(*address).to_ipv4_mapped().is_some()
}

/// ARP for Ethernet and IPv4, from somebody who can have a MAC.
pub(crate) struct ArpPacket {
    pub(crate) request: bool,
    pub(crate) sender_mac: [u8; 6],
    pub(crate) sender: [u8; 4],
    pub(crate) target: [u8; 4],
}

/// RFC 826.
pub(crate) fn arp(frame: &[u8], at: usize) -> Option<ArpPacket> {
    let packet = frame.get(at..at + 28)?;
    let (hardware, protocol, lengths, op) =
        (word(packet, 0)?, word(packet, 2)?, word(packet, 4)?, word(packet, 6)?);
    if hardware != 1
        || protocol != 0x0800
        || lengths != 0x0604
        || !(1..=2).contains(&op)
        || packet[8] & 1 != 0
    {
        return None;
    }
    Some(ArpPacket {
        request: op == 1,
        sender_mac: array(packet, 8)?,
        sender: array(packet, 14)?,
        target: array(packet, 24)?,
    })
}

/// What ICMPv6 right behind the IPv6 header is.
pub(crate) enum Icmp6 {
    /// A solicitation for this address.
    Solicitation([u8; 16]),
    /// An advertisement of it.
    Advertisement([u8; 16]),
    /// Router discovery, redirect, multicast listeners; neighbour discovery for an address that cannot be one.
    Housekeeping,
    /// Anything else.
    Ordinary,
    /// Too short to say.
    Short,
}

/// RFC 4861, 2710, 3810.
pub(crate) fn icmp6(frame: &[u8], at: usize) -> Icmp6 {
    let Some(&[kind, _]) = frame.get(at..at + 2) else { return Icmp6::Short };
    match kind {
        130..=134 | 137 | 143 => Icmp6::Housekeeping,
        135 | 136 => match array(frame, at + 8) {
            None => Icmp6::Short,
            Some(target) if is_mapped(&target) => Icmp6::Housekeeping,
            Some(target) if kind == 135 => Icmp6::Solicitation(target),
            Some(target) => Icmp6::Advertisement(target),
        },
        _ => Icmp6::Ordinary,
    }
}

/// Ones' complement sum, as in every checksum.
pub(crate) fn ones_sum(parts: &[&[u8]]) -> u16 {
    let mut sum = 0u64;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u64::from(pair[0]) << 8 | u64::from(*pair.get(1).unwrap_or(&0));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}
