//! A planned switchover: what it waits for, and whom a connection belongs to while it drains.

use super::*;
use crate::tcp::connection::{CLOSED, GATE_OPEN};
use crate::tcp::from_member::OPENED;
use crate::tcp::pace::AHEAD;
use crate::tcp::plan::UNPLANNED;
use crate::tcp::segment::{CWR, PSH, RST};
use crate::tcp::verdict::{Verdict, Why};

const LIMIT: u64 = 10_000_000;

impl Wire {
    /// As `open`, but slot 1 first: the client lives in the numbers of slot 0, which speaks.
    fn of_the_old_one() -> Wire {
        let mut wire = Wire::new();
        wire.shake();
        assert_eq!(wire.base, Some(0));
        wire
    }

    fn shake(&mut self) {
        self.syn();
        self.member(1, say(0, 1).with(SYN));
        self.member(0, say(0, 1).with(SYN));
        self.client(say(1, 1));
    }

    /// The client has sent a hundred bytes and seen them acknowledged. The standby does not have them.
    fn lacks_a_hundred(mut self) -> Wire {
        self.client(say(1, 1).data(100));
        self.member(0, say(1, 101));
        self.pass(LIMIT);
        let came = self.member(0, say(1, 101));
        assert_eq!(came.client.map(|heard| heard.ack), Some(101));
        self
    }

    /// The handover begins, and the conversation goes over to slot 1.
    fn goes_over(&mut self) {
        (self.scene.handover, self.scene.speaker) = (1, 1);
    }

    /// As the programs do it: whose connection it is, is settled for each segment.
    fn settled<T>(&mut self, then: impl FnOnce(&mut Wire) -> T) -> T {
        let scene = self.scene;
        self.connection.settle(&mut self.scene);
        let result = then(self);
        self.scene = scene;
        result
    }

    /// A segment of the client that is planned: what both hear. `None`: there is no plan.
    fn planned(&mut self, say: Say) -> Option<[Option<Heard>; 2]> {
        let segment = self.of_client(say);
        self.connection.from_client(&segment, self.scene.now_ns);
        self.settled(|wire| {
            let copies = [0, 1].map(|slot| {
                let mut edit = Edit::default();
                let how = wire.connection.to_copy(slot, &segment, &wire.scene, &mut edit);
                (how != UNPLANNED).then(|| Self::copy(slot, how, &edit, &segment))
            });
            let [Some(zero), Some(one)] = copies else { return None };
            Some([zero, one])
        })
    }

    fn answers(&mut self, slot: u32, say: Say) -> Came {
        self.settled(|wire| wire.member(slot, say))
    }

    fn is_behind(&self) -> bool {
        self.connection.is_behind(&self.scene)
    }

    fn is_lost(&self) -> bool {
        self.connection.is_lost(&self.scene)
    }

    fn verdict_is(&self, verdict: Verdict, why: Why) -> bool {
        (self.connection.verdict, self.connection.why) == (verdict as u32, why as u32)
    }
}

#[test]
fn a_standby_that_lacks_what_was_acknowledged_is_behind() {
    let mut wire = Wire::open();
    assert!(!wire.is_behind());
    wire.client(say(1, 1).data(100));
    wire.member(0, say(1, 101));
    assert!(!wire.is_behind(), "the client was not told yet");
    let mut wire = Wire::open().lacks_a_hundred();
    assert!(wire.is_behind());
    wire.member(1, say(1, 100));
    assert!(wire.is_behind(), "a byte is missing");
    wire.member(1, say(1, 101));
    assert!(!wire.is_behind());
}

#[test]
fn a_standby_that_is_far_from_having_answered_is_behind() {
    const HALF: u32 = AHEAD / 2;
    let mut wire = Wire::of_the_old_one();
    for at in (1..HALF).step_by(HALF as usize / 4) {
        wire.member(0, say(at, 1).data(HALF / 4));
        assert!(!wire.is_behind(), "what the client has not got does not count");
        wire.client(say(1, at + HALF / 4));
    }
    assert!(!wire.is_behind(), "half is not far");
    wire.member(0, say(HALF + 1, 1).data(1));
    wire.client(say(1, HALF + 2));
    assert!(wire.is_behind(), "a byte more is");
    wire.member(1, say(1, 1).data(1));
    assert!(!wire.is_behind());
}

#[test]
fn who_could_not_go_on_anyhow_makes_no_switchover_wait() {
    let behind = || {
        let wire = Wire::open().lacks_a_hundred();
        assert!(wire.is_behind());
        wire
    };
    // The client has ended it.
    let mut wire = behind();
    wire.client(say(101, 1).with(RST));
    assert_eq!(wire.connection.flags & CLOSED, CLOSED);
    assert!(!wire.is_behind(), "closed");
    // The members have sent different bytes.
    let mut wire = behind();
    wire.scene.compare = 1;
    wire.sends(0, 1, b"one");
    wire.sends(1, 1, b"two");
    assert!(wire.verdict_is(Verdict::Diverged, Why::Payload) && !wire.is_behind(), "diverged");
    // The standby's present member has come later than the connection.
    let mut wire = behind();
    wire.scene.since_ns[1] = wire.scene.now_ns;
    assert!(!wire.is_behind(), "unknown");
    // It has begun without a standby.
    let mut wire = Wire::new();
    wire.scene.protect = 0;
    wire.syn();
    wire.member(0, say(0, 1).with(SYN));
    wire.member(1, say(0, 1).with(SYN));
    wire.base = Some(0);
    wire.client(say(1, 1).data(100));
    wire.scene.protect = 1;
    assert_eq!(wire.member(0, say(1, 101)).client.map(|heard| heard.ack), Some(101));
    assert!(wire.verdict_is(Verdict::Unprotected, Why::NoStandby) && !wire.is_behind(), "unprotected");
    // It has only begun to begin: the client has no SYN-ACK, and nothing was promised to it.
    let mut wire = Wire::new();
    wire.syn();
    wire.member(1, say(0, 1).with(SYN));
    wire.connection.verdict = Verdict::InSync as u32;
    wire.connection.out.ack = C.wrapping_add(101);
    assert!(!wire.is_behind(), "opening");
}

#[test]
fn who_cannot_go_on_yet_stays_with_the_old_one() {
    let mut wire = Wire::of_the_old_one().lacks_a_hundred();
    wire.goes_over();
    for round in 0..3 {
        assert!(!wire.is_lost());
        // The old one is the one who is asked, the other one is held.
        let [old, new] = wire.planned(say(101, 1).data(10)).expect("a plan");
        let (old, new) = (old.expect("hears"), new.expect("hears"));
        assert_eq!((old.seq, old.ack, old.window, old.flags), (101, 1, 500, ACK | PSH), "round {round}");
        assert_eq!((new.seq, new.ack, new.window, new.flags), (101, 1, 0, ACK | PSH | CWR));
        // And its answer is the one that is heard.
        assert_eq!(wire.answers(1, say(1, 1).data(5)).client, None);
        let heard = wire.answers(0, say(1, 101).data(5)).client.expect("the old one's answer");
        assert_eq!((heard.seq, heard.ack, heard.payload), (1, 101, 5));
        assert!(wire.verdict_is(Verdict::InSync, Why::Well) && wire.connection.speaker == 0);
        wire.pass(LIMIT);
    }
}

#[test]
fn who_has_caught_up_turns_and_is_not_lost() {
    for turns_with_an_answer in [false, true] {
        let mut wire = Wire::of_the_old_one().lacks_a_hundred();
        wire.client(say(101, 1).data(10));
        wire.goes_over();
        // What it says as it catches up is still the standby's.
        let came = wire.answers(1, say(1, 111));
        assert!(came.client.is_none_or(|heard| heard.payload == 0), "{came:?}");
        assert_eq!(wire.connection.speaker, 0);
        if !turns_with_an_answer {
            let [old, new] = wire.planned(say(111, 1).data(10)).expect("a plan");
            let (old, new) = (old.expect("hears"), new.expect("hears"));
            assert_eq!((new.seq, new.ack, new.window, new.flags), (111, 1, 500, ACK | PSH));
            assert_eq!((old.seq, old.ack, old.window, old.flags), (111, 1, 0, ACK | PSH | CWR));
            assert_eq!(wire.connection.speaker, 1);
        }
        let heard = wire.answers(1, say(1, 111).data(70)).client.expect("the new one's answer");
        assert_eq!((heard.seq, heard.payload), (1, 70));
        assert_eq!(wire.answers(0, say(1, 111).data(70)).client.map_or(0, |heard| heard.payload), 0);
        // The client has the answer; each is told of it in its own numbers.
        let [old, new] = wire.planned(say(111, 71)).expect("a plan");
        assert_eq!(new.map(|heard| (heard.seq, heard.ack, heard.window)), Some((111, 71, 500)));
        assert_eq!(old.map(|heard| (heard.seq, heard.ack, heard.window)), Some((111, 71, 0)));
        assert!(wire.verdict_is(Verdict::InSync, Why::Well) && !wire.is_lost());
        assert_eq!((wire.connection.speaker, wire.connection.flags & GATE_OPEN), (1, 0));
        // When the handover ends, nothing changes any more.
        wire.scene.handover = 0;
        let [_, new] = wire.planned(say(111, 71).data(10)).expect("a plan");
        assert_eq!(new.map(|heard| (heard.seq, heard.ack, heard.window)), Some((111, 71, 500)));
        assert!(wire.verdict_is(Verdict::InSync, Why::Well) && !wire.is_lost());
    }
}

#[test]
fn who_has_not_caught_up_when_the_handover_ends_is_lost() {
    let ended = || {
        let mut wire = Wire::of_the_old_one().lacks_a_hundred();
        wire.goes_over();
        wire.planned(say(101, 1)).expect("a plan");
        let syn = Segment { flags: SYN, seq: C.wrapping_add(5_000), ..Segment::default() };
        assert!(!wire.is_lost() && !wire.connection.is_begun_anew_by(&syn, &wire.scene));
        wire.scene.handover = 0;
        assert!(wire.is_lost(), "before anybody says anything");
        assert!(wire.connection.is_begun_anew_by(&syn, &wire.scene));
        wire
    };
    let mut wire = ended();
    assert_eq!(wire.planned(say(101, 1)), None, "that is not planned");
    assert!(wire.verdict_is(Verdict::Lost, Why::Behind));
    // The new one's half is ended, with the numbers that it believes; the old one is not asked any more.
    let [old, new] = wire.client(say(101, 1).data(10));
    assert_eq!(old, None);
    assert_eq!(new.map(|heard| (heard.seq, heard.ack, heard.flags)), Some((1, 1, RST | ACK)));
    // So is the client's, be it that the new one speaks first.
    let mut wire = ended();
    let heard = wire.answers(1, say(1, 1).data(5)).client.expect("a reset");
    assert_eq!((heard.seq, heard.ack, heard.flags, heard.payload), (1, 101, RST | ACK, 0));
    assert!(wire.verdict_is(Verdict::Lost, Why::Behind));
    assert_eq!(wire.answers(0, say(1, 101).data(5)).client, None);
}

#[test]
fn a_handover_that_is_taken_back_has_changed_nothing() {
    let mut wire = Wire::of_the_old_one().lacks_a_hundred();
    wire.goes_over();
    wire.planned(say(101, 1)).expect("a plan");
    (wire.scene.handover, wire.scene.speaker) = (0, 0);
    assert!(!wire.is_lost());
    let [old, _] = wire.planned(say(101, 1)).expect("a plan");
    assert_eq!(old.map(|heard| (heard.ack, heard.window)), Some((1, 500)));
    assert!(wire.verdict_is(Verdict::InSync, Why::Well) && wire.connection.speaker == 0);
}

#[test]
fn a_member_that_knows_nothing_loses_a_connection_only_when_the_handover_ends() {
    let mut wire = Wire::of_the_old_one();
    wire.pass(1);
    wire.scene.since_ns[1] = wire.scene.now_ns;
    wire.goes_over();
    assert!(!wire.is_lost());
    let [old, new] = wire.planned(say(1, 1).data(10)).expect("a plan");
    assert_eq!((old.map(|heard| heard.window), new), (Some(500), None));
    wire.scene.handover = 0;
    assert!(wire.is_lost());
    // By the slot alone it would not be noticed: the same one speaks, and another member is in it.
    let mut wire = Wire::of_the_old_one();
    wire.pass(1);
    wire.scene.since_ns[0] = wire.scene.now_ns;
    wire.scene.handover = 1;
    assert!(!wire.is_lost());
    wire.scene.handover = 0;
    assert!(wire.is_lost());
}

#[test]
fn a_connection_that_begins_during_a_handover_is_the_new_ones() {
    let mut wire = Wire::new();
    wire.goes_over();
    wire.syn();
    assert_eq!(wire.answers(0, say(0, 1).with(SYN)).client, None);
    assert_eq!(wire.connection.speaker, 1);
    assert!(wire.answers(1, say(0, 1).with(SYN)).client.is_some());
    let [old, new] = wire.planned(say(1, 1)).expect("a plan");
    assert_eq!([old, new].map(|heard| heard.map(|heard| heard.window)), [Some(0), Some(500)]);
}

#[test]
fn during_a_handover_the_gate_stays_closed() {
    let mut wire = Wire::open();
    wire.client(say(1, 1).data(100));
    wire.scene.handover = 1;
    wire.member(0, say(1, 101));
    wire.pass(3 * LIMIT);
    assert_eq!(wire.answers(0, say(1, 101)).news & OPENED, 0);
    wire.scene.handover = 0;
    assert_eq!(wire.answers(0, say(1, 101)).news & OPENED, OPENED);
}
