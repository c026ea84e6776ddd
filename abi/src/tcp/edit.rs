//! Changing a header in place, every field at once, so that there is one way to get its checksum right.

use crate::checksum;
use crate::tcp::segment::{Header, Segment};

/// SACK blocks stay as they are.
pub const SACK_KEEP: u32 = 0;
/// [`Edit::sack_add`] is added to the edges of the SACK blocks.
pub const SACK_ADD: u32 = 1;
/// The SACK option becomes NOPs.
pub const SACK_DROP: u32 = 2;

/// What a header is to say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Edit {
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number.
    pub ack: u32,
    /// Window field.
    pub window: u32,
    /// Flags.
    pub flags: u32,
    /// TSval and TSecr, where the header has them.
    pub stamps: [u32; 2],
    /// [`SACK_KEEP`], [`SACK_ADD`] or [`SACK_DROP`].
    pub sack: u32,
    /// What is added to the edges of SACK blocks.
    pub sack_add: u32,
}

impl Edit {
    /// What the segment says already.
    #[inline(always)]
    pub const fn keep(&mut self, segment: &Segment) {
        self.seq = segment.seq;
        self.ack = segment.ack;
        self.window = segment.window;
        self.flags = segment.flags;
        self.stamps = segment.stamps;
        self.sack = SACK_KEEP;
        self.sack_add = 0;
    }

    /// Whether applying it would change nothing.
    #[inline(always)]
    #[must_use]
    pub const fn changes(&self, segment: &Segment) -> bool {
        (self.seq ^ segment.seq)
            | (self.ack ^ segment.ack)
            | (self.window ^ segment.window)
            | (self.flags ^ segment.flags)
            | (self.stamps[0] ^ segment.stamps[0])
            | (self.stamps[1] ^ segment.stamps[1])
            | self.sack
            != 0
    }

    /// Writes it into the header, but for the checksum. Returns what the words that changed add to the sum of the
    /// header, not folded, in memory order.
    #[inline(always)]
    pub fn apply(&self, header: &mut Header, segment: &Segment) -> u64 {
        let before = header.sum();
        header.put_word(4, self.seq);
        header.put_word(8, self.ack);
        header.put_byte(13, self.flags);
        header.put_half(14, self.window);
        if segment.stamps_at != 0 {
            let both = ((self.stamps[0] as u64) << 32) | self.stamps[1] as u64;
            header.put(segment.stamps_at, both.to_be_bytes());
        }
        if self.sack != SACK_KEEP && segment.sacks != 0 {
            self.sack_block(header, segment, 0);
            self.sack_block(header, segment, 1);
            self.sack_block(header, segment, 2);
            self.sack_block(header, segment, 3);
            if self.sack == SACK_DROP {
                header.put(segment.sack_at - 2, [1, 1]);
            }
        }
        let after = header.sum();
        // In ones' complement, taking away is adding the complement.
        after + !checksum::fold64(before) as u64
    }

    #[inline(always)]
    fn sack_block(&self, header: &mut Header, segment: &Segment, block: u32) {
        if block >= segment.sacks {
            return;
        }
        let at = segment.sack_at + 8 * block;
        if self.sack == SACK_ADD {
            let [left, right] = header.pair(at, 0);
            let (left, right) = (left.wrapping_add(self.sack_add), right.wrapping_add(self.sack_add));
            header.put(at, (((left as u64) << 32) | right as u64).to_be_bytes());
        } else {
            header.put(at, NOPS);
        }
    }
}

const NOPS: [u8; 8] = [1; 8];

/// A checksum field, in memory order, after the sum of what it covers has grown by `diff`.
#[inline(always)]
#[must_use]
pub fn checksum_after(field: u16, diff: u64) -> u16 {
    !checksum::fold64(!field as u64 + diff)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcp::segment;
    use proptest::prelude::*;

    /// Checksum over header and payload, the slow way.
    fn full(header: &[u8; 64], rest: u64) -> u16 {
        let sum = header.chunks(2).map(|w| u64::from(u16::from_ne_bytes([w[0], w[1]]))).sum::<u64>() + rest;
        !checksum::fold64(sum)
    }

    proptest! {
        /// Whatever is edited, whatever else is covered, wherever the options lie: the checksum stays right.
        #[test]
        fn every_checksum_stays_right(
            mut bytes: [u8; 64], words in 5u8..16, rest in 0u64..1 << 40, edit: [u32; 6], sack in 0u32..3, add: u32,
            options in 0usize..4,
        ) {
            bytes[12] = words << 4;
            let end = words as usize * 4;
            let put = |bytes: &mut [u8; 64], at: usize, option: &[u8]| {
                if at + option[1] as usize <= end {
                    bytes[20..at].fill(1);
                    bytes[at..at + option.len()].copy_from_slice(option);
                }
            };
            match options {
                1 => put(&mut bytes, 21, &[8, 10]),
                2 => put(&mut bytes, 23, &[5, 10]),
                3 => put(&mut bytes, 20, &[5, 26]),
                _ => {}
            }
            bytes[end..].fill(0);
            bytes[16..18].fill(0);
            let sum = full(&bytes, rest);
            bytes[16..18].copy_from_slice(&sum.to_ne_bytes());
            let mut header = Header::EMPTY;
            header.0[..64].copy_from_slice(&bytes);
            let segment = segment::read(&header, 2000).expect("a header");
            let [seq, ack, window, flags, val, ecr] = edit;
            let edit = Edit { seq, ack, window: window & 0xffff, flags: flags & 0xff, stamps: [val, ecr], sack, sack_add: add };
            let diff = edit.apply(&mut header, &segment);
            let field = checksum_after(sum, diff);
            let mut without: [u8; 64] = *header.0.first_chunk().expect("128 bytes");
            without[16..18].fill(0);
            let expected = full(&without, rest);
            // Zero has two representations.
            prop_assert!(field == expected || (field ^ expected) == 0xffff && (field == 0 || expected == 0));
            // Nothing outside the fields has changed.
            prop_assert_eq!(&header.0[..4], &bytes[..4]);
            prop_assert_eq!(header.0[12], bytes[12]);
            prop_assert_eq!(&header.0[16..20], &bytes[16..20]);
            prop_assert!(header.0[end..64].iter().all(|b| *b == 0));
        }

        #[test]
        fn translating_there_and_back_is_the_identity(
            mut bytes: [u8; 64], offset: u32, stamp_offset: u32,
        ) {
            bytes[12] = 0xf0;
            bytes[20..26].copy_from_slice(&[1, 8, 10, 5, 10, 9]);
            bytes[20..32].copy_from_slice(&[1, 1, 8, 10, 1, 2, 3, 4, 5, 6, 7, 8]);
            bytes[32..36].copy_from_slice(&[1, 1, 5, 18]);
            bytes[60..].fill(0);
            let mut original = Header::EMPTY;
            original.0[..64].copy_from_slice(&bytes);
            let mut header = original;
            for sign in [1u32, u32::MAX] {
                let segment = segment::read(&header, 60).expect("a header");
                let mut edit = Edit::default();
                edit.keep(&segment);
                edit.ack = segment.ack.wrapping_add(offset.wrapping_mul(sign));
                edit.stamps[1] = segment.stamps[1].wrapping_add(stamp_offset.wrapping_mul(sign));
                edit.sack = SACK_ADD;
                edit.sack_add = offset.wrapping_mul(sign);
                edit.apply(&mut header, &segment);
            }
            prop_assert_eq!(header, original);
        }
    }
}
