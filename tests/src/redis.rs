//! A client of Redis that says exactly what it sends and sees every reply (RESP2, of which it knows what tests use).

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

/// What came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reply {
    /// `+...`
    Said(String),
    /// `:...`
    Number(i64),
    /// `$...`, `None` for nothing there.
    Value(Option<Vec<u8>>),
}

/// One connection.
#[derive(Debug)]
pub struct Session {
    stream: BufReader<TcpStream>,
    request: Vec<u8>,
}

impl Session {
    /// Connects.
    ///
    /// # Errors
    /// When nobody answers within five seconds.
    pub fn open(to: SocketAddr) -> Result<Session> {
        let stream = TcpStream::connect_timeout(&to, Duration::from_secs(5))
            .with_context(|| format!("connecting to Redis at {to}"))?;
        stream.set_nodelay(true)?;
        // Whatever hangs for longer has failed.
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        stream.set_write_timeout(Some(Duration::from_secs(20)))?;
        Ok(Session { stream: BufReader::new(stream), request: Vec::new() })
    }

    /// Puts a command into the next pipeline.
    pub fn add(&mut self, words: &[&str]) {
        self.request.extend(format!("*{}\r\n", words.len()).as_bytes());
        for word in words {
            self.request.extend(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
        }
    }

    /// Sends the pipeline.
    ///
    /// # Errors
    /// When the connection does not take it.
    pub fn send(&mut self) -> Result<()> {
        self.stream.get_mut().write_all(&self.request).context("sending commands")?;
        self.request.clear();
        Ok(())
    }

    /// The next reply.
    ///
    /// # Errors
    /// When the connection ends or hangs, at an error of Redis, and at what is no reply.
    pub fn reply(&mut self) -> Result<Reply> {
        let mut line = String::new();
        ensure!(
            self.stream.read_line(&mut line).context("waiting for a reply")? > 0,
            "the connection ended before a reply"
        );
        let line = line.strip_suffix("\r\n").with_context(|| format!("{line:?} is no reply"))?;
        Ok(match line.split_at_checked(1) {
            Some(("+", rest)) => Reply::Said(rest.to_owned()),
            Some((":", rest)) => Reply::Number(rest.parse().context("a number")?),
            Some(("$", "-1")) => Reply::Value(None),
            Some(("$", length)) => {
                let mut value = vec![0; length.parse::<usize>().context("a length")? + 2];
                self.stream.read_exact(&mut value).context("waiting for a value")?;
                ensure!(value.ends_with(b"\r\n"), "{value:?} does not end where it says");
                value.truncate(value.len() - 2);
                Reply::Value(Some(value))
            }
            _ => bail!("Redis says {line:?}"),
        })
    }

    /// Sends one command and waits for its reply.
    ///
    /// # Errors
    /// As [`Session::send`] and [`Session::reply`].
    pub fn ask(&mut self, words: &[&str]) -> Result<Reply> {
        self.add(words);
        self.send()?;
        self.reply()
    }
}
