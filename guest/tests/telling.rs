//! What the service does is what the heartbeats say.

mod common;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use common::Agent;
use hotpair_abi::heartbeat::State;

const FAST: [&str; 6] = ["--check-interval", "20ms", "--check-timeout", "500ms", "--interval", "2ms"];

fn options<'a>(more: &[&'a str]) -> Vec<&'a str> {
    [&FAST[..], more].concat()
}

#[test]
fn a_tcp_service_is_seen_to_come_go_and_come_back() {
    let address = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port");
    let check = format!("tcp:{address}");
    let mut agent = Agent::start(&options(&["--check", &check]));
    for _ in 0..100 {
        assert_eq!(agent.beat().state, State::Starting, "nobody listens yet");
    }
    let service = TcpListener::bind(address).expect("still free");
    agent.wait_for(State::Serving);
    drop(service);
    agent.wait_for(State::Failing);
    let _service = TcpListener::bind(address).expect("free again");
    agent.wait_for(State::Serving);
}

#[test]
fn an_http_service_is_judged_by_its_status() {
    let status = Arc::new(AtomicU16::new(503));
    let server = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let check = format!("http://{}/health?deep=1", server.local_addr().expect("bound"));
    let answer = Arc::clone(&status);
    std::thread::spawn(move || {
        for stream in server.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = [0; 1024];
            let Ok(length) = stream.read(&mut request) else { continue };
            let status = if request[..length].starts_with(b"GET /health?deep=1 HTTP/1.1\r\n") {
                answer.load(Ordering::Relaxed)
            } else {
                400
            };
            let _ = write!(stream, "HTTP/1.1 {status} So\r\nContent-Length: 0\r\n\r\n");
        }
    });
    let mut agent = Agent::start(&options(&["--check", &check]));
    for _ in 0..50 {
        assert_eq!(agent.beat().state, State::Starting, "503 is no service");
    }
    for (code, state) in
        [(200, State::Serving), (500, State::Failing), (302, State::Serving), (404, State::Failing)]
    {
        status.store(code, Ordering::Relaxed);
        agent.wait_for(state);
    }
}

#[test]
fn every_check_must_succeed() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (one, two) = (directory.path().join("one"), directory.path().join("two"));
    let checks = [format!("cmd:test -e {}", one.display()), format!("cmd:test -e {}", two.display())];
    let mut agent = Agent::start(&options(&["--check", &checks[0], "--check", &checks[1]]));
    std::fs::write(&one, "").expect("writable");
    for _ in 0..100 {
        assert_eq!(agent.beat().state, State::Starting);
    }
    std::fs::write(&two, "").expect("writable");
    agent.wait_for(State::Serving);
    std::fs::remove_file(&one).expect("it is there");
    agent.wait_for(State::Failing);
}

#[test]
fn a_service_that_hangs_is_failing() {
    let server = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let check = format!("http:{}/", server.local_addr().expect("bound"));
    let (answering, hanging) = std::sync::mpsc::channel::<()>();
    std::thread::spawn(move || {
        let mut held = Vec::new();
        for stream in server.incoming() {
            let Ok(mut stream) = stream else { return };
            if hanging.try_recv() == Err(std::sync::mpsc::TryRecvError::Empty) {
                let _ = stream.read(&mut [0; 1024]);
                let _ = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
            } else {
                held.push(stream);
            }
        }
    });
    let mut agent = Agent::start(&options(&["--check", &check, "--fall", "1"]));
    agent.wait_for(State::Serving);
    drop(answering);
    agent.wait_for(State::Failing);
}

#[test]
fn stopping_is_said_at_once_and_for_the_whole_linger() {
    let mut agent = Agent::start(&["--linger", "3s"]);
    assert_eq!(agent.beat().state, State::Serving);
    agent.signal("-TERM");
    let told = agent.wait_for(State::Stopping);
    assert!(told < Duration::from_secs(1), "it took {told:?} to say so");
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(700) {
        assert_eq!(agent.beat().state, State::Stopping);
    }
    let status = agent.child.wait().expect("it ends");
    assert!(status.success());
    let lingered = start.elapsed();
    assert!(lingered < Duration::from_secs(8), "{lingered:?} is far beyond the linger");
    assert!(!agent.status_file().exists(), "an agent that is gone has no status");
}

#[test]
fn a_check_that_succeeds_does_not_take_stopping_back() {
    let service = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let check = format!("tcp:{}", service.local_addr().expect("bound"));
    let mut agent = Agent::start(&options(&["--check", &check, "--linger", "500ms"]));
    agent.wait_for(State::Serving);
    agent.signal("-TERM");
    agent.wait_for(State::Stopping);
    for _ in 0..100 {
        assert_eq!(agent.beat().state, State::Stopping);
    }
}

#[test]
fn told_twice_it_stops_without_lingering() {
    let mut agent = Agent::start(&["--linger", "30s"]);
    agent.beat();
    agent.signal("-TERM");
    agent.wait_for(State::Stopping);
    agent.signal("-TERM");
    let start = Instant::now();
    assert!(agent.child.wait().expect("it ends").success());
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[test]
fn requests_are_taken_from_a_file() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let file = directory.path().join("requests");
    std::fs::write(&file, "1234 5\n").expect("writable");
    let source = format!("file:{}", file.display());
    let mut agent = Agent::start(&["--requests", &source]);
    let start = Instant::now();
    loop {
        let beat = agent.beat();
        if (beat.requests, beat.in_flight) == (1234, 5) {
            break;
        }
        assert!(start.elapsed() < Duration::from_secs(10), "still {} and {}", beat.requests, beat.in_flight);
    }
}
