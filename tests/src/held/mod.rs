//! Connections that are held: clients that open one TCP connection each, never another, and keep account of it. What they
//! are for is to be served through a failover without noticing.
//!
//! | file | about |
//! | --- | --- |
//! | `account.rs` | what came when, and the longest time in which nothing came |
//! | `download.rs` | one large file of a web server |
//! | `upload.rs` | one large file to a web server |
//! | `key_value.rs` | pipelined writes to a redis, and connections to it that are silent |
//!
//! No client ever connects again. Whoever asks afterwards what the server still has of a broken one's writes says so.

mod account;
mod download;
mod key_value;
mod upload;

use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::net::sockopt::{self, Timeout};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

use account::Book;
pub use account::{Account, Wait};
use key_value::Written;

use crate::interrupt;

/// Bytes that are handled at once.
const CHUNK: usize = 16 << 10;
/// Bytes in flight at most: what a client has already received when a server dies hides how long it waits.
const IN_FLIGHT: usize = 64 << 10;
/// Without a word for this long, a connection has failed.
const PATIENCE: Duration = Duration::from_secs(60);

/// Whom the clients ask, and what for.
#[derive(Clone, Debug)]
pub struct Plan {
    /// A web server that knows HTTP/0.9.
    pub download: SocketAddr,
    /// Its path.
    pub file: String,
    /// How long it is.
    pub file_bytes: u64,
    /// Its SHA-256, hexadecimal.
    pub file_sha256: String,
    /// A web server whose `/cgi-bin/sha256` answers a POST with its length and its SHA-256.
    pub upload: SocketAddr,
    /// How much is uploaded.
    pub upload_bytes: u64,
    /// Bytes a second of each transfer: so few that the guest has time left for everything else.
    pub rate: u64,
    /// A redis.
    pub key_value: SocketAddr,
    /// Between two bursts of writes.
    pub every: Duration,
    /// What the names of the keys that are written begin with. Nobody has written them before.
    pub keys: String,
    /// Connections to the redis that are opened and then silent.
    pub silent: usize,
}

/// What a client does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Asks for one large file; its account counts bytes.
    Download,
    /// Sends one; its account counts bytes that were acknowledged.
    Upload,
    /// Writes; its account counts writes that were answered.
    KeyValue,
    /// Has asked once and asks again at the end.
    Silent,
}

/// What became of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// Served to its end, every byte as it should be.
    Well,
    /// Reset, closed, or silent for too long.
    Lost(String),
    /// A byte came that should not have come.
    Wrong(String),
}

/// A client's connection, from its beginning to its end.
#[derive(Clone, Debug)]
pub struct Story {
    /// What it was for.
    pub kind: Kind,
    /// The client's address and port: there was only this one.
    pub local: SocketAddr,
    /// What became of it.
    pub end: End,
    /// Writes that were answered and that the server does not have.
    pub lost_writes: u64,
    /// What came when.
    pub account: Account,
}

/// Why a client stopped.
enum Broken {
    Lost(anyhow::Error),
    Wrong(String),
}

impl<E: Into<anyhow::Error>> From<E> for Broken {
    fn from(error: E) -> Self {
        Broken::Lost(error.into())
    }
}

impl From<Result<(), Broken>> for End {
    fn from(result: Result<(), Broken>) -> Self {
        match result {
            Ok(()) => End::Well,
            Err(Broken::Lost(error)) => End::Lost(format!("{error:#}")),
            Err(Broken::Wrong(what)) => End::Wrong(what),
        }
    }
}

/// A client at work.
struct Client {
    kind: Kind,
    stream: TcpStream,
    local: SocketAddr,
    book: Arc<Book>,
    /// None: nobody works on it.
    thread: Option<JoinHandle<(End, u64)>>,
}

/// The clients. Dropping them breaks their connections.
pub struct Held {
    clients: Vec<Client>,
    stop: Arc<AtomicBool>,
}

impl Held {
    /// Opens the connections, in the calling thread's network namespace, and puts them to work.
    ///
    /// # Errors
    /// When somebody does not answer.
    pub fn open(plan: &Plan) -> Result<Held> {
        let mut held = Held { clients: Vec::new(), stop: Arc::default() };
        for _ in 0..plan.silent {
            let stream = connect(plan.key_value)?;
            key_value::ping(&stream)
                .map_err(|broken| why(broken).context("a redis that is asked for once"))?;
            let local = stream.local_addr()?;
            held.clients.push(Client {
                kind: Kind::Silent,
                stream,
                local,
                book: Arc::default(),
                thread: None,
            });
        }
        let at = plan.clone();
        held.start(Kind::KeyValue, plan.key_value, move |stream, book, stop| {
            let mut written = Written::new(&at.keys);
            let mut end = key_value::run(stream, at.every, &mut written, book, stop);
            // Of a connection that broke, another one says what is left of its writes.
            let again = match &end {
                Err(Broken::Lost(_)) => connect(at.key_value).map(Some),
                _ => Ok(None),
            };
            let missing = match &again {
                Ok(again) => written.missing(again.as_ref().unwrap_or(stream)),
                Err(error) => Err(anyhow::anyhow!("{error:#}").into()),
            };
            let lost = match missing {
                Ok(lost) => lost,
                Err(broken) => {
                    end = end.and(Err(broken));
                    // Nobody can say that they are there.
                    written.acknowledged()
                }
            };
            (end.into(), lost)
        })?;
        let at = plan.clone();
        held.start(Kind::Download, plan.download, move |stream, book, _| {
            (download::run(stream, &at, book).into(), 0)
        })?;
        let at = plan.clone();
        held.start(Kind::Upload, plan.upload, move |stream, book, _| {
            (upload::run(stream, &at, book).into(), 0)
        })?;
        Ok(held)
    }

    fn start(
        &mut self,
        kind: Kind,
        to: SocketAddr,
        work: impl FnOnce(&TcpStream, &Book, &AtomicBool) -> (End, u64) + Send + 'static,
    ) -> Result<()> {
        let stream = connect(to)?;
        let (ours, book, stop) = (stream.try_clone()?, Arc::<Book>::default(), Arc::clone(&self.stop));
        let local = stream.local_addr()?;
        let kept = Arc::clone(&book);
        let thread =
            std::thread::Builder::new().name(format!("{kind:?}")).spawn(move || work(&ours, &kept, &stop))?;
        self.clients.push(Client { kind, stream, local, book, thread: Some(thread) });
        Ok(())
    }

    /// The clients' addresses and ports.
    pub fn locals(&self) -> impl Iterator<Item = SocketAddr> {
        self.clients.iter().map(|client| client.local)
    }

    /// Whether every client that works has begun and is not at its end.
    #[must_use]
    pub fn under_way(&self) -> bool {
        self.clients
            .iter()
            .filter_map(|client| Some((client.thread.as_ref()?, client)))
            .all(|(thread, client)| !thread.is_finished() && client.book.account().total() > 0)
    }

    /// Waits for the transfers, then for the others' last answers.
    ///
    /// # Errors
    /// When a signal comes.
    pub fn finish(mut self) -> Result<Vec<Story>> {
        let transfers = |client: &&Client| matches!(client.kind, Kind::Download | Kind::Upload);
        while self.clients.iter().filter(transfers).any(Client::is_at_work) {
            interrupt::pause(Duration::from_millis(20))?;
        }
        self.stop.store(true, Ordering::Relaxed);
        while self.clients.iter().any(Client::is_at_work) {
            interrupt::pause(Duration::from_millis(20))?;
        }
        Ok(std::mem::take(&mut self.clients).into_iter().map(Client::tell).collect())
    }
}

impl Client {
    fn is_at_work(&self) -> bool {
        self.thread.as_ref().is_some_and(|thread| !thread.is_finished())
    }

    fn tell(self) -> Story {
        let (end, lost_writes) = match self.thread {
            Some(thread) => thread.join().unwrap_or_else(|_| (End::Wrong("the client panicked".into()), 0)),
            None => (key_value::ping(&self.stream).into(), 0),
        };
        Story { kind: self.kind, local: self.local, end, lost_writes, account: self.book.account().clone() }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        for client in &self.clients {
            // Whoever waits for it hears of it; one that is broken already is as well.
            let _ = client.stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

fn why(broken: Broken) -> anyhow::Error {
    match broken {
        Broken::Lost(error) => error,
        Broken::Wrong(what) => anyhow::anyhow!(what),
    }
}

/// The one time that a client connects.
fn connect(to: SocketAddr) -> Result<TcpStream> {
    let family = if to.is_ipv6() { AddressFamily::INET6 } else { AddressFamily::INET };
    let socket = rustix::net::socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    // Before the handshake, so that no larger window is ever offered. The kernel doubles it, and halves it again.
    sockopt::set_socket_recv_buffer_size(&socket, IN_FLIGHT)?;
    sockopt::set_socket_timeout(&socket, Timeout::Send, Some(Duration::from_secs(10)))?;
    rustix::net::connect(&socket, &to).with_context(|| format!("connecting to {to}"))?;
    let stream = TcpStream::from(socket);
    stream.set_nodelay(true)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.set_read_timeout(Some(PATIENCE))?;
    Ok(stream)
}

/// Lets so many bytes through in a second. Time lost is not made up for: a burst would look like a stall to whoever comes after.
struct Pace {
    rate: u64,
    next: Instant,
}

impl Pace {
    fn new(rate: u64) -> Pace {
        Pace { rate, next: Instant::now() }
    }

    fn is_due(&self) -> bool {
        Instant::now() >= self.next
    }

    fn wait(&self) {
        std::thread::sleep(self.next.saturating_duration_since(Instant::now()));
    }

    fn moved(&mut self, bytes: usize) {
        let time = Duration::from_nanos(bytes as u64 * 1_000_000_000 / self.rate);
        self.next = self.next.max(Instant::now()) + time;
    }
}

fn hex(digest: &[u8]) -> String {
    use std::fmt::Write as _;
    digest.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// A file's sum in a list as `sha256sum` writes it.
///
/// # Errors
/// When it is not there.
pub fn sum_of(list: &str, file: &str) -> Result<String> {
    let line = list.lines().filter_map(|line| line.split_once("  ")).find(|(_, name)| *name == file);
    match line {
        Some((sum, _)) if sum.len() == 64 => Ok(sum.to_owned()),
        _ => bail!("no SHA-256 of {file} in the list"),
    }
}
