//! A client that waits while nobody speaks.

use super::*;
use crate::tcp::from_member::{LATE, OPENED};
use crate::tcp::late::{AGAIN, DONE, TELL};

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
