//! What becomes of both copies of a client's segment, decided where it arrives.
//!
//! A plan travels in front of the frame (XDP metadata), which the kernel takes along when it duplicates and redirects it. So a
//! connection is looked up once, and what is left to do on the way into a tap is to write a few fields. It is for the
//! segments that come all the time: an acknowledgement, with or without data, timestamps where they usually are or none,
//! no SACK blocks. Everything else is looked at by `to_guest` itself, copy by copy.

use crate::ABI_VERSION;
use crate::tcp::connection::{ANSWERED, Connection, Scene};
use crate::tcp::edit::{Edit, checksum_after};
use crate::tcp::segment::{ACK, CWR, RST, SHORTEST, SYN, Segment, USUAL};
use crate::tcp::to_member::{AS_IS, NOT_FOR_IT};
use crate::tcp::verdict::Verdict;

/// [`Connection::to_copy`]: nothing that could be planned.
pub const UNPLANNED: u32 = 4;

/// [`Plan::magic`] of a plan. Of this version: the program that makes plans and the one that carries them out are replaced
/// one after the other.
pub const MAGIC: u16 = 0x6800 | ABI_VERSION as u16;

/// [`Plan::how`], shifted by the slot: the copy is to be edited.
const EDITED: u8 = 1 << 0;
/// [`Plan::how`], shifted by the slot: the member does not get it.
const REFUSED: u8 = 1 << 2;
/// [`Plan::how`], shifted by the slot: it gets the flag CWR.
const REDUCED: u8 = 1 << 4;
/// [`Plan::how`]: the header has timestamps.
const STAMPED: u8 = 1 << 6;

/// Bytes from the beginning of the header to TSecr, where it usually is.
pub const ECHO: usize = USUAL as usize + 4;

/// What one member's copy says. In network byte order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Part {
    /// Acknowledgement number.
    pub ack: u32,
    /// TSecr.
    pub echo: u32,
}

/// What both say. As large as metadata may be (32 bytes, `xdp_metalen_invalid` until Linux 6.8).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Plan {
    /// The taps of both slots: whose copy a frame is, is known by where it leaves.
    pub taps: [u32; 2],
    /// [`MAGIC`], or this is no plan.
    pub magic: u16,
    /// Where in the frame the TCP header begins.
    pub l4: u8,
    /// `EDITED` and the others.
    pub how: u8,
    /// Both members' numbers.
    pub part: [Part; 2],
    /// Both members' window fields, in network byte order.
    pub window: [u16; 2],
}

const _: () = assert!(size_of::<Plan>() == 32 && ABI_VERSION <= 0xff);

/// A copy's fate, as [`Plan::fate`] says it.
pub mod fate {
    /// As it came.
    pub const AS_IS: u32 = 0;
    /// By [`super::Plan::write`].
    pub const EDITED: u32 = 1;
    /// The member does not get it.
    pub const REFUSED: u32 = 2;
}

impl Segment {
    /// Whether it is one of those that come all the time.
    #[inline(always)]
    #[must_use]
    pub const fn is_plain(&self) -> bool {
        let usual = self.stamps_at == USUAL && self.header == 32;
        let bare = self.stamps_at == 0 && self.header == SHORTEST;
        (self.flags & (SYN | RST | ACK)) == ACK && (self.sacks | self.odd) == 0 && (usual || bare)
    }
}

impl Connection {
    /// Notes a segment that [`Segment::is_plain`], as [`Connection::from_client`] does, by a clock that may be a tick of the
    /// kernel's (1 to 10 ms) behind. Whether that will do for its copies; if not, it is to be noted again.
    #[inline(always)]
    #[must_use]
    pub fn from_client_by_the_tick(&mut self, segment: &Segment, mac: [u8; 6], scene: &Scene) -> bool {
        if self.flags & ANSWERED == 0 {
            // The handshake's round trip is about to be taken.
            return false;
        }
        self.from_client_at(segment, mac, scene.now_ns);
        self.turn(scene);
        !self.begins_to_stop(scene)
    }

    /// As [`Connection::to_member`], for a plan. What is to be ended is not planned.
    #[inline(always)]
    pub fn to_copy(&mut self, slot: u32, segment: &Segment, scene: &Scene, edit: &mut Edit) -> u32 {
        self.turn(scene);
        if self.verdict == Verdict::Lost as u32 || self.is_to_be_let_go(slot, scene) {
            return UNPLANNED;
        }
        self.to_member(slot, segment, scene, edit)
    }
}

impl Plan {
    /// An empty plan for a segment that [`Segment::is_plain`]. Numbers that nobody enters mean nothing: to zero them costs as much
    /// as to enter them.
    #[inline(always)]
    pub const fn begin(&mut self, taps: [u32; 2], l4: u8, segment: &Segment) {
        self.taps = taps;
        self.magic = MAGIC;
        self.l4 = l4;
        self.how = if segment.stamps_at != 0 { STAMPED } else { 0 };
    }

    /// Enters what [`Connection::to_copy`] has decided about a member's copy.
    #[inline(always)]
    pub const fn enter(&mut self, slot: u32, how: u32, edit: &Edit, segment: &Segment) {
        let slot = slot as usize & 1;
        if how == NOT_FOR_IT {
            self.how |= REFUSED << slot;
        }
        if how == NOT_FOR_IT || how == AS_IS || !edit.changes(segment) {
            return;
        }
        self.how |= EDITED << slot;
        if edit.flags & CWR != 0 {
            self.how |= REDUCED << slot;
        }
        self.part[slot] = Part { ack: edit.ack.to_be(), echo: edit.stamps[1].to_be() };
        self.window[slot] = (edit.window as u16).to_be();
    }

    /// What becomes of a member's copy ([`fate`]).
    #[inline(always)]
    #[must_use]
    pub const fn fate(&self, slot: u32) -> u32 {
        let how = self.how >> (slot & 1);
        if how & REFUSED != 0 {
            fate::REFUSED
        } else if how & EDITED != 0 {
            fate::EDITED
        } else {
            fate::AS_IS
        }
    }

    /// Whether the header has timestamps.
    #[inline(always)]
    #[must_use]
    pub const fn is_stamped(&self) -> bool {
        self.how & STAMPED != 0
    }

    /// Makes a header say what the member's copy shall. `header`: its first 20 bytes, `echo`: TSecr where there is one, both
    /// as 16-bit words in memory order.
    #[inline(always)]
    pub fn write(&self, slot: u32, header: &mut [u16; 10], echo: Option<&mut [u16; 2]>) {
        let slot = slot as usize & 1;
        let mut diff = 0u64;
        let mut put = |field: &mut u16, value: u16| {
            // In ones' complement, taking away is adding the complement.
            diff += value as u64 + !*field as u64;
            *field = value;
        };
        let [low, high] = halves(self.part[slot].ack);
        put(&mut header[4], low);
        put(&mut header[5], high);
        const REDUCE: u16 = u16::from_ne_bytes([0, CWR as u8]);
        let reduce = if self.how & (REDUCED << slot) != 0 { REDUCE } else { 0 };
        let flags = header[6] | reduce;
        put(&mut header[6], flags);
        put(&mut header[7], self.window[slot]);
        if let Some(echo) = echo {
            let [low, high] = halves(self.part[slot].echo);
            put(&mut echo[0], low);
            put(&mut echo[1], high);
        }
        header[8] = checksum_after(header[8], diff);
    }
}

/// A word in network byte order as two of 16 bits, in memory order.
#[inline(always)]
const fn halves(word: u32) -> [u16; 2] {
    let [a, b, c, d] = word.to_ne_bytes();
    [u16::from_ne_bytes([a, b]), u16::from_ne_bytes([c, d])]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tcp::segment::{self, Header};
    use crate::tcp::to_member::EDITED as IS_EDITED;
    use proptest::prelude::*;

    fn as_words(bytes: &[u8; 64]) -> [u16; 32] {
        std::array::from_fn(|i| u16::from_ne_bytes([bytes[2 * i], bytes[2 * i + 1]]))
    }

    proptest! {
        /// A planned copy is the one that `to_guest` would make by itself, checksum and all, and nothing else changes.
        #[test]
        fn a_planned_copy_is_what_an_edit_makes(
            mut bytes: [u8; 64], stamped: bool, slot in 0u32..2, ack: u32, echo: u32, window: u16, reduce: bool,
        ) {
            let len = if stamped { 32 } else { 20 };
            bytes[12] = (len as u8 / 4) << 4;
            bytes[13] = (bytes[13] | ACK as u8) & !(SYN | RST) as u8;
            bytes[20..24].copy_from_slice(&[1, 1, 8, 10]);
            bytes[len..].fill(0);
            let mut header = Header::EMPTY;
            header.0[..64].copy_from_slice(&bytes);
            let segment = segment::read(&header, 100).expect("a header");
            prop_assert!(segment.is_plain());
            let mut edit = Edit::default();
            edit.keep(&segment);
            edit.ack = ack;
            edit.window = window.into();
            if reduce {
                edit.flags |= CWR;
            }
            if stamped {
                edit.stamps[1] = echo;
            }
            let diff = edit.apply(&mut header, &segment);
            let field = checksum_after(u16::from_ne_bytes([bytes[16], bytes[17]]), diff);
            header.0[16..18].copy_from_slice(&field.to_ne_bytes());

            let mut plan = Plan::default();
            plan.begin([5, 6], 34, &segment);
            plan.enter(slot, IS_EDITED, &edit, &segment);
            prop_assert_eq!(plan.fate(slot ^ 1), fate::AS_IS);
            let mut words = as_words(&bytes);
            if edit.changes(&segment) {
                prop_assert_eq!(plan.fate(slot), fate::EDITED);
                let (head, rest) = words.split_at_mut(10);
                let echo = rest[4..].first_chunk_mut().filter(|_| plan.is_stamped());
                plan.write(slot, head.first_chunk_mut().expect("ten"), echo);
            } else {
                prop_assert_eq!(plan.fate(slot), fate::AS_IS);
            }
            let expected = as_words(header.0.first_chunk().expect("64 bytes"));
            for (at, (found, expected)) in words.iter().zip(expected).enumerate() {
                // Zero has two representations in a checksum.
                let same = *found == expected || at == 8 && (found ^ expected) == 0xffff;
                prop_assert!(same, "half word {}: {:#x}, expected {:#x}", at, found, expected);
            }
        }
    }

    /// What another build's program would read. Who changes this changes `ABI_VERSION`.
    #[test]
    fn a_plan_is_these_bytes() {
        let segment = Segment { flags: ACK, header: 32, stamps_at: USUAL, ..Segment::default() };
        let mut plan = Plan::default();
        plan.begin([5, 6], 34, &segment);
        plan.enter(0, NOT_FOR_IT, &Edit::default(), &segment);
        let edit = Edit {
            ack: 0x0102_0304,
            stamps: [0, 0x0506_0708],
            window: 0x090a,
            flags: CWR,
            ..Edit::default()
        };
        plan.enter(1, IS_EDITED, &edit, &segment);
        assert_eq!(plan.taps, [5, 6]);
        let rest = (plan.magic, plan.l4, plan.how);
        assert_eq!((ABI_VERSION, rest), (10, (0x680a, 34, 0b0110_0110)));
        assert_eq!(
            plan.part,
            [Part::default(), Part { ack: 0x0102_0304u32.to_be(), echo: 0x0506_0708u32.to_be() }]
        );
        assert_eq!(plan.window, [0, 0x090au16.to_be()]);
        use core::mem::offset_of;
        let at =
            [offset_of!(Plan, taps), offset_of!(Plan, magic), offset_of!(Plan, l4), offset_of!(Plan, how)];
        assert_eq!((at, offset_of!(Plan, part), offset_of!(Plan, window)), ([0, 8, 10, 11], 12, 28));
    }

    #[test]
    fn what_a_member_does_not_get_it_does_not_get() {
        let mut plan = Plan::default();
        plan.begin([5, 6], 34, &Segment::default());
        plan.enter(1, NOT_FOR_IT, &Edit::default(), &Segment::default());
        assert_eq!([plan.fate(0), plan.fate(1)], [fate::AS_IS, fate::REFUSED]);
        assert!(!plan.is_stamped());
    }

    #[test]
    fn only_what_comes_all_the_time_is_plain() {
        let plain = Segment { flags: ACK, header: 32, stamps_at: USUAL, ..Segment::default() };
        assert!(plain.is_plain());
        assert!(Segment { header: 20, stamps_at: 0, ..plain }.is_plain());
        for odd in [
            Segment { flags: ACK | RST, ..plain },
            Segment { flags: SYN, ..plain },
            Segment { sacks: 1, header: 44, ..plain },
            Segment { odd: segment::SIGNED, ..plain },
            Segment { stamps_at: 22, ..plain },
            Segment { header: 24, stamps_at: 0, ..plain },
        ] {
            assert!(!odd.is_plain(), "{odd:?}");
        }
    }
}
