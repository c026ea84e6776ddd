//! The data plane as the programs are put together (`ebpf/src/tcp`), with nothing but the pure functions: read, decide,
//! write. Everything that leaves it has a right checksum.

use hotpair_abi::checksum::fold64;
use hotpair_abi::tcp::connection::{Connection, QUEUED, Scene};
use hotpair_abi::tcp::edit::{Edit, checksum_after};
use hotpair_abi::tcp::from_member::{CUT, EDIT, NOBODY, Outcome, SUPPRESS};
use hotpair_abi::tcp::late::TELL;
use hotpair_abi::tcp::pure::{Pure, header_sum, pseudo_sum};
use hotpair_abi::tcp::segment::{ACK, Header, SYN, Segment, read};
use hotpair_abi::tcp::to_member::{EDITED, NOT_FOR_IT};

use super::frame::{ADDRESSES, Frame};

/// What comes of a member's segment.
#[derive(Debug, Default)]
pub(super) struct Came {
    pub(super) client: Option<Frame>,
    pub(super) told: Option<(u32, Frame)>,
}

fn segment(frame: &Frame) -> Option<Segment> {
    read(&frame.header, frame.bytes()).ok()
}

/// The client's segment on the uplink: what each slot gets. Nothing is known before the SYN.
pub(super) fn from_client(row: &mut Connection, scene: &Scene, frame: &Frame) -> [Option<Frame>; 2] {
    let Some(segment) = segment(frame) else { return [Some(frame.clone()), Some(frame.clone())] };
    let begins = segment.flags & (SYN | ACK) == SYN;
    if begins && row.is_begun_anew_by(&segment, scene) {
        row.begin(&segment, 0, scene.now_ns);
    } else if row.created_ns == 0 {
        return [Some(frame.clone()), Some(frame.clone())];
    } else if !begins {
        row.from_client(&segment, scene.now_ns);
    }
    [0, 1].map(|slot| {
        let mut edit = Edit::default();
        match row.to_member(slot, &segment, scene, &mut edit) {
            NOT_FOR_IT => None,
            EDITED if edit.changes(&segment) => Some(edited(frame, &segment, &edit)),
            _ => Some(frame.clone()),
        }
    })
}

/// A member's segment at its tap.
pub(super) fn from_member(row: &mut Connection, scene: &Scene, slot: u32, frame: &Frame) -> Came {
    let speaks = slot == scene.speaker;
    let (Some(segment), true) = (segment(frame), row.created_ns != 0) else {
        return Came { client: speaks.then(|| frame.clone()), told: None };
    };
    let mut out = Outcome::default();
    row.from_member(slot, &segment, scene, &mut out);
    let client = match out.how {
        SUPPRESS => None,
        EDIT if out.edit.changes(&segment) => Some(edited(frame, &segment, &out.edit)),
        CUT => Some(cut(frame, &segment, &out.edit)),
        _ => Some(frame.clone()),
    };
    let told = (out.tell_slot != NOBODY).then(|| (out.tell_slot, made(&out.tell, 0)));
    Came { client, told }
}

/// A heartbeat comes by.
pub(super) fn beat(row: &mut Connection, scene: &Scene) -> Option<Frame> {
    let mut out = Outcome::default();
    let tells = row.has(QUEUED) && row.look_again(scene, &mut out) == TELL;
    tells.then(|| made(&out.tell, 0))
}

fn edited(frame: &Frame, segment: &Segment, edit: &Edit) -> Frame {
    let mut frame = frame.clone();
    let was_right = frame.is_right();
    let diff = edit.apply(&mut frame.header, segment);
    frame.set_checksum(checksum_after(frame.checksum(), diff));
    assert_eq!(frame.is_right(), was_right, "{edit:?} of {segment:?}");
    frame
}

fn cut(frame: &Frame, segment: &Segment, edit: &Edit) -> Frame {
    let mut frame = Frame { payload: 0, ..frame.clone() };
    edit.apply(&mut frame.header, segment);
    frame.set_checksum(0);
    let sum = pseudo_sum(ADDRESSES, segment.header as usize) + frame.header.sum();
    frame.set_checksum(!fold64(sum));
    assert!(frame.is_right(), "{edit:?} of {segment:?}");
    frame
}

/// A segment that nobody has sent. With one byte of payload where a nudge wants an answer.
pub(super) fn made(pure: &Pure, payload: u32) -> Frame {
    let words = pure.header(u32::from_ne_bytes([0x0f, 0xa0, 0, 80]));
    let mut header = Header::EMPTY;
    for (at, word) in words.iter().enumerate() {
        header.0[4 * at..4 * at + 4].copy_from_slice(&word.to_ne_bytes());
    }
    let mut frame = Frame { header, payload, truth: 0 };
    let sum =
        pseudo_sum(ADDRESSES, pure.len() + payload as usize) + header_sum(&words) + 7 * u64::from(payload);
    frame.set_checksum(!fold64(sum));
    assert!(frame.is_right(), "{pure:?}");
    frame
}
