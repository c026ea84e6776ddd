//! The measuring clients: connections that carry as much as they can, and requests that wait for their answers.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsRawFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};

use crate::interrupt;
use crate::netns::Netns;

/// Bytes that are read or written at once.
const CHUNK: usize = 256 << 10;

/// Where the bytes of a bulk connection go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Towards {
    Client,
    Server,
}

/// Opens a connection that ends at once when it is closed, whatever is still under way: the next measurement must not
/// find its remains on the wire.
fn open(to: SocketAddr) -> Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))
        .with_context(|| format!("connecting to {to}"))?;
    stream.set_nodelay(true)?;
    // Whatever hangs for longer has failed.
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.set_write_timeout(Some(Duration::from_secs(10)))?;
    rustix::net::sockopt::set_socket_linger(&stream, Some(Duration::ZERO))?;
    Ok(stream)
}

/// A bulk connection: what it has carried is what the other side's TCP has, not what was handed to the kernel.
struct Bulk {
    stream: TcpStream,
    handed: Arc<AtomicU64>,
    towards: Towards,
}

impl Bulk {
    fn carried(&self) -> Result<u64> {
        let handed = self.handed.load(Ordering::Relaxed);
        if self.towards == Towards::Client {
            return Ok(handed);
        }
        let mut waiting: libc::c_int = 0;
        // SAFETY: SIOCOUTQ (the same as TIOCOUTQ) writes one int, which lives through the call.
        if unsafe { libc::ioctl(self.stream.as_raw_fd(), libc::TIOCOUTQ, &raw mut waiting) } < 0 {
            return Err(std::io::Error::last_os_error()).context("SIOCOUTQ");
        }
        // Bytes that were handed over after the count was read may be waiting, too.
        Ok(handed.saturating_sub(waiting.unsigned_abs().into()))
    }
}

/// Goodput of so many connections together, Gbit/s, over this time after a start of this time.
pub(super) fn goodput(
    netns: &Netns,
    to: SocketAddr,
    connections: usize,
    towards: Towards,
    [start, time]: [Duration; 2],
) -> Result<f64> {
    let over = Arc::new(AtomicBool::new(false));
    let mut all = Vec::new();
    let mut threads = Vec::new();
    {
        let _inside = netns.enter()?;
        for _ in 0..connections {
            let mut stream = open(to)?;
            stream.write_all(if towards == Towards::Client { b"FLOOD\n" } else { b"SINK\n" })?;
            let handed = Arc::new(AtomicU64::new(0));
            all.push(Bulk { stream: stream.try_clone()?, handed: Arc::clone(&handed), towards });
            let over = Arc::clone(&over);
            threads.push(thread::Builder::new().stack_size(256 << 10).spawn(move || -> Result<()> {
                let mut buffer = vec![0; CHUNK];
                while !over.load(Ordering::Relaxed) {
                    let moved = match towards {
                        Towards::Client => stream.read(&mut buffer),
                        Towards::Server => stream.write(&buffer),
                    };
                    match moved {
                        _ if over.load(Ordering::Relaxed) => {}
                        Ok(0) => anyhow::bail!("the connection ended"),
                        Ok(bytes) => drop(handed.fetch_add(bytes as u64, Ordering::Relaxed)),
                        Err(error) => return Err(error).context("the connection broke"),
                    }
                }
                Ok(())
            })?);
        }
    }
    let carried = || all.iter().map(Bulk::carried).sum::<Result<u64>>();
    interrupt::pause(start)?;
    let (began, before) = (Instant::now(), carried()?);
    interrupt::pause(time)?;
    let (took, after) = (began.elapsed(), carried()?);
    over.store(true, Ordering::Relaxed);
    for bulk in &all {
        // Whoever waits for the other side is woken up.
        let _ = bulk.stream.shutdown(std::net::Shutdown::Both);
    }
    for thread in threads {
        thread.join().ok().context("a client panicked")??;
    }
    ensure!(after > before, "nothing arrived in {took:?}");
    Ok((after - before) as f64 * 8.0 / took.as_secs_f64() / 1e9)
}

/// Requests and their answers on one connection.
#[derive(Clone, Copy, Debug)]
pub(super) struct Answered {
    /// A second, in thousands.
    pub(super) rate: f64,
    /// Microseconds from the sending of a request to its answer.
    pub(super) median: f64,
    /// The same: 99 of 100 took at most this long.
    pub(super) p99: f64,
}

/// Asks on one connection, `depth` requests at once, and waits for all answers before it asks again.
pub(super) fn requests(
    netns: &Netns,
    to: SocketAddr,
    depth: usize,
    [start, time]: [Duration; 2],
) -> Result<Answered> {
    let mut stream = {
        let _inside = netns.enter()?;
        open(to)?
    };
    let question = b"INCR\n".repeat(depth);
    let mut answers = Vec::new();
    let mut buffer = vec![0; 4096];
    let mut count = 0;
    let mut took = Vec::new();
    let (mut began, mut measuring) = (Instant::now(), false);
    loop {
        let asked = Instant::now();
        if !measuring && asked - began >= start {
            interrupt::check()?;
            (began, measuring) = (asked, true);
        }
        if measuring && asked - began >= time {
            break;
        }
        stream.write_all(&question).context("asking")?;
        answers.clear();
        let mut come = 0;
        while come < depth {
            let read = stream.read(&mut buffer).context("waiting for an answer")?;
            ensure!(read > 0, "the connection ended before the answer");
            let lines = buffer[..read].iter().filter(|byte| **byte == b'\n').count();
            let microseconds = asked.elapsed().as_secs_f64() * 1e6;
            if measuring {
                took.extend(std::iter::repeat_n(microseconds, lines));
            }
            come += lines;
            answers.extend_from_slice(&buffer[..read]);
        }
        count += depth;
        let last = answers.split(|byte| *byte == b'\n').nth(depth - 1);
        ensure!(last == Some(count.to_string().as_bytes()), "a wrong answer: {last:?} instead of {count}");
    }
    let rate = took.len() as f64 / began.elapsed().as_secs_f64() / 1e3;
    ensure!(!took.is_empty(), "no request was answered");
    took.sort_by(f64::total_cmp);
    let part = |part: f64| took[((took.len() - 1) as f64 * part) as usize];
    Ok(Answered { rate, median: part(0.5), p99: part(0.99) })
}
