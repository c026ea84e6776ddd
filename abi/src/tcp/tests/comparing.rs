//! Streams that are equal, and streams that are not.

use proptest::prelude::*;

use super::*;
use crate::tcp::segment::{FIN, RST};
use crate::tcp::stream::{ANEW, Chunk, DIFFER, NO_MILESTONE, SUM, Task, WELL};
use crate::tcp::verdict::{Verdict, Why};

impl Wire {
    pub(super) fn comparing() -> Wire {
        let mut wire = Wire::open();
        wire.scene.compare = 1;
        wire
    }

    /// So many bytes of an equal stream, a multiple of eight, lie behind both members.
    fn far_on(mut self, bytes: u32) -> Wire {
        for half in &mut self.connection.half {
            half.isn = half.isn.wrapping_sub(bytes);
            half.sum.pos = half.sum.pos.wrapping_add(bytes);
        }
        self
    }

    /// A member sends these bytes, of which the first is the stream's `seq`th.
    pub(super) fn sends(&mut self, slot: u32, seq: u32, bytes: &[u8]) -> (u32, Came) {
        let task = self.sums(slot, seq, bytes);
        let compared = self.connection.compare(slot, &self.scene, &task);
        (compared, self.member(slot, say(seq, 1).data(u32::try_from(bytes.len()).expect("short"))))
    }

    /// The same up to where the bytes have been read, but not yet compared.
    fn sums(&mut self, slot: u32, seq: u32, bytes: &[u8]) -> Task {
        let say = say(seq, 1).data(u32::try_from(bytes.len()).expect("short"));
        let header = header(M[slot as usize].wrapping_add(seq), C.wrapping_add(1), &say, [0, 7]);
        let segment = Self::read(&header, say.payload);
        let mut task = Task::default();
        self.connection.to_sum(slot, &segment, &self.scene, &mut task);
        let mut chunk: Chunk = [0xaaaa_aaaa_aaaa_aaaa; _];
        let begun_at = task.skip as usize;
        while task.what == SUM {
            let step = task.step();
            if step == 0 {
                break;
            }
            let at = begun_at + task.sum.pos.wrapping_sub(task.from) as usize;
            for (i, byte) in bytes[at..at + step as usize].iter().enumerate() {
                let place = task.sum.begun() as usize + i;
                let mut word = chunk[place / 8].to_ne_bytes();
                word[place % 8] = *byte;
                chunk[place / 8] = u64::from_ne_bytes(word);
            }
            task.sum.absorb(&mut chunk, step);
        }
        task
    }

    /// A member ends its half before the stream's `seq`th byte.
    fn sends_end(&mut self, slot: u32, seq: u32) -> Came {
        let end = say(seq, 11).with(FIN);
        let header = header(M[slot as usize].wrapping_add(seq), C.wrapping_add(11), &end, [0, 7]);
        let mut task = Task::default();
        self.connection.to_sum(slot, &Self::read(&header, 0), &self.scene, &mut task);
        self.connection.compare(slot, &self.scene, &task);
        self.member(slot, end)
    }

    fn verdict(&self) -> (u32, u32) {
        (self.connection.verdict, self.connection.why)
    }
}

const DIVERGED: (u32, u32) = (Verdict::Diverged as u32, Why::Payload as u32);

#[test]
fn a_byte_that_differs_is_noticed_when_the_standby_comes_by() {
    let mut wire = Wire::comparing();
    wire.client(say(1, 1).data(10));
    assert_eq!(wire.sends(0, 1, b"an answer").0, WELL);
    assert_eq!(wire.connection.milestone_of, 0);
    assert_eq!(wire.sends(1, 1, b"an ans").0, WELL, "not yet there");
    let (compared, _) = wire.sends(1, 7, b"war, and more");
    assert_eq!((compared, wire.verdict()), (DIFFER, DIVERGED));
    // Nothing waits for it any more.
    let heard = wire.member(0, say(10, 11)).client.expect("an acknowledgement of the primary alone");
    assert_eq!(heard.ack, 11);
}

#[test]
fn words_in_another_order_differ() {
    let mut wire = Wire::comparing();
    assert_eq!(wire.sends(0, 1, b"12345678abcdefgh").0, WELL);
    assert_eq!(wire.sends(1, 1, b"abcdefgh12345678").0, DIFFER);
}

#[test]
fn what_is_repeated_counts_once() {
    let mut wire = Wire::comparing();
    for (slot, seq, bytes) in [
        (0, 1, &b"hello"[..]),
        (0, 1, b"hello"),
        (0, 3, b"llo wor"),
        (1, 1, b"hello wo"),
        (1, 9, b"rld"),
        (1, 1, b"h"),
    ] {
        assert_eq!(wire.sends(slot, seq, bytes).0, WELL, "{slot} {seq} {bytes:?}");
    }
    assert_eq!(wire.sends(0, 10, b"lD").0, DIFFER);
}

#[test]
fn behind_a_gap_comparing_begins_anew_and_is_no_weaker() {
    let mut wire = Wire::comparing();
    assert_eq!(wire.sends(0, 1, b"seen").0, WELL);
    assert_eq!(wire.sends(0, 100, b"after a gap").0, ANEW);
    // The standby has sent all of it.
    assert_eq!(wire.sends(1, 1, &[7; 110]).0, WELL);
    assert_eq!(wire.verdict().0, Verdict::InSync as u32);
    assert_eq!(wire.sends(0, 111, b"and on").0, WELL);
    assert_eq!(wire.sends(1, 111, b"and off").0, DIFFER);
}

#[test]
fn a_successor_that_would_say_something_else_is_reset_before_a_byte_of_it_is_heard() {
    let mut wire = Wire::comparing();
    assert_eq!(wire.sends(0, 1, b"tic").0, WELL);
    wire.client(say(1, 4));
    // So short that the standby was never let to send it. The primary dies.
    wire.scene.speaker = 1;
    wire.scene.protect = 0;
    let (compared, came) = wire.sends(1, 1, b"tac and on");
    assert_eq!(compared, DIFFER);
    let heard = came.client.expect("a reset");
    assert_eq!((heard.flags & RST, heard.seq, heard.payload), (RST, 4, 0));
    assert_eq!(wire.verdict(), (Verdict::Lost as u32, Why::Payload as u32));
}

#[test]
fn a_successor_that_says_the_same_goes_on() {
    let mut wire = Wire::comparing();
    assert_eq!(wire.sends(0, 1, b"tic").0, WELL);
    wire.client(say(1, 4));
    wire.scene.speaker = 1;
    wire.scene.protect = 0;
    let (compared, came) = wire.sends(1, 1, b"tic tac");
    assert_eq!((compared, came.client.map(|heard| heard.payload)), (WELL, Some(7)));
    assert_eq!(wire.connection.milestone_of, NO_MILESTONE.min(1), "its own: it is ahead now");
    // Nobody is there to be compared with.
    assert_eq!(wire.sends(1, 8, b" toe").0, WELL);
    assert_eq!(wire.connection.half[1].sum.pos, 7);
}

#[test]
fn what_is_not_compared_costs_nothing() {
    let mut wire = Wire::open();
    assert_eq!(wire.sends(0, 1, b"one").0, WELL);
    assert_eq!(wire.sends(1, 1, b"two").0, WELL);
    assert_eq!((wire.verdict().0, wire.connection.half[0].sum.pos), (Verdict::InSync as u32, 0));
}

/// Sends the stream from `pos[slot]` on in a piece of this length, sometimes with what went before once more.
fn piece(wire: &mut Wire, slot: usize, pos: &mut [usize; 2], stream: &[u8], len: usize, again: usize) -> u32 {
    let end = (pos[slot] + len).min(stream.len());
    let begin = pos[slot].saturating_sub(again);
    pos[slot] = end;
    if begin == end {
        return WELL;
    }
    let seq = u32::try_from(begin).expect("short").wrapping_add(1);
    wire.sends(u32::try_from(slot).expect("0 or 1"), seq, &stream[begin..end]).0
}

proptest! {
    /// However the two are cut into segments, repeated and interleaved, and whoever is ahead: equal streams are equal, and
    /// one changed byte is found once both have sent everything.
    #[test]
    fn segmentation_repetition_and_order_do_not_matter(
        stream in proptest::collection::vec(any::<u8>(), 1..12_000),
        pieces in proptest::collection::vec((0usize..2, 1usize..6_000, 0usize..40), 1..40),
        change in proptest::option::of((any::<prop::sample::Index>(), 1u8..)),
        // Also where numbers of bytes do not fit into 31 or 32 bits.
        before in proptest::sample::select(vec![0u32, 0x7fff_f000, 0xffff_f000]),
    ) {
        let mut wire = Wire::comparing().far_on(before);
        let mut other = stream.clone();
        if let Some((at, by)) = change {
            *at.get_mut(&mut other) ^= by;
        }
        let streams = [stream, other];
        let mut pos = [0, 0];
        let mut differ = 0;
        let rest = [(0, 12_000, 0), (1, 12_000, 3)];
        for (slot, len, again) in pieces.into_iter().chain(rest) {
            let compared = piece(&mut wire, slot, &mut pos, &streams[slot], len, again);
            prop_assert_ne!(compared, ANEW);
            differ += u32::from(compared == DIFFER);
        }
        prop_assert_eq!(differ, u32::from(change.is_some()));
    }
}

#[test]
fn sums_that_begin_anew_while_a_segment_is_being_read_do_not_take_it_over() {
    let mut wire = Wire::comparing();
    assert_eq!(wire.sends(0, 1, b"the first twenty byt").0, WELL);
    // On one CPU the primary's next bytes are read; on another one a segment of the standby comes, with a gap before it.
    let task = wire.sums(0, 21, b"es and ten more");
    assert_eq!(wire.sends(1, 11, b"entw").0, ANEW);
    assert_eq!(wire.connection.compare(0, &wire.scene.clone(), &task), WELL);
    // From there on they are compared.
    assert_eq!(wire.sends(0, 36, b"equal").0, ANEW, "what was being read is missing");
    assert_eq!(wire.sends(0, 41, b"equal").0, WELL);
    assert_eq!(wire.sends(1, 21, b"es and ten moreequalequal").0, WELL);
    assert_eq!(wire.verdict(), (Verdict::InSync as u32, Why::Well as u32));
}

/// The primary has sent its first answer in these pieces and died; the client has acknowledged up to `ack` of it.
fn cut_short(answer: &[u8], pieces: &[usize], ack: u32) -> Wire {
    let mut wire = Wire::comparing();
    wire.client(say(1, 1).data(10));
    let mut at = 0;
    for piece in pieces {
        let seq = u32::try_from(at).expect("short") + 1;
        assert_eq!(wire.sends(0, seq, &answer[at..at + piece]).0, WELL);
        at += piece;
    }
    wire.client(say(11, ack));
    wire.member(1, say(1, 11));
    wire.scene.speaker = 1;
    wire.scene.protect = 0;
    wire
}

#[test]
fn before_the_first_comparison_a_successor_is_not_heard() {
    let answer = [7; 3000];
    let mut wire = cut_short(&answer, &[2800, 200], 1);
    // Its segments are shorter: the first two end before the first of the other one's did.
    for seq in [1, 1001] {
        let (_, came) = wire.sends(1, seq, &answer[..1000]);
        assert_eq!(came.client.map_or(0, |heard| heard.payload), 0, "{seq}");
    }
    let (compared, came) = wire.sends(1, 2001, &answer[..1000]);
    assert_eq!((compared, came.client.map(|heard| heard.payload)), (WELL, Some(1000)));
    // The client has a hole before that, and says so: now they are heard.
    let (_, came) = wire.sends(1, 1, &answer[..1000]);
    assert_eq!(came.client.map(|heard| (heard.seq, heard.payload)), Some((1, 1000)));
}

#[test]
fn a_successor_with_a_shorter_answer_is_reset() {
    let answer = [7; 3000];
    let mut wire = cut_short(&answer, &[3000], 1);
    let (_, came) = wire.sends(1, 1, &answer[..1000]);
    assert_eq!(came.client.map_or(0, |heard| heard.payload), 0);
    // It says so again and again, and never anything else.
    wire.pass(wire.scene.close_limit_ns);
    let (_, came) = wire.sends(1, 1, &answer[..1000]);
    let heard = came.client.expect("a reset");
    assert_eq!((heard.flags & RST, heard.seq, heard.payload), (RST, 1, 0));
    assert_eq!(wire.verdict(), (Verdict::Lost as u32, Why::Payload as u32));
    // The same at once if it ends there.
    let mut wire = cut_short(&answer, &[3000], 1);
    let came = wire.member(1, say(1, 11).data(1000).with(FIN));
    assert!(came.client.is_some_and(|heard| heard.flags & RST != 0), "{came:?}");
}

#[test]
fn a_successor_is_held_to_what_was_said_though_its_predecessor_has_closed_its_half_since() {
    let answer = [7; 50];
    let mut wire = cut_short(&answer, &[50], 11);
    // A new member stands by, and what the old primary had still to say comes late: that it has reset.
    wire.scene.protect = 1;
    wire.member(0, say(51, 11).with(RST));
    assert_eq!(wire.verdict(), (Verdict::Diverged as u32, Why::Reset as u32));
    let (_, came) = wire.sends(1, 1, &[8; 21]);
    assert_eq!(came.client.map_or(0, |heard| heard.payload), 0, "{came:?}");
    // It may go on if it agrees.
    let mut wire = cut_short(&answer, &[50], 11);
    wire.scene.protect = 1;
    wire.member(0, say(51, 11).with(RST));
    assert_eq!(wire.sends(1, 1, &answer[..21]).1.client.map_or(0, |heard| heard.payload), 0);
    let (compared, came) = wire.sends(1, 22, &answer[..29]);
    assert_eq!((compared, came.client.map(|heard| (heard.seq, heard.payload))), (WELL, Some((22, 29))));
}

#[test]
fn a_primary_that_was_not_summed_for_a_while_is_nobodys_successor() {
    let mut wire = Wire::comparing();
    wire.client(say(1, 1).data(10));
    // Without a standby in service nothing is summed.
    wire.scene.protect = 0;
    assert_eq!(wire.sends(0, 1, b"an answer").0, WELL);
    wire.client(say(11, 10));
    wire.scene.protect = 1;
    wire.member(1, say(1, 11));
    assert_eq!(wire.sends(1, 1, b"an answer").0, WELL);
    wire.scene.protect = 0;
    let heard = wire.sends_end(0, 10).client.expect("the end");
    assert_eq!((heard.seq, heard.flags & (FIN | RST)), (10, FIN));
    assert_eq!(wire.verdict(), (Verdict::InSync as u32, Why::Well as u32));
}

#[test]
fn a_successor_that_the_client_has_heard_before_it_spoke_is_not_held() {
    let answer = [7; 3000];
    // The client has all of it.
    let mut wire = cut_short(&answer, &[3000], 3001);
    let (_, came) = wire.sends(1, 1, &answer[..1000]);
    assert_eq!(came.told.map(|(slot, told)| (slot, told.ack)), Some((1, 1001)));
    wire.pass(wire.scene.close_limit_ns);
    assert_eq!(wire.sends(1, 1001, &answer[..1000]).1.client, None);
    let (_, came) = wire.sends(1, 2001, &[7; 1100]);
    assert_eq!(came.client.map(|heard| heard.payload), Some(1100));
}

proptest! {
    /// Members that differ from some byte of the first answer on: whatever the client has lost of it, and however the new
    /// primary cuts and repeats its own, the client hears no byte from there on of the new one.
    #[test]
    fn no_byte_of_the_other_first_answer_is_heard(
        len in 1usize..9_000,
        differ in any::<prop::sample::Index>(),
        first in 1usize..9_000,
        acked in any::<prop::sample::Index>(),
        pieces in proptest::collection::vec((any::<prop::sample::Index>(), 1usize..3_000), 1..30),
        waits in 0u64..7,
    ) {
        let differ = differ.index(len);
        let old = vec![7; len];
        let mut new = vec![7; 9_100];
        new[differ] = 8;
        let first = first.min(len);
        prop_assume!(differ < first);
        let rest = [first, len - first];
        let rest = if rest[1] == 0 { &rest[..1] } else { &rest[..] };
        let ack = u32::try_from(acked.index(first)).expect("short") + 1;
        let mut wire = cut_short(&old, rest, ack);
        let mut sent = 0;
        for (at, piece) in pieces {
            let begin = at.index(sent + 1);
            let end = (begin + piece).min(new.len());
            sent = sent.max(end);
            let (_, came) = wire.sends(1, u32::try_from(begin).expect("short") + 1, &new[begin..end]);
            wire.pass(waits * 1_000_000_000);
            if let Some(heard) = came.client {
                prop_assert!(
                    heard.payload == 0 || (heard.seq + heard.payload - 1) as usize <= differ,
                    "{}..{}", heard.seq, heard.seq + heard.payload
                );
            }
        }
    }
}
