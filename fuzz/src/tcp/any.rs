//! One header of any bytes: read, changed, changed back, hidden.

use hotpair_abi::checksum;
use hotpair_abi::tcp::edit::{Edit, SACK_ADD, SACK_DROP, SACK_KEEP, checksum_after};
use hotpair_abi::tcp::segment::{self, EXTENDED, Header, SHORTEST, Segment};

use super::input::Input;

/// A header and what covers it.
pub(super) fn header(input: &mut Input<'_>) {
    let bytes: [u8; 60] = input.take();
    let mut header = Header::EMPTY;
    let end = (usize::from(bytes[12] >> 4) * 4).clamp(20, 60);
    header.0[..end].copy_from_slice(&bytes[..end]);
    let total = input.word() & 0x1_ffff;
    let Ok(segment) = segment::read(&header, total) else { return };
    assert!(segment.header >= SHORTEST && segment.header + segment.payload == total);
    assert!(segment.stamps_at == 0 || (20..=segment.header - 8).contains(&segment.stamps_at));
    assert!(
        segment.sacks <= 4 && (segment.sacks == 0 || segment.sack_at + 8 * segment.sacks <= segment.header)
    );
    let rest = u64::from(input.word());
    there_and_back(&header, &segment, input.word(), input.word());
    changed(header, &segment, rest, input);
    hidden(header, total, rest);
}

fn full(header: &Header, rest: u64) -> u16 {
    let words = header.0[..60].chunks(2).map(|pair| u64::from(u16::from_ne_bytes([pair[0], pair[1]])));
    let mut sum = words.sum::<u64>() + rest;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// As wrong as before, or as right: zero has two representations.
fn assert_as_wrong(before: u16, after: u16) {
    assert!(before == after || (before | after == 0xffff && before & after == 0), "{before:x} {after:x}");
}

/// Whatever is changed, the checksum stays as right or wrong as it was, and nothing else is touched.
fn changed(mut header: Header, segment: &Segment, rest: u64, input: &mut Input<'_>) {
    let before = header;
    let edit = Edit {
        seq: input.word(),
        ack: input.word(),
        window: input.word() & 0xffff,
        flags: u32::from(input.byte()),
        stamps: [input.word(), input.word()],
        sack: [SACK_KEEP, SACK_ADD, SACK_DROP][input.below(3)],
        sack_add: input.word(),
    };
    let diff = edit.apply(&mut header, segment);
    let field = checksum_after(u16::from_ne_bytes([header.0[16], header.0[17]]), diff);
    header.0[16..18].copy_from_slice(&field.to_ne_bytes());
    assert_as_wrong(full(&before, rest), full(&header, rest));
    assert_eq!(before.0[..4], header.0[..4]);
    assert_eq!((before.0[12], before.0[18], before.0[19]), (header.0[12], header.0[18], header.0[19]));
    assert_eq!(before.0[60..], header.0[60..]);
    let blocks = segment.sack_at as usize..(segment.sack_at + 8 * segment.sacks) as usize;
    for at in 20..segment.header as usize {
        let stamps = segment.stamps_at as usize;
        let sack = !blocks.is_empty() && (blocks.start - 2..blocks.end).contains(&at);
        let stamp = stamps != 0 && (stamps..stamps + 8).contains(&at);
        assert!(sack || stamp || before.0[at] == header.0[at], "byte {at}");
    }
    // It says what it was to say; what it does not carry it cannot. Options that overlap say the later one's.
    let read = segment::read(&header, segment.header + segment.payload).expect("still a header");
    assert_eq!((read.seq, read.ack, read.window, read.flags), (edit.seq, edit.ack, edit.window, edit.flags));
}

fn there_and_back(original: &Header, segment: &Segment, offset: u32, stamps: u32) {
    let mut header = *original;
    for sign in [1, u32::MAX] {
        // Where an option has come twice, the last one counts, before and after.
        let segment = segment::read(&header, segment.header + segment.payload).expect("still a header");
        let mut edit = Edit::default();
        edit.keep(&segment);
        edit.seq = segment.seq.wrapping_add(offset.wrapping_mul(sign));
        edit.ack = segment.ack.wrapping_add(offset.wrapping_mul(sign));
        edit.stamps = segment.stamps.map(|stamp| stamp.wrapping_add(stamps.wrapping_mul(sign)));
        edit.sack = SACK_ADD;
        edit.sack_add = offset.wrapping_mul(sign);
        edit.apply(&mut header, &segment);
    }
    assert_eq!(header, *original, "there and back");
}

/// What one address cannot hand over is hidden, and nothing else.
fn hidden(mut header: Header, total: u32, rest: u64) {
    let before = header;
    let (sum, length) = (header.sum(), segment::read(&header, total).expect("a header").header);
    let mut at = SHORTEST;
    for _ in 0..segment::MOST_OPTIONS {
        at = segment::hide_extended(&mut header, at, length);
        if at == 0 {
            break;
        }
    }
    let read = segment::read(&header, total).expect("still a header");
    assert_eq!(read.odd & EXTENDED, 0);
    let was = segment::read(&before, total).expect("a header");
    assert_eq!(Segment { odd: 0, ..read }, Segment { odd: 0, ..was }, "everything else is what it was");
    let diff = header.sum() + u64::from(!checksum::fold64(sum));
    let field = checksum_after(u16::from_ne_bytes([header.0[16], header.0[17]]), diff);
    header.0[16..18].copy_from_slice(&field.to_ne_bytes());
    assert_as_wrong(full(&before, rest), full(&header, rest));
}
