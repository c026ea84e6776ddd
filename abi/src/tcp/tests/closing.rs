//! FIN and RST.

use super::*;
use crate::tcp::connection::{CLOSED, GATE_OPEN};
use crate::tcp::segment::{FIN, RST};
use crate::tcp::verdict::Verdict;

#[test]
fn a_fin_waits_for_the_other_members() {
    let mut wire = Wire::open();
    let came = wire.member(0, say(1, 1).with(FIN));
    assert_eq!(came.client, None);
    let (slot, told) = came.told.expect("so that it can send its own");
    assert_eq!((slot, told.window), (1, 1));
    let heard = wire.member(1, say(1, 1).with(FIN)).client.expect("the second one passes");
    assert_eq!((heard.seq, heard.flags & FIN, heard.payload), (1, FIN, 0));
    // The client closes too, and all know it.
    let heard = wire.client(say(1, 2).with(FIN));
    assert_eq!(heard.map(|heard| heard.expect("hears").ack), [2, 2]);
    wire.member(0, say(2, 2));
    wire.member(1, say(2, 2));
    assert_ne!(wire.connection.flags & CLOSED, 0);
}

#[test]
fn a_fin_with_data_loses_the_fin_only() {
    let mut wire = Wire::open();
    let heard = wire.member(0, say(1, 1).data(10).with(FIN)).client.expect("the data");
    assert_eq!((heard.payload, heard.flags & FIN), (10, 0));
    // The client has it, the standby sends its own, and the FIN passes.
    wire.client(say(1, 11));
    let heard = wire.member(1, say(1, 1).data(10).with(FIN)).client.expect("the second one passes");
    assert_eq!((heard.seq, heard.flags & FIN), (11, FIN));
}

#[test]
fn a_killed_server_is_not_heard_to_die() {
    for dying in [say(1, 1).with(FIN), say(1, 1).with(RST)] {
        let mut wire = Wire::open();
        assert_eq!(wire.member(0, dying).client, None);
        wire.pass(1_000_000_000);
        assert_eq!(wire.member(0, dying).client, None);
        wire.scene.speaker = 1;
        let heard = wire.member(1, say(1, 1).data(5)).client.expect("goes on");
        assert_eq!((heard.seq, heard.payload), (1, 5));
        assert_eq!(wire.connection.verdict, Verdict::InSync as u32);
    }
}

#[test]
fn a_close_of_only_one_is_believed_after_a_while() {
    let mut wire = Wire::open();
    assert_eq!(wire.member(0, say(1, 1).with(FIN)).client, None);
    wire.pass(6_000_000_000);
    let heard = wire.member(0, say(1, 1).with(FIN)).client.expect("believed");
    assert_eq!(heard.flags & FIN, FIN);
    assert_eq!(wire.connection.verdict, Verdict::Diverged as u32);
}

#[test]
fn both_resets_are_one() {
    let mut wire = Wire::open();
    assert_eq!(wire.member(0, say(1, 1).with(RST)).client, None);
    let heard = wire.member(1, say(1, 1).with(RST)).client.expect("the second one passes");
    assert_eq!((heard.seq, heard.flags & RST), (1, RST));
    assert_ne!(wire.connection.flags & CLOSED, 0);
}

#[test]
fn a_standby_that_resets_is_not_waited_for() {
    let mut wire = Wire::open();
    wire.client(say(1, 1).data(10));
    assert_eq!(wire.member(0, say(1, 11)).client, None);
    let heard = wire.member(1, say(1, 1).with(RST)).client.expect("what waited");
    assert_eq!((heard.ack, heard.flags & RST), (11, 0));
    assert_eq!(wire.connection.verdict, Verdict::Diverged as u32);
}

#[test]
fn a_row_is_forgotten_when_nobody_speaks_of_it_any_more() {
    let past = |wire: &Wire, seconds: u64| {
        let now_ns = wire.scene.now_ns + seconds * 1_000_000_000;
        wire.connection.is_past(&Scene { now_ns, ..wire.scene })
    };
    let mut opening = Wire::new();
    opening.syn();
    assert!(!past(&opening, 62) && past(&opening, 64));
    let open = Wire::open();
    assert!(!past(&open, 24 * 3600), "an idle connection lives");
    // Unless it was sent something, and no word has come back: its server has given up long ago.
    let mut deserted = Wire::open();
    deserted.member(0, say(1, 1).data(100));
    assert!(!past(&deserted, 3599) && past(&deserted, 3601));
    deserted.client(say(1, 101));
    assert!(!past(&deserted, 24 * 3600));
    let mut closed = Wire::open();
    closed.connection.flags |= CLOSED;
    assert!(!past(&closed, 59) && past(&closed, 61));
    // Its client was told so, and will not speak of it again.
    let mut lost = Wire::open();
    lost.scene.speaker = 1;
    assert!(!past(&lost, 61), "it goes on");
    lost.scene.since_ns[1] = lost.scene.now_ns + 1;
    assert!(!past(&lost, 59) && past(&lost, 61));
    // Two takeovers in which nobody has said anything on it: the same slot speaks again, and another member is in it.
    let mut silent = Wire::open();
    silent.scene.since_ns = [silent.scene.now_ns + 1; 2];
    assert!(!past(&silent, 59) && past(&silent, 61));
}

#[test]
fn a_reset_that_is_said_once_reaches_the_client_when_the_standby_speaks_late() {
    let mut wire = Wire::open();
    assert_eq!(wire.member(0, say(1, 1).with(RST)).client, None);
    wire.pass(4_000_000_000);
    assert_eq!(wire.member(1, say(0, 1)).client, None, "still waited for");
    wire.pass(2_000_000_000);
    let heard = wire.member(1, say(0, 1)).client.expect("told");
    assert_eq!((heard.seq, heard.flags & RST), (1, RST));
    assert_eq!(wire.connection.verdict, Verdict::Diverged as u32);
}

#[test]
fn a_killed_server_is_not_heard_to_die_because_the_standby_is_late() {
    let mut wire = Wire::open();
    wire.client(say(1, 1).data(100));
    wire.member(0, say(1, 101));
    wire.pass(wire.scene.lag_limit_ns);
    let scene = wire.scene;
    wire.connection.look_again(&scene, &mut Outcome::default());
    assert!(wire.connection.has(GATE_OPEN) && !wire.connection.survives(1, &scene), "it is late");
    assert_eq!(wire.member(0, say(1, 101).with(FIN)).client, None);
    assert_eq!(wire.member(0, say(2, 101).with(RST)).client, None);
    wire.member(1, say(1, 101));
    assert!(!wire.connection.has(GATE_OPEN) && wire.connection.survives(1, &scene), "it was late");
    wire.pass(scene.lag_limit_ns * 11);
    assert_eq!(wire.member(0, say(1, 101).with(FIN)).client, None, "nor later, now");
    // But nobody waits for long for one that does not come.
    wire.client(say(101, 1).data(100));
    wire.member(0, say(2, 201));
    wire.pass(scene.lag_limit_ns);
    let scene = wire.scene;
    wire.connection.look_again(&scene, &mut Outcome::default());
    assert!(wire.member(0, say(2, 201).with(RST)).client.is_some());
}

#[test]
fn a_connection_whose_last_word_the_watchdog_says_is_over() {
    let mut wire = Wire::open();
    for slot in [0, 1] {
        wire.member(slot, say(1, 1).with(FIN));
    }
    wire.client(say(1, 2).with(FIN));
    assert_eq!(wire.member(0, say(2, 2)).client, None, "it waits for the standby");
    wire.pass(10_000_000);
    let mut out = Outcome::default();
    assert_eq!(wire.connection.look_again(&wire.scene, &mut out), crate::tcp::late::TELL);
    assert_ne!(wire.connection.flags & CLOSED, 0);
}

#[test]
fn who_has_closed_waits_less_long_for_a_client_that_is_gone() {
    let mut wire = Wire::open();
    for slot in [0, 1] {
        wire.member(slot, say(1, 1).with(FIN));
    }
    wire.pass(1000 * 1_000_000_000);
    assert!(!wire.connection.is_past(&wire.scene));
    wire.pass(1);
    assert!(wire.connection.is_past(&wire.scene));
}
