//! The handshake.

use super::*;
use crate::tcp::verdict::{Verdict, Why};

fn verdict(wire: &Wire) -> (u32, u32) {
    (wire.connection.verdict, wire.connection.why)
}

#[test]
fn the_second_syn_ack_passes_whosever_it_is() {
    for first in [0, 1] {
        let mut wire = Wire::new();
        wire.syn();
        assert_eq!(wire.member(first, say(0, 1).with(SYN)).client, None);
        let second = wire.member(first ^ 1, say(0, 1).with(SYN)).client.expect("passes");
        assert_eq!((second.seq, second.ack), (0, 1));
        assert_eq!(wire.base, Some(first as usize ^ 1));
        assert_eq!(verdict(&wire), (Verdict::InSync as u32, Why::Well as u32));
        let [zero, one] = wire.client(say(1, 1)).map(|heard| heard.expect("both hear it"));
        assert_eq!((zero.seq, zero.ack, one.seq, one.ack), (1, 1, 1, 1));
    }
}

#[test]
fn without_a_standby_in_service_the_speaker_answers_alone() {
    let mut wire = Wire::new();
    wire.scene.protect = 0;
    wire.syn();
    assert_eq!(wire.member(1, say(0, 1).with(SYN)).client, None);
    assert!(wire.member(0, say(0, 1).with(SYN)).client.is_some());
    assert_eq!(verdict(&wire), (Verdict::Unprotected as u32, Why::NoStandby as u32));
}

#[test]
fn a_standby_that_does_not_answer_costs_one_retransmission() {
    let mut wire = Wire::new();
    wire.syn();
    assert_eq!(wire.member(0, say(0, 1).with(SYN)).client, None);
    assert_eq!(wire.member(0, say(0, 1).with(SYN)).client, None, "the SYN has come twice, no more");
    wire.pass(1_000_000_000);
    assert!(wire.member(0, say(0, 1).with(SYN)).client.is_some());
    assert_eq!(verdict(&wire), (Verdict::Unprotected as u32, Why::NoHandshake as u32));
    assert_eq!(wire.client(say(1, 1))[1], None, "what would it do with it?");
}

#[test]
fn different_options_are_not_protected() {
    let mut wire = Wire::new();
    wire.syn();
    let mut out = Outcome::default();
    let mut plain = header(M[1], C.wrapping_add(1), &say(0, 1).with(SYN), [0, 0]);
    plain.0[20..60].fill(1);
    let segment = Wire::read(&plain, 0);
    wire.connection.from_member(1, &segment, &wire.scene, &mut out);
    assert!(wire.member(0, say(0, 1).with(SYN)).client.is_some());
    assert_eq!(verdict(&wire), (Verdict::Unprotected as u32, Why::Options as u32));
}

#[test]
fn a_syn_on_a_living_connection_changes_nothing() {
    let wire = Wire::open();
    let syn = Segment { seq: 5, flags: SYN, ..Segment::default() };
    assert!(!wire.connection.is_begun_anew_by(&syn, &wire.scene));
    let again = Segment { seq: C, ..syn };
    assert!(!wire.connection.is_begun_anew_by(&again, &wire.scene));
    let mut over = wire.connection;
    over.flags |= crate::tcp::connection::CLOSED;
    assert!(over.is_begun_anew_by(&syn, &wire.scene));
}

#[test]
fn a_port_whose_connection_was_lost_at_a_takeover_can_be_used_again() {
    let mut wire = Wire::open();
    let syn = Segment { seq: 5, flags: SYN, ..Segment::default() };
    // It goes on with the standby: it lives.
    wire.scene.speaker = 1;
    assert!(!wire.connection.is_begun_anew_by(&syn, &wire.scene));
    // This one did not know it; nobody has said anything on it since.
    wire.scene.since_ns[1] = wire.scene.now_ns + 1;
    assert!(wire.connection.is_begun_anew_by(&syn, &wire.scene));
    wire.connection.turn(&wire.scene);
    assert!(wire.connection.is_begun_anew_by(&syn, &wire.scene), "and when it is known");
    wire.connection.begin(&syn, 3, wire.scene.now_ns);
    assert_eq!(verdict(&wire), (Verdict::Opening as u32, Why::Well as u32));
}

#[test]
fn a_port_can_be_used_again_after_two_takeovers_in_silence() {
    let mut wire = Wire::open();
    let syn = Segment { seq: 5, flags: SYN, ..Segment::default() };
    wire.scene.since_ns = [wire.scene.now_ns + 1; 2];
    assert!(wire.connection.is_begun_anew_by(&syn, &wire.scene));
}

#[test]
fn a_syn_that_nobody_answered_before_a_member_came_is_the_first_one_when_it_is_repeated() {
    for new in [0, 1] {
        let mut wire = Wire::new();
        wire.syn();
        let syn = Segment { seq: C, flags: SYN, ..Segment::default() };
        assert_eq!(wire.member(1, say(0, 1).with(SYN)).client, None, "held");
        assert!(!wire.connection.is_begun_anew_by(&syn, &wire.scene), "the same members know it already");
        // Whoever was to speak is dead; a member comes, into either slot.
        wire.scene.since_ns[new] = wire.scene.now_ns + 1;
        wire.pass(1_000_000_000);
        assert!(wire.connection.is_begun_anew_by(&syn, &wire.scene));
        wire.syn();
        assert_eq!(wire.member(0, say(0, 1).with(SYN)).client, None);
        assert!(wire.member(1, say(0, 1).with(SYN)).client.is_some());
        assert_eq!(verdict(&wire), (Verdict::InSync as u32, Why::Well as u32));
    }
}

#[test]
fn a_member_that_came_after_the_syn_is_not_taken_for_its_predecessor() {
    let mut wire = Wire::new();
    wire.syn();
    assert_eq!(wire.member(0, say(0, 1).with(SYN)).client, None, "held");
    wire.scene.since_ns[1] = wire.scene.now_ns + 1;
    // The client asks again, and the new standby answers.
    assert_eq!(wire.member(1, say(0, 1).with(SYN)).client, None);
    assert_eq!(verdict(&wire), (Verdict::Unprotected as u32, Why::Older as u32));
    assert!(wire.member(0, say(0, 1).with(SYN)).client.is_some(), "the primary answers alone");
    assert_eq!(wire.client(say(1, 1))[1], None);
}

#[test]
fn a_client_that_lives_in_other_numbers_does_not_finish_a_handshake_it_does_not_know() {
    let mut wire = Wire::answered();
    // It acknowledges what none of these two has said.
    wire.base = Some(0);
    let [zero, one] = wire.client(say(1, 1));
    assert_eq!(zero.map(|heard| heard.ack), Some(1), "as it is");
    assert_eq!(one, None);
    assert_eq!(wire.connection.flags & crate::tcp::connection::ANSWERED, 0);
}

/// After a handshake whose base and speaker is slot 0, unanswered; the SYN has come again, and slot 0 has answered it with
/// another number, half a second later.
fn numbered_anew() -> Wire {
    let mut wire = Wire::new();
    wire.syn();
    wire.member(1, say(0, 1).with(SYN));
    assert!(wire.member(0, say(0, 1).with(SYN)).client.is_some());
    let again = wire.member(0, say(777, 1).with(SYN).at(500)).client.expect("the client has not answered");
    assert_eq!((again.seq, again.ack), (777, 1));
    wire
}

#[test]
fn a_client_may_answer_either_of_two_syn_acks_with_different_numbers() {
    for (answer, stamp) in [(778, 500), (1, 0)] {
        let mut wire = numbered_anew();
        let [zero, one] = wire.client(say(1, answer).at(stamp)).map(|heard| heard.expect("both hear it"));
        assert_eq!((zero.ack, one.ack), (answer, 1));
        assert_eq!(
            wire.connection.stamp_offset(1),
            T[1].wrapping_sub(T[0]).wrapping_sub(stamp),
            "the standby's own"
        );
        assert_eq!(verdict(&wire), (Verdict::InSync as u32, Why::Well as u32));
        // Both go on from there.
        let heard = wire.member(0, say(answer, 1).data(10).at(600)).client.expect("an answer");
        assert_eq!((heard.seq, heard.payload), (answer, 10));
        let [zero, one] = wire.client(say(1, answer + 10).at(600)).map(|heard| heard.expect("both hear it"));
        assert_eq!((zero.ack, one.ack), (answer + 10, 1), "the standby has not sent it yet");
    }
}

#[test]
fn a_number_that_was_never_said_settles_nothing() {
    let mut wire = numbered_anew();
    wire.client(say(1, 500).at(500));
    let [zero, one] = wire.client(say(1, 778).at(500)).map(|heard| heard.expect("both hear it"));
    assert_eq!((zero.ack, one.ack), (778, 1));
}

#[test]
fn a_speaker_that_is_not_the_base_may_number_anew_unnoticed() {
    let mut wire = Wire::new();
    wire.syn();
    wire.member(0, say(0, 1).with(SYN));
    assert!(wire.member(1, say(0, 1).with(SYN)).client.is_some());
    let mut out = Outcome::default();
    let again = header(M[0].wrapping_add(777), C.wrapping_add(1), &say(0, 1).with(SYN), [T[0] + 500, 7]);
    wire.connection.from_member(0, &Wire::read(&again, 0), &wire.scene, &mut out);
    assert_eq!(
        (out.how, out.edit.seq, out.edit.stamps[0]),
        (EDIT, M[1], T[1]),
        "what the client has heard before"
    );
    let [zero, one] = wire.client(say(1, 1)).map(|heard| heard.expect("both hear it"));
    assert_eq!((zero.ack, one.ack), (778, 1));
    assert_eq!(wire.connection.stamp_offset(0), T[0].wrapping_add(500).wrapping_sub(T[1]));
}

#[test]
fn a_syn_ack_that_is_repeated_carries_the_first_ones_timestamp() {
    let mut wire = Wire::new();
    wire.syn();
    wire.member(1, say(0, 1).with(SYN));
    wire.member(0, say(0, 1).with(SYN));
    let mut out = Outcome::default();
    let again = header(M[0], C.wrapping_add(1), &say(0, 1).with(SYN), [T[0] + 1000, 7]);
    wire.connection.from_member(0, &Wire::read(&again, 0), &wire.scene, &mut out);
    assert_eq!((out.how, out.edit.seq, out.edit.stamps[0]), (EDIT, M[0], T[0]));
}

#[test]
fn a_port_whose_connection_the_servers_have_forgotten_begins_anew() {
    for order in [[0, 1], [1, 0]] {
        let mut wire = Wire::open();
        let syn = Segment { seq: C.wrapping_add(70_000), flags: SYN, ..Segment::default() };
        assert!(!wire.connection.is_begun_anew_by(&syn, &wire.scene), "it may live");
        for slot in order {
            // With a number of its own, to the new SYN.
            assert_eq!(wire.member(slot, say(900, 70_001).with(SYN)).client, None, "slot {slot}");
        }
        assert!(wire.connection.is_begun_anew_by(&syn, &wire.scene), "its repetition is the first one");
    }
}

#[test]
fn a_standby_that_has_forgotten_a_connection_cannot_go_on_with_it() {
    let mut wire = Wire::open();
    assert_eq!(wire.member(1, say(900, 70_001).with(SYN)).client, None);
    assert_eq!(verdict(&wire), (Verdict::Diverged as u32, Why::Reset as u32));
    // The primary challenges the SYN, and lives on.
    assert!(wire.member(0, say(1, 1)).client.is_some());
    assert_eq!(wire.connection.flags & crate::tcp::connection::CLOSED, 0);
}

#[test]
fn a_standby_that_refuses_is_not_waited_for() {
    use crate::tcp::segment::{ACK, RST};
    let refusal = Say { flags: RST | ACK, ..say(0, 1) };
    // The refusal first.
    let mut wire = Wire::new();
    wire.syn();
    assert_eq!(wire.member(1, refusal), Came { client: None, told: None, news: 0 });
    assert!(wire.member(0, say(0, 1).with(SYN)).client.is_some());
    assert_eq!(verdict(&wire), (Verdict::Unprotected as u32, Why::NoHandshake as u32));
    // The other way round: the speaker is asked once more for what was held.
    let mut wire = Wire::new();
    wire.syn();
    assert_eq!(wire.member(0, say(0, 1).with(SYN)).client, None);
    let (slot, asked) = wire.member(1, refusal).told.expect("asked");
    assert_eq!((slot, asked.seq, asked.flags), (0, 0, SYN));
    assert!(wire.member(0, say(0, 1).with(SYN)).client.is_some());
    assert_eq!(wire.client(say(1, 1))[1], None, "it has none");
    // Of somebody who has asked before, no.
    let mut wire = Wire::new();
    wire.syn();
    wire.member(1, Say { ack: 77, ..refusal });
    assert_eq!(verdict(&wire), (Verdict::Opening as u32, Why::Well as u32));
}

#[test]
fn a_syn_ack_that_is_repeated_offers_no_more_than_the_first_one() {
    let mut wire = Wire::new();
    wire.syn();
    let large = Say { window: 20_000, ..say(0, 1).with(SYN) };
    assert_eq!(wire.member(0, large).client, None);
    assert_eq!(wire.member(1, say(0, 1).with(SYN)).client.map(|heard| heard.window), Some(500));
    let again = wire.member(0, large).client.expect("the client has not answered");
    assert_eq!((again.seq, again.window), (0, 500));
}
