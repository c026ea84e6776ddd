//! What a frame costs in the programs themselves, by BPF_PROG_TEST_RUN: without drivers, copies and redirects.
//!
//! `cargo test -p hotpair-tests --test packet cost -- --ignored --nocapture`

use hotpair_abi::{GATEWAY_MAC, Slot};

use crate::bench::{Bench, WEB, alone, entry_v4, entry_v6, ifindex, pair_mac, tap_name};
use crate::frames::{CLIENT_MAC, CLIENT_V4, CLIENT_V6, Ip, UPLINK_MAC, udp};
use crate::test_run::{tc_cost, xdp_cost};

#[test]
#[ignore = "a measurement, not a promise"]
fn what_a_frame_costs() {
    alone(|| {
        let bench = Bench::new();
        let (v4, v6) = (Ip::V4(entry_v4(WEB)), Ip::V6(entry_v6(WEB)));
        let (client4, client6) = (Ip::V4(CLIENT_V4), Ip::V6(CLIENT_V6));
        let ask = |src, dst| udp(UPLINK_MAC, CLIENT_MAC, src, dst, (1, 2), &[0; 64]);
        let tell = |src, dst| udp(GATEWAY_MAC, pair_mac(WEB), src, dst, (2, 1), &[0; 64]);
        let from_uplink = bench.plane.program_fd("from_uplink").expect("the program");
        let from_guest = bench.plane.program_fd("from_guest").expect("the program");
        let [active, standby] = Slot::BOTH.map(|slot| ifindex(&tap_name(WEB, slot)));
        for (what, ns) in [
            ("from_uplink: not for an entry address", xdp_cost(from_uplink, &ask(client4, client4))),
            ("from_uplink: mirrored, IPv4", xdp_cost(from_uplink, &ask(client4, v4))),
            ("from_uplink: mirrored, IPv6", xdp_cost(from_uplink, &ask(client6, v6))),
            ("from_guest: the active one's, IPv4", tc_cost(from_guest, &tell(v4, client4), active)),
            ("from_guest: the active one's, IPv6", tc_cost(from_guest, &tell(v6, client6), active)),
            ("from_guest: the standby's, IPv4", tc_cost(from_guest, &tell(v4, client4), standby)),
        ] {
            println!("{what}: {ns} ns");
        }
    });
}
