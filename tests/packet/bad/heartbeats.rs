//! Heartbeats that nobody should believe: they keep nobody alive and fail nobody over.

use std::time::{Duration, Instant};

use hotpair_abi::count::Counter;
use hotpair_abi::event::Kind;
use hotpair_abi::heartbeat::{Heartbeat, LEN, PORT, State};
use hotpair_abi::{Epoch, GATEWAY_MAC, ME_V4, PEER_V4, Slot};

use crate::bench::{Bench, DB, WEB, alone, listening, pair_mac};
use crate::frames::{Ip, heartbeat, udp};

const MAC: [u8; 6] = pair_mac(WEB);

/// A datagram where a heartbeat would be.
fn datagram(bytes: &[u8]) -> Vec<u8> {
    udp(GATEWAY_MAC, MAC, Ip::V4(ME_V4), Ip::V4(PEER_V4), (PORT, PORT), bytes)
}

fn beat(boot_id: u64, sequence: u64) -> [u8; LEN] {
    let state = State::Serving;
    Heartbeat { state, boot_id, sequence, sent_ns: 3, requests: 4, in_flight: 5, interval_us: 6000 }
        .to_bytes()
}

/// Everything that is no heartbeat of this member's, by the counter that says why.
fn forged() -> Vec<(Counter, Vec<u8>)> {
    let changed = |at: usize, to: u8| {
        let mut bytes = beat(1, 1_000_000);
        bytes[at] = to;
        datagram(&bytes)
    };
    let of_the_peer =
        udp(GATEWAY_MAC, MAC, Ip::V4(PEER_V4), Ip::V4(ME_V4), (PORT, PORT), &beat(1, 1_000_000));
    let mut forged = vec![
        (Counter::SpoofedMac, heartbeat(pair_mac(DB), 1, 1_000_000, State::Serving)),
        (Counter::SpoofedAddress, of_the_peer),
        (Counter::HeartbeatStale, datagram(&beat(1, 99))),
        (Counter::HeartbeatStale, datagram(&beat(1, 100))),
        (Counter::HeartbeatOldBoot, datagram(&beat(9, 1_000_000))),
        (Counter::HeartbeatVersion, changed(4, 1)),
        (Counter::HeartbeatVersion, changed(4, 3)),
        (Counter::HeartbeatMalformed, changed(0, b'h')),
        (Counter::HeartbeatMalformed, datagram(&[&beat(1, 1_000_000)[..], &[0]].concat())),
        (Counter::HeartbeatMalformed, datagram(&[&beat(1, 1_000_000)[..], &[0; 1400]].concat())),
    ];
    forged.extend((0..LEN).map(|len| (Counter::HeartbeatMalformed, datagram(&beat(1, 1_000_000)[..len]))));
    for bit in 0..LEN * 8 {
        let mut bytes = beat(1, 1_000_000);
        bytes[bit / 8] ^= 1 << (bit % 8);
        let why = match bit / 8 {
            0..4 => Counter::HeartbeatMalformed,
            4 => Counter::HeartbeatVersion,
            _ => Counter::HeartbeatDamaged,
        };
        forged.push((why, datagram(&bytes)));
    }
    forged
}

#[test]
fn a_forged_heartbeat_is_counted_by_its_reason_and_is_no_sign_of_life() {
    alone(|| {
        let bench = Bench::new();
        // Of boot 9 before, of boot 1 now.
        bench.run_from_guest(WEB, Slot::Zero, &datagram(&beat(9, 500)));
        bench.run_from_guest(WEB, Slot::Zero, &datagram(&beat(1, 100)));
        let member = bench.plane.member(WEB, Slot::Zero);
        assert_eq!((member.boot_id, member.sequence, member.beats), (1, 100, 2));
        for (why, frame) in forged() {
            let before = bench.count(WEB, why);
            bench.run_from_guest(WEB, Slot::Zero, &frame);
            assert_eq!(bench.count(WEB, why), before + 1, "{why:?}: {frame:02x?}");
            let after = bench.plane.member(WEB, Slot::Zero);
            let same = (after.last_beat_ns, after.boot_id, after.sequence, after.state, after.beats);
            let were = (member.last_beat_ns, member.boot_id, member.sequence, member.state, member.beats);
            assert_eq!(same, were, "{why:?}: {frame:02x?}");
        }
        bench.run_from_guest(WEB, Slot::Zero, &datagram(&beat(1, 101)));
        assert_eq!(bench.plane.member(WEB, Slot::Zero).beats, 3, "the next real one counts");
    });
}

/// The latch trips after twice 20 ms of silence, for a standby that is heard: garbage is not hearing.
#[test]
fn forged_heartbeats_fail_nobody_over() {
    alone(|| {
        let bench = Bench::new();
        bench.run_from_guest(WEB, Slot::Zero, &datagram(&beat(1, 100)));
        bench.run_from_guest(WEB, Slot::One, &datagram(&beat(9, 500)));
        bench.run_from_guest(WEB, Slot::One, &datagram(&beat(1, 100)));
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(150) {
            for (_, frame) in forged() {
                bench.run_from_guest(WEB, Slot::One, &frame);
            }
        }
        assert_eq!(bench.plane.tripped(WEB), Epoch(0));
        assert_eq!(bench.count(WEB, Counter::LatchTripped), 0);
        // And real ones do: the silence was there all along. A pause of 20 ms, which a busy machine may make, is no streak.
        let begun = Instant::now();
        let mut sequence = 100;
        while bench.plane.tripped(WEB) == Epoch(0) && begun.elapsed() < Duration::from_secs(2) {
            sequence += 1;
            bench.run_from_guest(WEB, Slot::One, &datagram(&beat(1, sequence)));
            std::thread::sleep(Duration::from_millis(2));
        }
        assert_eq!(bench.plane.tripped(WEB), Bench::word().epoch());
    });
}

/// Valid ones in ever changing states are the member's own doing, but not the controller's burden.
#[test]
fn a_member_that_changes_its_state_with_every_heartbeat_does_not_flood_the_controller() {
    listening(async |bench, mut events| {
        let begun = Instant::now();
        let last = 5_001;
        for sequence in 1..=last {
            let state = if sequence % 2 == 0 { State::Failing } else { State::Serving };
            bench.run_from_guest(WEB, Slot::Zero, &heartbeat(MAC, 1, sequence, state));
        }
        let longest = begun.elapsed().as_millis() as usize + 2;
        std::thread::sleep(Duration::from_millis(2));
        bench.run_from_guest(WEB, Slot::Zero, &heartbeat(MAC, 1, last + 1, State::Stopping));
        let mut told = Vec::new();
        while let Ok(event) = tokio::time::timeout(Duration::from_millis(50), events.next()).await {
            assert_eq!(event.kind, Kind::StateChanged as u32);
            told.push(event.data[0]);
        }
        assert!(!told.is_empty() && told.len() <= longest, "{} events in {longest} ms", told.len());
        assert_eq!(told.last(), Some(&(State::Stopping as u8)), "the last change is told");
    });
}
