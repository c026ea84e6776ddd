//! The data plane's packet tests.
//!
//! `*_table.rs` run single frames through the programs by BPF_PROG_TEST_RUN: name, input, state, verdict, output,
//! counters. `signs.rs` is about signs of life and the latch, `events.rs` about what the controller is told. `path.rs`
//! sends real frames through a real uplink and real taps, `handover.rs` while the roles change, `inside.rs` between the
//! members and the host. `adopt.rs` is about loading, adopting and refusing, `bad/` about frames that nobody should send,
//! `index.rs` about finding whose an address is, `tcp/` about connections that are carried on. Every test has a network
//! and a mount namespace of its own, gone with the test's thread.
//!
//! They need root. Without it they fail, and say so: a data plane that nobody has tested must not look tested.

mod adopt;
mod bad;
mod bench;
mod benchmark;
mod cost;
mod counters;
mod events;
mod frames;
mod from_guest_table;
mod from_host_table;
mod from_uplink_table;
mod handover;
mod index;
mod inside;
mod path;
mod ports;
mod signs;
mod table;
mod tcp;
mod test_run;
