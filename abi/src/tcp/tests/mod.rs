//! Two members that number differently, one client, and what each of them gets to hear.

mod closing;
mod comparing;
mod drifting;
mod first;
mod guessing;
mod handover;
mod losing;
mod opening;
mod running;
mod waiting;

use crate::tcp::connection::{Connection, Scene};
use crate::tcp::edit::Edit;
use crate::tcp::from_member::{CUT, EDIT, NOBODY, Outcome, PASS};
use crate::tcp::pure::Pure;
use crate::tcp::segment::{ACK, Header, SYN, Segment, read};
use crate::tcp::to_member::{AS_IS, NOT_FOR_IT};

/// The client's first sequence number, just before the wrap.
const C: u32 = 0xffff_fff0;
/// The members' first sequence numbers, more than 2^31 apart.
const M: [u32; 2] = [1_000, 0x9000_0000];
/// The members' clocks at the handshake.
const T: [u32; 2] = [50_000, 4_000_000_000];
/// Shift of the client's window.
const SHIFT: u32 = 7;

/// A segment in the making; numbers relative to the sender's first one.
#[derive(Clone, Copy, Debug)]
struct Say {
    seq: u32,
    ack: u32,
    flags: u32,
    payload: u32,
    window: u32,
    stamp: u32,
    sack: Option<[u32; 2]>,
}

/// An ordinary acknowledgement.
const fn say(seq: u32, ack: u32) -> Say {
    Say { seq, ack, flags: ACK, payload: 0, window: 500, stamp: 0, sack: None }
}

impl Say {
    const fn data(self, payload: u32) -> Say {
        Say { payload, flags: self.flags | super::segment::PSH, ..self }
    }
    const fn with(self, flags: u32) -> Say {
        Say { flags: self.flags | flags, ..self }
    }
    const fn at(self, stamp: u32) -> Say {
        Say { stamp, ..self }
    }
}

/// A connection between the client and both members, with the numbers undone for reading.
struct Wire {
    connection: Connection,
    scene: Scene,
    /// The numbering that the client has learned.
    base: Option<usize>,
}

/// What somebody hears; numbers relative to the first ones of its own world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Heard {
    seq: u32,
    ack: u32,
    flags: u32,
    payload: u32,
    window: u32,
}

/// What comes of a member's segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Came {
    client: Option<Heard>,
    told: Option<(u32, Heard)>,
    news: u32,
}

fn header(seq: u32, ack: u32, say: &Say, stamps: [u32; 2]) -> Header {
    let mut header = Header::EMPTY;
    header.put_word(4, seq);
    header.put_word(8, ack);
    header.put_byte(12, 0xf0);
    header.put_byte(13, say.flags);
    header.put_half(14, say.window);
    header.put_word(20, 0x0101_080a);
    header.put_word(24, stamps[0]);
    header.put_word(28, stamps[1]);
    header.put_word(32, if say.flags & SYN != 0 { 0x0103_0300 | SHIFT } else { 0x0101_0101 });
    if let Some([left, right]) = say.sack {
        header.put_word(32, 0x0101_050a);
        header.put_word(36, left);
        header.put_word(40, right);
    }
    header
}

impl Wire {
    fn new() -> Wire {
        let scene = Scene {
            protect: 1,
            gate: 1,
            now_ns: 1_000_000_000,
            lag_limit_ns: 10_000_000,
            close_limit_ns: 5_000_000_000,
            ..Scene::default()
        };
        Wire { connection: Connection::default(), scene, base: None }
    }

    /// Both members have answered the SYN, slot 0 first: so the client knows slot 1's numbers.
    fn answered() -> Wire {
        let mut wire = Wire::new();
        wire.syn();
        wire.member(0, say(0, 1).with(SYN));
        wire.member(1, say(0, 1).with(SYN));
        wire
    }

    /// After a whole handshake.
    fn open() -> Wire {
        let mut wire = Wire::answered();
        wire.client(say(1, 1));
        wire
    }

    fn pass(&mut self, ns: u64) {
        self.scene.now_ns += ns;
    }

    fn read(header: &Header, payload: u32) -> Segment {
        read(header, 60 + payload).expect("a header")
    }

    fn syn(&mut self) {
        let header = header(C, 0, &Say { flags: SYN, ..say(0, 0) }, [7, 0]);
        let syn = Self::read(&header, 0);
        self.connection.begin(&syn, 3, self.scene.now_ns);
    }

    /// A segment of the client's.
    fn of_client(&self, say: Say) -> Segment {
        let base = self.base.expect("the client has a SYN-ACK");
        let say = Say { sack: say.sack.map(|edges| edges.map(|edge| edge.wrapping_add(M[base]))), ..say };
        let header = header(
            C.wrapping_add(say.seq),
            M[base].wrapping_add(say.ack),
            &say,
            [7 + say.stamp, T[base].wrapping_add(say.stamp)],
        );
        Self::read(&header, say.payload)
    }

    /// The client says something to both: what slot 0 and slot 1 hear.
    fn client(&mut self, say: Say) -> [Option<Heard>; 2] {
        let segment = self.of_client(say);
        self.connection.from_client(&segment, self.scene.now_ns);
        [0, 1].map(|slot| {
            let mut edit = Edit::default();
            let how = self.connection.to_member(slot, &segment, &self.scene, &mut edit);
            Self::copy(slot, how, &edit, &segment)
        })
    }

    /// What a member hears of a client's segment.
    fn copy(slot: u32, how: u32, edit: &Edit, segment: &Segment) -> Option<Heard> {
        if how == NOT_FOR_IT {
            return None;
        }
        let mut edit = *edit;
        if how == AS_IS {
            edit.keep(segment);
        }
        Some(Heard {
            seq: edit.seq.wrapping_sub(C),
            ack: edit.ack.wrapping_sub(M[slot as usize]),
            flags: edit.flags,
            payload: segment.payload,
            window: edit.window,
        })
    }

    /// What becomes of the client's SACK blocks on their way to this slot.
    fn sacks_for(&mut self, slot: u32, say: Say) -> u32 {
        let mut edit = Edit::default();
        self.connection.to_member(slot, &self.of_client(say), &self.scene, &mut edit);
        edit.sack
    }

    /// A segment of a member's.
    fn of_member(&self, slot: u32, say: Say) -> Segment {
        let m = slot as usize;
        let say = Say { sack: say.sack.map(|edges| edges.map(|edge| edge.wrapping_add(C))), ..say };
        let header = header(
            M[m].wrapping_add(say.seq),
            C.wrapping_add(say.ack),
            &say,
            [T[m].wrapping_add(say.stamp), 7],
        );
        Self::read(&header, say.payload)
    }

    /// A member says something.
    fn member(&mut self, slot: u32, say: Say) -> Came {
        let m = slot as usize;
        let segment = self.of_member(slot, say);
        let mut out = Outcome::default();
        self.connection.from_member(slot, &segment, &self.scene, &mut out);
        if out.how == PASS && segment.has(SYN) {
            self.base = Some(m);
        }
        let edit = match out.how {
            PASS => {
                let mut edit = Edit::default();
                edit.keep(&segment);
                Some(edit)
            }
            EDIT | CUT => Some(out.edit),
            _ => None,
        };
        let payload = if out.how == CUT { 0 } else { segment.payload };
        let client = edit.map(|edit| Heard {
            seq: edit.seq.wrapping_sub(M[self.base.expect("a base")]),
            ack: edit.ack.wrapping_sub(C),
            flags: edit.flags,
            payload,
            window: edit.window,
        });
        let told = (out.tell_slot != NOBODY).then(|| (out.tell_slot, Self::told(&out.tell, out.tell_slot)));
        Came { client, told, news: out.news }
    }

    fn told(pure: &Pure, slot: u32) -> Heard {
        Heard {
            seq: pure.seq.wrapping_sub(C),
            ack: pure.ack.wrapping_sub(M[slot as usize]),
            flags: pure.flags,
            payload: 0,
            window: pure.window,
        }
    }
}
