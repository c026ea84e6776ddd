//! One echo request and its answer (ICMP, ICMPv6), for either family. The `ping` program need not be there.

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::{FromRawFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

/// Asks `to` from the calling thread's namespace, and returns how long the answer took. Needs CAP_NET_RAW.
///
/// # Errors
/// When there is no answer within the deadline, or no way to ask.
pub fn ping(to: IpAddr, deadline: Duration) -> Result<Duration> {
    let (family, protocol, request, answer) = match to {
        IpAddr::V4(_) => (libc::AF_INET, libc::IPPROTO_ICMP, 8, 0),
        IpAddr::V6(_) => (libc::AF_INET6, libc::IPPROTO_ICMPV6, 128, 129),
    };
    // SAFETY: no pointers.
    let fd = unsafe { libc::socket(family, libc::SOCK_RAW | libc::SOCK_CLOEXEC, protocol) };
    if fd < 0 {
        return Err(io::Error::last_os_error()).context("cannot open a raw ICMP socket");
    }
    // SAFETY: the descriptor is new and nobody else's.
    let socket = UdpSocket::from(unsafe { OwnedFd::from_raw_fd(fd) });
    socket.set_read_timeout(Some(Duration::from_millis(50)))?;
    // Only what comes from there is received.
    socket.connect(SocketAddr::new(to, 0)).with_context(|| format!("cannot reach {to}"))?;

    let began = Instant::now();
    let id = (began.elapsed().subsec_nanos() ^ std::process::id()) as u16 ^ fd as u16;
    let mut message = vec![request, 0, 0, 0];
    message.extend(id.to_be_bytes());
    message.extend([0, 1]);
    message.extend(b"hotpair-lab ping");
    // The kernel does it for ICMPv6, where it belongs to the pseudo-header, too.
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    socket.send(&message).with_context(|| format!("cannot ask {to}"))?;

    let mut buffer = [0; 2048];
    while began.elapsed() < deadline {
        let Ok(length) = socket.recv(&mut buffer) else { continue };
        // A raw IPv4 socket shows the IP header.
        let at = if to.is_ipv4() { usize::from(buffer[0] & 15) * 4 } else { 0 };
        let Some(received) = buffer.get(at..length) else { continue };
        if received.first() == Some(&answer) && received.get(4..) == Some(&message[4..]) {
            return Ok(began.elapsed());
        }
    }
    bail!("{to} has not answered within {}", humantime::format_duration(deadline))
}

fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = 0;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
