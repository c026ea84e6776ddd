//! The wire between client and host when it is to be bad: in a namespace of its own, two threads carry frames from one
//! veth to the other, whole and finished as on a real wire, and lose, double and delay TCP segments on the way. If it is a
//! long one, two more keep the frames for as long as they take.

use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::Result;

use super::topology::{CLIENT_LINK, UPLINK};
use crate::line::{Faults, Line};
use crate::netns::{Netns, ip_batch};
use crate::wire::Wire;
use crate::{ethtool, xdp_pass};

/// The ends of the two veths in the cable's namespace.
const HOST_END: &str = "host0";
const CLIENT_END: &str = "client0";

/// A wire that can be bad. Cut when dropped.
pub(super) struct Cable {
    to_host: Arc<Mutex<Line>>,
    to_client: Arc<Mutex<Line>>,
    cut: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    /// What makes the ends take what XDP sends.
    _passes: [OwnedFd; 2],
    _netns: Netns,
}

impl Cable {
    /// Makes the links [`UPLINK`] and [`CLIENT_LINK`], still without addresses, with the cable between them.
    pub(super) fn lay(name: &str, client: &Netns, host: &Netns, delay: Duration) -> Result<Cable> {
        let netns = Netns::create(name)?;
        let inside = netns.enter()?;
        // It has nothing to say itself.
        std::fs::write("/proc/sys/net/ipv6/conf/default/disable_ipv6", "1")?;
        for (end, link, side) in [(HOST_END, UPLINK, host), (CLIENT_END, CLIENT_LINK, client)] {
            let side = side.name();
            ip_batch(&format!(
                "link add {end} type veth peer name {link} netns {side}\nlink set {end} up\n"
            ))?;
        }
        drop(inside);
        finished_frames(UPLINK, host)?;
        finished_frames(CLIENT_LINK, client)?;
        // After that: a veth whose peer has an XDP program cannot switch some of them.
        let inside = netns.enter()?;
        let passes = [xdp_pass::attach(HOST_END)?, xdp_pass::attach(CLIENT_END)?];
        drop(inside);
        let mut cable = Cable {
            to_host: Arc::new(Mutex::new(Line::new(Faults::NONE))),
            to_client: Arc::new(Mutex::new(Line::new(Faults::NONE))),
            cut: Arc::default(),
            threads: Vec::new(),
            _passes: passes,
            _netns: netns,
        };
        let inside = cable._netns.enter()?;
        let ends = || -> Result<[Wire; 2]> { Ok([Wire::open(CLIENT_END)?, Wire::open(HOST_END)?]) };
        let [from_client, to_host] = ends()?;
        let [to_client, from_host] = ends()?;
        drop(inside);
        for (from, to, line) in [
            (from_client, to_host, Arc::clone(&cable.to_host)),
            (from_host, to_client, Arc::clone(&cable.to_client)),
        ] {
            cable.carry(from, to, line, delay)?;
        }
        Ok(cable)
    }

    fn carry(&mut self, from: Wire, to: Wire, line: Arc<Mutex<Line>>, delay: Duration) -> Result<()> {
        let carry = move |bytes: &[u8]| {
            let mut line = line.lock().unwrap_or_else(PoisonError::into_inner);
            line.carry(bytes, 0, |frame| {
                let _ = to.send(frame);
            });
        };
        let cut = Arc::clone(&self.cut);
        if delay.is_zero() {
            return self.spawn(move || {
                while !cut.load(Ordering::Relaxed) {
                    // A link that is down carries nothing; it may come up again.
                    let Ok(Some(frame)) = from.receive() else { continue };
                    carry(&frame.bytes);
                }
            });
        }
        let (enter, leave) = channel();
        self.spawn(move || {
            while !cut.load(Ordering::Relaxed) {
                let Ok(Some(frame)) = from.receive() else { continue };
                if enter.send(frame).is_err() {
                    return;
                }
            }
        })?;
        let cut = Arc::clone(&self.cut);
        self.spawn(move || {
            while !cut.load(Ordering::Relaxed) {
                match leave.recv_timeout(Duration::from_millis(100)) {
                    Ok(frame) => {
                        thread::sleep((frame.at + delay).saturating_duration_since(Instant::now()));
                        carry(&frame.bytes);
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => return,
                }
            }
        })
    }

    fn spawn(&mut self, work: impl FnOnce() + Send + 'static) -> Result<()> {
        self.threads.push(thread::Builder::new().name("cable".to_string()).spawn(work)?);
        Ok(())
    }

    /// What happens from now on to TCP segments towards the host, and towards the client.
    pub(super) fn set(&self, to_host: Faults, to_client: Faults) {
        self.to_host.lock().unwrap_or_else(PoisonError::into_inner).set(to_host);
        self.to_client.lock().unwrap_or_else(PoisonError::into_inner).set(to_client);
    }
}

/// From now on the link sends frames as they are on a real wire: checksums done, segments cut.
pub(super) fn finished_frames(link: &str, netns: &Netns) -> Result<()> {
    let _inside = netns.enter()?;
    [ethtool::TX_CHECKSUM, ethtool::TSO, ethtool::GSO]
        .iter()
        .try_for_each(|offload| ethtool::set(link, *offload, false))
}

impl Drop for Cable {
    fn drop(&mut self) {
        self.cut.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
