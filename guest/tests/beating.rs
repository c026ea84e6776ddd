//! Heartbeats come when they are due, whatever else happens.

mod common;

use std::net::UdpSocket;
use std::time::{Duration, Instant};

use common::{Agent, until};
use hotpair_abi::heartbeat::{Heartbeat, State};
use hotpair_guest::status;

/// The median of how far beats are from whole multiples of the interval after `origin`, microseconds, signed.
fn phase_us(beats: &[Heartbeat], origin: u64, interval_us: i64) -> i64 {
    let mut phases: Vec<i64> = beats
        .iter()
        .map(|beat| {
            let off = ((beat.sent_ns - origin) / 1_000) as i64 % interval_us;
            if off > interval_us / 2 { off - interval_us } else { off }
        })
        .collect();
    phases.sort_unstable();
    phases[phases.len() / 2]
}

#[test]
fn a_heartbeat_a_millisecond_does_not_drift() {
    let mut agent = Agent::start(&["--interval", "1ms"]);
    for _ in 0..100 {
        agent.beat();
    }
    let beats: Vec<Heartbeat> = (0..3_000).map(|_| agent.beat()).collect();
    let origin = beats[0].sent_ns - 10_000_000;
    let (first, last) = (phase_us(&beats[..500], origin, 1_000), phase_us(&beats[2_500..], origin, 1_000));
    // Half a permille of drift would be 1.3 ms here. A busy machine delays single beats, not their median.
    assert!((first - last).abs() < 250, "the beats moved from {first} to {last} µs beside their deadlines");
    let took = (beats[2_999].sent_ns - beats[0].sent_ns) / 1_000_000;
    assert!((2_900..4_500).contains(&took), "2999 intervals of 1 ms took {took} ms");
    for pair in beats.windows(2) {
        assert_eq!(pair[1].sequence, pair[0].sequence + 1);
        assert_eq!(pair[1].interval_us, 1_000);
    }
}

#[test]
fn a_restarted_agent_is_the_same_boot_and_its_sequence_rises() {
    let mut first = Agent::start(&["--interval", "1ms"]);
    let last = (0..50).map(|_| first.beat()).last().expect("fifty");
    drop(first);
    let next = Agent::start(&["--interval", "1ms"]).beat();
    assert_eq!(next.boot_id, last.boot_id);
    assert!(next.sequence > last.sequence, "{} after {}", next.sequence, last.sequence);
}

#[test]
fn without_a_check_it_serves_from_the_first_heartbeat() {
    assert_eq!(Agent::start(&[]).beat().state, State::Serving);
}

#[test]
fn a_check_that_hangs_delays_no_heartbeat() {
    let mut agent = Agent::start(&["--interval", "2ms", "--check", "cmd:sleep 60", "--check-timeout", "10s"]);
    agent.beat();
    let start = Instant::now();
    let mut count = 0;
    while start.elapsed() < Duration::from_secs(1) {
        assert_eq!(agent.beat().state, State::Starting);
        count += 1;
    }
    assert!((300..=520).contains(&count), "{count} heartbeats in a second instead of 500");
}

#[test]
fn it_waits_for_its_address_says_so_once_and_goes_on() {
    let occupied = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let address = occupied.local_addr().expect("bound").to_string();
    let mut agent = Agent::start_from(&address, &[]);
    agent.socket.set_read_timeout(Some(Duration::from_secs(2))).expect("settable");
    assert!(agent.socket.recv(&mut [0; 64]).is_err(), "it cannot beat from an address that it does not have");
    drop(occupied);
    agent.beat();
    let words = agent.last_words();
    assert_eq!(words.matches("waiting for it").count(), 1, "{words}");
    assert_eq!(words.matches("is there now").count(), 1, "{words}");
}

#[test]
fn what_is_no_heartbeat_is_ignored_and_counted() {
    let mut agent = Agent::start(&[]);
    agent.beat();
    let to = agent.from.expect("known from the first beat");
    let good = Heartbeat {
        state: State::Failing,
        boot_id: 0xabc,
        sequence: 1,
        sent_ns: 0,
        requests: 42,
        in_flight: 7,
        interval_us: 1_000_000,
    };
    for junk in [&b""[..], b"x", &[0; 48], &[0xff; 1400], &good.to_bytes()[..47]] {
        agent.socket.send_to(junk, to).expect("loopback takes it");
    }
    let stranger = UdpSocket::bind("127.0.0.2:0").expect("all of 127/8 is loopback");
    stranger.send_to(&good.to_bytes(), to).expect("loopback takes it");
    agent.socket.send_to(&good.to_bytes(), to).expect("loopback takes it");
    let file = agent.status_file();
    until("the peer's heartbeat in the status file", || {
        status::read(&file).is_ok_and(|status| status.peer.received == 1)
    });
    let status = status::read(&file).expect("it was there just now");
    assert_eq!((status.malformed, status.strangers), (5, 1));
    assert_eq!(status.peer.state, "failing");
    assert_eq!(status.peer.requests, Some(42));
    assert_eq!(agent.beat().state, State::Serving, "what others say changes nothing here");
}

#[test]
fn two_agents_see_each_other_come_and_go() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let start = |me: &str, other: &str, name: &str| {
        std::process::Command::new(env!("CARGO_BIN_EXE_hotpair-guest"))
            .args(["--bind", me, "--peer", other, "--linger", "300ms", "--status-file"])
            .arg(directory.path().join(name))
            .spawn()
            .expect("the agent starts")
    };
    let sees = |name: &str, state: &str| {
        status::read(&directory.path().join(name)).is_ok_and(|status| status.peer.state == state)
    };
    let (one, two) = ("127.77.0.1:7077", "127.77.0.2:7077");
    let mut first = start(one, two, "first");
    until("the first writes its status", || sees("first", "unknown"));
    let mut second = start(two, one, "second");
    until("the first sees the second", || sees("first", "serving"));
    until("the second sees the first", || sees("second", "serving"));
    let shown = std::process::Command::new(env!("CARGO_BIN_EXE_hotpair-guest"))
        .args(["status", "--status-file"])
        .arg(directory.path().join("second"))
        .output()
        .expect("status runs");
    let text = String::from_utf8(shown.stdout).expect("text");
    assert!(text.starts_with("me    serving") && text.contains("\npeer  serving, heard "), "{text}");
    second.kill().expect("it ran");
    second.wait().expect("it ends");
    until("the first notices the silence", || sees("first", "silent"));
    first.kill().expect("it ran");
    first.wait().expect("it ends");
}
