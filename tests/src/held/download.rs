//! One large file of a web server, byte for byte.
//!
//! It is asked for in HTTP/0.9 (`GET /file`, the oldest there is, which nginx still speaks): the answer is the file and
//! nothing else. A newer one begins with a header in which the server writes what time it is, and two members that answer
//! with different bytes cannot stand in for each other (docs/tcp.md).

use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::time::Instant;

use anyhow::Context as _;
use sha2::{Digest as _, Sha256};

use super::{Book, Broken, CHUNK, Pace, Plan, hex};

pub(super) fn run(stream: &TcpStream, plan: &Plan, book: &Book) -> Result<(), Broken> {
    let mut stream = stream;
    stream.write_all(format!("GET /{}\r\n", plan.file).as_bytes()).context("asking")?;
    let (mut sum, mut pace, mut total) = (Sha256::new(), Pace::new(plan.rate), 0);
    let mut buffer = vec![0; CHUNK];
    loop {
        pace.wait();
        let since = Instant::now();
        let read = match stream.read(&mut buffer) {
            Ok(0) => break,
            Ok(read) => read,
            Err(error) => {
                book.gave_up(since);
                return Err(anyhow::anyhow!(error).context(format!("after {total} bytes")).into());
            }
        };
        total += read as u64;
        book.came(since, total);
        sum.update(&buffer[..read]);
        pace.moved(read);
    }
    if total < plan.file_bytes {
        return Err(anyhow::anyhow!("closed after {total} of {} bytes", plan.file_bytes).into());
    }
    let sum = hex(&sum.finalize());
    if total > plan.file_bytes || sum != plan.file_sha256 {
        return Err(Broken::Wrong(format!(
            "{total} bytes with the SHA-256 {sum}, instead of {} with {}",
            plan.file_bytes, plan.file_sha256
        )));
    }
    Ok(())
}
