//! A switchover that drains, on the real path: requests and answers while the role word goes there and back.

use std::time::Duration;

use hotpair_abi::count::Counter;
use hotpair_abi::role::HANDOVER_LIMIT_NS;
use hotpair_abi::{Epoch, Slot};

use crate::bench::{Bench, WEB, alone};
use crate::frames::CLIENT_MAC;
use crate::path::{answer, on_the_wire, question};
use crate::ports::Port;

/// Requests at a steady pace through a whole switchover, there and back: each is answered exactly once.
#[test]
fn a_handover_loses_and_doubles_no_answer() {
    hand_over(true);
}

/// Only one member is asked: during the handover it must be the one whose answer may leave.
#[test]
fn a_handover_without_mirroring_asks_whoever_is_to_answer() {
    hand_over(false);
}

fn hand_over(mirror: bool) {
    alone(|| {
        let bench = Bench::new();
        let ask = |number: u32| question(&number.to_be_bytes());
        let tell = |number: u32| answer(&number.to_be_bytes());
        let number = |frame: &[u8]| u32::from_be_bytes(frame[42..46].try_into().expect("four bytes"));
        let mut epoch = 20;
        let mut sent = 0u32;
        let mut told = std::collections::BTreeMap::new();
        for active in [Slot::Zero, Slot::One] {
            let before = Bench::word().with_active(active).with_mirror(mirror);
            let words = [
                before.with_epoch(Epoch(epoch)),
                before.with_epoch(Epoch(epoch + 1)).with_handover(true),
                before.with_epoch(Epoch(epoch + 2)).with_active(active.other()),
            ];
            epoch += 3;
            for word in words {
                bench.plane.set_role(WEB, word);
                let asked = if word.handover() { active.other() } else { word.active() };
                let asked = Slot::BOTH.into_iter().filter(|slot| mirror || *slot == asked);
                for _ in 0..20 {
                    bench.client.send(&ask(sent));
                    for slot in asked.clone() {
                        let asked = bench.tap(WEB, slot).receive("the question", |frame| frame.len() == 46);
                        bench.tap(WEB, slot).send(&tell(number(&asked)));
                    }
                    sent += 1;
                }
            }
        }
        while let Some(frame) = bench.client.try_receive() {
            if frame.len() >= 46 && frame[..6] == CLIENT_MAC && frame[34..36] == 53u16.to_be_bytes() {
                *told.entry(number(&frame)).or_insert(0) += 1;
            }
        }
        assert_eq!(told.len() as u32, sent, "answered");
        assert!(told.values().all(|times| *times == 1), "each once: {told:?}");
        assert_eq!(bench.count(WEB, Counter::HandoverSuppressed) > 0, mirror);
    });
}

/// A question of before the handover whose answer comes within it: the old one's answer leaves, the new one's does not.
#[test]
fn an_answer_under_way_when_the_handover_begins_still_leaves() {
    alone(|| {
        let bench = Bench::new();
        bench.plane.set_role(WEB, Bench::word().with_epoch(Epoch(30)));
        bench.client.send(&question(b"slow"));
        for slot in Slot::BOTH {
            bench.tap(WEB, slot).receive("the question", |frame| frame.ends_with(b"slow"));
        }
        bench.plane.set_role(WEB, Bench::word().with_epoch(Epoch(31)).with_handover(true));
        for slot in [Slot::One, Slot::Zero] {
            bench.tap(WEB, slot).send(&answer(b"slow answer"));
        }
        bench.client.expect("the old one's answer", &on_the_wire(&answer(b"slow answer")));
        assert_eq!(bench.client.sees(|frame| frame.ends_with(b"slow answer")), None, "twice");
    });
}

/// A handover that nobody ends is over after its time: the old primary answers everybody, and the latch may trip again.
#[test]
fn a_handover_that_nobody_ends_is_taken_back() {
    alone(|| {
        let bench = Bench::new();
        let word = Bench::word().with_epoch(Epoch(36)).with_handover(true);
        bench.plane.set_role(WEB, word);
        let heard = |what: &[u8]| {
            bench.client.send(&question(what));
            for slot in Slot::BOTH {
                bench.tap(WEB, slot).receive("the question", |frame| frame.ends_with(what));
                bench.tap(WEB, slot).send(&answer(&[what, &[b'0' + slot as u8]].concat()));
            }
            bench
                .client
                .receive("an answer", |frame| frame[..frame.len() - 1].ends_with(what))
                .last()
                .copied()
        };
        assert_eq!(heard(b"within"), Some(b'1'), "it has gone over");
        std::thread::sleep(Duration::from_nanos(HANDOVER_LIMIT_NS));
        assert_eq!(heard(b"after"), Some(b'0'));
        assert_eq!(heard(b"within"), Some(b'0'), "that one, too");
    });
}

/// The standby is late when the handover begins: each conversation goes over when neither member owes it anything, so that
/// no answer leaves twice, and none not at all.
#[test]
fn a_conversation_goes_over_when_its_late_standby_has_caught_up() {
    alone(|| {
        let bench = Bench::new();
        bench.plane.set_role(WEB, Bench::word().with_epoch(Epoch(40)));
        bench.plane.watch(WEB);
        let ask = |number: u8| {
            bench.client.send(&question(&[b'q', number]));
            for slot in Slot::BOTH {
                bench.tap(WEB, slot).receive("the question", |frame| frame.ends_with(&[b'q', number]));
            }
        };
        let tell = |slot: Slot, number: u8| bench.tap(WEB, slot).send(&answer(&[b'a', number]));
        ask(1);
        tell(Slot::Zero, 1);
        tell(Slot::One, 1);
        ask(2);
        tell(Slot::Zero, 2);
        bench.plane.set_role(WEB, Bench::word().with_epoch(Epoch(41)).with_handover(true));
        ask(3);
        // Nobody has heard the new one yet: this must not be the second answer to that question.
        tell(Slot::One, 2);
        tell(Slot::Zero, 3);
        tell(Slot::One, 3);
        // Now it is even: from here on the new one answers.
        ask(4);
        tell(Slot::One, 4);
        tell(Slot::Zero, 4);
        bench.plane.set_role(WEB, Bench::word().with_epoch(Epoch(42)).with_active(Slot::One));
        ask(5);
        for slot in Slot::BOTH {
            tell(slot, 5);
        }
        let mut heard = Vec::new();
        while let Some(frame) = bench.client.try_receive() {
            if let [.., b'a', number @ 1..=5] = frame[..] {
                heard.push(number);
            }
        }
        assert_eq!(heard, [1, 2, 3, 4, 5]);
    });
}
