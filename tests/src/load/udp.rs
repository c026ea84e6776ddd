//! Numbered datagrams.
//!
//! `HPLD`, 4 bytes that tell this load from others, 8 bytes of number (big endian), padding. An answer begins with the
//! same bytes and may go on with who answered.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};

use super::report::By;
use super::{Plan, Shared};

/// First bytes of each datagram.
pub(super) const MAGIC: [u8; 4] = *b"HPLD";
const HEADER: usize = 16;

pub(super) fn start(plan: &Plan, size: usize, shared: &Arc<Shared>) -> Result<Vec<JoinHandle<()>>> {
    let any = match plan.to {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let from = SocketAddr::new(plan.from.unwrap_or(any), 0);
    let socket = UdpSocket::bind(from).with_context(|| format!("cannot open a UDP socket on {from}"))?;
    socket.connect(plan.to).with_context(|| format!("cannot send datagrams to {}", plan.to))?;
    socket.set_read_timeout(Some(Duration::from_millis(20)))?;
    // A guest that had no CPU for half a second answers all at once: 137 datagrams filled the default, and the four after
    // them looked like hotpair's loss. More than the default's limit needs root; without it there is less room.
    let _ = rustix::net::sockopt::set_socket_recv_buffer_size_force(&socket, 4 << 20);
    let run = std::process::id() ^ (Arc::as_ptr(shared) as usize as u32);
    let receiver = socket.try_clone()?;

    let (plan_, shared_) = (plan.clone(), Arc::clone(shared));
    let send = move || send(&socket, &plan_, run, size.max(HEADER + 8), &shared_);
    let (timeout, shared_) = (plan.timeout, Arc::clone(shared));
    let receive = move || receive(&receiver, run, timeout, &shared_);
    Ok(vec![
        thread::Builder::new().name("udp-send".to_string()).spawn(send)?,
        thread::Builder::new().name("udp-receive".to_string()).spawn(receive)?,
    ])
}

fn send(socket: &UdpSocket, plan: &Plan, run: u32, size: usize, shared: &Shared) {
    let mut datagram = vec![b'.'; size];
    datagram[..4].copy_from_slice(&MAGIC);
    datagram[4..8].copy_from_slice(&run.to_be_bytes());
    // A sender that was late catches up, but not in one burst: a veth's ring holds 256 frames, and what it loses would
    // look like hotpair's doing.
    let breath = Duration::from_nanos(250_000_000 / u64::from(plan.rate));
    let mut turn = 0;
    let mut last = Instant::now();
    while shared.wait_for_turn(turn, plan) {
        std::thread::sleep(breath.saturating_sub(last.elapsed()));
        last = Instant::now();
        let seq = shared.sent();
        datagram[8..16].copy_from_slice(&seq.to_be_bytes());
        // An ICMP error for an earlier datagram is reported at the next call: then this one has not been sent yet.
        if socket.send(&datagram).is_err()
            && let Err(error) = socket.send(&datagram)
        {
            shared.failed(seq, error.to_string());
        }
        turn += 1;
    }
    shared.end();
}

fn receive(socket: &UdpSocket, run: u32, timeout: Duration, shared: &Shared) {
    let mut buffer = [0; 65536];
    let mut last_call = None;
    loop {
        match socket.recv(&mut buffer) {
            Ok(length) if length >= HEADER && buffer[..4] == MAGIC && buffer[4..8] == run.to_be_bytes() => {
                let mut seq = [0; 8];
                seq.copy_from_slice(&buffer[8..16]);
                shared.answered(u64::from_be_bytes(seq), By::find(&buffer[HEADER..length]));
            }
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            // An ICMP error, about a datagram that will stay without an answer.
            Err(_) => thread::sleep(Duration::from_millis(1)),
        }
        let ended = shared.ended.lock().unwrap_or_else(std::sync::PoisonError::into_inner).is_some();
        if ended {
            let deadline = *last_call.get_or_insert_with(|| Instant::now() + timeout);
            // A short while even when all is answered: a doubled answer must be seen.
            let all_there = shared.requests().iter().all(|r| r.answered_at.is_some());
            let linger =
                if all_there { timeout.saturating_sub(Duration::from_millis(100)) } else { Duration::ZERO };
            if Instant::now() + linger >= deadline {
                return;
            }
        }
    }
}
