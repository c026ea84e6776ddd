//! What a machine serves: a UDP echo and HTTP, whose answers say which member gave them, and streams, whose answers do
//! not.

use std::io::{BufRead, BufReader, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use anyhow::{Context, Result};

use crate::load::By;
use crate::stream;

/// The port of the UDP echo (RFC 862).
pub(super) const ECHO: u16 = 7;
/// The port of HTTP.
pub(super) const HTTP: u16 = 80;
/// Where the agent asks whether the service is well.
pub(super) const HEALTH: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 81);

/// Starts serving on all of these addresses.
pub(super) fn start(addresses: &[IpAddr], by: By, well: &Arc<AtomicBool>) -> Result<()> {
    for address in addresses {
        // One socket an address: an answer must come from the address that was asked.
        let at = SocketAddr::new(*address, ECHO);
        let socket = UdpSocket::bind(at).with_context(|| format!("cannot serve UDP on {at}"))?;
        thread::Builder::new().name("echo".to_string()).spawn(move || echo(&socket, by))?;
        let at = SocketAddr::new(*address, HTTP);
        let listener = TcpListener::bind(at).with_context(|| format!("cannot serve HTTP on {at}"))?;
        serve(listener, move |_| (200, by.to_string()))?;
        stream::serve(SocketAddr::new(*address, stream::PORT))?;
    }
    let listener = TcpListener::bind(HEALTH).with_context(|| format!("cannot serve HTTP on {HEALTH}"))?;
    let well = Arc::clone(well);
    serve(
        listener,
        move |_| if well.load(Ordering::Relaxed) { (200, "well".into()) } else { (503, "ill".into()) },
    )
}

/// Answers every datagram with itself and who answers, before whatever else this machine does, for ever.
pub fn echo(socket: &UdpSocket, by: By) -> ! {
    super::machine::prefer();
    let mut buffer = vec![0; 65536];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        let mut answer = buffer[..length].to_vec();
        answer.extend(format!("\n{by}\n").as_bytes());
        let _ = socket.send_to(&answer, from);
    }
}

fn serve(
    listener: TcpListener,
    answer: impl Fn(&str) -> (u16, String) + Send + Sync + 'static,
) -> Result<()> {
    let answer = Arc::new(answer);
    let accept = move || {
        for stream in listener.incoming().flatten() {
            let answer = Arc::clone(&answer);
            // More threads than there can be are refused by the kernel; that request then fails.
            let _ = thread::Builder::new().stack_size(64 << 10).spawn(move || converse(&stream, &*answer));
        }
    };
    thread::Builder::new().name("http".to_string()).spawn(accept)?;
    Ok(())
}

/// Requests of one connection, one after the other, until the client is done or says `Connection: close`.
fn converse(stream: &TcpStream, answer: &dyn Fn(&str) -> (u16, String)) -> Option<()> {
    stream.set_read_timeout(Some(Duration::from_secs(10))).ok()?;
    let mut reader = BufReader::new(stream);
    loop {
        let mut request = String::new();
        let mut close = false;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).ok()? == 0 {
                return None;
            }
            close |= line.trim().eq_ignore_ascii_case("connection: close");
            if line.trim().is_empty() {
                break;
            }
            if request.is_empty() {
                request = line;
            }
        }
        let (status, body) = answer(request.split(' ').nth(1).unwrap_or("/"));
        let head = format!(
            "HTTP/1.1 {status} {}\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n{}\r\n",
            if status == 200 { "OK" } else { "Service Unavailable" },
            body.len() + 1,
            if close { "Connection: close\r\n" } else { "" }
        );
        (&*stream).write_all(format!("{head}{body}\n").as_bytes()).ok()?;
        if close {
            return Some(());
        }
    }
}
