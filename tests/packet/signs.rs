//! Signs of life, what the data plane writes down of them, and the latch that fails over by them.

use std::time::Duration;

use hotpair_abi::count::Counter;
use hotpair_abi::heartbeat::State;
use hotpair_abi::{Epoch, GATEWAY_MAC, HOST_V4, ME_V4, Slot};

use crate::bench::{Bench, WEB, alone, boottime_ns, pair_mac, setup};
use crate::frames::{CLIENT_MAC, addressed, arp, heartbeat};
use crate::path::answer;
use crate::test_run::REDIRECT;

const MAC: [u8; 6] = pair_mac(WEB);

#[test]
fn a_heartbeat_writes_its_members_row() {
    alone(|| {
        let bench = Bench::new();
        let before = boottime_ns();
        bench.run_from_guest(WEB, Slot::Zero, &heartbeat(MAC, 11, 1, State::Starting));
        let first = bench.plane.member(WEB, Slot::Zero);
        assert!(first.last_beat_ns >= before && first.last_beat_ns <= boottime_ns());
        assert_eq!(first.streak_since_ns, first.last_beat_ns);
        assert_eq!((first.boot_id, first.sequence, first.sent_ns, first.requests), (11, 1, 3, 4));
        assert_eq!(
            (first.in_flight, first.interval_us, first.state, first.beats),
            (5, 6000, State::Starting as u32, 1)
        );
        bench.run_from_guest(WEB, Slot::Zero, &heartbeat(MAC, 11, 2, State::Serving));
        let second = bench.plane.member(WEB, Slot::Zero);
        assert!(second.last_beat_ns > first.last_beat_ns);
        assert_eq!(second.streak_since_ns, first.streak_since_ns, "the streak goes on");
        assert_eq!((second.sequence, second.state, second.beats), (2, State::Serving as u32, 2));
        std::thread::sleep(Duration::from_millis(30));
        bench.run_from_guest(WEB, Slot::Zero, &heartbeat(MAC, 11, 3, State::Serving));
        let third = bench.plane.member(WEB, Slot::Zero);
        assert_eq!(third.streak_since_ns, third.last_beat_ns, "a gap begins a new streak");
        assert_eq!(bench.plane.member(WEB, Slot::One), hotpair_abi::maps::Member::default());
    });
}

#[test]
fn with_probes_any_frame_is_a_sign_of_life() {
    alone(|| {
        let bench = Bench::new();
        let reply = arp(GATEWAY_MAC, MAC, 2, (MAC, ME_V4), (GATEWAY_MAC, HOST_V4));
        bench.run_from_guest(WEB, Slot::Zero, &reply);
        assert_eq!(bench.plane.member(WEB, Slot::Zero).beats, 0, "not with an agent");
        bench
            .plane
            .put_pair(WEB, &hotpair::dataplane::PairSetup { probe: true, ..setup(WEB, "web") })
            .expect("a pair");
        bench.run_from_guest(WEB, Slot::Zero, &addressed(&reply, GATEWAY_MAC, CLIENT_MAC));
        assert_eq!(bench.plane.member(WEB, Slot::Zero).beats, 0, "not with a stranger's MAC");
        bench.run_from_guest(WEB, Slot::Zero, &reply);
        let member = bench.plane.member(WEB, Slot::Zero);
        assert_eq!((member.beats, member.state), (1, State::Serving as u32));
        assert!(member.last_beat_ns != 0);
    });
}

/// The standby beats on for twice the timeout while nothing is heard of the active one.
#[test]
fn the_kernel_fails_over_once_by_itself() {
    alone(|| {
        let bench = Bench::new();
        let beat = |slot, sequence| {
            bench.run_from_guest(WEB, slot, &heartbeat(MAC, 1 + slot as u64, sequence, State::Serving));
        };
        let answer = answer(b"answer");
        let leaves = |slot| bench.run_from_guest(WEB, slot, &answer).verdict as i32 == REDIRECT;
        beat(Slot::Zero, 1);
        let start = std::time::Instant::now();
        for sequence in 1.. {
            beat(Slot::One, sequence);
            let tripped = bench.plane.tripped(WEB) == Bench::word().epoch();
            assert_eq!((leaves(Slot::Zero), leaves(Slot::One)), (!tripped, tripped));
            if tripped {
                break;
            }
            assert!(start.elapsed() < Duration::from_secs(2), "the latch has not tripped");
            std::thread::sleep(Duration::from_millis(2));
        }
        assert!(start.elapsed() >= Duration::from_millis(40), "only after twice the timeout");
        assert_eq!(bench.count(WEB, Counter::LatchTripped), 1);
        // The old one is back: the latch does not fall back.
        beat(Slot::Zero, 2);
        assert!(leaves(Slot::One) && !leaves(Slot::Zero));
        // The controller's next word voids it.
        bench.plane.set_role(WEB, Bench::word().with_epoch(Epoch(6)));
        assert!(leaves(Slot::Zero) && !leaves(Slot::One));
    });
}

#[test]
fn a_paused_pair_does_not_fail_over_by_itself() {
    alone(|| {
        let bench = Bench::new();
        bench.plane.set_role(WEB, Bench::word().with_paused(true));
        for sequence in 1..40 {
            bench.run_from_guest(WEB, Slot::One, &heartbeat(MAC, 2, sequence, State::Serving));
            std::thread::sleep(Duration::from_millis(2));
        }
        assert_eq!(bench.plane.tripped(WEB), Epoch(0));
    });
}
