//! A TLS client: `openssl s_client`, which believes one certificate only, over the streams of [`crate::stream`].

use std::io::{ErrorKind, Read, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, ChildStdin, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};

use crate::lab::Client;
use crate::stream;

/// Whatever hangs for longer has failed.
const PATIENCE: Duration = Duration::from_secs(20);

/// One connection. The process behind it is killed when this is dropped.
#[derive(Debug)]
pub struct Session {
    child: Child,
    to: ChildStdin,
    heard: Receiver<Vec<u8>>,
    said: Option<JoinHandle<String>>,
    /// Heard, and not looked at yet.
    ahead: Vec<u8>,
    offset: u64,
    count: u64,
}

impl Session {
    /// Begins to connect, to whoever has the key to the certificate in this file and to nobody else.
    ///
    /// # Errors
    /// When `openssl` cannot be run.
    pub fn open(client: Client<'_>, to: SocketAddr, certificate: &Path) -> Result<Session> {
        let mut child = client
            .command("openssl")
            // Quiet is: nothing but the server's bytes on standard output, and no letters that are commands.
            .args(["s_client", "-quiet", "-verify_quiet", "-verify_return_error", "-connect"])
            .arg(to.to_string())
            .arg("-CAfile")
            .arg(certificate)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .context("cannot run openssl; is it installed?")?;
        let (input, output) = (child.stdin.take(), child.stdout.take());
        let errors = child.stderr.take();
        let (to, mut output) = (input.context("no stdin")?, output.context("no stdout")?);
        let mut errors = errors.context("no stderr")?;
        let (heard, hears) = channel();
        thread::spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            while let Ok(read @ 1..) = output.read(&mut buffer) {
                if heard.send(buffer[..read].to_vec()).is_err() {
                    break;
                }
            }
        });
        let said = thread::spawn(move || {
            let mut said = String::new();
            let _ = errors.read_to_string(&mut said);
            said
        });
        Ok(Session { child, to, heard: hears, said: Some(said), ahead: Vec::new(), offset: 0, count: 0 })
    }

    fn say(&mut self, line: &str) -> Result<()> {
        match self.to.write_all(format!("{line}\n").as_bytes()) {
            // Its connection has ended before it was asked.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => {
                bail!("the connection ended: {}", self.last_words())
            }
            said => said.context("asking"),
        }
    }

    /// Waits for more.
    fn hear(&mut self) -> Result<()> {
        match self.heard.recv_timeout(PATIENCE) {
            Ok(bytes) => self.ahead.extend(bytes),
            Err(RecvTimeoutError::Timeout) => bail!("nothing heard for {PATIENCE:?}"),
            Err(RecvTimeoutError::Disconnected) => bail!("the connection ended: {}", self.last_words()),
        }
        Ok(())
    }

    fn last_words(&mut self) -> String {
        let said = self.said.take().map(|said| said.join().expect("no panic"));
        said.unwrap_or_default().trim().to_owned()
    }

    /// One request and its answer, which must be the next number.
    ///
    /// # Errors
    /// When the connection ends, hangs, or the answer is another one.
    pub fn increment(&mut self) -> Result<()> {
        self.count += 1;
        self.say("INCR")?;
        let line = loop {
            if let Some(end) = self.ahead.iter().position(|byte| *byte == b'\n') {
                break self.ahead.drain(..=end).collect::<Vec<_>>();
            }
            self.hear()?;
        };
        ensure!(line == format!("{}\n", self.count).into_bytes(), "{line:?} is not {}", self.count);
        Ok(())
    }

    /// Asks for this many bytes.
    ///
    /// # Errors
    /// When the connection does not take it.
    pub fn ask(&mut self, bytes: u64) -> Result<()> {
        self.say(&format!("GET {bytes}"))
    }

    /// Receives this many bytes that were asked for, and checks each.
    ///
    /// # Errors
    /// When the connection ends, hangs, or brings a wrong byte.
    pub fn receive(&mut self, bytes: usize) -> Result<()> {
        while self.ahead.len() < bytes {
            self.hear()?;
        }
        self.check(bytes)
    }

    /// Checks the next so many bytes that were heard.
    fn check(&mut self, bytes: usize) -> Result<()> {
        let mut expected = vec![0; bytes];
        stream::fill(&mut expected, self.offset);
        ensure!(self.ahead.drain(..bytes).eq(expected), "a wrong byte at {} or soon after", self.offset);
        self.offset += bytes as u64;
        Ok(())
    }

    /// Sees the connection reset within this time, and nothing before but bytes that were asked for.
    ///
    /// # Errors
    /// When it goes on, ends in any other way (a record with another key does not pass for a reset: its sum is wrong), or
    /// brings a wrong byte.
    pub fn must_be_reset(mut self, within: Duration) -> Result<()> {
        let end = Instant::now() + within;
        loop {
            match self.heard.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(bytes) => self.ahead.extend(bytes),
                Err(RecvTimeoutError::Timeout) => bail!("it was not reset within {within:?}"),
                Err(RecvTimeoutError::Disconnected) => break,
            }
        }
        self.check(self.ahead.len())?;
        let said = self.last_words();
        // In s_client's words; before them it says that it has not asked for a name.
        let reset = format!("read:errno={}", libc::ECONNRESET);
        ensure!(said.lines().last() == Some(&reset), "it ended, but otherwise: {said:?}");
        Ok(())
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
