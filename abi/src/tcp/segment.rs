//! Reading a TCP header (RFC 9293 section 3.1) and whichever options it has, in whichever order.

use crate::count::Counter;
use crate::packet::Bytes;

/// FIN
pub const FIN: u32 = 0x01;
/// SYN
pub const SYN: u32 = 0x02;
/// RST
pub const RST: u32 = 0x04;
/// PSH
pub const PSH: u32 = 0x08;
/// ACK
pub const ACK: u32 = 0x10;
/// ECE (RFC 3168)
pub const ECE: u32 = 0x40;
/// CWR (RFC 3168)
pub const CWR: u32 = 0x80;

/// Shortest header, bytes.
pub const SHORTEST: u32 = 20;

/// A TCP header's bytes as in the packet, zero behind its end up to 64. The rest is never looked at: it is there so that
/// any option's fields lie inside, wherever the option begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct Header(pub [u8; 128]);

impl Header {
    /// No header.
    pub const EMPTY: Header = Header([0; 128]);

    /// The bytes that begin at `at`, which is taken modulo 64: the verifier wants to see a bound, and no header goes
    /// beyond it.
    #[inline(always)]
    const fn at<const N: usize>(&self, at: u32) -> [u8; N] {
        const { assert!(N <= 64) };
        // SAFETY: 63 + 64 bytes are inside.
        unsafe { *self.0.as_ptr().add(at as usize & 63).cast() }
    }

    /// Where the byte at `at` is; 64 more lie behind it.
    #[inline(always)]
    #[must_use]
    pub const fn from(&self, at: u32) -> *const u8 {
        // SAFETY: 63 is inside.
        unsafe { self.0.as_ptr().add(at as usize & 63) }
    }

    /// A byte.
    #[inline(always)]
    #[must_use]
    pub const fn byte(&self, at: u32) -> u32 {
        let [byte] = self.at(at);
        byte as u32
    }

    /// Two bytes in network byte order.
    #[inline(always)]
    #[must_use]
    pub const fn half(&self, at: u32) -> u32 {
        u16::from_be_bytes(self.at(at)) as u32
    }

    /// Four bytes in network byte order.
    #[inline(always)]
    #[must_use]
    pub const fn word(&self, at: u32) -> u32 {
        u32::from_be_bytes(self.at(at))
    }

    /// Two words in network byte order, `behind` bytes behind `at`.
    #[inline(always)]
    #[must_use]
    pub const fn pair(&self, at: u32, behind: usize) -> [u32; 2] {
        let bytes: [u8; 40] = self.at(at);
        let b = behind;
        [
            u32::from_be_bytes([bytes[b], bytes[b + 1], bytes[b + 2], bytes[b + 3]]),
            u32::from_be_bytes([bytes[b + 4], bytes[b + 5], bytes[b + 6], bytes[b + 7]]),
        ]
    }

    /// Overwrites bytes.
    #[inline(always)]
    pub const fn put<const N: usize>(&mut self, at: u32, bytes: [u8; N]) {
        const { assert!(N <= 64) };
        // SAFETY: 63 + 64 bytes are inside.
        unsafe { *self.0.as_mut_ptr().add(at as usize & 63).cast() = bytes };
    }

    /// Zeroes the first 64 bytes.
    #[inline(always)]
    pub fn clear(&mut self) {
        let words: *mut u64 = self.0.as_mut_ptr().cast();
        let mut at = 0;
        while at < 8 {
            // SAFETY: eight words, aligned as the buffer is. Volatile, because LLVM would make a memset of it, which a
            // program has as a function of its own that goes byte by byte: a tenth of the time of a whole segment.
            unsafe { words.add(at).write_volatile(0) };
            at += 1;
        }
    }

    /// Overwrites a byte.
    #[inline(always)]
    pub const fn put_byte(&mut self, at: u32, byte: u32) {
        self.put(at, [byte as u8]);
    }

    /// Overwrites two bytes.
    #[inline(always)]
    pub const fn put_half(&mut self, at: u32, half: u32) {
        self.put(at, (half as u16).to_be_bytes());
    }

    /// Overwrites four bytes.
    #[inline(always)]
    pub const fn put_word(&mut self, at: u32, word: u32) {
        self.put(at, word.to_be_bytes());
    }

    /// Sum of the first 64 bytes as 16-bit words in memory order, not folded (RFC 1071).
    #[inline(always)]
    #[must_use]
    pub fn sum(&self) -> u64 {
        let words: *const u32 = self.0.as_ptr().cast();
        let mut sum = 0u64;
        let mut at = 0;
        while at < 16 {
            // SAFETY: sixteen words, aligned as the buffer is. Volatile, so that they are added one after the other
            // instead of all being held at once: a program's stack is small.
            sum += unsafe { words.add(at).read_volatile() } as u64;
            at += 1;
        }
        // Nor may the adding be put off.
        core::hint::black_box(sum)
    }
}

/// Option kinds (IANA TCP parameters).
mod kind {
    pub(super) const END: u32 = 0;
    pub(super) const NOP: u32 = 1;
    pub(super) const MSS: u32 = 2;
    pub(super) const WINDOW_SCALE: u32 = 3;
    pub(super) const SACK_PERMITTED: u32 = 4;
    pub(super) const SACK: u32 = 5;
    pub(super) const TIMESTAMPS: u32 = 8;
    pub(super) const MD5: u32 = 19;
    pub(super) const AO: u32 = 29;
    pub(super) const MPTCP: u32 = 30;
    pub(super) const FAST_OPEN: u32 = 34;
    pub(super) const EXPERIMENT_1: u32 = 253;
    pub(super) const EXPERIMENT_2: u32 = 254;
}

/// What [`Segment::odd`] says: an option's length leads out of the header.
pub const MALFORMED: u32 = 1 << 0;
/// What [`Segment::odd`] says: signed segments (MD5, AO), which nobody may rewrite.
pub const SIGNED: u32 = 1 << 1;
/// What [`Segment::odd`] says: MPTCP or fast open, which one address cannot hand over.
pub const EXTENDED: u32 = 1 << 2;

/// [`Segment::wscale`] of a SYN without the option.
pub const NO_SCALE: u32 = 255;

/// [`Segment::stamps_at`] of almost every segment: two NOPs before the option, and nothing behind it.
pub const USUAL: u32 = 24;

/// How the options begin then.
const STAMPS_ALONE: [u8; 4] = [1, 1, 8, 10];

/// A segment's header, read. All numbers in host byte order; offsets are into [`Header`], 0 for "not there".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Segment {
    /// Sequence number.
    pub seq: u32,
    /// Acknowledgement number, whatever the ACK flag says.
    pub ack: u32,
    /// Window field, not scaled.
    pub window: u32,
    /// Flags, the low eight.
    pub flags: u32,
    /// Bytes of the header.
    pub header: u32,
    /// Bytes of payload.
    pub payload: u32,
    /// The next option to read.
    pub cursor: u32,
    /// Offset of TSval (TSecr follows).
    pub stamps_at: u32,
    /// Timestamps: TSval and TSecr (RFC 7323).
    pub stamps: [u32; 2],
    /// Offset of the first SACK block.
    pub sack_at: u32,
    /// Number of SACK blocks, four at most (RFC 2018).
    pub sacks: u32,
    /// SACK blocks: left and right edges.
    pub sack: [[u32; 2]; 4],
    /// Window scale of a SYN, [`NO_SCALE`] without.
    pub wscale: u32,
    /// Maximum segment size of a SYN, 0 without.
    pub mss: u32,
    /// Whether a SYN permits SACK.
    pub sack_permitted: u32,
    /// [`MALFORMED`], [`SIGNED`], [`EXTENDED`].
    pub odd: u32,
}

impl Segment {
    /// Whether all of these flags are set.
    #[inline(always)]
    #[must_use]
    pub const fn has(&self, flags: u32) -> bool {
        self.flags & flags == flags
    }

    /// Whether it is a piece of its sender's stream: bytes, or the end.
    #[inline(always)]
    #[must_use]
    pub const fn is_of_stream(&self) -> bool {
        self.payload | self.flags & FIN != 0
    }

    /// Sequence number after it: SYN and FIN count one each.
    #[inline(always)]
    #[must_use]
    pub const fn end(&self) -> u32 {
        let flags = (self.flags & FIN) + ((self.flags & SYN) >> 1);
        self.seq.wrapping_add(self.payload).wrapping_add(flags)
    }

    /// Reads the fixed part. `bytes`: header and payload together.
    ///
    /// # Errors
    /// The counter of a header that cannot be one.
    #[inline(always)]
    pub fn fixed(&mut self, header: &Header, bytes: u32) -> Result<(), Counter> {
        let len = (header.byte(12) >> 4) * 4;
        if len < SHORTEST || len > bytes {
            return Err(Counter::TcpMalformed);
        }
        self.seq = header.word(4);
        self.ack = header.word(8);
        self.flags = header.byte(13);
        self.window = header.half(14);
        self.header = len;
        self.payload = bytes - len;
        self.cursor = SHORTEST;
        self.no_options();
        // What almost every segment has: two NOPs and the timestamps. Nothing is left to walk through then.
        if len == 32 && header.word(20) == u32::from_be_bytes(STAMPS_ALONE) {
            self.stamps_at = USUAL;
            self.stamps = [header.word(24), header.word(28)];
            self.cursor = len;
        }
        Ok(())
    }

    /// Reads the header that begins at `at` of a frame and at `h`, its first 16 bytes, if it is one of those that come all the time
    /// ([`Segment::is_plain`]): an acknowledgement with the usual timestamps, or without options. `bytes`: header and payload
    /// together. Whether it is; if not, what has been written means nothing.
    #[inline(always)]
    pub fn plain<B: Bytes + ?Sized>(&mut self, frame: &B, at: usize, h: &[u8; 16], bytes: u32) -> bool {
        self.flags = h[13] as u32;
        self.header = (h[12] >> 4) as u32 * 4;
        if self.flags & (SYN | RST | ACK) != ACK || self.header > bytes {
            return false;
        }
        self.no_options();
        if self.header == 32 {
            let Some(o) = frame.get::<12>(at + 20) else {
                return false;
            };
            if [o[0], o[1], o[2], o[3]] != STAMPS_ALONE {
                return false;
            }
            self.stamps_at = USUAL;
            self.stamps = [
                u32::from_be_bytes([o[4], o[5], o[6], o[7]]),
                u32::from_be_bytes([o[8], o[9], o[10], o[11]]),
            ];
        } else if self.header != SHORTEST || frame.get::<4>(at + 16).is_none() {
            return false;
        }
        self.seq = u32::from_be_bytes([h[4], h[5], h[6], h[7]]);
        self.ack = u32::from_be_bytes([h[8], h[9], h[10], h[11]]);
        self.window = u16::from_be_bytes([h[14], h[15]]) as u32;
        self.payload = bytes - self.header;
        self.cursor = self.header;
        true
    }

    /// As long as none has been read.
    #[inline(always)]
    const fn no_options(&mut self) {
        self.stamps_at = 0;
        self.stamps = [0; 2];
        self.sack_at = 0;
        self.sacks = 0;
        self.wscale = NO_SCALE;
        self.mss = 0;
        self.sack_permitted = 0;
        self.odd = 0;
    }

    /// Reads the option at the cursor. Returns whether there may be another one.
    #[inline(always)]
    pub fn option(&mut self, header: &Header) -> bool {
        let at = self.cursor;
        if at >= self.header {
            return false;
        }
        let kind = header.byte(at);
        if kind == kind::NOP {
            self.cursor = at + 1;
            return true;
        }
        if kind == kind::END {
            return false;
        }
        let len = header.byte(at + 1);
        if len < 2 || at + len > self.header {
            self.odd |= MALFORMED;
            return false;
        }
        self.cursor = at + len;
        match kind {
            kind::MSS if len == 4 => self.mss = header.half(at + 2),
            kind::WINDOW_SCALE if len == 3 => {
                let shift = header.byte(at + 2);
                // RFC 7323 section 2.3: more than 14 is taken for 14.
                self.wscale = if shift > 14 { 14 } else { shift };
            }
            kind::SACK_PERMITTED if len == 2 => self.sack_permitted = 1,
            kind::SACK if matches!(len, 10 | 18 | 26 | 34) => {
                self.sack_at = at + 2;
                self.sacks = (len - 2) / 8;
                self.sack[0] = header.pair(at + 2, 0);
                self.sack[1] = header.pair(at + 2, 8);
                self.sack[2] = header.pair(at + 2, 16);
                self.sack[3] = header.pair(at + 2, 24);
            }
            kind::TIMESTAMPS if len == 10 => {
                self.stamps_at = at + 2;
                self.stamps = header.pair(at + 2, 0);
            }
            kind::MD5 | kind::AO => self.odd |= SIGNED,
            kind::MPTCP | kind::FAST_OPEN | kind::EXPERIMENT_1 | kind::EXPERIMENT_2 => self.odd |= EXTENDED,
            _ => {}
        }
        true
    }
}

/// AE, the ninth flag, in the byte before the others (RFC 9768).
const AE: u32 = 0x01;

impl Header {
    /// Whether a SYN asks for congestion notification, classic or accurate.
    #[inline(always)]
    #[must_use]
    pub const fn asks_for_ecn(&self) -> bool {
        self.byte(12) & AE != 0 || self.byte(13) & (ECE | CWR) != 0
    }

    /// Makes a SYN ask for none: what one member has seen of congestion, and counts, the other knows nothing of.
    #[inline(always)]
    pub const fn hide_ecn(&mut self) {
        self.put_byte(12, self.byte(12) & !AE);
        self.put_byte(13, self.byte(13) & !(ECE | CWR));
    }
}

/// An option kind that nobody has assigned and every receiver skips (RFC 9293 MUST-6).
const NOBODYS: u32 = 0x9d;

/// Hides the option at `at` if it is one that one address cannot hand over. Returns the next option's place, 0 at the
/// end.
#[inline(always)]
pub fn hide_extended(header: &mut Header, at: u32, end: u32) -> u32 {
    if at >= end {
        return 0;
    }
    let kind = header.byte(at);
    if kind == kind::NOP {
        return at + 1;
    }
    let len = header.byte(at + 1);
    if kind == kind::END || len < 2 || at + len > end {
        return 0;
    }
    if matches!(kind, kind::MPTCP | kind::FAST_OPEN | kind::EXPERIMENT_1 | kind::EXPERIMENT_2) {
        header.put_byte(at, NOBODYS);
    }
    at + len
}

/// The most options a header can hold, all NOPs.
pub const MOST_OPTIONS: u32 = 40;

/// Reads a whole header, as the programs do step by step. `bytes`: header and payload together.
///
/// # Errors
/// The counter of a header that cannot be one.
pub fn read(header: &Header, bytes: u32) -> Result<Segment, Counter> {
    let mut segment = Segment::default();
    segment.fixed(header, bytes)?;
    for _ in 0..MOST_OPTIONS {
        if !segment.option(header) {
            break;
        }
    }
    Ok(segment)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(options: &[u8]) -> Header {
        let mut header = Header::EMPTY;
        let padded = options.len().div_ceil(4) * 4;
        header.0[..20].copy_from_slice(&[
            0,
            80,
            4,
            210,
            1,
            2,
            3,
            4,
            5,
            6,
            7,
            8,
            (((20 + padded) / 4) << 4) as u8,
            0x12,
            0xab,
            0xcd,
            0,
            0,
            0,
            0,
        ]);
        header.0[20..20 + options.len()].copy_from_slice(options);
        header
    }

    const MSS: &[u8] = &[2, 4, 5, 0xb4];
    const SCALE: &[u8] = &[3, 3, 7];
    const PERMITTED: &[u8] = &[4, 2];
    const STAMPS: &[u8] = &[8, 10, 0, 0, 0, 9, 0, 0, 0, 8];
    const NOP: &[u8] = &[1];
    const UNKNOWN: &[u8] = &[99, 5, 1, 2, 3];

    #[test]
    fn options_are_understood_in_any_order() {
        let mut all = vec![MSS, SCALE, PERMITTED, STAMPS, NOP, UNKNOWN];
        for _ in 0..all.len() {
            all.rotate_left(1);
            for swap in 1..all.len() {
                let mut order = all.clone();
                order.swap(0, swap);
                let s = read(&header(&order.concat()), 100).expect("a header");
                assert_eq!((s.mss, s.wscale, s.sack_permitted, s.stamps), (1460, 7, 1, [9, 8]), "{order:?}");
                assert_eq!(s.odd, 0);
            }
        }
    }

    #[test]
    fn the_usual_layout_is_read_without_walking() {
        let usual = [&[1, 1][..], STAMPS].concat();
        let s = read(&header(&usual), 32).expect("a header");
        assert_eq!((s.stamps_at, s.stamps, s.payload), (24, [9, 8], 0));
        let unusual = [STAMPS, &[1, 1][..]].concat();
        let s = read(&header(&unusual), 40).expect("a header");
        assert_eq!((s.stamps_at, s.stamps, s.payload), (22, [9, 8], 8));
    }

    #[test]
    fn sack_blocks_are_found() {
        let sack = [&[5, 18][..], &[0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 5, 0, 0, 0, 7]].concat();
        let h = header(&sack);
        let s = read(&h, 40).expect("a header");
        assert_eq!((s.sacks, s.sack[0], s.sack[1]), (2, [1, 2], [5, 7]));
        assert_eq!(read(&header(&[5, 9, 0, 0, 0, 0, 0, 0, 0]), 40).expect("a header").sacks, 0);
    }

    #[test]
    fn what_cannot_be_handed_over_is_marked_and_hidden() {
        for (option, odd) in
            [(30u8, EXTENDED), (34, EXTENDED), (254, EXTENDED), (253, EXTENDED), (19, SIGNED), (29, SIGNED)]
        {
            let mut h = header(&[1, option, 4, 0, 0, 2, 4, 5, 0xb4]);
            assert_eq!(read(&h, 60).expect("a header").odd, odd, "option {option}");
            let mut at = SHORTEST;
            while at != 0 {
                at = hide_extended(&mut h, at, 32);
            }
            let hidden = read(&h, 60).expect("a header");
            assert_eq!((hidden.odd, hidden.mss), (odd & SIGNED, 1460), "option {option}");
        }
    }

    #[test]
    fn a_syn_that_asks_for_congestion_notification_asks_for_none_when_that_is_hidden() {
        for (twelfth, flags) in [(0, ECE | CWR), (AE, ECE | CWR), (AE, 0), (0, ECE), (0, CWR)] {
            let mut h = header(&[2, 4, 5, 0xb4]);
            h.put_byte(12, h.byte(12) | twelfth);
            h.put_byte(13, SYN);
            let mut asking = h;
            asking.put_byte(13, SYN | flags);
            assert!(asking.asks_for_ecn());
            asking.hide_ecn();
            assert!(!asking.asks_for_ecn());
            h.put_byte(12, h.byte(12) & !AE);
            assert_eq!(asking, h);
        }
    }

    #[test]
    fn an_option_that_leads_outside_ends_the_reading() {
        for bad in [&[3u8, 0][..], &[3, 1], &[8, 44], &[8]] {
            let s = read(&header(&[&[1, 1, 1][..], bad].concat()), 60).expect("a header");
            assert!(s.odd & MALFORMED != 0 || s.stamps_at == 0, "{bad:?}: {s:?}");
        }
        assert_eq!(read(&header(&[]), 19), Err(Counter::TcpMalformed));
        let mut short = header(&[]);
        short.0[12] = 0x40;
        assert_eq!(read(&short, 60), Err(Counter::TcpMalformed));
    }

    proptest! {
        #[test]
        fn no_header_makes_the_reader_leave_it(bytes: [u8; 60], total in 0u32..70_000) {
            let mut h = Header::EMPTY;
            h.0[..60].copy_from_slice(&bytes);
            if let Ok(s) = read(&h, total) {
                prop_assert!(s.header <= 60 && s.header + s.payload == total);
                prop_assert!(s.stamps_at == 0 || s.stamps_at + 8 <= s.header);
                prop_assert!(s.sacks == 0 || s.sack_at + 8 * s.sacks <= s.header);
                prop_assert!(s.sacks <= 4);
            }
        }
    }
}
