//! Namespaces as hosts, machines and clients, around the real controller.

mod backend;
mod bad_input;
mod bench;
mod cleanup;
mod controller;
mod crash;
mod disk;
mod diverging;
mod doctor;
mod drill;
mod failover;
mod first_answer;
mod flaps;
mod links;
mod machine;
mod metrics;
mod mirror;
mod network;
mod one_voice;
mod provisioning;
mod refusal;
mod replacement;
mod scale;
mod scenario;
mod service;
mod state_file;
mod suspended;
mod switchover;
mod takeover;
mod tcp;
mod wall_clock;

/// These tests need root. Without it they fail where they must run, and are skipped, loudly, elsewhere.
pub(crate) fn may_run(test: &str) -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    assert!(std::env::var_os("HOTPAIR_TESTS_MUST_RUN").is_none(), "{test} needs root and must run");
    eprintln!("SKIPPED: {test} needs root: it makes network namespaces");
    false
}
