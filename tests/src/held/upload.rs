//! One large file to a web server, which answers with the SHA-256 of what has arrived.

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::os::fd::AsRawFd as _;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use sha2::{Digest as _, Sha256};

use super::{Book, Broken, CHUNK, IN_FLIGHT, PATIENCE, Pace, Plan, hex};
use crate::stream;

pub(super) fn run(stream: &TcpStream, plan: &Plan, book: &Book) -> Result<(), Broken> {
    let mut stream = stream;
    let head = format!("POST /cgi-bin/sha256 HTTP/1.0\r\nContent-Length: {}\r\n\r\n", plan.upload_bytes);
    stream.write_all(head.as_bytes()).context("asking")?;
    let (mut sum, mut pace, mut sent) = (Sha256::new(), Pace::new(plan.rate), 0u64);
    let mut buffer = vec![0; CHUNK];
    let mut acknowledged = 0;
    // Since when something has been in flight and none of it was acknowledged.
    let mut since = Instant::now();
    loop {
        let queued = unacknowledged(stream)?;
        // The head counts as well while it is in flight: a moment, and then never again.
        let now = sent.saturating_sub(queued as u64);
        if now > acknowledged {
            acknowledged = now;
            book.came(since, acknowledged);
            since = Instant::now();
        } else if queued == 0 {
            since = Instant::now();
        }
        if queued == 0 && sent == plan.upload_bytes {
            break;
        }
        let broken = stream.take_error()?.map(anyhow::Error::from);
        let silent = (since.elapsed() > PATIENCE).then(|| anyhow!("nothing acknowledged for {PATIENCE:?}"));
        if let Some(error) = broken.or(silent) {
            book.gave_up(since);
            return Err(error.context(format!("after {acknowledged} bytes")).into());
        }
        if sent < plan.upload_bytes && queued < IN_FLIGHT && pace.is_due() {
            let chunk = CHUNK.min((plan.upload_bytes - sent) as usize);
            stream::fill(&mut buffer[..chunk], sent);
            stream.write_all(&buffer[..chunk]).with_context(|| format!("after {acknowledged} bytes"))?;
            sum.update(&buffer[..chunk]);
            sent += chunk as u64;
            pace.moved(chunk);
        } else {
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    let since = Instant::now();
    let mut answer = String::new();
    if let Err(error) = stream.read_to_string(&mut answer) {
        book.gave_up(since);
        return Err(anyhow!(error).context("waiting for the answer").into());
    }
    book.came(since, acknowledged);
    let expected = format!("{sent} {}", hex(&sum.finalize()));
    match answer.trim_end().lines().last() {
        Some(last) if last == expected => Ok(()),
        _ => Err(Broken::Wrong(format!("sent {expected}; the server answers {answer:?}"))),
    }
}

/// Bytes that were written and that the other end has not acknowledged (`tcp(7)`, SIOCOUTQ).
fn unacknowledged(stream: &TcpStream) -> std::io::Result<usize> {
    let mut bytes: libc::c_int = 0;
    // SAFETY: the descriptor is open as long as the stream lives, and SIOCOUTQ (which has TIOCOUTQ's number) writes one int.
    let done = unsafe { libc::ioctl(stream.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    if done < 0 {
        return Err(std::io::Error::last_os_error());
    }
    Ok(usize::try_from(bytes).unwrap_or(0))
}
