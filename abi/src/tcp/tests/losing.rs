//! Segments that do not arrive.

use super::*;
use crate::tcp::from_member::OPENED;

/// Both have 100 bytes, the primary 50 more, and the client was told of the 100.
fn primary_ahead() -> Wire {
    let mut wire = Wire::open();
    wire.client(say(1, 1).data(100));
    wire.member(0, say(1, 101));
    assert!(wire.member(1, say(1, 101)).client.is_some_and(|heard| heard.ack == 101));
    wire.client(say(101, 1).data(50));
    assert_eq!(wire.member(0, say(1, 151)).client, None, "it waits for the standby");
    wire
}

#[test]
fn an_acknowledgement_that_the_client_has_not_heard_is_said_again() {
    let mut wire = primary_ahead();
    // The client's timer: nobody has told it of the first hundred.
    wire.client(say(1, 1).data(100));
    let again = wire.member(0, say(1, 151)).client.expect("it asks");
    assert_eq!((again.ack, again.payload), (101, 0));
    assert_eq!(wire.member(0, say(1, 151)).client, None, "once");
    // A probe of a window that it takes for closed, or a keepalive.
    wire.client(say(150, 1));
    assert_eq!(wire.member(0, say(1, 151)).client, None, "that was not before what it knows");
    wire.client(say(100, 1));
    assert_eq!(wire.member(0, say(1, 151)).client.expect("it asks").ack, 101);
}

#[test]
fn a_client_without_sack_hears_of_the_standbys_hole_by_duplicates() {
    let mut wire = primary_ahead();
    wire.client(say(151, 1).data(50));
    // The standby has missed 101..151 and says so for each segment behind it.
    for _ in 0..3 {
        let duplicate = wire.member(1, say(1, 101)).client.expect("told");
        assert_eq!((duplicate.ack, duplicate.payload), (101, 0));
    }
    // The same with SACK: its blocks say more, and without one it is no news.
    wire.connection.flags |= crate::tcp::connection::SACKED;
    assert_eq!(wire.member(1, say(1, 101)).client, None);
}

/// The primary has answered a request of which the standby has missed the beginning, the client has the answer, and the
/// primary is dead.
fn behind() -> Wire {
    let mut wire = Wire::open();
    wire.client(say(1, 1).data(100));
    assert!(wire.member(0, say(1, 101).data(30)).client.is_some_and(|heard| heard.ack == 1));
    wire.client(say(101, 31));
    wire.scene.speaker = 1;
    wire.scene.protect = 0;
    wire
}

#[test]
fn a_survivor_that_has_yet_to_send_what_the_client_has_is_believed() {
    let mut wire = behind();
    // What it had missed comes again, and it says so with an old number of its own.
    wire.client(say(1, 31).data(100));
    let heard = wire.member(1, say(1, 101)).client.expect("an acknowledgement");
    assert_eq!((heard.seq, heard.ack), (31, 101), "as the client expects it, or it is dropped");
    // The same when it comes with the answer that the client has already.
    let mut wire = behind();
    wire.client(say(1, 31).data(100));
    let came = wire.member(1, say(1, 101).data(30));
    let heard = came.client.expect("its acknowledgement");
    assert_eq!((heard.seq, heard.ack, heard.payload, heard.flags), (31, 101, 0, ACK));
    assert!(came.told.is_some_and(|(slot, told)| slot == 1 && told.ack == 31), "{came:?}");
    // From then on it is where the client is.
    let heard = wire.member(1, say(31, 101).data(10)).client.expect("an answer");
    assert_eq!((heard.seq, heard.payload), (31, 10));
}

#[test]
fn a_survivor_that_is_behind_and_asks_for_a_window_is_answered_by_the_client() {
    let mut wire = behind();
    // The client's window was closed, and what it said when it opened was lost.
    wire.client(Say { window: 0, ..say(1, 31) });
    wire.member(1, say(1, 1));
    let came = wire.member(1, say(0, 1));
    let heard = came.client.expect("the question");
    assert_eq!((heard.seq, heard.payload, heard.flags), (30, 0, ACK), "old, or nobody answers it");
    assert!(came.told.is_some_and(|(slot, told)| slot == 1 && told.window == 0), "{came:?}");
}

#[test]
fn a_survivor_that_is_behind_is_believed_when_it_resets() {
    let mut wire = behind();
    let heard = wire.member(1, say(1, 1).with(super::super::segment::RST)).client.expect("a reset");
    assert_eq!(heard.seq, 31, "exact, or it is challenged");
}

#[test]
fn a_standby_that_says_what_it_misses_has_as_long_as_the_client_needs_to_send_it_again() {
    let ms = 1_000_000;
    for (rtt, sack, limit) in [(30, Some([151, 201]), 100), (30, None, 10), (0, Some([151, 201]), 10)] {
        let mut wire = primary_ahead();
        assert_eq!(wire.connection.rtt_ms, 0);
        wire.connection.rtt_ms = rtt;
        wire.client(say(151, 1).data(50));
        let missing = Say { sack, ..say(1, 101) };
        wire.member(1, missing);
        wire.pass(limit * ms - 1);
        assert_eq!(wire.member(1, missing).news & OPENED, 0, "{rtt} {sack:?}");
        wire.pass(1);
        assert_eq!(wire.member(1, missing).news & OPENED, OPENED, "{rtt} {sack:?}");
    }
}

#[test]
fn the_handshake_says_how_far_away_the_client_is() {
    for (took, rtt) in [(999_999, 0), (42_000_000, 42), (3_000_000_000, 500)] {
        let mut wire = Wire::answered();
        wire.pass(took);
        wire.client(say(1, 1));
        wire.pass(1_000_000_000);
        wire.client(say(1, 1).data(10));
        assert_eq!(wire.connection.rtt_ms, rtt);
    }
}

#[test]
fn who_guesses_ports_and_no_numbers_spoils_nothing() {
    let mut wire = Wire::open();
    wire.client(say(1, 1).data(1_000));
    for slot in [0, 1] {
        wire.member(slot, say(1, 1_001).data(500));
    }
    wire.client(say(1_001, 101));
    let before = wire.connection.client;
    let offered = wire.connection.out.right.wrapping_sub(C);
    // Ahead of what the client may send, or all old, with an acknowledgement, a clock and an end that nobody has had.
    for seq in [offered + 1, offered + 1_000, 1 << 29, 1u32.wrapping_sub(5_000)] {
        wire.client(say(seq, 501).data(10).at(1 << 30).with(super::super::segment::FIN));
        assert_eq!(wire.connection.client, before, "{seq:#x}");
    }
    assert_ne!(wire.connection.flags & crate::tcp::connection::UNHEARD, 0, "the old one may be the client's");
    // Its last word, and one byte that probes a closed window, are the client's.
    wire.client(say(offered, 501).data(1));
    assert_eq!(wire.connection.client.nxt.wrapping_sub(C), offered + 1);
    assert_eq!(wire.connection.client.ack.wrapping_sub(M[1]), 501);
}
