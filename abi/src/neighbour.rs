//! ARP (RFC 826, 5227) and neighbour discovery (RFC 4861): reading questions, writing answers.

use crate::address::{Address, Mac};
use crate::checksum::{addend, fold, sum};
use crate::packet::{Bytes, Ip};

/// Bytes of an ARP packet for Ethernet and IPv4.
pub const ARP_LEN: usize = 28;

/// An ARP packet for Ethernet and IPv4. Its addresses' first byte is the lowest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arp {
    /// A request, else a reply.
    pub request: bool,
    /// Sender's MAC.
    pub sender_mac: Mac,
    /// Sender's address; 0.0.0.0 in a probe.
    pub sender: u32,
    /// The address asked for.
    pub target: u32,
}

/// Reads an ARP packet. `None` if it is too short or not for Ethernet and IPv4.
#[inline(always)]
pub fn arp<B: Bytes + ?Sized>(frame: &B, l3: usize) -> Option<Arp> {
    let bytes = frame.get::<ARP_LEN>(l3)?;
    if [bytes[0], bytes[1], bytes[2], bytes[3], bytes[4], bytes[5], bytes[6]] != [0, 1, 8, 0, 6, 4, 0] {
        return None;
    }
    let request = match bytes[7] {
        1 => true,
        2 => false,
        _ => return None,
    };
    let sender_mac = Mac::new([bytes[8], bytes[9], bytes[10], bytes[11], bytes[12], bytes[13]]);
    if sender_mac.is_group() {
        return None;
    }
    Some(Arp {
        request,
        sender_mac,
        sender: u32::from_le_bytes([bytes[14], bytes[15], bytes[16], bytes[17]]),
        target: u32::from_le_bytes([bytes[24], bytes[25], bytes[26], bytes[27]]),
    })
}

/// The reply to a request: `mac` has the address asked for. Pairs of bytes, in the order of memory: as single bytes they
/// would fill the eBPF stack.
#[inline(always)]
#[must_use]
pub const fn arp_reply(request: &Arp, mac: Mac) -> [u16; ARP_LEN / 2] {
    let (m, s) = (mac.pairs(), request.sender_mac.pairs());
    let (a, t) = (request.sender, request.target);
    let pairs = [
        0x0100,
        0x0008,
        0x0406,
        0x0200,
        m[0],
        m[1],
        m[2],
        t as u16,
        (t >> 16) as u16,
        s[0],
        s[1],
        s[2],
        a as u16,
        (a >> 16) as u16,
    ];
    let mut out = [0; ARP_LEN / 2];
    let mut i = 0;
    while i < pairs.len() {
        out[i] = u16::from_le(pairs[i]);
        i += 1;
    }
    out
}

/// ICMPv6 types of neighbour discovery and of multicast listeners.
pub mod icmpv6 {
    /// Multicast listener query; reports and done follow.
    pub const MLD_QUERY: u8 = 130;
    /// Multicast listener done.
    pub const MLD_DONE: u8 = 132;
    /// Router solicitation; advertisement, NS, NA and redirect follow.
    pub const ROUTER_SOLICITATION: u8 = 133;
    /// Neighbour solicitation.
    pub const SOLICITATION: u8 = 135;
    /// Neighbour advertisement.
    pub const ADVERTISEMENT: u8 = 136;
    /// Redirect.
    pub const REDIRECT: u8 = 137;
    /// Multicast listener report, version 2.
    pub const MLD2_REPORT: u8 = 143;
}

/// Bytes of the answer to a solicitation: IPv6 header, advertisement, one target link-layer address option.
pub const ADVERTISEMENT_LEN: usize = 72;

/// The most 8-byte words of a solicitation that are looked at: its fixed part and four options.
const WORDS: usize = 7;

/// A neighbour solicitation or advertisement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Neighbour {
    /// A solicitation, else an advertisement.
    pub solicitation: bool,
    /// The address asked or spoken for.
    pub target: Address,
}

/// What an ICMPv6 packet is to neighbour discovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nd {
    /// A solicitation or an advertisement.
    Neighbour(Neighbour),
    /// Router discovery, redirect, multicast listeners, a target that is IPv4's: nothing that is answered.
    Other,
    /// Not neighbour discovery at all.
    No,
    /// Too short to say.
    Short,
}

/// Looks into an ICMPv6 packet that directly follows its IPv6 header.
#[inline(always)]
pub fn nd<B: Bytes + ?Sized>(frame: &B, l4: usize) -> Nd {
    let Some([kind, _code]) = frame.get::<2>(l4) else {
        return Nd::Short;
    };
    match kind {
        icmpv6::SOLICITATION | icmpv6::ADVERTISEMENT => {}
        icmpv6::MLD_QUERY..=icmpv6::REDIRECT | icmpv6::MLD2_REPORT => return Nd::Other,
        _ => return Nd::No,
    }
    let Some(target) = frame.get::<16>(l4 + 8) else {
        return Nd::Short;
    };
    let target = Address::new(target);
    if target.is_mapped() {
        return Nd::Other;
    }
    Nd::Neighbour(Neighbour { solicitation: kind == icmpv6::SOLICITATION, target })
}

/// Whether a solicitation is valid by RFC 4861 section 7.1.1, checksum included, and from one address that can be
/// answered.
#[inline(always)]
pub fn solicitation_is_valid<B: Bytes + ?Sized>(frame: &B, ip: &Ip, target: Address) -> bool {
    let len = ip.payload as usize;
    if ip.hops != 255
        || len < 24
        || !len.is_multiple_of(8)
        || len > WORDS * 8
        || target.is_multicast(false)
        || ip.src.is_multicast(false)
    {
        return false;
    }
    let ([s0, s1], [d0, d1]) = (ip.src.words(), ip.dst.words());
    let pseudo = addend(ip.payload) + addend(crate::packet::protocol::ICMPV6 as u16);
    let mut total = sum(s0) + sum(s1) + sum(d0) + sum(d1) + pseudo;
    let mut code = 0;
    let mut rest_of_option = 0u8;
    let mut names_its_mac = false;
    let mut word = 0;
    while word < WORDS {
        if word * 8 < len {
            let Some(bytes) = frame.get_far::<8>(ip.l4 + word * 8) else {
                return false;
            };
            total += sum(u64::from_ne_bytes(bytes));
            if word == 0 {
                code = bytes[1];
            }
            if word >= 3 {
                if rest_of_option == 0 {
                    if bytes[1] == 0 {
                        return false;
                    }
                    names_its_mac |= bytes[0] == 1;
                    rest_of_option = bytes[1];
                }
                rest_of_option -= 1;
            }
        }
        word += 1;
    }
    if code != 0 || rest_of_option != 0 || fold(total) != 0xffff {
        return false;
    }
    if ip.src.is_unspecified() {
        // From the unspecified address (DAD): only to the solicited-node group, and without a source MAC.
        return !names_its_mac && solicited_node(&target.bytes()) == ip.dst.bytes();
    }
    true
}

/// The solicited-node group of an address: `ff02::1:ffXX:XXXX`.
#[inline(always)]
#[must_use]
pub const fn solicited_node(target: &[u8; 16]) -> [u8; 16] {
    [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, target[13], target[14], target[15]]
}

/// `ff02::1`: where a question from the unspecified address is answered to.
pub const ALL_NODES: Address = Address::new([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
/// The MAC of [`ALL_NODES`].
pub const ALL_NODES_MAC: Mac = Mac::new([0x33, 0x33, 0, 0, 0, 1]);

/// The advertisement that answers a solicitation from `asker` for `target`, which `mac` has: IPv6 header and all, as
/// words in the order of memory. Solicited unless the asker is the unspecified address, override set, never a router.
#[inline(always)]
#[must_use]
pub fn advertisement(target: Address, asker: Address, mac: Mac) -> [u64; ADVERTISEMENT_LEN / 8] {
    let nameless = asker.is_unspecified();
    let to = if nameless { ALL_NODES } else { asker };
    let flags: u8 = if nameless { 0x20 } else { 0x60 };
    let m = mac.bytes();
    let ([t0, t1], [d0, d1]) = (target.words(), to.words());
    let option = u64::from_ne_bytes([2, 1, m[0], m[1], m[2], m[3], m[4], m[5]]);
    let icmp = addend((icmpv6::ADVERTISEMENT as u16) << 8) + addend((flags as u16) << 8);
    let pseudo = addend(32) + addend(crate::packet::protocol::ICMPV6 as u16);
    let total = (sum(t0) + sum(t1)) * 2 + sum(d0) + sum(d1) + sum(option) + icmp + pseudo;
    let check = (!fold(total)).to_ne_bytes();
    [
        u64::from_ne_bytes([0x60, 0, 0, 0, 0, 32, crate::packet::protocol::ICMPV6, 255]),
        t0,
        t1,
        d0,
        d1,
        u64::from_ne_bytes([icmpv6::ADVERTISEMENT, 0, check[0], check[1], flags, 0, 0, 0]),
        t0,
        t1,
        option,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::ipv6;
    use proptest::prelude::*;

    const MAC: [u8; 6] = [2, 0, 0, 0, 0, 9];

    fn solicitation(src: [u8; 16], dst: [u8; 16], target: [u8; 16], options: &[u8]) -> Vec<u8> {
        let len = 24 + options.len();
        let mut packet = vec![0x60, 0, 0, 0, 0, len as u8, 58, 255];
        packet.extend_from_slice(&src);
        packet.extend_from_slice(&dst);
        packet.extend_from_slice(&[135, 0, 0, 0, 0, 0, 0, 0]);
        packet.extend_from_slice(&target);
        packet.extend_from_slice(options);
        let check = checksum(&packet);
        packet[42..44].copy_from_slice(&check.to_be_bytes());
        packet
    }

    /// The textbook's way, on a whole packet.
    fn checksum(packet: &[u8]) -> u16 {
        let mut pseudo = packet[8..40].to_vec();
        pseudo.extend_from_slice(&[0, 0, packet[4], packet[5], 0, 0, 0, 58]);
        pseudo.extend_from_slice(&packet[40..]);
        let mut total = 0u32;
        for pair in pseudo.chunks(2) {
            total += u32::from(u16::from_be_bytes([pair[0], pair[1]]));
            total = (total & 0xffff) + (total >> 16);
        }
        !(total as u16)
    }

    fn valid(packet: &[u8]) -> bool {
        let ip = ipv6(packet, 0).expect("an IPv6 header");
        match nd(packet, ip.l4) {
            Nd::Neighbour(Neighbour { solicitation: true, target }) => {
                solicitation_is_valid(packet, &ip, target)
            }
            _ => false,
        }
    }

    fn address(last: u8) -> [u8; 16] {
        let mut address = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        address[15] = last;
        address
    }

    const SOURCE_MAC: [u8; 8] = [1, 1, 2, 0, 0, 0, 0, 7];
    const NONCE: [u8; 8] = [14, 1, 1, 2, 3, 4, 5, 6];

    #[test]
    fn solicitations_as_real_stacks_send_them_are_valid() {
        let target = address(1);
        let group = solicited_node(&target);
        assert!(valid(&solicitation(address(9), group, target, &SOURCE_MAC)));
        assert!(valid(&solicitation(address(9), target, target, &[])));
        assert!(valid(&solicitation([0; 16], group, target, &[])));
        assert!(valid(&solicitation([0; 16], group, target, &NONCE)));
        assert!(valid(&solicitation(address(9), group, target, &[SOURCE_MAC, NONCE].concat())));
    }

    #[test]
    fn what_rfc_4861_forbids_is_invalid() {
        let target = address(1);
        let group = solicited_node(&target);
        let good = solicitation(address(9), group, target, &SOURCE_MAC);
        let broken = |at: usize, value: u8| {
            let mut bad = good.clone();
            bad[at] = value;
            let check = checksum(&{
                bad[42..44].copy_from_slice(&[0, 0]);
                bad.clone()
            });
            bad[42..44].copy_from_slice(&check.to_be_bytes());
            bad
        };
        assert!(valid(&broken(7, 255)), "the repaired checksum is right");
        assert!(!valid(&broken(7, 254)), "hop limit");
        assert!(!valid(&broken(41, 1)), "code");
        assert!(!valid(&broken(65, 0)), "an option of no length");
        assert!(!valid(&broken(65, 2)), "an option longer than the packet");
        assert!(!valid(&broken(48, 0xff)), "a multicast target");
        let mut wrong = good.clone();
        wrong[42] ^= 1;
        assert!(!valid(&wrong), "checksum");
        assert!(!valid(&good[..good.len() - 1]), "cut");
        assert!(!valid(&solicitation([0; 16], group, target, &SOURCE_MAC)), "DAD with a source MAC");
        assert!(!valid(&solicitation([0; 16], target, target, &[])), "unicast DAD");
    }

    proptest! {
        #[test]
        fn an_advertisement_has_a_right_checksum(target: [u8; 16], asker: [u8; 16], mac: [u8; 6], dad: bool) {
            let asker = if dad { [0; 16] } else { asker };
            let words = advertisement(Address::new(target), Address::new(asker), Mac::new(mac));
            let mut packet: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
            let check = [packet[42], packet[43]];
            packet[42] = 0;
            packet[43] = 0;
            prop_assert_eq!(checksum(&packet).to_be_bytes(), check);
            prop_assert_eq!(&packet[24..40], &(if asker == [0; 16] { ALL_NODES.bytes() } else { asker })[..]);
        }

        #[test]
        fn an_arp_reply_reads_as_what_it_answers(sender: u32, target: u32, low: [u8; 5]) {
            let sender_mac = [2, low[0], low[1], low[2], low[3], low[4]];
            let request = Arp { request: true, sender_mac: Mac::new(sender_mac), sender, target };
            let reply: Vec<u8> = arp_reply(&request, Mac::new(MAC)).iter().flat_map(|pair| pair.to_ne_bytes()).collect();
            prop_assert_eq!(
                arp(&reply[..], 0),
                Some(Arp { request: false, sender_mac: Mac::new(MAC), sender: target, target: sender })
            );
            prop_assert_eq!(&reply[18..24], &sender_mac[..]);
        }

        #[test]
        fn no_bytes_make_a_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            let _ = arp(&bytes[..], 0);
            if let Some(ip) = ipv6(&bytes[..], 0)
                && let Nd::Neighbour(neighbour) = nd(&bytes[..], ip.l4) {
                let _ = solicitation_is_valid(&bytes[..], &ip, neighbour.target);
            }
        }
    }
}
