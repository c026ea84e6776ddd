//! Checks over TCP: open a connection, or ask an HTTP server.
//!
//! Only addresses, no names: a static binary has no resolver, and a check must not fail because DNS does.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// The most of an HTTP answer that is read.
const LONGEST_ANSWER: u64 = 64 * 1024;

/// Address and port of a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Target(SocketAddr);

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl std::str::FromStr for Target {
    type Err = String;

    fn from_str(text: &str) -> Result<Target, String> {
        let local = IpAddr::from(Ipv4Addr::LOCALHOST);
        let address = if let Ok(address) = text.parse::<SocketAddr>() {
            address
        } else if let Ok(port) = text.strip_prefix("localhost:").unwrap_or(text).parse::<u16>() {
            SocketAddr::from((local, port))
        } else {
            return Err(format!(
                "{text:?} is not PORT, ADDRESS:PORT or localhost:PORT (an IP address, no name)"
            ));
        };
        if address.port() == 0 {
            return Err("port 0 is no port".to_owned());
        }
        Ok(Target(address))
    }
}

/// Splits `[http://]ADDRESS:PORT[/PATH]`.
pub(super) fn split_url(text: &str) -> Result<(Target, String), String> {
    let text = text.strip_prefix("http:").unwrap_or(text).trim_start_matches("//");
    let (target, path) = text.find('/').map_or((text, "/"), |at| text.split_at(at));
    if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(format!("{path:?} is not a path: spaces and other than ASCII must be %-encoded"));
    }
    Ok((target.parse()?, path.to_owned()))
}

/// Opens a connection.
pub(super) async fn open(target: Target) -> Result<TcpStream, String> {
    TcpStream::connect(target.0).await.map_err(|error| format!("cannot connect to {target}: {error}"))
}

/// Asks for a path and returns the body of a 2xx or 3xx answer.
pub(super) async fn get(target: Target, path: &str) -> Result<String, String> {
    let mut stream = open(target).await?;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {target}\r\nUser-Agent: hotpair-guest\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    let broken = |error: std::io::Error| format!("{target} broke the connection: {error}");
    stream.write_all(request.as_bytes()).await.map_err(broken)?;
    // The status line decides; a server that resets the connection after it has answered nevertheless.
    let mut answer = Vec::new();
    let read = stream.take(LONGEST_ANSWER).read_to_end(&mut answer).await;
    let text = String::from_utf8_lossy(&answer);
    let Some(status) = status(&text) else {
        read.map_err(broken)?;
        return Err(format!("{target} does not answer in HTTP"));
    };
    if !(200..400).contains(&status) {
        return Err(format!("{target}{path} answers {status}"));
    }
    Ok(text.split_once("\r\n\r\n").map_or_else(String::new, |(_, body)| body.to_owned()))
}

fn status(answer: &str) -> Option<u16> {
    let (line, _) = answer.split_once("\r\n")?;
    let mut words = line.split(' ');
    words.next()?.strip_prefix("HTTP/1.")?;
    words.next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_whole_status_line_is_an_answer() {
        for (answer, expected) in [
            ("HTTP/1.1 200 OK\r\n\r\n", Some(200)),
            ("HTTP/1.0 503 \r\n", Some(503)),
            ("HTTP/1.1 200", None),
            ("SSH-2.0-OpenSSH\r\n", None),
            ("", None),
        ] {
            assert_eq!(status(answer), expected, "{answer:?}");
        }
    }
}
