//! The heartbeat itself: a thread that sends in absolute time and listens to the peer.
//!
//! The thread has a runtime of its own and shares nothing but atomics and one short lock with the rest of the agent, so
//! that a check that hangs, a slow disk or a fork cannot delay a beat. A periodic timerfd on CLOCK_BOOTTIME gives the
//! deadlines: the kernel advances it from deadline to deadline (hrtimer_forward), so lateness never adds up; and tokio's
//! own timers, which round up to the next millisecond, are too coarse for an interval of one.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{FutureExt, SinkExt, StreamExt};
use hotpair_abi::heartbeat::{Heartbeat, Malformed};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::net::UdpSocket;
use tokio_util::udp::UdpFramed;

use crate::boot;
use crate::peer::{News, Peer};
use crate::vitals::Vitals;
use crate::wire::Wire;
use crate::{info, notice, warning};

/// First and longest wait before another try to open the socket.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(500));
/// Class selector 6, network control: queues on the way let heartbeats pass first.
const TOS: u8 = 0xc0;

/// Where to, how often, and as whom.
#[derive(Clone, Copy, Debug)]
pub struct Pulse {
    /// Own address and port.
    pub bind: SocketAddr,
    /// The other member's.
    pub peer: SocketAddr,
    /// Between two heartbeats.
    pub interval: Duration,
    /// This boot.
    pub boot_id: u64,
    /// SCHED_FIFO priority of the thread.
    pub realtime: Option<u8>,
}

/// Why the pulse cannot start at all.
#[derive(Debug, thiserror::Error)]
pub enum PulseError {
    /// The kernel refused what the thread needs.
    #[error("cannot {what}")]
    Kernel {
        /// What was tried.
        what: &'static str,
        /// The kernel's reason.
        #[source]
        source: io::Error,
    },
}

/// Starts the thread. It runs until the process ends; the receiver hears of it if it dies nevertheless.
///
/// # Errors
/// When the kernel gives no timer, no thread or no epoll.
pub fn start(
    pulse: Pulse,
    vitals: Arc<Vitals>,
    peer: Arc<Mutex<Peer>>,
) -> Result<tokio::sync::oneshot::Receiver<std::convert::Infallible>, PulseError> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|source| PulseError::Kernel { what: "start the heartbeats' event loop", source })?;
    let timer = {
        let _context = runtime.enter();
        timer(pulse.interval)
            .map_err(|source| PulseError::Kernel { what: "arm a timer for the heartbeats", source })?
    };
    let (alive, dead) = tokio::sync::oneshot::channel();
    std::thread::Builder::new()
        .name("heartbeat".to_owned())
        .spawn(move || {
            let _alive = alive;
            if let Some(priority) = pulse.realtime {
                become_realtime(priority);
            }
            runtime.block_on(beat(pulse, timer, &vitals, &peer));
        })
        .map_err(|source| PulseError::Kernel { what: "start the heartbeats' thread", source })?;
    Ok(dead)
}

/// A timer that expires at whole multiples of the interval since now, for good.
struct Timer {
    fd: AsyncFd<OwnedFd>,
    interval_ns: u64,
    /// The latest deadline that has passed, CLOCK_BOOTTIME.
    deadline_ns: u64,
}

fn timer(interval: Duration) -> io::Result<Timer> {
    let interval_ns = interval.as_nanos() as u64;
    let fd = timerfd_create(TimerfdClockId::Boottime, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
    let start_ns = boot::now_ns();
    let spec = |ns: u64| Timespec { tv_sec: (ns / 1_000_000_000) as i64, tv_nsec: (ns % 1_000_000_000) as _ };
    timerfd_settime(
        &fd,
        TimerfdTimerFlags::ABSTIME,
        &Itimerspec { it_interval: spec(interval_ns), it_value: spec(start_ns + interval_ns) },
    )?;
    // SAFETY: an `OwnedFd` is one open descriptor that it returns at every call of `as_raw_fd` and closes only when it
    // is dropped, which `AsyncFd` does after it has taken it out of the event loop.
    let fd = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }?;
    Ok(Timer { fd, interval_ns, deadline_ns: start_ns })
}

impl Timer {
    /// Takes the expirations since the last call; `None` when there was none.
    fn expired(&mut self) -> io::Result<Option<u64>> {
        let mut count = [0; 8];
        match rustix::io::read(&self.fd, &mut count) {
            Ok(8) => {
                let count = u64::from_ne_bytes(count);
                self.deadline_ns += count * self.interval_ns;
                Ok(Some(count))
            }
            Ok(_) | Err(rustix::io::Errno::AGAIN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

async fn beat(pulse: Pulse, mut timer: Timer, vitals: &Vitals, peer: &Mutex<Peer>) {
    let mut sequence = boot::first_sequence();
    loop {
        let socket = open(pulse.bind, vitals).await;
        // What expired while there was no socket is no lateness.
        let _ = timer.expired();
        if let Err(error) = exchange(pulse, socket, &mut timer, &mut sequence, vitals, peer).await {
            warning!("the heartbeat socket is opened anew: {error}");
        }
        vitals.bound.store(false, Relaxed);
        tokio::time::sleep(BACKOFF.0).await;
    }
}

/// Opens the socket, however long its address takes to appear.
async fn open(bind: SocketAddr, vitals: &Vitals) -> UdpSocket {
    let mut wait = BACKOFF.0;
    let mut said = None;
    loop {
        match UdpSocket::bind(bind).await {
            Ok(socket) => {
                if bind.is_ipv4() {
                    // Only a courtesy to queues on the way: heartbeats work without it.
                    let _ = rustix::net::sockopt::set_ip_tos(&socket, TOS);
                    without_checksum(&socket);
                }
                if said.is_some() {
                    notice!("{bind} is there now");
                }
                vitals.bound.store(true, Relaxed);
                return socket;
            }
            Err(error) => {
                if said != Some(error.kind()) {
                    warning!("cannot send from {bind} yet: {error}; waiting for it{}", hint(&error, bind));
                    said = Some(error.kind());
                }
                tokio::time::sleep(wait).await;
                wait = (wait * 2).min(BACKOFF.1);
            }
        }
    }
}

/// Heartbeats have a check of their own. Without UDP's, which would be left to the NIC, the host can use their frames to say
/// something else when they have been read; with it, too, only not that. So a refusal is nothing.
fn without_checksum(socket: &UdpSocket) {
    use std::os::fd::AsRawFd;
    let on: libc::c_int = 1;
    // SAFETY: setsockopt(2) reads an int.
    unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_NO_CHECK,
            (&raw const on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        );
    }
}

fn hint(error: &io::Error, bind: SocketAddr) -> String {
    match error.kind() {
        io::ErrorKind::AddrNotAvailable => {
            format!(" (the address {} belongs on the NIC that hotpair serves)", bind.ip())
        }
        io::ErrorKind::AddrInUse => " (does another hotpair-guest run?)".to_owned(),
        _ => String::new(),
    }
}

/// Sends and receives until the socket is of no use any more.
async fn exchange(
    pulse: Pulse,
    socket: UdpSocket,
    timer: &mut Timer,
    sequence: &mut u64,
    vitals: &Vitals,
    peer: &Mutex<Peer>,
) -> io::Result<()> {
    let mut framed = UdpFramed::new(socket, Wire::default());
    let mut failing: Option<(io::ErrorKind, u64)> = None;
    let beats_a_second = (1_000_000_000 / timer.interval_ns).max(1);
    loop {
        tokio::select! {
            biased;
            ready = timer.fd.readable() => {
                ready?.clear_ready();
                let Some(count) = timer.expired()? else { continue };
                vitals.left_out.fetch_add(count - 1, Relaxed);
                let late_ns = boot::now_ns().saturating_sub(timer.deadline_ns);
                vitals.late_us.fetch_max(late_ns / 1_000, Relaxed);
            }
            () = vitals.changed.notified() => {}
            item = framed.next() => {
                let Some(item) = item else { return Ok(()) };
                let (frame, from) = item?;
                hear(frame, from, pulse.peer.ip(), vitals, peer);
                continue;
            }
        }
        let beat = Heartbeat {
            state: vitals.state(),
            boot_id: pulse.boot_id,
            sequence: *sequence,
            sent_ns: boot::now_ns(),
            requests: vitals.requests.load(Relaxed),
            in_flight: vitals.in_flight.load(Relaxed),
            interval_us: (timer.interval_ns / 1_000) as u32,
        };
        // Never waits: a beat that the kernel does not take at once goes first when it takes one again.
        match framed.send((beat, pulse.peer)).now_or_never() {
            Some(Ok(())) => {
                *sequence += 1;
                vitals.sent.fetch_add(1, Relaxed);
                if let Some((_, lost)) = failing.take() {
                    notice!("heartbeats to {} leave again, {lost} did not", pulse.peer);
                }
            }
            outcome => {
                vitals.send_errors.fetch_add(1, Relaxed);
                let error = match outcome {
                    Some(Err(error)) => error,
                    _ => io::Error::from(io::ErrorKind::WouldBlock),
                };
                let (before, lost) = failing.unzip();
                if before != Some(error.kind()) {
                    warning!("cannot send heartbeats to {}: {error}; trying on", pulse.peer);
                }
                let lost = lost.unwrap_or(0) + 1;
                failing = Some((error.kind(), lost));
                // The address may have been taken away and come back as another: only a new socket finds out.
                if lost % beats_a_second == 0 {
                    return Err(error);
                }
            }
        }
    }
}

fn hear(
    frame: Result<Heartbeat, Malformed>,
    from: SocketAddr,
    expected: IpAddr,
    vitals: &Vitals,
    peer: &Mutex<Peer>,
) {
    vitals.received.fetch_add(1, Relaxed);
    if from.ip() != expected {
        if vitals.strangers.fetch_add(1, Relaxed) == 0 {
            warning!(
                "ignoring a datagram from {from}: only {expected} is the peer (further ones are counted only)"
            );
        }
        return;
    }
    let beat = match frame {
        Ok(beat) => beat,
        Err(why) => {
            if vitals.malformed.fetch_add(1, Relaxed) == 0 {
                warning!("ignoring a datagram from {from}: {why} (further ones are counted only)");
            }
            return;
        }
    };
    let news = peer.lock().unwrap_or_else(PoisonError::into_inner).hear(beat, boot::now_ns());
    match news {
        None => {}
        Some(News::Appeared(state)) => notice!("peer: heard for the first time, {}", state.name()),
        Some(News::Rebooted(state)) => notice!("peer: another boot, {}", state.name()),
        Some(News::State(before, now)) => notice!("peer: {} after {}", now.name(), before.name()),
    }
}

/// Asks the kernel to run this thread before ordinary ones. Refused is not fatal: the beats are then as punctual as the
/// scheduler makes them.
fn become_realtime(priority: u8) {
    if let Err(error) = rustix::mm::mlockall(
        rustix::mm::MlockAllFlags::CURRENT
            | rustix::mm::MlockAllFlags::FUTURE
            | rustix::mm::MlockAllFlags::ONFAULT,
    ) {
        warning!(
            "--realtime: cannot lock the memory: {error} (it wants CAP_IPC_LOCK or LimitMEMLOCK=infinity)"
        );
    }
    let parameters = libc::sched_param { sched_priority: i32::from(priority) };
    // SAFETY: sched_setscheduler(2) reads `parameters`, which lives until it returns; 0 is the calling thread.
    if unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameters) } == 0 {
        info!("heartbeats are sent with SCHED_FIFO priority {priority}");
    } else {
        let error = io::Error::last_os_error();
        warning!("--realtime: cannot have SCHED_FIFO: {error} (it wants CAP_SYS_NICE); going on without");
    }
}
