//! Orders to a machine: one JSON line each way on a Unix socket.

use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use serde::{Deserialize, Serialize};

use crate::line::Faults;

/// An order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Order {
    /// What the service's health check finds from now on.
    Health {
        /// Well or not.
        well: bool,
    },
    /// Whether the service reads what is uploaded to it from now on.
    Reads {
        /// Or hangs.
        well: bool,
    },
    /// Signal to a program.
    Program(Program, ProgramOrder),
    /// What happens to TCP segments on their way in and out.
    Lines {
        /// From the host.
        inbound: Faults,
        /// To the host.
        outbound: Faults,
    },
    /// Send these frames (hexadecimal, from the Ethernet header on), whatever they are.
    Inject(Vec<String>),
    /// Send them again and again.
    Flood {
        /// As in `Inject`.
        frames: Vec<String>,
        /// Frames a second, as far as the machine can.
        rate: u32,
        /// Frames in all.
        total: u32,
    },
    /// Keep every frame that comes in from now on.
    CaptureStart,
    /// Stop that and answer with the frames.
    CaptureStop,
}

/// A program inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Program {
    /// The guest agent.
    Agent,
    /// Redis.
    Redis,
}

/// What happens to a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProgramOrder {
    /// SIGKILL: it falls silent; its kernel closes its connections.
    Kill,
    /// SIGTERM: it shuts down in an orderly way.
    Terminate,
    /// It is started again if it does not run.
    Start,
    /// It is killed and started again, an agent as if the machine had rebooted.
    Reboot,
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Answer {
    /// Done.
    Done,
    /// The captured frames, hexadecimal.
    Frames(Vec<String>),
    /// Not done.
    Refused(String),
}

/// Gives an order and waits for it to be carried out.
///
/// # Errors
/// When nobody answers within thirty seconds (a frozen machine does not), or the machine refuses.
pub fn order(socket: &Path, order: &Order) -> Result<Answer> {
    let stream =
        UnixStream::connect(socket).with_context(|| format!("no machine at {}", socket.display()))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    let mut line = serde_json::to_string(order)?;
    line.push('\n');
    (&stream).write_all(line.as_bytes())?;
    let mut answer = String::new();
    BufReader::new(&stream).read_line(&mut answer).context("the machine does not answer; is it frozen?")?;
    match serde_json::from_str(&answer).context("the machine's answer makes no sense")? {
        Answer::Refused(why) => Err(anyhow!("the machine refuses: {why}")),
        answer => Ok(answer),
    }
}

/// Bytes as hexadecimal digits.
#[must_use]
pub fn to_hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Bytes from hexadecimal digits.
///
/// # Errors
/// When there are others in it, or an odd number.
pub fn from_hex(text: &str) -> Result<Vec<u8>> {
    if !text.len().is_multiple_of(2) || !text.is_ascii() {
        return Err(anyhow!("{text:?} is not hexadecimal"));
    }
    (0..text.len()).step_by(2).map(|i| Ok(u8::from_str_radix(&text[i..i + 2], 16)?)).collect()
}
