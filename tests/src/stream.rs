//! One long TCP conversation: a server whose answers are the same on every member, and a client that checks every byte
//! and remembers the longest time in which nothing came.
//!
//! ```text
//! client              server
//! "GET n\n"           n bytes: the pattern, from where the last GET ended
//! "PUT n\n", n bytes  "OK n sum\n": how many arrived, and their sum
//! "INCR\n"            "v\n": one more than the last time, on this connection
//! "BYE n\n"           n bytes like GET, and the end of the connection
//! "SLEEP n\n"         nothing for n milliseconds, in which nothing is read either
//! "KEEP\n"            "OK\n"; the connection has keepalives from now on: after a second, each second, two may be lost
//! "RAND n\n"          n bytes that no other connection of any member gets; the first eight are their seed
//! "FLOOD\n"           zeros, as many as the client takes
//! "SINK\n", anything  nothing, until the client goes away
//! "PACE n\n"          nothing; from now on the server sends n bytes a second at most
//! "FIRST\n"           nothing; from now on this connection is served before whatever else the machine does
//! ```
//!
//! At the port [`GREETING`] the server speaks first: "WELCOME\n".
//!
//! Answers to requests that have come together leave together. The last four are for whoever measures: FLOOD and SINK
//! cost the server next to nothing.

use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

/// Where it is served.
pub const PORT: u16 = 5000;
/// Where the same is served, but the server speaks first.
pub const GREETING: u16 = 5001;

/// So many clients may wait for being accepted, as with servers that expect many.
const BACKLOG: i32 = 4096;
/// Bytes that are handled at once.
const CHUNK: usize = 64 << 10;

/// The byte of the pattern at this offset: never the same for long, whatever is shifted.
fn pattern(offset: u64) -> u8 {
    (offset.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8
}

/// Fills a buffer with the pattern from this offset on.
pub fn fill(buffer: &mut [u8], offset: u64) {
    for (index, byte) in buffer.iter_mut().enumerate() {
        *byte = pattern(offset + index as u64);
    }
}

/// Whether servers of this process read what is uploaded.
static READS: AtomicBool = AtomicBool::new(true);

/// Lets servers of this process read what is uploaded, or hang.
pub fn read_on(well: bool) {
    READS.store(well, Ordering::Relaxed);
}

/// Serves at this address, a thread a connection, and at [`GREETING`] of it.
///
/// # Errors
/// When nobody can listen there.
pub fn serve(at: SocketAddr) -> Result<()> {
    listen(at, "")?;
    listen(SocketAddr::new(at.ip(), GREETING), "WELCOME\n")
}

fn listen(at: SocketAddr, greeting: &'static str) -> Result<()> {
    let listener = TcpListener::bind(at).with_context(|| format!("cannot serve TCP on {at}"))?;
    // The standard library lets 128 wait. Each member turns away for itself who comes when its queue is full.
    rustix::net::listen(&listener, BACKLOG).context("listen")?;
    thread::Builder::new().name("stream".to_string()).spawn(move || {
        for stream in listener.incoming().flatten() {
            // More threads than there can be are refused by the kernel; that connection then ends.
            let _ = thread::Builder::new().stack_size(256 << 10).spawn(move || converse(&stream, greeting));
        }
    })?;
    Ok(())
}

/// From now on this end sends so many bytes a second at most, evenly.
fn pace(stream: &TcpStream, rate: u64) -> io::Result<()> {
    set(stream, libc::SOL_SOCKET, libc::SO_MAX_PACING_RATE, rate)
}

/// A socket that no process started meanwhile inherits: that would keep it open.
fn socket_to(to: SocketAddr) -> rustix::io::Result<OwnedFd> {
    use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
    let family = if to.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)
}

/// A socket option that is a number.
fn set<T: Copy>(socket: &impl AsRawFd, level: i32, option: i32, value: T) -> io::Result<()> {
    let size = size_of_val(&value) as libc::socklen_t;
    // SAFETY: pointer and size are of one number, which lives through the call.
    let result =
        unsafe { libc::setsockopt(socket.as_raw_fd(), level, option, (&raw const value).cast(), size) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// From now on this end asks after a second of silence whether the other one is still there.
fn keep_alive(stream: &TcpStream) -> rustix::io::Result<()> {
    use rustix::net::sockopt::{set_socket_keepalive, set_tcp_keepcnt, set_tcp_keepidle, set_tcp_keepintvl};
    const SECOND: Duration = Duration::from_secs(1);
    set_tcp_keepidle(stream, SECOND)?;
    set_tcp_keepintvl(stream, SECOND)?;
    set_tcp_keepcnt(stream, 2)?;
    set_socket_keepalive(stream, true)
}

fn converse(stream: &TcpStream, greeting: &str) -> Option<()> {
    stream.set_nodelay(true).ok()?;
    let mut reader = BufReader::with_capacity(CHUNK, stream);
    let mut writer = BufWriter::with_capacity(CHUNK, stream);
    writer.write_all(greeting.as_bytes()).ok()?;
    let mut buffer = vec![0; CHUNK];
    let (mut offset, mut count) = (0u64, 0u64);
    let mut random = Random::new();
    let mut line = String::new();
    loop {
        if !reader.buffer().contains(&b'\n') {
            writer.flush().ok()?;
        }
        line.clear();
        if reader.read_line(&mut line).ok()? == 0 {
            return None;
        }
        let mut words = line.split_whitespace();
        let (verb, number) = (words.next()?, words.next().and_then(|n| n.parse::<u64>().ok()));
        match (verb, number) {
            ("GET" | "BYE", Some(mut left)) => {
                while left > 0 {
                    let now = buffer.len().min(left as usize);
                    fill(&mut buffer[..now], offset);
                    writer.write_all(&buffer[..now]).ok()?;
                    offset += now as u64;
                    left -= now as u64;
                }
                if verb == "BYE" {
                    return writer.flush().ok();
                }
            }
            ("SLEEP", Some(ms)) => thread::sleep(Duration::from_millis(ms)),
            ("KEEP", None) => {
                keep_alive(stream).ok()?;
                writer.write_all(b"OK\n").ok()?;
            }
            ("PUT", Some(bytes)) => {
                writer.flush().ok()?;
                let (mut left, mut sum) = (bytes, 0u64);
                while left > 0 {
                    while !READS.load(Ordering::Relaxed) {
                        thread::sleep(Duration::from_millis(5));
                    }
                    let now = buffer.len().min(left as usize);
                    let read = reader.read(&mut buffer[..now]).ok()?;
                    if read == 0 {
                        return None;
                    }
                    sum = buffer[..read]
                        .iter()
                        .fold(sum, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
                    left -= read as u64;
                }
                writeln!(writer, "OK {bytes} {sum}").ok()?;
            }
            ("INCR", None) => {
                count += 1;
                writeln!(writer, "{count}").ok()?;
            }
            ("PACE", Some(rate)) => pace(stream, rate).ok()?,
            // Behind the machine's own threads, which carry its frames.
            ("FIRST", None) => crate::vm::prefer_at(1),
            ("FLOOD", None) => {
                let zeros = vec![0; 4 * CHUNK];
                loop {
                    writer.write_all(&zeros).ok()?;
                }
            }
            ("SINK", None) => {
                let mut room = vec![0; 4 * CHUNK];
                while reader.read(&mut room).ok()? > 0 {}
                return None;
            }
            ("RAND", Some(bytes)) => {
                let answer: Vec<u8> = (0..bytes).map(|_| random.byte()).collect();
                writer.write_all(&answer).ok()?;
            }
            _ => return None,
        }
    }
}

/// Bytes that only their seed tells.
#[derive(Debug)]
struct Random {
    seed: u64,
    offset: u64,
}

impl Random {
    fn new() -> Random {
        let hasher = std::hash::BuildHasher::build_hasher(&std::hash::RandomState::new());
        Random { seed: std::hash::Hasher::finish(&hasher), offset: 0 }
    }

    fn byte(&mut self) -> u8 {
        let offset = self.offset;
        self.offset += 1;
        match offset {
            0..8 => self.seed.to_ne_bytes()[offset as usize],
            _ => pattern(self.seed.wrapping_add(offset)),
        }
    }
}

/// A client's end of one conversation.
#[derive(Debug)]
pub struct Conversation {
    stream: TcpStream,
    offset: u64,
    count: u64,
    random: Option<Random>,
    last: Instant,
    gaps: Vec<(Instant, Duration)>,
}

impl Conversation {
    /// Connects from this address and port.
    ///
    /// # Errors
    /// When the port is taken, or nobody answers.
    pub fn open_from(from: SocketAddr, to: SocketAddr) -> Result<Conversation> {
        use rustix::net::{bind, connect, sockopt};
        let socket = socket_to(to)?;
        sockopt::set_socket_reuseaddr(&socket, true)?;
        bind(&socket, &from).with_context(|| format!("binding to {from}"))?;
        connect(&socket, &to).with_context(|| format!("connecting from {from} to {to}"))?;
        Conversation::over(socket.into())
    }

    /// Connects with this sequence number in the SYN.
    ///
    /// # Errors
    /// When nobody answers, or without the right to choose (CAP_NET_ADMIN, `TCP_REPAIR`).
    pub fn open_numbered(first: u32, to: SocketAddr) -> Result<Conversation> {
        /// `TCP_SEND_QUEUE` of linux/tcp.h.
        const SEND_QUEUE: i32 = 2;
        let socket = socket_to(to)?;
        set(&socket, libc::IPPROTO_TCP, libc::TCP_REPAIR, 1).context("TCP_REPAIR")?;
        set(&socket, libc::IPPROTO_TCP, libc::TCP_REPAIR_QUEUE, SEND_QUEUE)?;
        // What is set here is where the kernel begins when it connects in earnest (`tcp_v4_connect`: only 0 is replaced).
        set(&socket, libc::IPPROTO_TCP, libc::TCP_QUEUE_SEQ, first)?;
        set(&socket, libc::IPPROTO_TCP, libc::TCP_REPAIR, 0)?;
        rustix::net::connect(&socket, &to).with_context(|| format!("connecting to {to}"))?;
        Conversation::over(socket.into())
    }

    /// It vanishes without a word to anybody, as if its machine had gone.
    ///
    /// # Errors
    /// Without the right to (CAP_NET_ADMIN, `TCP_REPAIR`).
    pub fn vanish(self) -> Result<()> {
        set(&self.stream, libc::IPPROTO_TCP, libc::TCP_REPAIR, 1).context("TCP_REPAIR")
    }

    /// The client's own address and port.
    ///
    /// # Errors
    /// When the kernel does not know.
    pub fn local(&self) -> Result<SocketAddr> {
        self.stream.local_addr().context("no address of its own")
    }

    /// Connects, within this time.
    ///
    /// # Errors
    /// When nobody answers.
    pub fn open(to: SocketAddr, within: Duration) -> Result<Conversation> {
        let stream =
            TcpStream::connect_timeout(&to, within).with_context(|| format!("connecting to {to}"))?;
        Conversation::over(stream)
    }

    /// Connects to all of these before any of them has answered, and makes each one's first request as soon as it is
    /// connected. The answers to those are still to come ([`Conversation::answered`]).
    ///
    /// # Errors
    /// When one of them is refused, or not all have answered in this time.
    pub fn open_at_once(to: &[SocketAddr], within: Duration) -> Result<Vec<Conversation>> {
        use rustix::event::{PollFd, PollFlags, Timespec, poll};
        use rustix::io::{Errno, ioctl_fionbio};
        let sockets = to.iter().map(|to| socket_to(*to)).collect::<rustix::io::Result<Vec<_>>>()?;
        for (socket, to) in sockets.iter().zip(to) {
            ioctl_fionbio(socket, true)?;
            match rustix::net::connect(socket, to) {
                Ok(()) | Err(Errno::INPROGRESS) => {}
                Err(error) => return Err(error).with_context(|| format!("connecting to {to}")),
            }
        }
        let until = Instant::now() + within;
        let (mut waiting, mut opened) = (sockets, Vec::new());
        while !waiting.is_empty() {
            let left = until.saturating_duration_since(Instant::now());
            ensure!(!left.is_zero(), "{} of {} did not answer in {within:?}", waiting.len(), to.len());
            let mut looked: Vec<_> = waiting.iter().map(|one| PollFd::new(one, PollFlags::OUT)).collect();
            poll(&mut looked, Some(&Timespec::try_from(left)?))?;
            let ready: Vec<bool> = looked.iter().map(|one| !one.revents().is_empty()).collect();
            let mut rest = Vec::new();
            for (socket, ready) in waiting.into_iter().zip(ready) {
                if !ready {
                    rest.push(socket);
                    continue;
                }
                rustix::net::sockopt::socket_error(&socket)?.context("connecting")?;
                ioctl_fionbio(&socket, false)?;
                let mut conversation = Conversation::over(socket.into())?;
                conversation.request()?;
                opened.push(conversation);
            }
            waiting = rest;
        }
        Ok(opened)
    }

    fn over(stream: TcpStream) -> Result<Conversation> {
        stream.set_nodelay(true)?;
        // Whatever hangs for longer has failed.
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.set_write_timeout(Some(Duration::from_secs(20)))?;
        Ok(Conversation { stream, offset: 0, count: 0, random: None, last: Instant::now(), gaps: Vec::new() })
    }

    fn progress(&mut self) {
        /// Shorter ones are everyday life, and would only fill the memory.
        const WORTH_KEEPING: Duration = Duration::from_micros(200);
        let now = Instant::now();
        let gap = now - self.last;
        if gap >= WORTH_KEEPING {
            self.gaps.push((now, gap));
        }
        self.last = now;
    }

    /// The longest time without progress since the last call.
    pub fn take_gap(&mut self) -> Duration {
        std::mem::take(&mut self.gaps).into_iter().map(|(_, gap)| gap).max().unwrap_or_default()
    }

    /// The longest time without progress that ended between this moment and that one.
    #[must_use]
    pub fn gap_within(&self, moment: Instant, until: Instant) -> Duration {
        let within = self.gaps.iter().filter(|(end, _)| *end > moment && *end <= until);
        within.map(|(_, gap)| *gap).max().unwrap_or_default()
    }

    /// The longest time without progress that was not over at this moment.
    #[must_use]
    pub fn gap_since(&self, moment: Instant) -> Duration {
        let later = self.gaps.iter().filter(|(end, _)| *end > moment);
        later.map(|(_, gap)| *gap).max().unwrap_or_default()
    }

    /// The same, but what was over of it by then is not counted.
    #[must_use]
    pub fn gap_after(&self, moment: Instant) -> Duration {
        let after = |(end, gap): &(Instant, Duration)| end.saturating_duration_since(moment).min(*gap);
        self.gaps.iter().map(after).max().unwrap_or_default()
    }

    /// The same, of those that began before `until`.
    #[must_use]
    pub fn gap_between(&self, moment: Instant, until: Instant) -> Duration {
        let began_before =
            |(end, gap): &&(Instant, Duration)| end.checked_sub(*gap).is_none_or(|at| at < until);
        let after = |(end, gap): &(Instant, Duration)| end.saturating_duration_since(moment).min(*gap);
        self.gaps.iter().filter(began_before).map(after).max().unwrap_or_default()
    }

    /// From now on the other end's machine serves this connection before whatever else it does. The connection must not
    /// take all of its time.
    ///
    /// # Errors
    /// When the connection ends.
    pub fn come_first(&mut self) -> Result<()> {
        self.stream.write_all(b"FIRST\n").context("asking to come first")?;
        // Until it is so.
        self.increment()
    }

    /// From now on either end sends so many bytes a second at most, evenly.
    ///
    /// # Errors
    /// When a kernel refuses, or the connection ends.
    pub fn pace(&mut self, rate: u64) -> Result<()> {
        pace(&self.stream, rate).context("SO_MAX_PACING_RATE")?;
        self.stream.write_all(format!("PACE {rate}\n").as_bytes()).context("asking for a pace")
    }

    /// From now on so few bytes at most wait in the kernel for being sent: an upload that stalls shows it soon.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn hold_little(&self, bytes: usize) -> Result<()> {
        rustix::net::sockopt::set_socket_send_buffer_size(&self.stream, bytes)
            .context("cannot make the send buffer small")
    }

    /// Downloads this many bytes and checks each.
    ///
    /// # Errors
    /// When the connection ends, hangs, or brings a wrong byte.
    pub fn download(&mut self, bytes: u64) -> Result<()> {
        self.ask("GET", bytes)?;
        self.receive(bytes)
    }

    /// Says a verb with its number.
    ///
    /// # Errors
    /// When the connection does not take it.
    pub fn ask(&mut self, verb: &str, number: u64) -> Result<()> {
        self.last = Instant::now();
        self.stream.write_all(format!("{verb} {number}\n").as_bytes()).context("asking")
    }

    /// Receives this many bytes that were asked for, and checks each.
    ///
    /// # Errors
    /// When the connection ends, hangs, or brings a wrong byte.
    pub fn receive(&mut self, bytes: u64) -> Result<()> {
        let mut buffer = vec![0; CHUNK];
        let mut expected = vec![0; CHUNK];
        let mut left = bytes;
        while left > 0 {
            let now = buffer.len().min(left as usize);
            let read = self
                .stream
                .read(&mut buffer[..now])
                .with_context(|| format!("{left} of {bytes} bytes to come"))?;
            ensure!(read > 0, "the connection ended {left} bytes before the end of {bytes}");
            self.progress();
            fill(&mut expected[..read], self.offset);
            ensure!(buffer[..read] == expected[..read], "a wrong byte at {} or soon after", self.offset);
            self.offset += read as u64;
            left -= read as u64;
        }
        Ok(())
    }

    /// Uploads this many bytes and checks what the server says of them.
    ///
    /// # Errors
    /// When the connection ends, hangs, or the server has received something else.
    pub fn upload(&mut self, bytes: u64) -> Result<()> {
        self.stream.write_all(format!("PUT {bytes}\n").as_bytes()).context("announcing")?;
        self.last = Instant::now();
        let mut buffer = vec![0; CHUNK];
        let (mut sent, mut sum) = (0u64, 0u64);
        while sent < bytes {
            let now = buffer.len().min((bytes - sent) as usize);
            fill(&mut buffer[..now], sent);
            sum = buffer[..now]
                .iter()
                .fold(sum, |sum, byte| sum.wrapping_mul(31).wrapping_add(u64::from(*byte)));
            self.stream.write_all(&buffer[..now]).with_context(|| format!("{sent} of {bytes} bytes sent"))?;
            self.progress();
            sent += now as u64;
        }
        let answer = self.line()?;
        ensure!(
            answer == format!("OK {bytes} {sum}"),
            "sent {bytes} bytes with the sum {sum}, the server says {answer:?}"
        );
        Ok(())
    }

    /// Receives what is still to come of so many bytes that were asked for on this connection, and checks each.
    ///
    /// # Errors
    /// As [`Conversation::receive`].
    pub fn rest(&mut self, bytes: u64) -> Result<()> {
        self.receive(bytes.saturating_sub(self.offset))
    }

    /// Has nothing more to say, and still listens.
    ///
    /// # Errors
    /// When the connection has ended.
    pub fn shut(&mut self) -> Result<()> {
        self.stream.shutdown(Shutdown::Write).context("shutting down one direction")
    }

    /// Sees the server's end of the connection, and nothing before.
    ///
    /// # Errors
    /// When it is reset, hangs, or something comes.
    pub fn ended(&mut self) -> Result<()> {
        let more = self.stream.read(&mut [0; 64]).context("waiting for the end")?;
        ensure!(more == 0, "{more} bytes behind the end");
        Ok(())
    }

    /// Hears the server's greeting.
    ///
    /// # Errors
    /// When it is another, or does not come.
    pub fn greeted(&mut self) -> Result<()> {
        let greeting = self.line()?;
        ensure!(greeting == "WELCOME", "{greeting:?} is no greeting");
        Ok(())
    }

    /// From now on the server asks after a second of silence whether this end is still there.
    ///
    /// # Errors
    /// When the connection ends or hangs.
    pub fn keep_alive(&mut self) -> Result<()> {
        self.stream.write_all(b"KEEP\n").context("asking")?;
        let answer = self.line()?;
        ensure!(answer == "OK", "{answer:?} is no answer");
        Ok(())
    }

    /// One request and its answer, which must be the next number.
    ///
    /// # Errors
    /// When the connection ends, hangs, or the answer is another one.
    pub fn increment(&mut self) -> Result<()> {
        self.request()?;
        self.answered()
    }

    /// The request alone.
    ///
    /// # Errors
    /// When the connection does not take it.
    pub fn request(&mut self) -> Result<()> {
        self.last = Instant::now();
        self.stream.write_all(b"INCR\n").context("asking")
    }

    /// The answer to a request.
    ///
    /// # Errors
    /// When the connection ends, hangs, or the answer is not the next number.
    pub fn answered(&mut self) -> Result<()> {
        self.count += 1;
        let answer = self.line()?;
        ensure!(answer == self.count.to_string(), "answer {answer:?} instead of {}", self.count);
        Ok(())
    }

    /// Asks for this many random bytes, eight at least, and checks that all come from the same source.
    ///
    /// # Errors
    /// When the connection ends, hangs, or brings a byte of another source.
    pub fn random(&mut self, bytes: u64) -> Result<()> {
        self.stream.write_all(format!("RAND {bytes}\n").as_bytes()).context("asking")?;
        self.last = Instant::now();
        let mut answer = vec![0; bytes as usize];
        self.stream.read_exact(&mut answer).context("waiting for random bytes")?;
        self.progress();
        let mut rest = &answer[..];
        if self.random.is_none() {
            let (seed, after) = answer.split_first_chunk::<8>().context("too short for a seed")?;
            self.random = Some(Random { seed: u64::from_ne_bytes(*seed), offset: 8 });
            rest = after;
        }
        let source = self.random.as_mut().context("a source")?;
        ensure!(rest.iter().all(|byte| *byte == source.byte()), "bytes of another source");
        Ok(())
    }

    fn line(&mut self) -> Result<String> {
        let mut line = Vec::new();
        let mut byte = [0];
        loop {
            let read = self.stream.read(&mut byte).context("waiting for an answer")?;
            ensure!(read == 1, "the connection ended before the answer");
            if byte[0] == b'\n' {
                self.progress();
                return Ok(String::from_utf8(line)?);
            }
            line.push(byte[0]);
        }
    }
}
