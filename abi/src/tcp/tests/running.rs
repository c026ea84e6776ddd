//! Data, acknowledgements, and the turn.

use super::*;
use crate::tcp::connection::GATE_OPEN;
use crate::tcp::from_member::{CLOSED_AGAIN, LATE, OPENED};
use crate::tcp::nudge::Nudge;
use crate::tcp::segment::{CWR, RST};
use crate::tcp::verdict::{Verdict, Why};
use crate::{Epoch, RoleWord, Slot, voice};

#[test]
fn a_request_is_acknowledged_when_both_have_it() {
    let mut wire = Wire::open();
    let heard = wire.client(say(1, 1).data(100)).map(|heard| heard.expect("both hear it"));
    assert_eq!(heard[1].flags & CWR, CWR, "the standby acknowledges at once");
    assert_eq!(heard[1].window, 0, "and says nothing");
    assert_eq!((heard[0].flags & CWR, heard[0].window), (0, 500));
    // The primary answers; its acknowledgement of the request waits, its answer does not.
    let answer = wire.member(0, say(1, 101).data(50));
    let heard = answer.client.expect("the answer passes");
    assert_eq!((heard.seq, heard.ack, heard.payload), (1, 1, 50));
    assert_eq!(answer.news, LATE);
    // The standby's acknowledgement, cut down and renumbered, tells the client.
    let came = wire.member(1, say(1, 101));
    let heard = came.client.expect("converted");
    assert_eq!((heard.seq, heard.ack, heard.payload, heard.flags), (51, 101, 0, ACK));
    assert_eq!(came.told, None);
}

#[test]
fn the_other_way_round_nothing_waits() {
    let mut wire = Wire::open();
    wire.client(say(1, 1).data(100));
    assert_eq!(wire.member(1, say(1, 101)).client, None, "the primary does not have it yet");
    let heard = wire.member(0, say(1, 101).data(50)).client.expect("the answer");
    assert_eq!((heard.ack, heard.payload), (101, 50));
}

#[test]
fn the_standby_may_send_what_the_client_has_and_no_more() {
    let mut wire = Wire::open();
    wire.client(say(1, 1).data(100));
    wire.member(1, say(1, 101));
    wire.member(0, say(1, 101).data(1000));
    // Still nothing: the client has not acknowledged it.
    assert_eq!(wire.client(say(101, 1))[1].expect("hears").window, 0);
    let heard = wire.client(say(101, 1001))[1].expect("hears");
    // Never of what it has not sent, and no more room than what the client has.
    assert_eq!((heard.ack, heard.window), (1, 1000 >> SHIFT));
    // It sends that; nobody hears it, and it is told that it has arrived.
    let came = wire.member(1, say(1, 101).data(896));
    assert_eq!(came.client, None);
    let (slot, told) = came.told.expect("told");
    assert_eq!((slot, told.seq, told.ack, told.window), (1, 101, 897, 0));
}

#[test]
fn a_takeover_goes_on_where_the_client_is() {
    let mut wire = Wire::open();
    wire.client(say(1, 1).data(100));
    wire.member(1, say(1, 101));
    // The primary dies before it answers; slot 1 takes over.
    wire.scene.speaker = 1;
    wire.scene.protect = 0;
    wire.scene.gate = 0;
    let heard = wire.client(say(101, 1));
    assert_eq!(heard[1].expect("hears").window, 500, "its window is open");
    let heard = wire.member(1, say(1, 101).data(70)).client.expect("the answer");
    assert_eq!((heard.seq, heard.ack, heard.payload), (1, 101, 70));
    assert_eq!(wire.connection.verdict, Verdict::InSync as u32);
}

#[test]
fn what_the_client_saw_acknowledged_and_the_standby_lacks_is_lost_and_said_so() {
    let mut wire = Wire::open();
    wire.client(say(1, 1).data(100));
    wire.member(0, say(1, 101));
    wire.pass(11_000_000);
    let came = wire.member(0, say(1, 101));
    assert_eq!(came.news, OPENED);
    assert_eq!(came.client.expect("no longer waits").ack, 101);
    wire.scene.speaker = 1;
    let heard = wire.client(say(101, 1));
    assert_eq!(heard[0], None);
    // It is made to answer, by what it has had.
    let old = heard[1].expect("hears");
    assert_eq!((old.seq, old.flags, old.payload), (0, ACK, 0));
    assert_eq!(wire.connection.verdict, Verdict::Lost as u32);
    // Which becomes the reset, with the number that the client has said, and its half is closed, with the numbers it believes.
    let came = wire.member(1, say(1, 1));
    let reset = came.client.expect("a reset");
    assert_eq!((reset.seq, reset.ack, reset.flags), (1, 101, RST | ACK));
    let (slot, reset) = came.told.expect("a reset");
    assert_eq!((slot, reset.seq, reset.ack, reset.flags), (1, 1, 1, RST | ACK));
    // From then on its kernel knows of nothing.
    assert_eq!(wire.client(say(101, 1))[1].expect("hears").seq, 101);
}

#[test]
fn a_lost_connection_whose_client_sends_on_is_closed_at_the_member_at_once() {
    let mut wire = Wire::open();
    wire.client(say(1, 1).data(100));
    wire.member(0, say(1, 101));
    wire.pass(11_000_000);
    wire.member(0, say(1, 101));
    wire.scene.speaker = 1;
    let reset = wire.client(say(101, 1).data(10))[1].expect("hears");
    assert_eq!((reset.seq, reset.ack, reset.flags), (1, 1, RST | ACK));
    assert_eq!(
        wire.client(say(101, 1).data(10))[1].expect("hears").flags & RST,
        0,
        "as it is: its kernel resets"
    );
}

#[test]
fn the_gate_closes_again_when_the_standby_has_caught_up() {
    let mut wire = Wire::open();
    wire.client(say(1, 1).data(100));
    assert_eq!(wire.member(0, say(1, 101)).client, None);
    wire.pass(11_000_000);
    assert_eq!(wire.member(0, say(1, 101)).news, OPENED);
    assert_eq!(wire.member(1, say(1, 101)).news, CLOSED_AGAIN);
    wire.client(say(101, 1).data(10));
    assert_eq!(wire.member(0, say(1, 111)).client, None, "waits again");
    assert!(wire.connection.survives(1, &wire.scene));
}

#[test]
fn nobody_is_told_of_a_gate_at_which_nobody_waits() {
    for (gate, protect) in [(0, 1), (1, 0)] {
        let mut wire = Wire::open();
        (wire.scene.gate, wire.scene.protect) = (gate, protect);
        wire.client(say(1, 1).data(100));
        wire.member(0, say(1, 101));
        wire.pass(11_000_000);
        assert_eq!(wire.member(0, say(1, 101)).news & OPENED, 0);
        assert!(wire.connection.has(GATE_OPEN), "nor will anybody wait until it has caught up");
        let closed = wire.member(1, say(1, 101)).news & CLOSED_AGAIN;
        assert_eq!((closed != 0, wire.connection.has(GATE_OPEN)), (gate != 0, false));
    }
}

#[test]
fn a_standby_that_makes_progress_is_not_late() {
    let mut wire = Wire::open();
    for step in 0..10u32 {
        wire.client(say(1 + step * 100, 1).data(100));
        wire.pass(6_000_000);
        let news = wire.member(0, say(1, 101 + step * 100)).news;
        assert_eq!(news & OPENED, 0, "step {step}");
        wire.member(1, say(1, 1 + step * 100));
    }
}

#[test]
fn stamps_never_go_back_and_echoes_are_never_of_the_future() {
    let mut wire = Wire::open();
    let mut last = 0;
    for (slot, stamp) in [(0, 10), (0, 30), (0, 20), (1, 25), (1, 90)] {
        wire.scene.speaker = slot;
        let header = header(
            M[slot as usize].wrapping_add(1),
            C.wrapping_add(1),
            &say(1, 1),
            [T[slot as usize].wrapping_add(stamp), 7],
        );
        let segment = Wire::read(&header, 5);
        let mut out = Outcome::default();
        wire.connection.from_member(slot, &segment, &wire.scene, &mut out);
        let value = out.edit.stamps[0].wrapping_sub(T[1]);
        assert!(value >= last, "{value} after {last}");
        last = value;
    }
    let heard = wire.client(say(1, 1).at(1_000_000));
    assert!(heard[0].is_some());
}

#[test]
fn the_standbys_hole_reaches_the_client_as_its_own_sack() {
    let mut wire = Wire::open();
    wire.client(say(1, 1).data(100));
    wire.client(say(101, 1).data(100));
    // The primary has both; the copy of the first got lost on its way to the standby.
    assert_eq!(wire.member(0, say(1, 201)).client, None);
    let heard = wire.member(1, Say { sack: Some([101, 201]), ..say(1, 1) }).client.expect("a duplicate");
    assert_eq!(heard.ack, 1);
    // The primary's blocks do not reach the client while the standby has not got them.
    let mut wire = Wire::open();
    wire.client(say(101, 1).data(100));
    let came = wire.member(0, Say { sack: Some([101, 201]), ..say(1, 1) });
    assert!(came.client.is_none_or(|heard| heard.ack == 1));
    wire.member(1, Say { sack: Some([101, 201]), ..say(1, 1) });
}

#[test]
fn a_nudge_opens_the_window_with_a_segment_that_may_and_asks_with_an_old_one() {
    let mut wire = Wire::open();
    wire.client(say(1, 1).data(100));
    wire.member(1, say(1, 101));
    let scene = crate::tcp::connection::Scene { speaker: 1, protect: 0, gate: 0, ..wire.scene };
    let nudge = wire.connection.nudge(&scene).expect("it lives");
    let heard = Wire::told(&nudge.member, 1);
    // Not older than what the window was last told by (SND.WL1), or it would not be taken.
    assert_eq!((heard.seq, heard.ack, heard.window, heard.flags), (101, 1, 500, ACK));
    assert_eq!(Wire::told(&nudge.old_byte, 1).seq, 100);
    assert!(!nudge.client.any());
    // One that cannot go on is reset on both sides.
    wire.member(0, say(1, 101));
    wire.connection.judge(Verdict::Diverged, crate::tcp::verdict::Why::Close);
    let nudge = wire.connection.nudge(&scene).expect("it is told");
    assert_eq!((nudge.member.flags, nudge.client.flags), (RST | ACK, RST | ACK));
    assert!(!nudge.old_byte.any());
}

#[test]
fn a_nudge_does_not_answer_the_handshake_in_the_clients_name() {
    let mut wire = Wire::answered();
    let scene = crate::tcp::connection::Scene { speaker: 1, protect: 0, gate: 0, ..wire.scene };
    assert_eq!(wire.connection.nudge(&scene), None, "the client has not answered yet");
    wire.client(say(1, 1));
    assert!(wire.connection.nudge(&scene).is_some());
}

#[test]
fn a_nudge_of_the_data_plane_is_the_same_and_may_come_again() {
    let mut wire = Wire::open();
    wire.client(say(1, 1).data(100));
    wire.member(1, say(1, 101));
    wire.scene = Scene { speaker: 1, protect: 0, ..wire.scene };
    let expected = wire.connection.nudge(&wire.scene).expect("it lives");
    let mut nudge = Nudge::default();
    assert!(wire.connection.turn_and_nudge(&wire.scene, &mut nudge));
    assert_eq!((nudge, wire.connection.speaker), (expected, 1));
    // A controller that comes later.
    assert_eq!(wire.connection.nudge(&wire.scene), Some(expected));
    // One that cannot go on is lost from then on, and is told so again.
    let mut wire = Wire::open();
    wire.connection.judge(Verdict::Diverged, Why::Close);
    wire.scene = Scene { speaker: 1, protect: 0, ..wire.scene };
    let expected = wire.connection.nudge(&wire.scene).expect("it is told");
    assert!(wire.connection.turn_and_nudge(&wire.scene, &mut nudge));
    assert_eq!((nudge, wire.connection.verdict), (expected, Verdict::Lost as u32));
    assert_eq!(wire.connection.nudge(&wire.scene), Some(expected));
    // What has been begun anew since, with the same ports, is another connection.
    wire.syn();
    assert!(!wire.connection.turn_and_nudge(&wire.scene, &mut nudge));
    assert!(!nudge.member.any() && !nudge.old_byte.any() && !nudge.client.any());
}

#[test]
fn a_packet_that_was_faster_than_the_nudge_changes_nothing_about_it() {
    let mut wire = Wire::open();
    wire.client(say(1, 1).data(100));
    wire.scene = Scene { speaker: 1, protect: 0, ..wire.scene };
    // The survivor acknowledges, and does not know yet that it may answer.
    assert!(wire.member(1, say(1, 101)).client.is_some());
    assert_eq!(wire.connection.speaker, 1);
    let mut nudge = Nudge::default();
    assert!(wire.connection.turn_and_nudge(&wire.scene, &mut nudge));
    let heard = Wire::told(&nudge.member, 1);
    assert_eq!((heard.seq, heard.ack, heard.window, heard.flags), (101, 1, 500, ACK));
    assert_eq!(Wire::told(&nudge.old_byte, 1).seq, 100);
}

#[test]
fn when_the_latch_has_tripped_there_is_no_standby() {
    let word = RoleWord::new(Epoch(7), Slot::Zero).with_held(true).with_protect(true);
    let protects = |word, tripped| Scene::protects(word, voice::active(word, tripped) as u32);
    assert_eq!(protects(word, 0), 1);
    assert_eq!(protects(word, 6), 1, "that was another epoch");
    assert_eq!(protects(word, 7), 0);
    assert_eq!(protects(word.with_paused(true), 7), 1, "the latch is off");
    assert_eq!(protects(word.with_active(Slot::One), 7), 0);
    assert_eq!(protects(word.with_protect(false), 0), 0);
    // A conversation that has begun during a planned change.
    assert_eq!(Scene::protects(word.with_handover(true), 1), 1);
}

#[test]
fn a_successor_is_not_told_of_blocks_that_only_the_dead_one_has_sent() {
    let mut wire = Wire::open();
    wire.member(0, say(1, 1).data(100));
    wire.member(0, say(101, 1).data(100));
    // The first segment gets lost, and the primary dies. The successor's numbers are the client's own.
    wire.scene.speaker = 1;
    wire.scene.protect = 0;
    let sack = Say { sack: Some([101, 201]), ..say(1, 1) };
    assert_eq!(wire.sacks_for(1, sack), crate::tcp::edit::SACK_DROP);
    wire.member(1, say(1, 1).data(200));
    assert_eq!(wire.sacks_for(1, sack), crate::tcp::edit::SACK_KEEP);
}

#[test]
fn a_standby_that_asks_may_give_the_end_of_an_answer_that_the_client_has() {
    let mut wire = Wire::open();
    wire.client(say(1, 1).data(100));
    wire.member(1, say(1, 101));
    wire.member(0, say(1, 101).data(50));
    // Less than a unit of the client's window.
    assert_eq!(wire.client(say(101, 51))[1].expect("hears").window, 0);
    let (_, told) = wire.member(1, say(0, 101)).told.expect("it asks");
    assert_eq!(told.window, 0, "the client may be waiting for an answer");
    wire.pass(2_000_000_001);
    let (_, told) = wire.member(1, say(0, 101)).told.expect("it asks");
    assert_eq!(told.window, 1);
    // Not while the primary has said more, which may be on its way.
    wire.member(0, say(51, 101).data(50));
    let (_, told) = wire.member(1, say(0, 101)).told.expect("it asks");
    assert_eq!(told.window, 0);
}

#[test]
fn who_has_read_the_role_word_before_a_failover_does_not_undo_it() {
    let word = |epoch, slot| RoleWord::new(Epoch(epoch), slot).with_held(true);
    let mut wire = Wire::open();
    wire.client(say(1, 1).data(100));
    let before = wire.scene;
    // Over: the new speaker has all, acknowledges it, and the old one has not.
    (wire.scene.speaker, wire.scene.protect) = (1, 0);
    let now = || (word(2, Slot::One), 0);
    assert!(!wire.connection.turns_back(&wire.scene, now), "the first one to notice turns it");
    assert_eq!(wire.member(1, say(1, 101)).client.map(|heard| heard.ack), Some(101));
    assert!(wire.connection.turns_back(&before, now));
    assert!(!wire.connection.turns_back(&wire.scene, || unreachable!("nothing turns")));
    // By the kernel's latch, and when it is undone by a controller.
    assert!(wire.connection.turns_back(&before, || (word(1, Slot::Zero), 1)));
    assert!(!wire.connection.turns_back(&before, || (word(3, Slot::Zero), 1)), "back indeed");
    // A planned change has its own way.
    assert!(!wire.connection.turns_back(&before, || (word(2, Slot::One).with_handover(true), 0)));
    assert!(!wire.connection.turns_back(&Scene { handover: 1, ..before }, now));
    // What would come of it.
    wire.connection.turn(&before);
    assert_eq!(wire.connection.verdict, Verdict::Lost as u32);
}

#[test]
fn a_member_that_lives_on_hears_that_its_connection_is_over() {
    let mut wire = Wire::open();
    wire.client(say(1, 1).data(10));
    for slot in [0, 1] {
        wire.member(slot, say(1, 11).data(20));
    }
    wire.connection.judge(Verdict::Diverged, Why::Payload);
    wire.scene.speaker = 1;
    let nudge = wire.connection.nudge(&wire.scene).expect("it is told");
    for (slot, pure) in [(1, nudge.member), (0, nudge.other)] {
        let heard = Wire::told(&pure, slot);
        assert_eq!((heard.seq, heard.ack, heard.flags), (11, 21, RST | ACK));
    }
    // One that has not heard it, and speaks, hears it then, with its own numbers.
    let came = wire.member(0, say(21, 15).data(5));
    let (slot, heard) = came.told.expect("it is told");
    assert_eq!((came.client, slot), (None, 0));
    assert_eq!((heard.seq, heard.ack, heard.flags), (15, 26, RST | ACK));
    assert_eq!(wire.member(0, say(26, 15).with(RST)).told, None);
    // A member that never had the connection is told nothing.
    wire.scene.since_ns[0] = wire.scene.now_ns + 1;
    assert!(!wire.connection.nudge(&wire.scene).expect("it is told").other.any());
}
