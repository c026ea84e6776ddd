//! Segments without payload that nobody has sent: what the data plane says in a member's or in the client's name.

use crate::checksum;
use crate::tcp::segment::ACK;

/// A header to be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Pure {
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Window field, not scaled.
    pub window: u32,
    /// Flags.
    pub flags: u32,
    /// Whether it carries timestamps.
    pub stamped: u32,
    /// TSval and TSecr.
    pub stamps: [u32; 2],
}

impl Pure {
    /// Nothing is to be said.
    pub const NOTHING: Pure = Pure { seq: 0, ack: 0, window: 0, flags: 0, stamped: 0, stamps: [0; 2] };

    /// Whether there is something to say.
    #[inline(always)]
    #[must_use]
    pub const fn any(&self) -> bool {
        self.flags & (ACK | super::segment::RST) != 0
    }

    /// Bytes of the header.
    #[inline(always)]
    #[must_use]
    pub const fn len(&self) -> usize {
        if self.stamped != 0 { 32 } else { 20 }
    }

    /// Whether the header is empty: never.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        false
    }

    /// The header: 32 bytes, of which [`Pure::len`] count, with a checksum field of zero. `ports`: source and
    /// destination as they stand in the packet.
    #[inline(always)]
    #[must_use]
    pub fn header(&self, ports: u32) -> [u32; 8] {
        let words = if self.stamped != 0 { 8u32 } else { 5 };
        [
            ports,
            self.seq.to_be(),
            self.ack.to_be(),
            ((words << 28) | (self.flags << 16) | (self.window & 0xffff)).to_be(),
            0,
            if self.stamped != 0 { 0x0101_080au32.to_be() } else { 0 },
            if self.stamped != 0 { self.stamps[0].to_be() } else { 0 },
            if self.stamped != 0 { self.stamps[1].to_be() } else { 0 },
        ]
    }
}

/// Sum over the pseudo header (RFC 9293 section 3.1, RFC 8200 section 8.1), not folded. `words`: the addresses' sum, see
/// [`address_sum`].
#[inline(always)]
#[must_use]
pub const fn pseudo_sum(addresses: u64, tcp_len: usize) -> u64 {
    addresses + checksum::addend(tcp_len as u16) + checksum::addend(6)
}

/// Sum of an address's words for the pseudo header: the prefix of a mapped IPv4 address does not count.
#[inline(always)]
#[must_use]
pub const fn address_sum(address: crate::Address, v4: bool) -> u64 {
    let [high, low] = address.words();
    if v4 {
        checksum::sum(low & u64::from_le(0xffff_ffff_0000_0000))
    } else {
        checksum::sum(high) + checksum::sum(low)
    }
}

/// Sum of a header made by [`Pure::header`].
#[inline(always)]
#[must_use]
pub fn header_sum(header: &[u32; 8]) -> u64 {
    let h = header;
    h[0] as u64
        + h[1] as u64
        + h[2] as u64
        + h[3] as u64
        + h[4] as u64
        + h[5] as u64
        + h[6] as u64
        + h[7] as u64
}
