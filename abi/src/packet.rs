//! Reading Ethernet, VLAN tags, IPv4 and IPv6: as much as steering needs, and not a byte more.
//!
//! Everything is generic over [`Bytes`], so that the eBPF programs, native tests and fuzzers run the same code. Nothing
//! here may index a slice, allocate or panic: a frame that is too short is an error like any other.

use crate::address::{Address, Mac};

/// Access to a frame, bounds-checked.
pub trait Bytes {
    /// The `N` bytes that begin at `at`; `None` if the frame ends before their end.
    fn get<const N: usize>(&self, at: usize) -> Option<[u8; N]>;

    /// Like [`Bytes::get`], for an offset that is read from the frame itself. The eBPF side then asks a helper, since
    /// the verifier loses track of such offsets.
    fn get_far<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.get(at)
    }

    /// Two IPv6 addresses, one behind the other.
    #[inline(always)]
    fn addresses(&self, at: usize) -> Option<[Address; 2]> {
        Some([Address::new(self.get(at)?), Address::new(self.get(at + 16)?)])
    }
}

impl Bytes for [u8] {
    fn get<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        <[u8]>::get(self, at..at.checked_add(N)?)?.try_into().ok()
    }
}

/// EtherType of IPv4.
pub const ETH_IPV4: u16 = 0x0800;
/// EtherType of ARP.
pub const ETH_ARP: u16 = 0x0806;
/// EtherType of IPv6.
pub const ETH_IPV6: u16 = 0x86dd;
/// TPID of a customer tag (802.1Q).
pub const TPID_C: u16 = 0x8100;
/// TPID of a service tag (802.1ad).
pub const TPID_S: u16 = 0x88a8;

/// Bytes of an Ethernet header.
pub const ETH_LEN: usize = 14;
/// Bytes of a VLAN tag.
pub const TAG_LEN: usize = 4;

/// IP protocol numbers that are looked into.
pub mod protocol {
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// IGMP.
    pub const IGMP: u8 = 2;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
}

/// Up to two VLAN tags: TPID and VLAN id, priority cleared; zero for none. The TPID is in the upper half.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tags {
    /// The first on the wire.
    pub outer: u32,
    /// The second.
    pub inner: u32,
}

impl Tags {
    /// Whether the frame carries a tag that names a VLAN.
    #[inline(always)]
    #[must_use]
    pub const fn any(&self) -> bool {
        self.outer != 0
    }

    /// Takes in the next tag.
    #[inline(always)]
    const fn push(&mut self, key: u32) {
        if self.outer == 0 {
            self.outer = key;
        } else {
            self.inner = key;
        }
    }
}

/// The link layer of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Link {
    /// Destination MAC.
    pub dst: Mac,
    /// Source MAC.
    pub src: Mac,
    /// VLAN tags.
    pub tags: Tags,
    /// EtherType after the tags.
    pub ethertype: u16,
    /// Where the network layer begins.
    pub l3: usize,
}

/// Why a link layer cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkError {
    /// The frame ends within it.
    Short,
    /// More than two VLAN tags.
    TooManyTags,
}

#[inline(always)]
const fn is_tag(ethertype: u16) -> bool {
    ethertype == TPID_C || ethertype == TPID_S
}

/// A tag's key: TPID and VLAN id, priority and drop eligibility cleared. 0 for a tag that says nothing but the priority: it names no
/// VLAN (IEEE 802.1Q, VID 0), and whoever gets it answers without a tag.
#[inline(always)]
const fn tag_key(tpid: u16, tci: u16) -> u32 {
    let vid = tci as u32 & 0x0fff;
    if vid == 0 { 0 } else { ((tpid as u32) << 16) | vid }
}

/// Reads the link layer. `stripped` is a tag that the kernel or the NIC has already taken off: TPID and TCI.
///
/// # Errors
/// The frame is too short, or has more than two tags.
#[inline(always)]
pub fn link<B: Bytes + ?Sized>(frame: &B, stripped: Option<(u16, u16)>) -> Result<Link, LinkError> {
    let Some(eth) = frame.get::<ETH_LEN>(0) else {
        return Err(LinkError::Short);
    };
    let dst = Mac::new([eth[0], eth[1], eth[2], eth[3], eth[4], eth[5]]);
    let src = Mac::new([eth[6], eth[7], eth[8], eth[9], eth[10], eth[11]]);
    let ethertype = u16::from_be_bytes([eth[12], eth[13]]);
    let mut tags = Tags::default();
    if let Some((tpid, tci)) = stripped {
        tags.push(tag_key(tpid, tci));
    }
    if !is_tag(ethertype) {
        return Ok(Link { dst, src, tags, ethertype, l3: ETH_LEN });
    }
    let Some(tag) = frame.get::<TAG_LEN>(ETH_LEN) else {
        return Err(LinkError::Short);
    };
    tags.push(tag_key(ethertype, u16::from_be_bytes([tag[0], tag[1]])));
    let ethertype = u16::from_be_bytes([tag[2], tag[3]]);
    if !is_tag(ethertype) {
        return Ok(Link { dst, src, tags, ethertype, l3: ETH_LEN + TAG_LEN });
    }
    if tags.inner != 0 {
        return Err(LinkError::TooManyTags);
    }
    let Some(tag) = frame.get::<TAG_LEN>(ETH_LEN + TAG_LEN) else {
        return Err(LinkError::Short);
    };
    tags.push(tag_key(ethertype, u16::from_be_bytes([tag[0], tag[1]])));
    let ethertype = u16::from_be_bytes([tag[2], tag[3]]);
    if is_tag(ethertype) {
        return Err(LinkError::TooManyTags);
    }
    Ok(Link { dst, src, tags, ethertype, l3: ETH_LEN + 2 * TAG_LEN })
}

/// The network layer of an IPv4 or IPv6 packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ip {
    /// Source.
    pub src: Address,
    /// Destination.
    pub dst: Address,
    /// IPv4, else IPv6.
    pub v4: bool,
    /// IPv4 protocol, or IPv6 next header (extension headers are not walked).
    pub protocol: u8,
    /// Where the network layer begins.
    pub l3: usize,
    /// Where its payload begins.
    pub l4: usize,
    /// Not a fragment.
    pub whole: bool,
    /// Holds the first byte of the payload: whole, or a first fragment.
    pub first: bool,
    /// IPv6 hop limit or IPv4 TTL.
    pub hops: u8,
    /// Bytes after the IPv6 header, by its own word; 0 for IPv4.
    pub payload: u16,
}

/// Reads an IPv4 header. `None` if it is too short or inconsistent.
#[inline(always)]
pub fn ipv4<B: Bytes + ?Sized>(frame: &B, l3: usize) -> Option<Ip> {
    let header = frame.get::<20>(l3)?;
    let header_len = (header[0] & 0x0f) as usize * 4;
    if header[0] >> 4 != 4 || header_len < 20 {
        return None;
    }
    let fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff;
    Some(Ip {
        src: Address::v4([header[12], header[13], header[14], header[15]]),
        dst: Address::v4([header[16], header[17], header[18], header[19]]),
        v4: true,
        protocol: header[9],
        l3,
        l4: l3 + header_len,
        whole: fragment == 0,
        first: fragment & 0x1fff == 0,
        hops: header[8],
        payload: 0,
    })
}

/// Reads an IPv6 header. `None` if it is too short or inconsistent, which an IPv4-mapped address is.
#[inline(always)]
pub fn ipv6<B: Bytes + ?Sized>(frame: &B, l3: usize) -> Option<Ip> {
    let header = frame.get::<8>(l3)?;
    if header[0] >> 4 != 6 {
        return None;
    }
    let [src, dst] = frame.addresses(l3 + 8)?;
    if src.is_mapped() || dst.is_mapped() {
        return None;
    }
    Some(Ip {
        src,
        dst,
        v4: false,
        protocol: header[6],
        l3,
        l4: l3 + 40,
        whole: true,
        first: true,
        hops: header[7],
        payload: u16::from_be_bytes([header[4], header[5]]),
    })
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    const EMPTY: [u8; 0] = [];

    /// An IPv4 packet without lengths and checksums: `fragment` is flags and offset.
    pub(crate) fn v4(src: [u8; 4], dst: [u8; 4], protocol: u8, fragment: u16, payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 0, 0, 0];
        packet.extend_from_slice(&fragment.to_be_bytes());
        packet.extend_from_slice(&[64, protocol, 0, 0]);
        packet.extend_from_slice(&src);
        packet.extend_from_slice(&dst);
        packet.extend_from_slice(payload);
        packet
    }

    fn frame(tags: &[[u8; 4]], ethertype: u16, payload: &[u8]) -> Vec<u8> {
        let mut frame = vec![2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2];
        for tag in tags {
            frame.extend_from_slice(tag);
        }
        frame.extend_from_slice(&ethertype.to_be_bytes());
        frame.extend_from_slice(payload);
        frame
    }

    #[test]
    fn up_to_two_tags_are_read_whoever_took_them_off() {
        let plain = frame(&[], ETH_IPV4, &EMPTY);
        assert_eq!(link(&plain[..], None).map(|l| (l.l3, l.tags.any())), Ok((14, false)));
        let one = frame(&[[0x81, 0, 0xe1, 5]], ETH_IPV4, &EMPTY);
        let two = frame(&[[0x88, 0xa8, 0, 7], [0x81, 0, 0xe1, 5]], ETH_IPV4, &EMPTY);
        let in_two = link(&two[..], None).expect("two tags");
        assert_eq!(in_two.l3, 22);
        assert_eq!(in_two.tags, Tags { outer: 0x88a8_0007, inner: 0x8100_0105 });
        let stripped = link(&one[..], Some((TPID_S, 7))).expect("one tag, one taken off");
        assert_eq!((stripped.l3, stripped.tags), (18, in_two.tags));
        assert_eq!(link(&two[..], Some((TPID_S, 7))), Err(LinkError::TooManyTags));
        let three = frame(&[[0x81, 0, 0, 1]; 3], ETH_IPV4, &EMPTY);
        assert_eq!(link(&three[..], None), Err(LinkError::TooManyTags));
    }

    #[test]
    fn a_tag_that_names_no_vlan_is_passed_over() {
        let priority = frame(&[[0x81, 0, 0xa0, 0]], ETH_IPV4, &EMPTY);
        let read = link(&priority[..], None).expect("a tag");
        assert_eq!((read.l3, read.ethertype, read.tags), (18, ETH_IPV4, Tags::default()));
        let both = frame(&[[0x81, 0, 0xa0, 0], [0x81, 0, 0xe1, 5]], ETH_IPV4, &EMPTY);
        let read = link(&both[..], None).expect("two tags");
        assert_eq!((read.l3, read.tags), (22, Tags { outer: 0x8100_0105, inner: 0 }));
        let stripped = link(&priority[..], Some((TPID_C, 0xa000))).expect("a tag, and one taken off");
        assert_eq!((stripped.l3, stripped.tags), (18, Tags::default()));
    }

    #[test]
    fn each_cut_is_short() {
        let two = frame(&[[0x88, 0xa8, 0, 7], [0x81, 0, 0xe1, 5]], ETH_IPV4, &EMPTY);
        for len in 0..two.len() {
            assert_eq!(link(&two[..len], None), Err(LinkError::Short), "{len} bytes");
        }
    }

    #[test]
    fn fragments_and_options_are_seen() {
        let mut header = [0u8; 24];
        header[0] = 0x46;
        let ip = ipv4(&header[..], 0).expect("a header with options");
        assert_eq!((ip.l4, ip.whole, ip.first), (24, true, true));
        header[6] = 0x20;
        let ip = ipv4(&header[..], 0).expect("a first fragment");
        assert_eq!((ip.whole, ip.first), (false, true));
        header[7] = 1;
        let ip = ipv4(&header[..], 0).expect("a later fragment");
        assert_eq!((ip.whole, ip.first), (false, false));
        header[6..8].copy_from_slice(&[0x40, 0]);
        assert!(ipv4(&header[..], 0).expect("don't fragment is no fragment").whole);
        header[0] = 0x44;
        assert_eq!(ipv4(&header[..], 0), None);
        header[0] = 0x65;
        assert_eq!(ipv4(&header[..], 0), None);
    }

    #[test]
    fn an_ipv4_address_in_an_ipv6_header_is_no_address() {
        let mut header = [0u8; 40];
        header[0] = 0x60;
        assert!(ipv6(&header[..], 0).is_some());
        for at in [8, 24] {
            let mut mapped = header;
            mapped[at + 10..at + 16].copy_from_slice(&[0xff, 0xff, 192, 0, 2, 100]);
            assert_eq!(ipv6(&mapped[..], 0), None);
            mapped[at + 9] = 1;
            assert!(ipv6(&mapped[..], 0).is_some(), "an address like any other");
        }
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..80), at in 0usize..100) {
            let _ = link(&bytes[..], None);
            let _ = ipv4(&bytes[..], at);
            let _ = ipv6(&bytes[..], at);
        }
    }
}
