//! One GET on the controller's socket: a status in a millisecond, where the command line would take ten.

use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;

/// Asks for a path and reads the answer's JSON.
pub(super) fn get<T: DeserializeOwned>(socket: &Path, path: &str) -> Result<T> {
    let mut stream = UnixStream::connect(socket).context("the controller does not listen")?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream
        .write_all(format!("GET {path} HTTP/1.1\r\nHost: hotpair\r\nConnection: close\r\n\r\n").as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).context("the controller does not answer")?;
    let (head, body) = answer.split_once("\r\n\r\n").context("the controller's answer is no HTTP")?;
    if head.split(' ').nth(1) != Some("200") {
        bail!("the controller refuses GET {path}: {body}");
    }
    serde_json::from_str(body).with_context(|| format!("not in the documented form: {body}"))
}
