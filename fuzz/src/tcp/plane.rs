//! The data plane as the programs are put together (`ebpf/src/tcp`), with nothing but the pure functions: read, decide,
//! write. Everything that leaves it has a right checksum.

use hotpair_abi::checksum::fold64;
use hotpair_abi::tcp::connection::{Connection, QUEUED, Scene};
use hotpair_abi::tcp::edit::{Edit, checksum_after};
use hotpair_abi::tcp::from_member::{CUT, EDIT, LATE, NOBODY, Outcome, SUPPRESS};
use hotpair_abi::tcp::late::{AGAIN, TELL, TELL_SPEAKER};
use hotpair_abi::tcp::plan::{ECHO, Plan, UNPLANNED, fate};
use hotpair_abi::tcp::pure::{Pure, header_sum, pseudo_sum};
use hotpair_abi::tcp::segment::{ACK, Header, SYN, Segment, read};
use hotpair_abi::tcp::stream::{Chunk, SUM, Task, WELL};
use hotpair_abi::tcp::to_member::{EDITED, EDITED_LATE, NOT_FOR_IT};

use super::frame::{ADDRESSES, Frame};

/// The longest time in which nobody looks (`ebpf/src/tcp/late.rs`).
const LONGEST: u64 = 10_000_000;

/// The kernel's tick, at its slowest.
const TICK: u64 = 10_000_000;

/// The data plane: one connection, and what the host has for it.
pub(super) struct Plane {
    pub(super) row: Connection,
    /// When the connection's entries in `LATE` are due: one at most, as `QUEUED` says.
    pub(super) late: Vec<u64>,
    /// `LATE` has no room.
    pub(super) full: bool,
    /// The driver keeps metadata, so that there are plans.
    pub(super) plans: bool,
}

/// What somebody gets, and how things stood when that was decided.
#[derive(Debug)]
pub(super) struct Given {
    pub(super) frame: Frame,
    pub(super) scene: Scene,
}

/// What comes of a member's segment.
#[derive(Debug)]
pub(super) struct Came {
    pub(super) client: Option<Frame>,
    pub(super) told: Option<(u32, Frame)>,
    pub(super) scene: Scene,
    /// [`hotpair_abi::tcp::stream`]'s word about its payload.
    pub(super) compared: u32,
}

/// What comes of a heartbeat.
#[derive(Debug)]
pub(super) enum Beat {
    Nothing,
    Client(Frame),
    Speaker(Frame),
}

fn segment(frame: &Frame) -> Option<Segment> {
    read(&frame.header, frame.bytes()).ok()
}

impl Plane {
    pub(super) fn new(plans: bool) -> Plane {
        Plane { row: Connection::FRESH, late: Vec::new(), full: false, plans }
    }

    /// Puts the connection into the queue.
    fn push(&mut self, scene: &Scene) {
        if self.full {
            self.row.flags &= !QUEUED;
            return;
        }
        self.late.push(scene.now_ns + scene.lag_limit_ns.min(LONGEST));
    }

    /// The client's segment on the uplink: what each slot gets. Nothing is known before the SYN.
    pub(super) fn client_says(&mut self, scene: &Scene, frame: &Frame) -> [Option<Given>; 2] {
        let as_it_is = || Some(Given { frame: frame.clone(), scene: *scene });
        let Some(segment) = segment(frame) else { return [as_it_is(), as_it_is()] };
        let begins = segment.flags & (SYN | ACK) == SYN;
        if self.row.created_ns == 0 && !begins {
            return [as_it_is(), as_it_is()];
        }
        if let Some(copies) =
            self.at_a_glance(scene, &segment, frame).or_else(|| self.planned(scene, &segment, frame, noted))
        {
            return copies;
        }
        if !begins {
            self.row.from_client(&segment, scene.now_ns);
        } else if self.row.is_begun_anew_by(&segment, scene) {
            self.row.begin(&segment, 0, scene.now_ns);
        }
        [0, 1].map(|slot| self.copy(slot, scene, &segment, frame))
    }

    /// As `planned`, by a clock that is behind.
    fn at_a_glance(&mut self, scene: &Scene, segment: &Segment, frame: &Frame) -> Option<[Option<Given>; 2]> {
        if scene.handover != 0 {
            return None;
        }
        let behind = Scene { now_ns: scene.now_ns - scene.now_ns % TICK, ..*scene };
        let waiting = self.late.len();
        let copies = self.planned(&behind, segment, frame, |row, segment, scene| {
            row.from_client_by_the_tick(segment, [0; 6], scene)
        })?;
        assert_eq!(self.late.len(), waiting, "nothing is timed by a clock that is behind");
        Some(copies.map(|copy| copy.map(|given| Given { scene: *scene, ..given })))
    }

    /// Both copies, planned where the segment arrives and written where they leave.
    fn planned(
        &mut self,
        scene: &Scene,
        segment: &Segment,
        frame: &Frame,
        note: impl FnOnce(&mut Connection, &Segment, &Scene) -> bool,
    ) -> Option<[Option<Given>; 2]> {
        if !segment.is_plain() || !self.plans {
            return None;
        }
        let mut plan = Plan::default();
        plan.begin([1, 2], 0, segment);
        let mut scene = *scene;
        if !note(&mut self.row, segment, &scene) {
            return None;
        }
        self.row.settle(&mut scene);
        let mut edits = [Edit::default(); 2];
        let hows = [0, 1].map(|slot| self.row.to_copy(slot, segment, &scene, &mut edits[slot as usize]));
        for slot in [0, 1] {
            let how = hows[slot as usize];
            if how == UNPLANNED {
                continue;
            }
            if how == EDITED_LATE {
                self.push(&scene);
            }
            plan.enter(slot, how, &edits[slot as usize], segment);
        }
        if hows.contains(&UNPLANNED) {
            return None;
        }
        Some([0, 1].map(|slot| match plan.fate(slot) {
            fate::REFUSED => None,
            fate::EDITED => Some(Given { frame: written(frame, &plan, slot), scene }),
            _ => Some(Given { frame: frame.clone(), scene }),
        }))
    }

    /// A copy that nobody has planned, where it leaves.
    fn copy(&mut self, slot: u32, scene: &Scene, segment: &Segment, frame: &Frame) -> Option<Given> {
        let mut scene = *scene;
        let now_ns = scene.now_ns;
        if slot != scene.speaker && scene.handover == 0 {
            // Nobody looks at the clock.
            scene.now_ns = 0;
        }
        self.row.settle(&mut scene);
        let mut edit = Edit::default();
        let how = self.row.to_member(slot, segment, &scene, &mut edit);
        if how == NOT_FOR_IT {
            return None;
        }
        if how == EDITED_LATE {
            self.push(&scene);
        }
        scene.now_ns = now_ns;
        let frame = match how {
            EDITED | EDITED_LATE if edit.changes(segment) => edited(frame, segment, &edit),
            _ => frame.clone(),
        };
        Some(Given { frame, scene })
    }

    /// A member's segment at its tap. `byte`: of its stream, by its place.
    pub(super) fn member_says(
        &mut self,
        scene: &Scene,
        slot: u32,
        frame: &Frame,
        byte: impl Fn(u32) -> u8,
    ) -> Came {
        let mut scene = *scene;
        let speaks = slot == scene.speaker;
        let (Some(segment), true) = (segment(frame), self.row.created_ns != 0) else {
            return Came { client: speaks.then(|| frame.clone()), told: None, scene, compared: WELL };
        };
        let mut task = Task::default();
        self.row.settle(&mut scene);
        self.row.to_sum(slot, &segment, &scene, &mut task);
        if task.what == SUM {
            sum(&mut task, frame, byte);
        }
        let compared = self.row.compare(slot, &scene, &task);
        let mut out = Outcome::default();
        self.row.from_member(slot, &segment, &scene, &mut out);
        if out.news & LATE != 0 {
            self.push(&scene);
        }
        let client = match out.how {
            SUPPRESS => None,
            EDIT if out.edit.changes(&segment) => Some(edited(frame, &segment, &out.edit)),
            CUT => Some(cut(frame, &segment, &out.edit)),
            _ => Some(frame.clone()),
        };
        let told = (out.tell_slot != NOBODY).then(|| (out.tell_slot, made(&out.tell, 0)));
        Came { client, told, scene, compared }
    }

    /// A heartbeat comes by.
    pub(super) fn beat(&mut self, scene: &Scene) -> Beat {
        if self.late.first().is_none_or(|due| *due > scene.now_ns) {
            return Beat::Nothing;
        }
        self.late.remove(0);
        let mut out = Outcome::default();
        let what = if scene.handover != 0 { AGAIN } else { self.row.look_again(scene, &mut out) };
        match what {
            AGAIN => {
                self.push(scene);
                Beat::Nothing
            }
            TELL => Beat::Client(made(&out.tell, 0)),
            TELL_SPEAKER => {
                self.push(scene);
                Beat::Speaker(made(&out.tell, 0))
            }
            _ => Beat::Nothing,
        }
    }
}

/// Notes a client's segment by a clock that is right.
fn noted(row: &mut Connection, segment: &Segment, scene: &Scene) -> bool {
    row.from_client(segment, scene.now_ns);
    true
}

/// Sums what is new of a member's payload.
fn sum(task: &mut Task, frame: &Frame, byte: impl Fn(u32) -> u8) {
    // What no word of it may depend on.
    let mut chunk: Chunk = [0xa5a5_a5a5_a5a5_a5a5; _];
    loop {
        let step = task.step();
        if step == 0 {
            return;
        }
        let begun = task.sum.begun();
        let at = frame.truth.wrapping_add(task.skip).wrapping_add(task.sum.pos.wrapping_sub(task.from));
        for i in 0..step {
            let place = (begun + i) as usize;
            let mut word = chunk[place / 8].to_ne_bytes();
            word[place % 8] = byte(at.wrapping_add(i));
            chunk[place / 8] = u64::from_ne_bytes(word);
        }
        task.sum.absorb(&mut chunk, step);
    }
}

fn edited(frame: &Frame, segment: &Segment, edit: &Edit) -> Frame {
    let mut frame = frame.clone();
    let was_right = frame.is_right();
    let diff = edit.apply(&mut frame.header, segment);
    frame.set_checksum(checksum_after(frame.checksum(), diff));
    assert_eq!(frame.is_right(), was_right, "{edit:?} of {segment:?}");
    frame
}

/// A copy as its plan says.
fn written(frame: &Frame, plan: &Plan, slot: u32) -> Frame {
    let mut frame = frame.clone();
    let was_right = frame.is_right();
    let bytes = &mut frame.header.0;
    let mut header: [u16; 10] = std::array::from_fn(|i| u16::from_ne_bytes([bytes[2 * i], bytes[2 * i + 1]]));
    let mut echo = [0, 2].map(|i| u16::from_ne_bytes([bytes[ECHO + i], bytes[ECHO + i + 1]]));
    plan.write(slot, &mut header, plan.is_stamped().then_some(&mut echo));
    for (to, half) in bytes.chunks_exact_mut(2).zip(header) {
        to.copy_from_slice(&half.to_ne_bytes());
    }
    for (to, half) in bytes[ECHO..].chunks_exact_mut(2).zip(echo) {
        to.copy_from_slice(&half.to_ne_bytes());
    }
    assert_eq!(frame.is_right(), was_right, "{plan:?}");
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
    let mut frame = Frame { header, payload, truth: 0, sender: None };
    let sum =
        pseudo_sum(ADDRESSES, pure.len() + payload as usize) + header_sum(&words) + 7 * u64::from(payload);
    frame.set_checksum(!fold64(sum));
    assert!(frame.is_right(), "{pure:?}");
    frame
}
