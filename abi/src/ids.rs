//! Numbers that mean something, as types.

/// Index of a pair in `PAIRS`, and so in every per-pair array. Stable for as long as the data plane is pinned.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(transparent)]
pub struct PairId(pub u32);

/// One of the two places of a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Slot {
    /// Slot 0.
    Zero = 0,
    /// Slot 1.
    One = 1,
}

impl Slot {
    /// Both slots, in order.
    pub const BOTH: [Slot; 2] = [Slot::Zero, Slot::One];

    /// The slot whose lowest bit is `bit`'s lowest bit.
    #[inline(always)]
    #[must_use]
    pub const fn from_bit(bit: u64) -> Slot {
        if bit & 1 == 0 { Slot::Zero } else { Slot::One }
    }

    /// The other place of the pair.
    #[inline(always)]
    #[must_use]
    pub const fn other(self) -> Slot {
        match self {
            Slot::Zero => Slot::One,
            Slot::One => Slot::Zero,
        }
    }

    /// 0 or 1.
    #[inline(always)]
    #[must_use]
    pub const fn index(self) -> usize {
        self as usize
    }
}

impl core::fmt::Display for Slot {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Slot::Zero => "0",
            Slot::One => "1",
        })
    }
}

/// Index of a member in `MEMBERS`: pair * 2 + slot.
#[inline(always)]
#[must_use]
pub const fn member_index(pair: PairId, slot: Slot) -> u32 {
    pair.0 * 2 + slot as u32
}

/// A number that rises with every change of role or holder. 48 bits: at one change a microsecond it lasts nine years.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
#[repr(transparent)]
pub struct Epoch(pub u64);

impl Epoch {
    /// Highest epoch that fits into the role word.
    pub const MAX: Epoch = Epoch((1 << 48) - 1);

    /// The epoch after this one.
    #[must_use]
    pub const fn next(self) -> Epoch {
        Epoch(self.0 + 1)
    }
}

impl core::fmt::Display for Epoch {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        write!(f, "{}", self.0)
    }
}
