//! The role word: who may speak for a pair, in one aligned u64.
//!
//! The controller writes it with a single atomic store; every program reads it once per packet. Nothing else changes
//! at a failover.
//!
//! ```text
//! bit  0      active slot
//! bit  1      held: this host answers for the pair's entry addresses
//! bit  2      paused: the kernel's own latch is off
//! bit  3      handover: a planned switchover drains (see `handover` below)
//! bit  4, 5   muted: nothing of slot 0 / slot 1 goes anywhere
//! bit  6      mirror: both members receive every packet
//! bit  7      protect: a standby is in service, TCP connections are kept fit for it
//! bit  8      gate: what a client sees acknowledged, the standby has too
//! bits 16-63  epoch
//! ```

use crate::ids::{Epoch, Slot};

const ACTIVE: u64 = 1 << 0;
const HELD: u64 = 1 << 1;
const PAUSED: u64 = 1 << 2;
const HANDOVER: u64 = 1 << 3;
const MUTED: u64 = 1 << 4;
const MIRROR: u64 = 1 << 6;
const PROTECT: u64 = 1 << 7;
const GATE: u64 = 1 << 8;
const EPOCH_SHIFT: u32 = 16;
const FLAGS: u64 = (1 << EPOCH_SHIFT) - 1;

/// So long a planned switchover may drain, nanoseconds: the longest `handover` of the configuration, and a second for the
/// controller.
pub const HANDOVER_LIMIT_NS: u64 = 2_000_000_000;

/// See the module's drawing. The all-zero word is a pair that is not held: nothing is steered, nothing leaves.
#[derive(Clone, Copy, PartialEq, Eq, Default, Hash)]
#[repr(transparent)]
pub struct RoleWord(pub u64);

impl RoleWord {
    /// A word with this epoch and active slot and no flag set.
    #[inline(always)]
    #[must_use]
    pub const fn new(epoch: Epoch, active: Slot) -> Self {
        RoleWord((epoch.0 << EPOCH_SHIFT) | active as u64)
    }

    #[inline(always)]
    const fn with(self, bit: u64, on: bool) -> Self {
        if on { RoleWord(self.0 | bit) } else { RoleWord(self.0 & !bit) }
    }

    #[inline(always)]
    const fn has(self, bit: u64) -> bool {
        self.0 & bit != 0
    }

    /// The epoch.
    #[inline(always)]
    #[must_use]
    pub const fn epoch(self) -> Epoch {
        Epoch(self.0 >> EPOCH_SHIFT)
    }

    /// The same flags under another epoch.
    #[inline(always)]
    #[must_use]
    pub const fn with_epoch(self, epoch: Epoch) -> Self {
        RoleWord((self.0 & FLAGS) | (epoch.0 << EPOCH_SHIFT))
    }

    /// The slot whose answers leave. During a handover: the slot that still answers what it was asked before.
    #[inline(always)]
    #[must_use]
    pub const fn active(self) -> Slot {
        Slot::from_bit(self.0)
    }

    /// Sets the active slot.
    #[inline(always)]
    #[must_use]
    pub const fn with_active(self, slot: Slot) -> Self {
        RoleWord((self.0 & !ACTIVE) | slot as u64)
    }

    /// Whether this host answers for the pair's entry addresses.
    #[inline(always)]
    #[must_use]
    pub const fn held(self) -> bool {
        self.has(HELD)
    }

    /// Sets whether this host answers for the pair's entry addresses.
    #[inline(always)]
    #[must_use]
    pub const fn with_held(self, on: bool) -> Self {
        self.with(HELD, on)
    }

    /// Whether the kernel's own latch is off.
    #[inline(always)]
    #[must_use]
    pub const fn paused(self) -> bool {
        self.has(PAUSED)
    }

    /// Sets whether the kernel's own latch is off.
    #[inline(always)]
    #[must_use]
    pub const fn with_paused(self, on: bool) -> Self {
        self.with(PAUSED, on)
    }

    /// Whether a planned switchover drains: what begins from now on (a TCP connection's SYN, a datagram, an ICMP echo)
    /// belongs to the other slot as soon as neither owes its conversation an answer ([`crate::handover`]), until then to
    /// the active slot. So each answer leaves exactly once. Begin it under a new epoch: what an older one recorded is
    /// ignored.
    #[inline(always)]
    #[must_use]
    pub const fn handover(self) -> bool {
        self.has(HANDOVER)
    }

    /// The word as it is to be acted upon: a handover that nobody has ended in time is none, the old primary serves on. Its
    /// controller is dead, and nobody else takes that bit back, which keeps the latch and the gate's watchdog off. The clock
    /// is only asked during a handover.
    #[inline(always)]
    #[must_use]
    pub fn in_force(self, handover_until_ns: u64, now_ns: impl FnOnce() -> u64) -> Self {
        if self.handover() && now_ns() > handover_until_ns { self.with_handover(false) } else { self }
    }

    /// Sets whether a planned switchover drains.
    #[inline(always)]
    #[must_use]
    pub const fn with_handover(self, on: bool) -> Self {
        self.with(HANDOVER, on)
    }

    /// Whether nothing of this slot may go anywhere (the first step of a fence).
    #[inline(always)]
    #[must_use]
    pub const fn muted(self, slot: Slot) -> bool {
        self.has(MUTED << slot as u32)
    }

    /// Whether either slot is muted.
    #[inline(always)]
    #[must_use]
    pub const fn any_muted(self) -> bool {
        self.has(MUTED) || self.has(MUTED << 1)
    }

    /// Mutes or unmutes a slot.
    #[inline(always)]
    #[must_use]
    pub const fn with_muted(self, slot: Slot, on: bool) -> Self {
        self.with(MUTED << slot as u32, on)
    }

    /// Whether both members receive every packet; otherwise only the active one does.
    #[inline(always)]
    #[must_use]
    pub const fn mirror(self) -> bool {
        self.has(MIRROR)
    }

    /// Sets whether both members receive every packet.
    #[inline(always)]
    #[must_use]
    pub const fn with_mirror(self, on: bool) -> Self {
        self.with(MIRROR, on)
    }

    /// Whether a standby is in service, for which TCP connections are kept fit.
    #[inline(always)]
    #[must_use]
    pub const fn protect(self) -> bool {
        self.has(PROTECT)
    }

    /// Sets whether a standby is in service.
    #[inline(always)]
    #[must_use]
    pub const fn with_protect(self, on: bool) -> Self {
        self.with(PROTECT, on)
    }

    /// Whether acknowledgements wait for the standby.
    #[inline(always)]
    #[must_use]
    pub const fn gate(self) -> bool {
        self.has(GATE)
    }

    /// Sets whether acknowledgements wait for the standby.
    #[inline(always)]
    #[must_use]
    pub const fn with_gate(self, on: bool) -> Self {
        self.with(GATE, on)
    }
}

impl core::fmt::Debug for RoleWord {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("RoleWord")
            .field("epoch", &self.epoch().0)
            .field("active", &self.active())
            .field("held", &self.held())
            .field("paused", &self.paused())
            .field("handover", &self.handover())
            .field("muted", &[self.muted(Slot::Zero), self.muted(Slot::One)])
            .field("mirror", &self.mirror())
            .field("protect", &self.protect())
            .field("gate", &self.gate())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_handover_that_nobody_ends_is_none_after_its_time() {
        let word = RoleWord::new(Epoch(3), Slot::One).with_held(true).with_gate(true);
        assert_eq!(word.in_force(0, || unreachable!("no handover, no clock")), word);
        assert_eq!(word.with_handover(true).in_force(10, || 10), word.with_handover(true));
        assert_eq!(word.with_handover(true).in_force(10, || 11), word);
    }

    proptest! {
        #[test]
        fn every_field_keeps_to_itself(
            epoch in 0..=Epoch::MAX.0, active: bool, held: bool, paused: bool, handover: bool,
            muted: [bool; 2], mirror: bool, protect: bool, gate: bool,
        ) {
            let slot = Slot::from_bit(u64::from(active));
            let word = RoleWord::new(Epoch(3), slot.other())
                .with_gate(gate)
                .with_protect(protect)
                .with_mirror(mirror)
                .with_muted(Slot::One, muted[1])
                .with_muted(Slot::Zero, muted[0])
                .with_handover(handover)
                .with_paused(paused)
                .with_held(held)
                .with_active(slot)
                .with_epoch(Epoch(epoch));
            prop_assert_eq!(word.epoch(), Epoch(epoch));
            prop_assert_eq!(word.active(), slot);
            prop_assert_eq!(word.held(), held);
            prop_assert_eq!(word.paused(), paused);
            prop_assert_eq!(word.handover(), handover);
            prop_assert_eq!([word.muted(Slot::Zero), word.muted(Slot::One)], muted);
            prop_assert_eq!(word.mirror(), mirror);
            prop_assert_eq!((word.protect(), word.gate()), (protect, gate));
        }
    }
}
