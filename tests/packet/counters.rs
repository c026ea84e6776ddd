//! Every counter is seen to rise: a reason that nothing can bring about is no reason.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use hotpair_abi::count::Counter;
use hotpair_abi::heartbeat::State;
use hotpair_abi::{Epoch, PairId, Slot};

use crate::bench::{AWAY, Bench, DB, WEB, alone, entry_v4, ifindex, pair_mac, tap_name};
use crate::frames::{CLIENT_MAC, CLIENT_V4, Ip, UPLINK_MAC, heartbeat, udp};
use crate::ports::Port;
use crate::{from_guest_table, from_host_table, from_uplink_table};

/// What no frame can bring about here, and why.
const OUT_OF_REACH: [(Counter, &str); 1] = [(
    Counter::UplinkRewriteFailed,
    "a driver without room behind the frame for an ND answer: neither veth nor tap is one",
)];

#[test]
fn every_counter_rises() {
    alone(|| {
        let bench = Bench::new();
        let mut seen = BTreeSet::new();
        seen.extend(from_uplink_table::all(&bench));
        seen.extend(from_guest_table::all(&bench));
        seen.extend(from_host_table::all(&bench));
        seen.extend(on_the_way_to_a_tap(&bench));
        let missing: Vec<_> = Counter::ALL
            .iter()
            .filter(|counter| {
                // Those of TCP connections rise where there are connections: tcp/counters.rs.
                !counter.name().starts_with("tcp_")
                    && !seen.contains(*counter)
                    && OUT_OF_REACH.iter().all(|(other, _)| other != *counter)
            })
            .collect();
        assert!(missing.is_empty(), "these never rose: {missing:?}");
        for (program, verified) in bench.plane.verified_instructions() {
            println!("{program}: {verified} instructions verified");
            assert!((1..200_000).contains(&verified), "{program} is close to the verifier's limit");
        }
    });
}

/// What a test run does not come by: devmap programs, unknown taps, the latch.
fn on_the_way_to_a_tap(bench: &Bench) -> BTreeSet<Counter> {
    bench.reset();
    let rows = || -> Vec<u64> { bench.counters().into_iter().flatten().map(|(_, count)| count).collect() };
    let before = rows();
    let question = udp(UPLINK_MAC, CLIENT_MAC, Ip::V4(CLIENT_V4), Ip::V4(entry_v4(WEB)), (1, 2), b"?");
    bench.plane.set_role(WEB, Bench::word().with_muted(Slot::One, true));
    bench.client.send(&question);
    bench.tap(WEB, Slot::Zero).receive("the question", |frame| frame.ends_with(b"?"));
    bench.plane.set_role(WEB, Bench::word());
    // A port that nobody has entered: the devmap knows the tap, PORTS does not.
    let path = crate::bench::bpf_dir().join("maps/PORTS");
    let ports = aya::maps::MapData::from_pin(path).expect("PORTS");
    let mut ports =
        aya::maps::HashMap::<_, u32, hotpair_abi::maps::Port>::try_from(aya::maps::Map::HashMap(ports))
            .expect("PORTS");
    let tap = ifindex(&tap_name(WEB, Slot::One));
    ports.remove(&tap).expect("removing a port");
    bench.client.send(&question);
    bench.tap(WEB, Slot::Zero).receive("the question", |frame| frame.ends_with(b"?"));
    bench.run_from_guest(WEB, Slot::One, &question);
    bench.attach(WEB, Slot::One);
    // It wants to hear the standby for twice 20 ms without a pause of 20 ms: who is kept waiting himself begins anew.
    let begun = Instant::now();
    let mut sequence = 0;
    while bench.plane.tripped(DB) == Epoch(0) && begun.elapsed() < Duration::from_secs(2) {
        sequence += 1;
        bench.run_from_guest(DB, Slot::One, &heartbeat(pair_mac(DB), 1, sequence, State::Serving));
        std::thread::sleep(Duration::from_millis(2));
    }
    let names = [None, Some(WEB), Some(DB), Some(AWAY)].iter().flat_map(|_: &Option<PairId>| Counter::ALL);
    let after = rows();
    names
        .zip(before.iter().zip(&after))
        .filter(|(_, (before, after))| after > before)
        .map(|(name, _)| *name)
        .collect()
}
