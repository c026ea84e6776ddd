//! Heartbeats come when they are due, whatever else happens.

mod common;

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use common::{Agent, until};
use hotpair_abi::heartbeat::{Heartbeat, State};
use hotpair_guest::status;

/// The median of how far moments are from whole multiples of the interval after `origin`, microseconds, signed.
fn phase_us(moments_ns: &[u64], origin: u64, interval_us: i64) -> i64 {
    let mut phases: Vec<i64> = moments_ns
        .iter()
        .map(|moment| {
            let off = ((moment - origin) / 1_000) as i64 % interval_us;
            if off > interval_us / 2 { off - interval_us } else { off }
        })
        .collect();
    phases.sort_unstable();
    phases[phases.len() / 2]
}

/// How far the median has moved beside the deadlines from the first sixth to the last, microseconds.
fn drift_us(moments_ns: &[u64]) -> i64 {
    let (origin, sixth) = (moments_ns[0] - 10_000_000, moments_ns.len() / 6);
    let last = &moments_ns[moments_ns.len() - sixth..];
    phase_us(last, origin, 1_000) - phase_us(&moments_ns[..sixth], origin, 1_000)
}

/// A thread of this test's that wants to be woken at each whole multiple of an interval, as the agent's does: what it does not
/// get, on a machine that has other things to do, the agent does not get either.
struct Timer {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Vec<u64>>,
}

impl Timer {
    fn start(interval: Duration) -> Timer {
        let stop = Arc::<AtomicBool>::default();
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let begun = Instant::now();
            let (mut woken, mut next) = (Vec::new(), interval);
            while !stopped.load(Ordering::Relaxed) {
                std::thread::sleep(next.saturating_sub(begun.elapsed()));
                let now = begun.elapsed();
                // Far from zero, so that an origin before the first is none below it.
                woken.push(1_000_000_000 + now.as_nanos() as u64);
                next = interval * (now.as_nanos() / interval.as_nanos() + 1) as u32;
            }
            woken
        });
        Timer { stop, thread }
    }

    /// When it was woken, nanoseconds.
    fn stop(self) -> Vec<u64> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().expect("it does not panic")
    }
}

#[test]
fn a_heartbeat_a_millisecond_does_not_drift() {
    let mut agent = Agent::start(&["--interval", "1ms"]);
    for _ in 0..100 {
        agent.beat();
    }
    let timer = Timer::start(Duration::from_millis(1));
    let mut heard = Instant::now();
    let mut longest = Duration::ZERO;
    let hear = |agent: &mut Agent| {
        let beat = agent.beat();
        longest = longest.max(heard.elapsed());
        heard = Instant::now();
        beat
    };
    let mut hear = hear;
    let beats: Vec<Heartbeat> = (0..3_000).map(|_| hear(&mut agent)).collect();
    let woken = timer.stop();
    let sent: Vec<u64> = beats.iter().map(|beat| beat.sent_ns).collect();
    // Half a permille of drift would be 1.3 ms here. A busy machine delays single beats, not their median; and if it does, it
    // delays others just the same.
    let (drift, own) = (drift_us(&sent), drift_us(&woken));
    assert!(
        drift.abs() < 250 + own.abs(),
        "the beats moved by {drift} µs beside their deadlines, a timer by {own}"
    );
    let took = (sent[2_999] - sent[0]) as f64;
    assert!(took > 2_900e6, "2999 intervals of 1 ms took {took} ns");
    let each = (woken[woken.len() - 1] - woken[0]) as f64 / (woken.len() - 1) as f64;
    assert!(took < 1.5 * 2_999.0 * each, "2999 intervals took {took} ns, a timer had {each} ns for each");
    for pair in beats.windows(2) {
        // What a test that gets no time does not read in time is lost in its socket, some 270 of them.
        let next = pair[1].sequence == pair[0].sequence + 1;
        assert!(
            next || longest > Duration::from_millis(100),
            "{} after {}",
            pair[1].sequence,
            pair[0].sequence
        );
        assert!(pair[1].sequence > pair[0].sequence);
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
    let first = agent.beat();
    let timer = Timer::start(Duration::from_millis(2));
    let start = Instant::now();
    let (mut count, mut last) = (0, first);
    while start.elapsed() < Duration::from_secs(1) {
        last = agent.beat();
        assert_eq!(last.state, State::Starting);
        count += 1;
    }
    let (woken, took) = (timer.stop().len(), Duration::from_nanos(last.sent_ns - first.sent_ns));
    assert!(
        count > woken / 2,
        "{count} heartbeats in a second, in which a timer of 2 ms expired {woken} times"
    );
    assert!(count as u128 <= took.as_millis() / 2 + 5, "{count} heartbeats in {took:?}");
}

#[test]
fn it_waits_for_its_address_says_so_once_and_goes_on() {
    let occupied = UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let address = occupied.local_addr().expect("bound").to_string();
    let mut agent = Agent::start_from(&address, &[]);
    agent.socket.set_read_timeout(Some(Duration::from_secs(2))).expect("settable");
    assert!(agent.socket.recv(&mut [0; 64]).is_err(), "it cannot beat from an address that it does not have");
    drop(occupied);
    agent.socket.set_read_timeout(Some(Duration::from_secs(10))).expect("settable");
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
