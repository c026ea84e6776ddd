//! Whose an address is, is found in `INDEX` while there is one, and in `ENTRIES` otherwise.

use std::net::IpAddr;

use aya::maps::{Array, HashMap, Map, MapData};
use hotpair::dataplane::PairSetup;
use hotpair_abi::PairId;
use hotpair_abi::count::Counter;
use hotpair_abi::maps::{Entry, Host};

use crate::adopt::while_questions_flow;
use crate::bench::{Bench, DB, WEB, alone, bpf_dir, entry_v4, entry_v6, setup};
use crate::frames::{CLIENT_MAC, CLIENT_V4, CLIENT_V6, Ip, UPLINK_MAC, udp};

fn map(name: &str) -> MapData {
    MapData::from_pin(bpf_dir().join("maps").join(name)).expect("a pinned map")
}

fn is_indexed() -> bool {
    let host = Array::<_, Host>::try_from(Map::Array(map("HOST"))).expect("HOST");
    host.get(&0, 0).expect("its row").spread.mask != 0
}

/// A packet for this address goes to this pair's members, or is left to the host.
fn goes_to(bench: &Bench, address: IpAddr, pair: Option<PairId>) {
    let (src, dst) = match address {
        IpAddr::V4(v4) => (Ip::V4(CLIENT_V4), Ip::V4(v4.octets())),
        IpAddr::V6(v6) => (Ip::V6(CLIENT_V6), Ip::V6(v6.octets())),
    };
    let before = bench.counters();
    bench.run_from_uplink(&udp(UPLINK_MAC, CLIENT_MAC, src, dst, (4000, 53), b"?"));
    for (row, (after, before)) in bench.counters().iter().zip(&before).enumerate() {
        for ((counter, after), (_, before)) in after.iter().zip(before) {
            let expected = match pair {
                Some(pair) => row == pair.0 as usize + 1 && *counter == Counter::UplinkMirrored,
                None => row == 0 && *counter == Counter::UplinkPassed,
            };
            assert_eq!(after - before, u64::from(expected), "{address}: row {row}, {counter:?}");
        }
    }
}

fn each_goes_where_it_belongs(bench: &Bench) {
    for pair in [WEB, DB] {
        goes_to(bench, entry_v4(pair).into(), Some(pair));
        goes_to(bench, entry_v6(pair).into(), Some(pair));
    }
    for nobodys in ["192.0.2.99", "203.0.113.1", "2001:db8::1:99", "2001:db8:1::"] {
        goes_to(bench, nobodys.parse().expect("an address"), None);
    }
}

#[test]
fn with_and_without_an_index_an_address_is_its_pairs() {
    alone(|| {
        let bench = Bench::new();
        assert!(is_indexed());
        each_goes_where_it_belongs(&bench);
        let old = setup(WEB, "web");
        let new: Vec<IpAddr> = vec![[192, 0, 2, 77].into(), entry_v6(WEB).into()];
        bench.plane.put_pair(WEB, &PairSetup { entry: new.clone(), ..old.clone() }).expect("a pair");
        assert!(!is_indexed(), "an index of what is no more");
        for _ in 0..2 {
            goes_to(&bench, new[0], Some(WEB));
            goes_to(&bench, entry_v4(WEB).into(), None);
            goes_to(&bench, entry_v6(WEB).into(), Some(WEB));
            goes_to(&bench, entry_v4(DB).into(), Some(DB));
            bench.plane.index_entries().expect("an index");
            assert!(is_indexed());
        }
        // What is there already is no change.
        bench.plane.put_pair(WEB, &PairSetup { entry: new, ..old.clone() }).expect("a pair");
        assert!(is_indexed());
        bench.plane.remove_pair(DB).expect("removing");
        assert!(!is_indexed());
        goes_to(&bench, entry_v4(DB).into(), None);
        bench.plane.put_pair(WEB, &old).expect("a pair");
        goes_to(&bench, entry_v4(WEB).into(), Some(WEB));
    });
}

#[test]
fn the_index_is_what_is_asked() {
    alone(|| {
        let bench = Bench::new();
        // Behind the controller's back: nobody but the index knows it now.
        let mut entries =
            HashMap::<_, [u8; 16], Entry>::try_from(Map::HashMap(map("ENTRIES"))).expect("ENTRIES");
        entries.remove(&entry_v6(WEB)).expect("it was there");
        goes_to(&bench, entry_v6(WEB).into(), Some(WEB));
        goes_to(&bench, entry_v6(DB).into(), Some(DB));
    });
}

#[test]
fn making_an_index_and_taking_it_away_loses_no_packet() {
    alone(|| {
        let Bench { plane, client, taps, uplink: _ } = Bench::new();
        let with = |addresses: u8| {
            let mut setup = setup(DB, "db");
            setup.entry.extend((0..addresses).map(|last| IpAddr::from([198, 51, 100, last])));
            setup
        };
        while_questions_flow(&client, &taps[0], || {
            for round in 0..20 {
                plane.put_pair(DB, &with(round)).expect("a pair");
                plane.index_entries().expect("an index");
            }
        });
    });
}
