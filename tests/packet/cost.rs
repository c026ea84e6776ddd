//! What a frame costs in the programs themselves, by BPF_PROG_TEST_RUN: without drivers, copies and redirects.
//!
//! `cargo test -p hotpair-tests --test packet cost -- --ignored --nocapture`

use hotpair_abi::count::Counter;
use hotpair_abi::{GATEWAY_MAC, Slot};

use crate::bench::{Bench, WEB, alone, entry_v4, entry_v6, ifindex, setup, tap_name};
use crate::frames::{CLIENT_MAC, CLIENT_V4, CLIENT_V6, Ip, UPLINK_MAC, udp};
use crate::test_run::{TIMES, tc_cost, xdp_cost};

const ROUNDS: u32 = 15;

#[test]
#[ignore = "a measurement, not a promise"]
fn what_a_frame_costs() {
    alone(|| {
        let bench = Bench::new();
        // All runs are of one and the same frame, which must be the next one's as it was: it goes to the MAC it came to.
        let mut pair = setup(WEB, "web");
        pair.mac = UPLINK_MAC;
        bench.plane.put_pair(WEB, &pair).expect("another MAC");
        let (v4, v6) = (Ip::V4(entry_v4(WEB)), Ip::V6(entry_v6(WEB)));
        let (client4, client6) = (Ip::V4(CLIENT_V4), Ip::V6(CLIENT_V6));
        let ask = |src, dst| udp(UPLINK_MAC, CLIENT_MAC, src, dst, (1, 2), &[0; 64]);
        let tell = |src, dst| udp(GATEWAY_MAC, UPLINK_MAC, src, dst, (2, 1), &[0; 64]);
        let from_uplink = bench.plane.program_fd("from_uplink").expect("the program");
        let from_guest = bench.plane.program_fd("from_guest").expect("the program");
        let [active, standby] = Slot::BOTH.map(|slot| ifindex(&tap_name(WEB, slot)));
        let cost = |what: &str, way: Counter, ns: &dyn Fn() -> u32| {
            let counted = || -> u64 {
                let rows = bench.counters();
                rows.into_iter()
                    .flatten()
                    .filter(|(counter, _)| *counter == way)
                    .map(|(_, count)| count)
                    .sum()
            };
            let before = counted();
            // The least of some: everything else is the machine's other work.
            let least = (0..ROUNDS).map(|_| ns()).min().unwrap_or_default();
            println!("{what}: {least} ns");
            let expected = u64::from(TIMES) * u64::from(ROUNDS);
            assert_eq!(counted() - before, expected, "{what}: another way was measured");
        };
        let uplink = |frame: &[u8]| xdp_cost(from_uplink, frame);
        let guest = |frame: &[u8], tap| tc_cost(from_guest, frame, tap);
        cost("from_uplink: not for an entry address", Counter::UplinkPassed, &|| {
            uplink(&ask(client4, client4))
        });
        cost("from_uplink: mirrored, IPv4", Counter::UplinkMirrored, &|| uplink(&ask(client4, v4)));
        cost("from_uplink: mirrored, IPv6", Counter::UplinkMirrored, &|| uplink(&ask(client6, v6)));
        cost("from_guest: the active one's, IPv4", Counter::ActiveSent, &|| {
            guest(&tell(v4, client4), active)
        });
        cost("from_guest: the active one's, IPv6", Counter::ActiveSent, &|| {
            guest(&tell(v6, client6), active)
        });
        cost("from_guest: the standby's, IPv4", Counter::StandbySuppressed, &|| {
            guest(&tell(v4, client4), standby)
        });
    });
}
