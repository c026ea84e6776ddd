//! Sequence numbers: they wrap, so that "later" means "at most 2^31 ahead" (RFC 9293 section 3.4).

/// Whether `a` comes after `b`.
#[inline(always)]
#[must_use]
pub const fn after(a: u32, b: u32) -> bool {
    a.wrapping_sub(b) as i32 > 0
}

/// The later of two.
#[inline(always)]
#[must_use]
pub const fn later(a: u32, b: u32) -> u32 {
    if after(a, b) { a } else { b }
}

/// The earlier of two.
#[inline(always)]
#[must_use]
pub const fn earlier(a: u32, b: u32) -> u32 {
    if after(a, b) { b } else { a }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn order_survives_the_wrap(base: u32, ahead in 1u32..0x8000_0000) {
            let further = base.wrapping_add(ahead);
            prop_assert!(after(further, base) && !after(base, further) && !after(base, base));
            prop_assert_eq!((later(base, further), earlier(base, further)), (further, base));
        }
    }
}
