//! Raw frames on a link: put there, and captured as they come.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::netns::Netns;

/// A frame that came in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// When it was read.
    pub at: Instant,
    /// From the Ethernet header on. The kernel has taken an outer VLAN tag out of it.
    pub bytes: Vec<u8>,
}

/// A raw socket on a link.
#[derive(Debug)]
pub struct Wire {
    fd: OwnedFd,
}

impl Wire {
    /// Opens a raw socket on a link of the calling thread's namespace. It sends, and receives what comes in (not what
    /// others send out).
    ///
    /// # Errors
    /// When there is no such link, or without CAP_NET_RAW.
    pub fn open(link: &str) -> Result<Wire> {
        let name = std::ffi::CString::new(link)?;
        // SAFETY: a string with a final zero.
        let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
        if index == 0 {
            bail!("there is no link {link}");
        }
        // Protocol 0: nothing is received before it is bound to the one link.
        // SAFETY: no pointers.
        let fd = unsafe { libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0) };
        if fd < 0 {
            return Err(io::Error::last_os_error()).context("cannot open a raw socket");
        }
        // SAFETY: the descriptor is new and nobody else's.
        let wire = Wire { fd: unsafe { OwnedFd::from_raw_fd(fd) } };
        wire.set(libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &(32_i32 << 20))?;
        wire.set(libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, &1_i32)?;
        let wait = libc::timeval { tv_sec: 0, tv_usec: 20_000 };
        wire.set(libc::SOL_SOCKET, libc::SO_RCVTIMEO, &wait)?;
        // SAFETY: all zero is a valid sockaddr_ll.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        address.sll_family = libc::AF_PACKET as libc::sa_family_t;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = i32::try_from(index)?;
        let size = mem::size_of_val(&address) as libc::socklen_t;
        // SAFETY: `address` is a sockaddr_ll of that size and lives through the call.
        if unsafe { libc::bind(wire.fd.as_raw_fd(), (&raw const address).cast(), size) } < 0 {
            return Err(io::Error::last_os_error()).with_context(|| format!("cannot listen on {link}"));
        }
        Ok(wire)
    }

    fn set<T>(&self, level: i32, option: i32, value: &T) -> Result<()> {
        let size = mem::size_of::<T>() as libc::socklen_t;
        // SAFETY: pointer and size are of one value that lives through the call.
        let set = unsafe {
            libc::setsockopt(self.fd.as_raw_fd(), level, option, std::ptr::from_ref(value).cast(), size)
        };
        if set < 0 {
            return Err(io::Error::last_os_error())
                .with_context(|| format!("socket option {level}/{option}"));
        }
        Ok(())
    }

    /// Sends one frame, whole.
    ///
    /// # Errors
    /// The kernel's.
    pub fn send(&self, frame: &[u8]) -> Result<()> {
        // SAFETY: pointer and length are of one slice.
        if unsafe { libc::send(self.fd.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) } < 0 {
            return Err(io::Error::last_os_error()).context("cannot send a frame");
        }
        Ok(())
    }

    /// The next frame, if one comes within about 20 ms.
    ///
    /// # Errors
    /// The kernel's.
    pub fn receive(&self) -> Result<Option<Frame>> {
        let mut buffer = [0; 66_000];
        // SAFETY: pointer and length are of one array.
        let length = unsafe { libc::recv(self.fd.as_raw_fd(), buffer.as_mut_ptr().cast(), buffer.len(), 0) };
        match usize::try_from(length) {
            Ok(length) => Ok(Some(Frame { at: Instant::now(), bytes: buffer[..length].to_vec() })),
            Err(_) => match io::Error::last_os_error() {
                error
                    if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EINTR | libc::ENETDOWN)) =>
                {
                    Ok(None)
                }
                error => Err(error).context("cannot receive frames"),
            },
        }
    }

    /// Frames the kernel had no room for since the last call.
    fn lost(&self) -> u32 {
        // SAFETY: all zero is a valid tpacket_stats.
        let mut stats: libc::tpacket_stats = unsafe { mem::zeroed() };
        let mut size = mem::size_of_val(&stats) as libc::socklen_t;
        let (level, option) = (libc::SOL_PACKET, libc::PACKET_STATISTICS);
        // SAFETY: pointer and size are of one value that lives through the call.
        unsafe {
            libc::getsockopt(self.fd.as_raw_fd(), level, option, (&raw mut stats).cast(), &raw mut size)
        };
        stats.tp_drops
    }
}

/// Everything that comes in on a link, until stopped.
#[derive(Debug)]
pub struct Capture {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<Result<()>>>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    frames: Mutex<Vec<Frame>>,
}

impl Capture {
    /// Begins to capture; what comes in after this call is in it.
    ///
    /// # Errors
    /// As [`Wire::open`].
    pub fn start(netns: &Netns, link: &str) -> Result<Capture> {
        let _inside = netns.enter()?;
        let wire = Wire::open(link)?;
        let shared = Arc::new(Shared::default());
        let theirs = Arc::clone(&shared);
        let thread = thread::Builder::new().name("capture".to_string()).spawn(move || {
            let mut stopped: Option<Instant> = None;
            loop {
                let frame = wire.receive()?;
                if theirs.stop.load(Ordering::Relaxed) {
                    // What had come before the stop is taken: until the queue is empty, or holds only later ones.
                    let since = *stopped.get_or_insert_with(Instant::now);
                    if frame.is_none() || since.elapsed() > Duration::from_millis(200) {
                        break;
                    }
                }
                theirs.frames.lock().unwrap_or_else(PoisonError::into_inner).extend(frame);
            }
            match wire.lost() {
                0 => Ok(()),
                lost => bail!("the capture has missed {lost} frames"),
            }
        })?;
        Ok(Capture { shared, thread: Some(thread) })
    }

    /// What has come up to now.
    #[must_use]
    pub fn so_far(&self) -> Vec<Frame> {
        self.shared.frames.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits for stragglers, ends the capture and returns everything.
    ///
    /// # Errors
    /// When a frame was missed: what the capture does not show may have been there.
    pub fn stop(mut self) -> Result<Vec<Frame>> {
        thread::sleep(Duration::from_millis(50));
        self.shared.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.join().map_err(|_| anyhow::anyhow!("the capture died"))??;
        }
        Ok(mem::take(&mut self.shared.frames.lock().unwrap_or_else(PoisonError::into_inner)))
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
    }
}

/// The frames that contain these bytes anywhere.
pub fn containing<'a>(frames: &'a [Frame], needle: &'a [u8]) -> impl Iterator<Item = &'a Frame> {
    frames.iter().filter(move |frame| frame.bytes.windows(needle.len()).any(|window| window == needle))
}
