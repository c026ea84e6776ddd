//! `INDEX`: what `ENTRIES` says, laid out so that whose an address is, or that it is nobody's, is seen by one look at one row. A
//! hash map of the kernel's takes some 25 ns for that, which is a third of everything that is done about a packet.
//!
//! The controller writes it only while no program reads it: before `ENTRIES` changes, `HOST` says that it is not to be read, and all
//! programs that did not know have ended. While it is not to be read, and where a row cannot say, `ENTRIES` is asked.

use crate::address::Address;

/// [`Row::kind`]: no entry address belongs here.
pub const NOBODY: u32 = 0;
/// [`Row::kind`]: one does.
pub const ONE: u32 = 1;
/// [`Row::kind`]: several do; ask `ENTRIES`.
pub const SEVERAL: u32 = 2;

/// A row of `INDEX`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Row {
    /// The address, as a map key.
    pub address: Address,
    /// The pair that it belongs to.
    pub pair: u32,
    /// [`NOBODY`], [`ONE`], [`SEVERAL`].
    pub kind: u32,
    /// Zero. No row lies in two cache lines.
    pub pad: [u8; 8],
}

const _: () = assert!(size_of::<Row>() == 32);

/// What a row says about an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Says {
    /// It is this pair's.
    Pair(u32),
    /// It is nobody's.
    Nobody,
    /// `ENTRIES` knows.
    Ask,
}

/// How many rows there are for at most so many addresses: a power of two.
#[must_use]
pub const fn rows(addresses: u32) -> u32 {
    if addresses < 2 { 2 } else { addresses.next_power_of_two() }
}

/// How addresses are spread over the rows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Spread {
    /// The number of rows, less one; 0 while `INDEX` is not to be read.
    pub mask: u32,
    /// Zero.
    pub pad: u32,
    /// An odd number.
    pub factor: u64,
}

impl Spread {
    /// One of many, for so many rows.
    #[must_use]
    pub const fn new(rows: u32, number: u64) -> Spread {
        // 2^64 over the golden ratio: its multiples are far from each other.
        let factor = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        Spread { mask: rows - 1, pad: 0, factor }
    }
}

/// Where an address belongs.
#[inline(always)]
#[must_use]
pub const fn place(address: Address, spread: &Spread) -> u32 {
    let [high, low] = address.words();
    let folded = high ^ low;
    // Multiplicative hashing (Knuth, The Art of Computer Programming, volume 3, section 6.4). The middle of a product depends on
    // the lower half of its factors, so the upper half goes there first.
    let mixed = (folded ^ (folded >> 32)).wrapping_mul(spread.factor);
    (mixed >> 32) as u32 & spread.mask
}

/// An index of these addresses, no two of which are the same. `rows`: a power of two, at least 2.
#[cfg(any(test, feature = "user"))]
#[must_use]
pub fn build(entries: &[(Address, u32)], rows: u32) -> (Spread, Vec<Row>) {
    /// Of so many, the one that has the fewest addresses share a row.
    const TRIED: u64 = 32;
    let mut best: Option<(usize, Spread, Vec<Row>)> = None;
    for number in 0..TRIED {
        let spread = Spread::new(rows, number);
        let mut index = vec![Row::default(); rows as usize];
        for (address, pair) in entries {
            index[place(*address, &spread) as usize].enter(*address, *pair);
        }
        let shared = index.iter().filter(|row| row.kind == SEVERAL).count();
        if best.as_ref().is_none_or(|(least, ..)| shared < *least) {
            best = Some((shared, spread, index));
        }
        if shared == 0 {
            break;
        }
    }
    best.map(|(_, spread, index)| (spread, index)).unwrap_or_default()
}

impl Row {
    /// Enters an address that belongs into this row.
    pub fn enter(&mut self, address: Address, pair: u32) {
        *self = match self.kind {
            NOBODY => Row { address, pair, kind: ONE, pad: [0; 8] },
            _ => Row { kind: SEVERAL, ..Row::default() },
        };
    }

    /// What it says about an address that belongs into it.
    #[inline(always)]
    #[must_use]
    pub fn says(&self, address: Address) -> Says {
        if self.kind == SEVERAL {
            return Says::Ask;
        }
        if self.kind == ONE && self.address == address { Says::Pair(self.pair) } else { Says::Nobody }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn address() -> impl Strategy<Value = Address> {
        // Close together, so that rows are shared and neighbours are asked for.
        prop_oneof![
            any::<[u8; 2]>().prop_map(|[x, y]| Address::v4([10, 0, x & 3, y])),
            any::<u8>().prop_map(|x| Address::new([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, x])),
            any::<[u8; 16]>().prop_map(Address::new),
        ]
    }

    proptest! {
        #[test]
        fn what_a_row_says_is_what_the_entries_say(
            entries in proptest::collection::hash_map(address(), any::<u32>(), 0..200),
            asked in proptest::collection::vec(address(), 1..200),
            power in 1u32..10,
        ) {
            let owned: Vec<_> = entries.iter().map(|(address, pair)| (*address, *pair)).collect();
            let (spread, index) = build(&owned, 1 << power);
            for address in asked.iter().chain(entries.keys()) {
                match index[place(*address, &spread) as usize].says(*address) {
                    Says::Pair(pair) => prop_assert_eq!(entries.get(address), Some(&pair)),
                    Says::Nobody => prop_assert_eq!(entries.get(address), None),
                    Says::Ask => {}
                }
            }
        }
    }

    #[test]
    fn addresses_that_follow_each_other_rarely_share_a_row() {
        let v6 = |x: u16| {
            let [x, y] = x.to_be_bytes();
            Address::new([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, x, y])
        };
        let v4 = |x: u16| Address::v4([192, 0, x.to_be_bytes()[0], x.to_be_bytes()[1]]);
        // As many as a full table of pairs with an address of each family has.
        for (pairs, shared_at_most) in [(1u16, 0), (4, 0), (64, 16), (1000, 200), (10_000, 2000)] {
            let entries: Vec<_> =
                (0..pairs).flat_map(|x| [(v4(x), u32::from(x)), (v6(x), u32::from(x))]).collect();
            let (spread, index) = build(&entries, rows(u32::from(pairs) * 16));
            let asks = |(address, _): &&(Address, u32)| {
                index[place(*address, &spread) as usize].says(*address) == Says::Ask
            };
            let shared = entries.iter().filter(asks).count();
            assert!(shared <= shared_at_most, "{shared} of {}", entries.len());
        }
    }
}
