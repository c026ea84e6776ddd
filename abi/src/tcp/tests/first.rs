//! The first answer wins.

use super::*;
use crate::tcp::connection::OUT_FIN;
use crate::tcp::segment::{FIN, RST};
use crate::tcp::verdict::Verdict;

fn open() -> Wire {
    let mut wire = Wire::open();
    wire.scene.first = 1;
    wire.scene.compare = 1;
    wire
}

#[test]
fn the_standby_is_heard_when_it_is_faster_and_the_primary_then_is_not() {
    let mut wire = open();
    let heard = wire.client(say(1, 1).data(10)).map(|heard| heard.expect("both hear it").window);
    assert_eq!(heard, [500, 500], "nobody is held");
    let answer = wire.member(1, say(1, 11).data(50)).client.expect("the first answer");
    // The request is acknowledged when both have it, as ever.
    assert_eq!((answer.seq, answer.payload, answer.ack), (1, 50, 1));
    let later = wire.member(0, say(1, 11).data(50)).client.expect("both have the request now");
    assert_eq!((later.payload, later.seq, later.ack), (0, 51, 11));
    // The other way round.
    wire.client(say(11, 51).data(10));
    assert_eq!(wire.member(0, say(51, 21).data(5)).client.map(|heard| heard.payload), Some(5));
    assert_eq!(wire.member(1, say(51, 21).data(5)).client.map(|heard| heard.payload), Some(0));
    assert_eq!(
        wire.member(1, say(51, 21).data(5)).client.map(|heard| heard.payload),
        Some(5),
        "once more: it may be lost"
    );
    wire.client(say(21, 56));
    assert_eq!(wire.member(1, say(51, 21).data(5)).client, None, "the client has it");
}

#[test]
fn a_dead_primary_is_not_missed() {
    let mut wire = open();
    for round in 0..5 {
        wire.client(say(1 + 10 * round, 1 + 7 * round).data(10));
        let came = wire.member(1, say(1 + 7 * round, 11 + 10 * round).data(7));
        assert_eq!(came.client.map(|heard| (heard.seq, heard.payload)), Some((1 + 7 * round, 7)));
    }
    // It takes over in the middle of that.
    wire.scene.speaker = 1;
    wire.scene.protect = 0;
    assert_eq!(wire.client(say(51, 36))[1].expect("hears").ack, 36);
    let heard = wire.member(1, say(36, 51).data(7)).client.expect("goes on");
    assert_eq!((heard.seq, heard.ack, heard.payload), (36, 51, 7));
}

#[test]
fn the_end_is_said_by_both() {
    let mut wire = open();
    wire.client(say(1, 1).data(10));
    let heard = wire.member(1, say(1, 11).data(5).with(FIN)).client.expect("the answer");
    assert_eq!((heard.payload, heard.flags & FIN), (5, 0));
    let heard = wire.member(0, say(1, 11).data(5).with(FIN)).client.expect("the end");
    assert_eq!((heard.flags & FIN, wire.connection.flags & OUT_FIN), (FIN, OUT_FIN));
}

#[test]
fn a_difference_ends_it() {
    // The primary was first: the standby is not heard any more.
    let mut wire = open();
    assert_eq!(wire.sends(0, 1, b"one").1.client.map(|heard| heard.payload), Some(3));
    assert_eq!(wire.sends(1, 1, b"two, and more").1.client.map_or(0, |heard| heard.payload), 0);
    assert_eq!(wire.connection.verdict, Verdict::Diverged as u32);
    assert_eq!(wire.sends(0, 4, b" more").1.client.map(|heard| heard.payload), Some(5));
    // The standby was first, and the client has its bytes: nobody can go on.
    let mut wire = open();
    assert_eq!(wire.sends(1, 1, b"two").1.client.map(|heard| heard.payload), Some(3));
    wire.client(say(1, 4));
    // Three more of them are on their way to it: a reset behind these is believed.
    assert_eq!(wire.sends(1, 4, b"two").1.client.map(|heard| heard.payload), Some(3));
    let heard = wire.sends(0, 1, b"one, and more").1.client.expect("a reset");
    assert_eq!((heard.flags & RST, heard.seq, heard.payload), (RST, 7, 0));
    assert_eq!(wire.connection.verdict, Verdict::Lost as u32);
}

#[test]
fn a_primary_that_is_slower_is_heard_again_and_never_reset_for_it() {
    let mut wire = open();
    wire.client(say(1, 1).data(10));
    let answer = [7; 3000];
    assert_eq!(wire.sends(1, 1, &answer).1.client.map(|heard| heard.payload), Some(3000));
    // It says the same in smaller pieces, and takes its time.
    wire.sends(0, 1, &answer[..400]);
    wire.pass(2 * wire.scene.close_limit_ns);
    let (_, came) = wire.sends(0, 401, &answer[..400]);
    assert_eq!(came.client.map_or(0, |heard| heard.flags & RST), 0, "{came:?}");
    // The client has lost that.
    let (_, came) = wire.sends(0, 1, &answer[..400]);
    assert_eq!(came.client.map(|heard| (heard.seq, heard.payload)), Some((1, 400)));
    assert_eq!(wire.connection.verdict, Verdict::InSync as u32);
}

#[test]
fn an_answer_that_has_become_none_before_it_is_given_is_not_heard() {
    use crate::tcp::from_member::{ANSWER, SUPPRESS};
    use crate::tcp::verdict::Why;
    for differs in [true, false] {
        let mut wire = open();
        wire.client(say(1, 1).data(10));
        let segment = wire.of_member(1, say(1, 11).data(50));
        let mut out = Outcome::default();
        wire.connection.hear(1, &segment, &wire.scene, &mut out);
        assert_eq!(out.next, ANSWER);
        // Meanwhile, on another processor.
        if differs {
            wire.connection.judge(Verdict::Diverged, Why::Payload);
        }
        assert_eq!(wire.member(0, say(1, 11).data(50)).client.map(|heard| heard.payload), Some(50));
        wire.connection.answer(1, &segment, &wire.scene, &mut out);
        assert_eq!(out.how, SUPPRESS, "differs {differs}");
    }
}
