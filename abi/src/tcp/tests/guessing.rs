//! Strangers who guess addresses and ports, and some of the numbers.

use super::*;
use crate::tcp::connection::{ANSWERED, CLOSED, HELD, RST_SEEN};
use crate::tcp::segment::RST;
use crate::tcp::verdict::Verdict;

/// The client has asked, and both members have answered.
fn asked() -> Wire {
    let mut wire = Wire::open();
    wire.client(say(1, 1).data(1_000));
    for slot in [0, 1] {
        wire.member(slot, say(1, 1_001).data(500));
    }
    wire
}

#[test]
fn an_acknowledgement_of_what_nobody_has_sent_is_not_made_a_right_one() {
    let mut wire = asked();
    let before = wire.connection;
    for ack in [502, 100_000, 1 << 30, 0x8000_0000] {
        let [speaker, standby] = wire.client(say(1_001, ack).data(10));
        assert_eq!(speaker.map(|heard| heard.ack), Some(ack), "for its kernel to drop");
        assert_eq!(standby, None);
        assert_eq!(wire.connection, before);
    }
    // What the client may have heard the standby, which has not said so much yet, is told as far as it has.
    let mut wire = Wire::open();
    wire.member(0, say(1, 1).data(500));
    assert_eq!(wire.client(say(1, 501)).map(|heard| heard.map(|heard| heard.ack)), [Some(501), Some(1)]);
}

#[test]
fn an_acknowledgement_that_is_older_than_the_clients_window_is_a_strangers() {
    let mut wire = asked();
    wire.client(say(1_001, 501));
    let before = wire.connection.client;
    let window = 0xffff << SHIFT;
    wire.client(say(1_001, 501u32.wrapping_sub(window + 1)).data(10).at(1 << 30));
    assert_eq!(wire.connection.client, before);
    wire.client(say(1_001, 501u32.wrapping_sub(window)).data(10));
    assert_eq!(wire.connection.client.nxt.wrapping_sub(C), 1_011, "overtaken on its way");
}

#[test]
fn the_first_acknowledgement_is_of_the_syn_ack() {
    let mut wire = Wire::answered();
    for ack in [0, 0u32.wrapping_sub(1 << 29), 2] {
        wire.client(say(1, ack));
        assert_eq!(wire.connection.flags & ANSWERED, 0, "{ack:#x}");
    }
    wire.client(say(1, 1));
    assert_ne!(wire.connection.flags & ANSWERED, 0);
}

#[test]
fn a_reset_that_answers_a_stranger_ends_nothing() {
    let mut wire = asked();
    for slot in [0, 1] {
        for seq in [502, 70_000, 1 << 29, 0u32.wrapping_sub(1), 1u32.wrapping_sub(70_000)] {
            let came = wire.member(slot, say(seq, 0).with(RST));
            // As it is numbered, the client does not believe it.
            assert_eq!(came.client.map(|heard| heard.seq), (slot == 0).then_some(seq));
            assert_eq!(wire.connection.half[slot as usize].flags & (HELD | RST_SEEN), 0, "{slot} {seq:#x}");
        }
    }
    assert_eq!((wire.connection.flags & CLOSED, wire.connection.verdict), (0, Verdict::InSync as u32));
    // A server that was killed, and one that never heard of the connection.
    for seq in [501, 1] {
        let mut wire = asked();
        assert_eq!(wire.member(0, say(seq, 0).with(RST)).client, None, "held");
        assert_ne!(wire.connection.half[0].flags & (HELD | RST_SEEN), 0);
    }
}

#[test]
fn who_answers_a_handshake_with_other_numbers_is_told_in_those() {
    let mut wire = Wire::answered();
    // The kernel of the speaker resets what it was given (RFC 9293 section 3.10.7.4): as it is, or that client would not believe it.
    let theirs = 0x7777_7777;
    let came = wire.member(0, say(theirs, 0).with(RST));
    assert_eq!(came.client.map(|heard| heard.seq), Some(M[0].wrapping_add(theirs).wrapping_sub(M[1])));
    wire.client(say(1, 1));
    wire.pass(6_000_000_000);
    assert_eq!(wire.member(1, say(1, 1).data(10)).client, None, "nobody is reset for that later");
    assert_eq!(wire.connection.verdict, Verdict::InSync as u32);
}

#[test]
fn a_stranger_does_not_say_where_the_client_is() {
    let mut wire = asked();
    let (mac, other) = ([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
    let client = wire.of_client(say(1_001, 501));
    wire.connection.from_client_at(&client, mac, wire.scene.now_ns);
    assert_eq!(wire.connection.mac, mac);
    let stranger = wire.of_client(say(1 << 29, 501));
    wire.connection.from_client_at(&stranger, other, wire.scene.now_ns);
    assert_eq!(wire.connection.mac, mac);
    wire.connection.from_client_at(&client, other, wire.scene.now_ns);
    assert_eq!(wire.connection.mac, other, "the client comes by another router");
}
