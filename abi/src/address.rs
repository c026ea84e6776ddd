//! Addresses that are the same in every guest, and the map key that holds an IPv4 or an IPv6 address.

/// A member's own internal address, as it sees itself.
pub const ME_V4: [u8; 4] = [169, 254, 77, 1];
/// The other member, as each member sees it.
pub const PEER_V4: [u8; 4] = [169, 254, 77, 2];
/// The host a member runs on, and its default gateway.
pub const HOST_V4: [u8; 4] = [169, 254, 77, 3];

/// `fe80::77:1`, the IPv6 counterpart of [`ME_V4`].
pub const ME_V6: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x77, 0, 1];
/// `fe80::77:2`, the IPv6 counterpart of [`PEER_V4`].
pub const PEER_V6: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x77, 0, 2];
/// `fe80::77:3`, the IPv6 counterpart of [`HOST_V4`]; also the tap's own address on the host.
pub const HOST_V6: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x77, 0, 3];

/// The MAC behind every address that is not the guest's own: the tap's MAC on every host, so that a replaced or cloned
/// guest finds its gateway unchanged. Locally administered.
pub const GATEWAY_MAC: [u8; 6] = [0x02, 0x68, 0x70, 0x77, 0x00, 0x03];

/// First three bytes of a derived pair MAC (locally administered).
pub const PAIR_MAC_PREFIX: [u8; 3] = [0x02, 0x68, 0x70];

/// The 16-byte map key of an IPv4 address: `::ffff:a.b.c.d`.
#[inline(always)]
#[must_use]
pub const fn address_key(v4: [u8; 4]) -> [u8; 16] {
    [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, v4[0], v4[1], v4[2], v4[3]]
}

/// An address while it is worked with: the 16 bytes of a map key as two words in memory order, so that comparing and
/// copying one costs two instructions and no stack.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(C)]
pub struct Address([u64; 2]);

impl Address {
    /// `::`
    pub const UNSPECIFIED: Address = Address([0; 2]);

    /// The address with these 16 bytes.
    #[inline(always)]
    #[must_use]
    pub const fn new(key: [u8; 16]) -> Address {
        let k = key;
        Address([
            u64::from_ne_bytes([k[0], k[1], k[2], k[3], k[4], k[5], k[6], k[7]]),
            u64::from_ne_bytes([k[8], k[9], k[10], k[11], k[12], k[13], k[14], k[15]]),
        ])
    }

    /// An IPv4 address.
    #[inline(always)]
    #[must_use]
    pub const fn v4(v4: [u8; 4]) -> Address {
        Address::new(address_key(v4))
    }

    /// An IPv4 address whose first byte is the lowest.
    #[inline(always)]
    #[must_use]
    pub const fn v4_word(v4: u32) -> Address {
        Address([0, u64::from_le(((v4 as u64) << 32) | 0xffff_0000)])
    }

    /// Whether it is an IPv4 address.
    #[inline(always)]
    #[must_use]
    pub const fn is_v4(self) -> bool {
        let [high, low] = self.0;
        high == 0 && low & u64::from_le(0xffff_ffff) == u64::from_le(0xffff_0000)
    }

    /// The address with these [`Address::words`].
    #[inline(always)]
    #[must_use]
    pub const fn of_words(words: [u64; 2]) -> Address {
        Address(words)
    }

    /// Its 16 bytes as two words in memory order.
    #[inline(always)]
    #[must_use]
    pub const fn words(self) -> [u64; 2] {
        self.0
    }

    /// Its 16 bytes.
    #[inline(always)]
    #[must_use]
    pub const fn bytes(self) -> [u8; 16] {
        let a = self.0[0].to_ne_bytes();
        let b = self.0[1].to_ne_bytes();
        [a[0], a[1], a[2], a[3], a[4], a[5], a[6], a[7], b[0], b[1], b[2], b[3], b[4], b[5], b[6], b[7]]
    }

    /// Whether it is an IPv6 multicast address, or an IPv4 multicast or limited broadcast address.
    #[inline(always)]
    #[must_use]
    pub const fn is_multicast(self, v4: bool) -> bool {
        if v4 { self.0[1].to_ne_bytes()[4] >= 224 } else { self.0[0].to_ne_bytes()[0] == 0xff }
    }

    /// Whether it is an IPv4 address in a map key's clothes (`::ffff:a.b.c.d`). In an IPv6 header there is none (RFC 4291
    /// section 2.5.5.2): taken for the IPv4 address, it would be steered, answered for and let out as that one.
    #[inline(always)]
    #[must_use]
    pub const fn is_mapped(self) -> bool {
        self.0[0] == 0 && self.0[1] & u64::from_le(0xffff_ffff) == u64::from_le(0xffff_0000)
    }

    /// Whether it is `::`.
    #[inline(always)]
    #[must_use]
    pub const fn is_unspecified(self) -> bool {
        self.0[0] | self.0[1] == 0
    }
}

/// A MAC while it is worked with: its six bytes in one word, the first in the lowest byte.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[repr(transparent)]
pub struct Mac(u64);

impl Mac {
    /// The MAC with these bytes.
    #[inline(always)]
    #[must_use]
    pub const fn new(m: [u8; 6]) -> Mac {
        Mac(u64::from_le_bytes([m[0], m[1], m[2], m[3], m[4], m[5], 0, 0]))
    }

    /// Its bytes.
    #[inline(always)]
    #[must_use]
    pub const fn bytes(self) -> [u8; 6] {
        let m = self.0.to_le_bytes();
        [m[0], m[1], m[2], m[3], m[4], m[5]]
    }

    /// Its bytes in pairs, each pair's first byte in the lower half.
    #[inline(always)]
    #[must_use]
    pub const fn pairs(self) -> [u16; 3] {
        [self.0 as u16, (self.0 >> 16) as u16, (self.0 >> 32) as u16]
    }

    /// Whether it is a group address (multicast or broadcast).
    #[inline(always)]
    #[must_use]
    pub const fn is_group(self) -> bool {
        self.0 & 1 != 0
    }
}

/// Whether a map key holds an IPv4 address.
#[must_use]
pub fn is_v4_key(key: &[u8; 16]) -> bool {
    key[..12] == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]
}
