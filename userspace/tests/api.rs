//! The API's door against everybody who should not come through it, or not like that. The engine behind it is a stand-in;
//! `tests/lab/bad_input.rs` does it to a real controller.

mod root;

use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hotpair::api::door::{Bounds, talk};
use hotpair::api::server::{Answers, BOUNDS, bind, serve};
use hotpair::api::types::{Done, Flows, Record, Refusal, Show, Status};
use hotpair::pair::Request;
use root::may_run;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Knows one pair, `web`, and counts what is asked for.
#[derive(Clone, Default)]
struct Engine {
    requests: Arc<AtomicUsize>,
}

fn no() -> Refusal {
    Refusal { what: "test".into(), why: "this engine does not".into(), way_out: "none".into() }
}

impl Answers for Engine {
    async fn status(&self) -> Result<Status, Refusal> {
        Err(no())
    }

    async fn show(&self, _pair: &str) -> Result<Option<Show>, Refusal> {
        Ok(None)
    }

    async fn flows(&self, _pair: &str, _limit: usize) -> Result<Option<Flows>, Refusal> {
        Ok(None)
    }

    async fn metrics(&self) -> Result<String, Refusal> {
        Ok("# EOF\n".into())
    }

    async fn request(&self, _pair: &str, _request: Request) -> Result<Done, Refusal> {
        self.requests.fetch_add(1, Ordering::Relaxed);
        Err(no())
    }

    fn history(&self, _pair: Option<&str>, _limit: usize) -> Vec<Record> {
        Vec::new()
    }

    fn knows(&self, pair: &str) -> bool {
        pair == "web"
    }
}

/// The API, served until it is dropped.
struct Api {
    directory: tempfile::TempDir,
    engine: Engine,
    _runtime: tokio::runtime::Runtime,
}

impl Api {
    fn new() -> Api {
        Api::within(BOUNDS)
    }

    fn within(bounds: Bounds) -> Api {
        // A thousand of them, both ends here.
        let most = getrlimit(Resource::Nofile).maximum;
        setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most })
            .expect("the limit can be raised");
        let directory = tempfile::tempdir().expect("a temporary directory");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
        let (runtime, engine) = (runtime.expect("a runtime"), Engine::default());
        let listener = runtime.block_on(async { bind(directory.path()) }).expect("a socket");
        runtime.spawn(serve(listener, bounds, engine.clone()));
        Api { directory, engine, _runtime: runtime }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("api.sock")
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.socket()).expect("somebody listens");
        stream.set_read_timeout(Some(Duration::from_secs(30))).expect("a timeout");
        stream
    }

    /// Says this and reads everything that comes.
    fn say(&self, request: &[u8]) -> String {
        let mut stream = self.connect();
        // Whoever is refused early does not hear all of it.
        let _ = stream.write_all(request);
        rest(&mut stream)
    }

    fn is_well(&self) {
        let answer = self.say(b"GET /v1/history HTTP/1.1\r\nhost: h\r\n\r\n");
        assert!(answer.starts_with("HTTP/1.1 200 OK\r\n") && answer.ends_with("[]"), "{answer}");
    }
}

fn rest(stream: &mut UnixStream) -> String {
    let mut answer = Vec::new();
    match stream.read_to_end(&mut answer) {
        // Who is refused before all that he said was read hears the answer, and then that.
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset && !answer.is_empty() => {}
        ended => drop(ended.expect("an answer and an end")),
    }
    String::from_utf8(answer).expect("text")
}

fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: h\r\n\r\n").into_bytes()
}

fn post(path: &str) -> Vec<u8> {
    format!("POST {path} HTTP/1.1\r\nhost: h\r\n\r\n").into_bytes()
}

#[test]
fn what_makes_no_sense_is_refused_with_a_reason_and_nothing_is_done() {
    let api = Api::new();
    let body = |length: usize, bytes: &[u8]| {
        let head =
            format!("POST /v1/pairs/web/failover HTTP/1.1\r\nhost: h\r\ncontent-length: {length}\r\n\r\n");
        [head.as_bytes(), bytes].concat()
    };
    let chunked =
        b"POST /v1/pairs/web/pause HTTP/1.1\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
    for (request, status, why) in [
        (get("/"), 400, "there is no such path"),
        (get("/v2/status"), 400, "there is no such path"),
        (get("/v1/status/../../etc/passwd"), 400, "there is no such path"),
        (post("/v1/status"), 405, "another method"),
        (get("/v1/pairs/web/failover"), 405, "another method"),
        (b"DELETE /v1/pairs/web HTTP/1.1\r\nhost: h\r\n\r\n".to_vec(), 405, "another method"),
        (get("/v1/pairs/nosuch"), 404, "there is no pair `nosuch`"),
        (post("/v1/pairs/nosuch/failover"), 404, "there is no pair `nosuch`"),
        (post("/v1/pairs/WEB/failover"), 404, "there is no pair `WEB`"),
        (post("/v1/pairs/%77eb%00/failover"), 404, "there is no pair"),
        (get("/v1/history?pair=nosuch"), 404, "there is no pair `nosuch`"),
        (post("/v1/pairs/web/explode"), 400, "there is no such request"),
        (post("/v1/pairs/web/replace?slot=2"), 400, "slot makes no sense"),
        (post("/v1/pairs/web/failover?slot=0"), 400, "slot makes no sense"),
        (post("/v1/pairs/web/replace?slot=zero"), 400, "invalid digit"),
        (post("/v1/pairs/web/replace?slto=0"), 400, "slto"),
        (get("/v1/history?limit=-1"), 400, "invalid digit"),
        (get("/v1/history?limit=99999999999999999999999"), 400, "too large"),
        (get("/v1/pairs/%ff%fe"), 400, "UTF-8"),
        (post("/v1/pairs/web/%c3%28"), 400, "UTF-8"),
        (body(2, b"{}"), 400, "it has a body"),
        (body(1 << 40, &[b'x'; 4 << 20]), 400, "it has a body"),
        (chunked.to_vec(), 400, "it has a body"),
    ] {
        let said = String::from_utf8_lossy(&request[..request.len().min(200)]).into_owned();
        let answer = api.say(&request);
        let (head, text) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("{said}: {answer}"));
        assert!(head.starts_with(&format!("HTTP/1.1 {status} ")), "{said}: {head}");
        let refusal: Refusal = serde_json::from_str(text).unwrap_or_else(|_| panic!("{said}: {answer}"));
        assert!(refusal.why.contains(why), "{said}: {refusal:?}");
        assert!(!refusal.what.is_empty() && !refusal.way_out.is_empty(), "{said}: {refusal:?}");
    }
    assert_eq!(api.engine.requests.load(Ordering::Relaxed), 0);
    api.is_well();
}

#[test]
fn what_is_no_http_is_answered_with_a_4xx_and_the_end() {
    let api = Api::new();
    let long = |bytes: usize| {
        [b"GET /v1/status?".to_vec(), vec![b'a'; bytes], b" HTTP/1.1\r\n\r\n".to_vec()].concat()
    };
    let fat =
        [b"GET /v1/status HTTP/1.1\r\nx: ".to_vec(), vec![b'y'; 1 << 20], b"\r\n\r\n".to_vec()].concat();
    let many =
        [b"GET /v1/status HTTP/1.1\r\n".to_vec(), b"a: b\r\n".repeat(10_000), b"\r\n".to_vec()].concat();
    for (request, status) in [
        (b"\r\n\r\nhello\r\n\r\n".to_vec(), "400"),
        (b"GET /\x00\xff\xfe HTTP/1.1\r\n\r\n".to_vec(), "400"),
        (b"GET /v1/status HTTP/9.9\r\n\r\n".to_vec(), "400"),
        (b"GET /v1/status HTTP/1.1\r\ncontent-length: -1\r\n\r\n".to_vec(), "400"),
        (b"GET /v1/status HTTP/1.1\r\nbad header\r\n\r\n".to_vec(), "400"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), "400"),
        (vec![0; 100_000], "400"),
        (long(100_000), "414|431"),
        (fat, "431"),
        (many, "431"),
    ] {
        let answer = api.say(&request);
        let code = answer.strip_prefix("HTTP/1.1 ").and_then(|rest| rest.get(..3)).unwrap_or("nothing");
        assert!(
            status.split('|').any(|status| status == code),
            "{:?}: {answer:?}",
            &request[..20.min(request.len())]
        );
    }
    api.is_well();
}

#[test]
fn a_request_that_trickles_in_is_told_so_and_ended() {
    let api = Api::new();
    let mut slow = api.connect();
    let begun = Instant::now();
    let request = get("/v1/history");
    let mut sent = 0;
    // Thirty bytes in a quarter of a minute.
    for byte in &request {
        if slow.write_all(&[*byte]).is_err() {
            break;
        }
        sent += 1;
        std::thread::sleep(Duration::from_millis(500));
        api.is_well();
    }
    assert!(sent < request.len(), "it was ended before it had said everything");
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    let answer = rest(&mut slow);
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("did not arrive in time"), "{answer}");
}

#[test]
fn a_client_that_has_said_everything_may_close_its_half() {
    let api = Api::new();
    let mut stream = api.connect();
    stream.write_all(&get("/v1/history")).expect("it listens");
    stream.shutdown(std::net::Shutdown::Write).expect("half of it");
    assert!(rest(&mut stream).ends_with("[]"));
    // Before it has said everything: there is nothing to answer.
    let mut stream = api.connect();
    stream.write_all(b"GET /v1/hist").expect("it listens");
    stream.shutdown(std::net::Shutdown::Write).expect("half of it");
    let begun = Instant::now();
    let answer = rest(&mut stream);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{answer}");
    assert!(begun.elapsed() < Duration::from_secs(10));
    api.is_well();
}

#[test]
fn clients_that_go_away_in_the_middle_leave_nothing_behind() {
    let api = Api::new();
    for round in 0..300 {
        let request = [get("/v1/history"), post("/v1/pairs/web/pause")][round % 2].clone();
        let _ = api.connect().write_all(&request[..request.len() * (round % 7) / 6]);
    }
    api.is_well();
}

#[test]
fn a_thousand_at_once_are_all_answered() {
    let api = Api::new();
    let mut streams: Vec<_> = (0..1000).map(|_| api.connect()).collect();
    for stream in &mut streams {
        stream.write_all(&post("/v1/pairs/web/pause")).expect("it listens");
    }
    for stream in &mut streams {
        assert!(rest(stream).starts_with("HTTP/1.1 409 "));
    }
    assert_eq!(api.engine.requests.load(Ordering::Relaxed), 1000);
}

#[test]
fn a_thousand_who_say_nothing_keep_nobody_from_being_answered() {
    // The verbs wait for fifteen seconds: so long they may take who come before, a place after the other.
    let verbs = Duration::from_secs(15);
    let rounds = |bounds: Bounds| 1000_usize.div_ceil(bounds.places) as u32;
    assert!(BOUNDS.ask * rounds(BOUNDS) < verbs * 2 / 3, "{BOUNDS:?}");
    // The same, ten times as fast.
    let bounds = Bounds { ask: BOUNDS.ask / 10, ..BOUNDS };
    let api = Api::within(bounds);
    // How long a place is held by somebody who says nothing, on this machine now.
    let held = || {
        let begun = Instant::now();
        rest(&mut api.connect());
        begun.elapsed()
    };
    let held = (0..5).map(|_| held()).max().expect("five");
    let first = Instant::now();
    let _silent: Vec<_> = (0..1000).map(|_| api.connect()).collect();
    let begun = Instant::now();
    api.is_well();
    // Half as many places would be seen.
    let (took, most) = (begun.elapsed(), held * (rounds(bounds) + 1) * 2);
    assert!(took < most, "{took:?}, and a place is held for {held:?}");
    assert!(first.elapsed() >= bounds.ask * (rounds(bounds) - 1), "they were sent away before their time");
}

#[test]
fn who_does_not_take_the_answer_is_left() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let (here, mut there) = tokio::io::duplex(1024);
        let bounds = Bounds { places: 1, ask: Duration::from_millis(100), all: Duration::from_millis(300) };
        let answer = |_| async { hyper::Response::new("x".repeat(1 << 20)) };
        tokio::io::AsyncWriteExt::write_all(&mut there, &get("/")).await.expect("room");
        let left = tokio::time::timeout(Duration::from_secs(10), talk(here, bounds, answer)).await;
        assert!(left.is_ok());
    });
}

#[test]
fn nobody_but_its_owner_and_group_gets_in() {
    let api = Api::new();
    let mode = std::fs::metadata(api.socket()).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o660);
    if !may_run() {
        return;
    }
    let open = |path: &Path, mode| {
        std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).expect("our own");
    };
    open(api.directory.path(), 0o755);
    let program = api.directory.path().join("hotpair");
    std::fs::copy(env!("CARGO_BIN_EXE_hotpair"), &program).expect("a copy that nobody may run");
    for verb in [&["status"][..], &["failover", "web", "--yes"]] {
        let mut command = Command::new(&program);
        command.uid(65534).gid(65534).current_dir("/").arg("--socket").arg(api.socket()).args(verb);
        let output =
            command.env_remove("HOTPAIR_CONFIG").env_remove("HOTPAIR_SOCKET").output().expect("it runs");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            !output.status.success() && error.contains("this user may not talk to the controller"),
            "{error}"
        );
    }
    assert_eq!(api.engine.requests.load(Ordering::Relaxed), 0);
}
