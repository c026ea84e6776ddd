//! The Internet checksum (RFC 1071), eight bytes at a time.
//!
//! All words are in memory order. The sum does not mind: swapping the bytes of every 16-bit word swaps the bytes of the
//! result (RFC 1071 section 2 B), so what is summed in memory order is stored in memory order.

/// Sum of the four 16-bit words of eight bytes, not folded.
#[inline(always)]
#[must_use]
pub const fn sum(word: u64) -> u64 {
    (word & 0xffff) + ((word >> 16) & 0xffff) + ((word >> 32) & 0xffff) + (word >> 48)
}

/// A number that stands in a packet in network byte order, as an addend.
#[inline(always)]
#[must_use]
pub const fn addend(number: u16) -> u64 {
    number.to_be() as u64
}

/// Folds a sum into 16 bits, in memory order.
#[inline(always)]
#[must_use]
pub const fn fold(sum: u64) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    ((sum & 0xffff) + (sum >> 16)) as u16
}

/// Folds a large sum into 16 bits, in memory order.
#[inline(always)]
#[must_use]
pub const fn fold64(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    let sum = (sum & 0xffff) + ((sum >> 16) & 0xffff) + (sum >> 32);
    fold(sum)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_of_rfc_1071_is_right() {
        let word = u64::from_ne_bytes([0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7]);
        assert_eq!(fold(sum(word)).to_ne_bytes(), [0xdd, 0xf2]);
    }

    #[test]
    fn a_number_counts_as_it_stands_in_the_packet() {
        assert_eq!(fold(addend(0x1234)).to_ne_bytes(), [0x12, 0x34]);
    }

    #[test]
    fn folding_carries_twice() {
        assert_eq!(fold(0x1_ffff), 1);
        assert_eq!(fold(0xffff_ffff), 0xffff);
    }
}
