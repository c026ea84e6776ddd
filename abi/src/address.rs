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

/// Whether a map key holds an IPv4 address.
#[must_use]
pub fn is_v4_key(key: &[u8; 16]) -> bool {
    key[..12] == [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff]
}
