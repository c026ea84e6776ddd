//! The data plane's packet tests.
//!
//! `*_table.rs` run single frames through the programs by BPF_PROG_TEST_RUN: name, input, state, verdict, output,
//! counters. `path.rs` sends real frames through a real uplink and real taps. `adopt.rs` is about loading, adopting and
//! refusing. Every test has a network and a mount namespace of its own, gone with the test's thread.
//!
//! They need root. Without it they fail, and say so: a data plane that nobody has tested must not look tested.

//ADOPT
mod bench;

mod frames;

mod ports;

mod test_run;
#[test]
fn smoke() {
    bench::alone(|| {
        let bench = bench::Bench::new();
        println!("{:?}", bench.plane.verified_instructions());
        use crate::ports::Port;
        use hotpair_abi::count::Counter;
        let f = frames::udp(
            frames::UPLINK_MAC,
            frames::CLIENT_MAC,
            frames::Ip::V4(frames::CLIENT_V4),
            frames::Ip::V4(bench::entry_v4(bench::WEB)),
            (1, 2),
            b"hi",
        );
        bench.client.send(&f);
        std::thread::sleep(std::time::Duration::from_millis(100));
        for (i, row) in bench.counters().iter().enumerate() {
            println!("{i} {:?}", row.iter().filter(|(_, n)| *n > 0).collect::<Vec<_>>());
        }
        println!("{:02x?}", bench.tap(bench::WEB, hotpair_abi::Slot::Zero).try_receive());
        println!("{:02x?}", bench.tap(bench::WEB, hotpair_abi::Slot::One).try_receive());
        let _ = Counter::UplinkMirrored;
    });
}
