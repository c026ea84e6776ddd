//! A client that waits while nobody speaks.

use super::*;
use crate::tcp::connection::QUEUED;
use crate::tcp::from_member::{LATE, OPENED};
use crate::tcp::late::{AGAIN, DONE, TELL, TELL_SPEAKER};
use crate::tcp::pace::AHEAD;
use crate::tcp::plan::UNPLANNED;
use crate::tcp::segment::RST;
use crate::tcp::to_member::{EDITED, EDITED_LATE};
use crate::tcp::verdict::{Verdict, Why};

const LIMIT: u64 = 10_000_000;

impl Wire {
    /// Looks again; what came of it, what the client is told, and the news.
    fn look(&mut self) -> (u32, Option<(u32, u32)>, u32) {
        let mut out = Outcome::default();
        let what = self.connection.look_again(&self.scene, &mut out);
        let base = M[self.base.expect("a base")];
        let told = (what == TELL).then(|| (out.tell.seq.wrapping_sub(base), out.tell.ack.wrapping_sub(C)));
        (what, told, out.news)
    }

    /// The client has sent ten bytes, which only the speaker has acknowledged.
    fn waiting() -> Wire {
        let mut wire = Wire::open();
        wire.client(say(1, 1).data(10));
        let came = wire.member(0, say(1, 11));
        assert_eq!((came.client, came.news & LATE), (None, LATE));
        wire
    }
}

#[test]
fn a_client_is_told_when_the_standby_is_late() {
    let mut wire = Wire::waiting();
    wire.pass(LIMIT - 1);
    assert_eq!(wire.look(), (AGAIN, None, 0));
    wire.pass(1);
    assert_eq!(wire.look(), (TELL, Some((1, 11)), OPENED));
    assert_eq!(wire.connection.out.ack, C.wrapping_add(11));
    assert_eq!(wire.look(), (DONE, None, 0));
}

#[test]
fn a_connection_waits_in_one_place_only() {
    let mut wire = Wire::waiting();
    wire.member(1, say(1, 11));
    wire.client(say(11, 1).data(10));
    assert_eq!(wire.member(0, say(1, 21)).news & LATE, 0, "it stands in the queue already");
    // It is late only from the later moment on.
    wire.pass(LIMIT / 2);
    assert_eq!(wire.look().0, AGAIN);
}

#[test]
fn who_has_caught_up_is_not_looked_at_again() {
    let mut wire = Wire::waiting();
    assert_eq!(wire.member(1, say(1, 11)).client.map(|heard| heard.ack), Some(11));
    wire.pass(LIMIT);
    assert_eq!(wire.look(), (DONE, None, 0));
    // The next time, it is.
    wire.client(say(11, 1).data(10));
    assert_eq!(wire.member(0, say(1, 21)).news & LATE, LATE);
}

#[test]
fn without_a_standby_nothing_waits() {
    let mut wire = Wire::waiting();
    wire.scene.protect = 0;
    assert_eq!(wire.look(), (TELL, Some((1, 11)), 0));
}

/// The client has all of a download of `bytes`, of which the standby has sent nothing; what the speaker is told with the
/// client's last acknowledgement.
fn downloaded(bytes: u32) -> (Wire, Heard) {
    let mut wire = Wire::open();
    wire.member(1, say(1, 1));
    let mut heard = None;
    let mut at = 1;
    while at < bytes {
        wire.member(0, say(at, 1).data(32_000));
        at += 32_000;
        heard = wire.client(say(1, at))[0];
    }
    (wire, heard.expect("the speaker hears"))
}

#[test]
fn a_speaker_far_ahead_is_stopped_until_the_standby_has_followed() {
    let (_, told) = downloaded(AHEAD - 64_000);
    assert_eq!(told.window, 500, "not far enough");
    let (mut wire, told) = downloaded(AHEAD + 64_000);
    assert_eq!(told.window, 1, "too little for a segment");
    let mut at = 1;
    let spoken = loop {
        let came = wire.member(1, say(at, 1).data(16_000));
        at += 16_000;
        match came.told {
            Some((0, spoken)) => break spoken,
            told => assert_eq!(told.map(|(slot, _)| slot), Some(1), "it is told that its data has arrived"),
        }
    };
    assert_eq!(spoken.window, 500);
    assert!(at > AHEAD / 2, "{at}");
    assert_eq!(wire.client(say(1, 1)).map(|heard| heard.expect("hears").window > 0), [true, true]);
}

#[test]
fn a_standby_that_stands_still_stops_nobody_for_long() {
    let (mut wire, told) = downloaded(AHEAD + 64_000);
    assert_eq!((told.window, wire.connection.flags & QUEUED), (1, QUEUED));
    wire.pass(LIMIT - 1);
    assert_eq!(wire.look().0, AGAIN);
    wire.pass(1);
    assert_eq!(wire.look(), (TELL_SPEAKER, None, OPENED));
    assert_eq!(wire.look().0, DONE);
    // Nobody waits for it before it has caught up.
    let at = wire.connection.out.nxt.wrapping_sub(M[1]);
    assert_eq!(wire.member(0, say(at, 1).data(32_000)).news, 0);
    let heard = wire.client(say(1, at + 32_000))[0].expect("hears");
    assert_eq!(heard.window, 500);
}

#[test]
fn a_stopped_speaker_for_whom_there_was_no_room_in_the_queue_asks_again() {
    let (mut wire, _) = downloaded(AHEAD + 64_000);
    // As `not_queued` does.
    wire.connection.flags &= !QUEUED;
    let mut edit = Edit::default();
    let segment = wire.of_client(say(1, AHEAD));
    assert_eq!(wire.connection.to_member(0, &segment, &wire.scene, &mut edit), EDITED_LATE);
    assert_eq!((edit.window, wire.connection.flags & QUEUED), (1, QUEUED));
    assert_eq!(wire.connection.to_member(0, &segment, &wire.scene, &mut edit), EDITED, "it stands there");
}

#[test]
fn a_window_of_large_units_is_closed_altogether() {
    let (mut wire, _) = downloaded(AHEAD + 64_000);
    wire.connection.client.wscale = 14;
    assert_eq!(wire.client(say(1, AHEAD))[0].expect("hears").window, 0);
}

/// The client has sent 64,000 bytes, which both members have; of the standby's nothing has been read.
fn unread() -> Wire {
    let mut wire = Wire::open();
    wire.member(0, say(1, 1));
    wire.member(1, say(1, 1));
    wire.client(say(1, 1).data(64_000));
    let full = Say { window: 0, ..say(1, 64_001) };
    wire.member(1, full);
    let heard = wire.member(0, say(1, 64_001)).client.expect("both have it");
    assert_eq!((heard.ack, heard.window), (64_001, 0), "as fast as the slower one reads");
    wire
}

#[test]
fn a_standby_whose_service_does_not_read_stops_nobody_for_ever() {
    let mut wire = unread();
    let full = Say { window: 0, ..say(1, 64_001) };
    wire.pass(15_000_000_000);
    wire.client(say(64_000, 1));
    assert_eq!(wire.member(1, full).news & OPENED, 0);
    assert_eq!(wire.look().0, AGAIN);
    wire.pass(LIMIT);
    let (what, told, news) = wire.look();
    assert_eq!((what, told.map(|(_, ack)| ack), news), (TELL, Some(64_001), OPENED));
    // It sends on; of that the standby has nothing, and is late like any other.
    wire.client(say(64_001, 1).data(1_000));
    assert!(wire.member(1, full).client.is_none());
    wire.member(0, say(1, 65_001));
    wire.pass(LIMIT);
    assert_eq!(wire.member(0, say(1, 65_001)).client.map(|heard| heard.ack), Some(65_001));
}

#[test]
fn a_standby_whose_service_reads_slowly_is_waited_for() {
    let mut wire = unread();
    for second in 1..10 {
        wire.pass(14_000_000_000);
        // It has read enough for a few segments, and no more.
        let at = 64_001 + 5_000 * (second - 1);
        let room = Say { window: 40, ..say(1, at) };
        assert_eq!(wire.member(1, room).news & OPENED, 0, "{second}");
        wire.client(say(at, 1).data(5_000));
        wire.member(0, say(1, at + 5_000));
        wire.pass(LIMIT - 1);
        assert_eq!(wire.member(1, Say { window: 0, ..say(1, at + 5_000) }).news & OPENED, 0, "{second}");
    }
}

#[test]
fn a_standby_that_lacks_bytes_has_no_longer_because_its_window_was_closed() {
    let mut wire = unread();
    wire.pass(900_000_000);
    let full = Say { window: 0, ..say(1, 64_001) };
    // A byte beyond, as a probe may be.
    wire.client(say(64_001, 1).data(1));
    assert_eq!(wire.member(0, say(1, 64_002)).news & OPENED, 0, "only now it lacks something");
    wire.pass(LIMIT - 1);
    assert_eq!(wire.member(1, full).news & OPENED, 0);
    wire.pass(1);
    assert_eq!(wire.member(1, full).news & OPENED, OPENED);
}

#[test]
fn a_speaker_that_gives_small_answers_is_stopped_as_well() {
    let (mut wire, told) = downloaded(AHEAD + 64_000);
    assert_eq!(told.window, 1);
    let at = wire.connection.client.ack.wrapping_sub(M[1]);
    assert_eq!(wire.client(say(1, at).data(10))[0].expect("hears").window, 0, "an answer may be one unit");
}

#[test]
fn a_clock_that_is_behind_times_nothing() {
    // Neither the handshake's round trip.
    let mut wire = Wire::answered();
    let first = wire.of_client(say(1, 1));
    assert!(!wire.connection.from_client_by_the_tick(&first, [0; 6], &wire.scene));
    wire.client(say(1, 1));
    assert!(wire.connection.from_client_by_the_tick(&first, [0; 6], &wire.scene));
    // Nor since when a speaker is stopped, nor when it is looked at again.
    let (mut wire, _) = downloaded(AHEAD - 64_000);
    wire.member(0, say(AHEAD - 32_000, 1).data(64_000));
    let last = wire.of_client(say(1, AHEAD + 32_000));
    assert!(!wire.connection.from_client_by_the_tick(&last, [0; 6], &wire.scene));
    assert_eq!((wire.connection.stopped_ns, wire.connection.flags & QUEUED), (0, 0));
    wire.client(say(1, AHEAD + 32_000));
    assert_ne!((wire.connection.stopped_ns, wire.connection.flags & QUEUED), (0, 0));
    assert!(wire.connection.from_client_by_the_tick(&last, [0; 6], &wire.scene));
    wire.connection.flags &= !QUEUED;
    assert!(!wire.connection.from_client_by_the_tick(&last, [0; 6], &wire.scene));
}

/// The standby has said nothing since the handshake, and one stream has gone on by `bytes`, or until that is noticed.
fn far_behind(bytes: u32, upload: bool) -> Wire {
    let mut wire = Wire::open();
    wire.pass(1);
    let mut at = 1;
    while at < bytes && wire.connection.verdict == Verdict::InSync as u32 {
        at += 1 << 22;
        if upload {
            wire.connection.out.right = C.wrapping_add(at);
            wire.client(say(at, 1));
            wire.member(0, say(1, at));
            wire.pass(LIMIT);
            wire.member(0, say(1, at));
        } else {
            wire.member(0, say(at, 1).data(100));
            wire.client(say(1, at + 100));
            wire.pass(LIMIT);
            wire.member(0, say(at + 100, 1));
        }
    }
    wire
}

#[test]
fn a_standby_that_is_far_behind_is_let_go_before_the_numbers_go_round() {
    for upload in [true, false] {
        let wire = far_behind(1 << 29, upload);
        assert_eq!(wire.connection.verdict, Verdict::InSync as u32, "it may yet catch up");
        let mut wire = far_behind((1 << 30) + (1 << 23), upload);
        let of = &wire.connection;
        assert_eq!((of.verdict, of.why), (Verdict::Unprotected as u32, Why::Behind as u32));
        let at = wire.connection.client.nxt.wrapping_sub(C);
        let ack = wire.connection.client.ack.wrapping_sub(M[1]);
        let (segment, mut edit) = (wire.of_client(say(at, ack).data(10)), Edit::default());
        assert_eq!(wire.connection.to_copy(1, &segment, &wire.scene, &mut edit), UNPLANNED);
        let [speaker, standby] = wire.client(say(at, ack).data(10));
        assert_eq!(speaker.map(|heard| (heard.seq, heard.payload)), Some((at, 10)));
        assert_eq!(standby.map(|heard| (heard.seq, heard.ack, heard.flags)), Some((1, 1, RST | ACK)));
        // From then on it hears nothing, planned or not.
        let segment = wire.of_client(say(at + 10, ack).data(10));
        assert_eq!(wire.connection.to_copy(1, &segment, &wire.scene, &mut edit), NOT_FOR_IT);
        assert_eq!(wire.connection.to_copy(0, &segment, &wire.scene, &mut edit), EDITED);
        // Nor is it ever taken for level again.
        // If it has not heard that, or not believed, it hears it when it speaks, with its own numbers.
        let (slot, heard) = wire.member(1, say(1, at + 10).data(5)).told.expect("it is told");
        assert_eq!((slot, heard.seq, heard.ack, heard.flags), (1, at + 10, 6, RST | ACK));
        assert_eq!(wire.member(1, say(6, 0).with(RST)).told, None);
        wire.member(0, say(ack, at + 10));
        assert!(!wire.connection.survives(1, &wire.scene) && !wire.connection.is_protected(&wire.scene));
    }
}

#[test]
fn a_member_that_is_gone_is_not_said_to_be_far_behind() {
    let mut wire = far_behind(1 << 29, true);
    // Another one is in its place.
    wire.scene.since_ns[1] = wire.scene.now_ns + 1;
    let at = 3 << 29;
    for at in [1 << 30, at] {
        wire.connection.out.right = C.wrapping_add(at);
        wire.client(say(at, 1));
        wire.member(0, say(1, at));
    }
    assert_eq!(wire.connection.verdict, Verdict::InSync as u32);
    // One that is out of service is let go when it is back; until then its copies are planned like any.
    let mut wire = far_behind((1 << 30) + (1 << 23), true);
    wire.scene.protect = 0;
    let at = wire.connection.client.nxt.wrapping_sub(C);
    let (segment, mut edit) = (wire.of_client(say(at, 1)), Edit::default());
    assert_eq!(wire.connection.to_copy(1, &segment, &wire.scene, &mut edit), NOT_FOR_IT);
    wire.scene.protect = 1;
    assert_eq!(wire.connection.to_copy(1, &segment, &wire.scene, &mut edit), UNPLANNED);
}
