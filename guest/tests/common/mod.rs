//! A running agent, and the member it beats to.
#![allow(dead_code, unreachable_pub, reason = "each test binary uses its part")]

use std::net::{SocketAddr, UdpSocket};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use hotpair_abi::heartbeat::{Heartbeat, LEN, State};

/// An agent whose peer is the test.
pub struct Agent {
    pub child: Child,
    /// Where its heartbeats arrive.
    pub socket: UdpSocket,
    /// Its own address, once a heartbeat has come.
    pub from: Option<SocketAddr>,
    pub directory: tempfile::TempDir,
}

impl Agent {
    pub fn start(options: &[&str]) -> Agent {
        Agent::start_from("127.0.0.1:0", options)
    }

    pub fn start_from(bind: &str, options: &[&str]) -> Agent {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback has a free port");
        socket.set_read_timeout(Some(Duration::from_secs(10))).expect("a timeout can be set");
        let directory = tempfile::tempdir().expect("a temporary directory");
        let child = Command::new(env!("CARGO_BIN_EXE_hotpair-guest"))
            .args(["--bind", bind, "--peer", &socket.local_addr().expect("bound").to_string()])
            .arg("--status-file")
            .arg(directory.path().join("status.json"))
            .args(options)
            .stderr(Stdio::piped())
            .spawn()
            .expect("the agent starts");
        Agent { child, socket, from: None, directory }
    }

    pub fn status_file(&self) -> PathBuf {
        self.directory.path().join("status.json")
    }

    /// The next heartbeat; fails the test after ten seconds without one.
    pub fn beat(&mut self) -> Heartbeat {
        let mut bytes = [0; 2048];
        let (length, from) = self.socket.recv_from(&mut bytes).expect("a heartbeat within ten seconds");
        self.from = Some(from);
        assert_eq!(length, LEN);
        Heartbeat::parse(bytes[..LEN].try_into().expect("48 bytes")).expect("a heartbeat of this version")
    }

    /// Waits for a heartbeat in this state and says how long it took.
    pub fn wait_for(&mut self, state: State) -> Duration {
        let start = Instant::now();
        loop {
            let beat = self.beat();
            if beat.state == state {
                return start.elapsed();
            }
            assert!(
                start.elapsed() < Duration::from_secs(20),
                "still {} instead of {state:?}",
                beat.state.name()
            );
        }
    }

    pub fn signal(&self, signal: &str) {
        let status = Command::new("kill").args([signal, &self.child.id().to_string()]).status();
        assert!(status.expect("kill runs").success());
    }

    /// Stops it without further ado and returns what it said.
    pub fn last_words(mut self) -> String {
        use std::io::Read;
        let _ = self.child.kill();
        let mut text = String::new();
        if let Some(mut stderr) = self.child.stderr.take() {
            stderr.read_to_string(&mut text).expect("text");
        }
        text
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until something is so.
pub fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let start = Instant::now();
    while !is_so() {
        assert!(start.elapsed() < Duration::from_secs(10), "waited ten seconds for: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
