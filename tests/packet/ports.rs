//! The two ends of the wire: taps, held open as a guest would, and the client's end of the uplink.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::time::{Duration, Instant};

use hotpair_tests::ifreq;

/// How long a frame that must come may take.
const SOON: Duration = Duration::from_millis(2000);

/// Something frames are sent and received on.
pub(crate) trait Port {
    /// Sends a frame.
    fn send(&self, frame: &[u8]);

    /// The next frame, if there is one.
    fn try_receive(&self) -> Option<Vec<u8>>;

    /// Throws away what waits.
    fn drain(&self) {
        while self.try_receive().is_some() {}
    }

    /// The next frame that `wanted` says yes to; panics if it does not come.
    fn receive(&self, what: &str, wanted: impl Fn(&[u8]) -> bool) -> Vec<u8> {
        let end = Instant::now() + SOON;
        let mut others = Vec::new();
        while Instant::now() < end {
            match self.try_receive() {
                Some(frame) if wanted(&frame) => return frame,
                Some(frame) => others.push(frame),
                None => std::thread::sleep(Duration::from_micros(200)),
            }
        }
        panic!("{what} did not come; what came instead: {others:02x?}");
    }

    /// Exactly this frame comes next among those that `alike` says yes to.
    fn expect(&self, what: &str, frame: &[u8]) {
        let got = self.receive(what, |got| got.get(12..) == frame.get(12..) || got == frame);
        assert_eq!(got, frame, "{what}");
    }

    /// Whether a frame that `unwanted` says yes to comes within 150 ms.
    fn sees(&self, unwanted: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
        let end = Instant::now() + Duration::from_millis(150);
        while Instant::now() < end {
            match self.try_receive() {
                Some(frame) if unwanted(&frame) => return Some(frame),
                Some(_) => {}
                None => std::thread::sleep(Duration::from_micros(500)),
            }
        }
        None
    }
}

/// A tap, held open.
pub(crate) struct Tap {
    file: File,
    vnet: bool,
}

const VNET_HEADER: usize = 10;

impl Tap {
    /// Makes and opens a tap. With `vnet`, frames carry a virtio header, so that a guest may leave checksums undone.
    pub(crate) fn create(name: &str, vnet: bool) -> Tap {
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .custom_flags(libc::O_NONBLOCK | libc::O_CLOEXEC)
            .open("/dev/net/tun")
            .expect("/dev/net/tun");
        let mut request = ifreq::about(name).expect("the name of a link");
        let vnet_flag = if vnet { libc::IFF_VNET_HDR } else { 0 };
        request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI | vnet_flag) as libc::c_short;
        // SAFETY: TUNSETIFF reads and writes the ifreq, which lives through the call.
        let made = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &raw mut request) };
        assert_eq!(made, 0, "making {name}: {}", io::Error::last_os_error());
        if vnet {
            // SAFETY: TUNSETOFFLOAD takes an integer: the guest computes no checksums and takes any.
            let set = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETOFFLOAD, 1 as libc::c_ulong) };
            assert_eq!(set, 0, "offloads of {name}: {}", io::Error::last_os_error());
        }
        Tap { file, vnet }
    }

    /// Sends a frame whose checksum is left to be completed: the 16 bits at `start + offset`, over all from `start` on.
    pub(crate) fn send_partial(&self, frame: &[u8], start: u16, offset: u16) {
        assert!(self.vnet);
        let mut bytes = vec![1, 0, 0, 0, 0, 0];
        bytes.extend_from_slice(&start.to_ne_bytes());
        bytes.extend_from_slice(&offset.to_ne_bytes());
        bytes.extend_from_slice(frame);
        (&self.file).write_all(&bytes).expect("sending on a tap");
    }
}

impl Port for Tap {
    fn send(&self, frame: &[u8]) {
        let header = if self.vnet { VNET_HEADER } else { 0 };
        let mut bytes = vec![0; header];
        bytes.extend_from_slice(frame);
        (&self.file).write_all(&bytes).expect("sending on a tap");
    }

    fn try_receive(&self) -> Option<Vec<u8>> {
        let mut bytes = vec![0; 70_000];
        match (&self.file).read(&mut bytes) {
            Ok(len) => {
                let header = if self.vnet { VNET_HEADER } else { 0 };
                Some(bytes[header..len].to_vec())
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            Err(error) => panic!("reading a tap: {error}"),
        }
    }
}

/// A raw socket on a link; tags that the kernel has taken off are put back.
pub(crate) struct Raw {
    fd: OwnedFd,
}

impl Raw {
    /// Opens one; it sees what comes in on the link only.
    pub(crate) fn open(ifindex: u32) -> Raw {
        // SAFETY: no pointers; the descriptor is new and checked.
        let fd = unsafe {
            let fd =
                libc::socket(libc::AF_PACKET, libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK, 0);
            assert!(fd >= 0, "raw socket: {}", io::Error::last_os_error());
            OwnedFd::from_raw_fd(fd)
        };
        for option in [libc::PACKET_AUXDATA, libc::PACKET_IGNORE_OUTGOING] {
            let on = 1i32;
            // SAFETY: pointer and size are of one value that lives through the call.
            let set = unsafe {
                libc::setsockopt(fd.as_raw_fd(), libc::SOL_PACKET, option, (&raw const on).cast(), 4)
            };
            assert_eq!(set, 0, "socket option {option}");
        }
        // SAFETY: all zero is a valid sockaddr_ll.
        let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
        address.sll_family = libc::AF_PACKET as u16;
        address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
        address.sll_ifindex = ifindex as i32;
        // SAFETY: `address` is a sockaddr_ll of that size and lives through the call.
        let bound = unsafe {
            libc::bind(fd.as_raw_fd(), (&raw const address).cast(), size_of::<libc::sockaddr_ll>() as u32)
        };
        assert_eq!(bound, 0, "binding a raw socket: {}", io::Error::last_os_error());
        Raw { fd }
    }
}

impl Port for Raw {
    fn send(&self, frame: &[u8]) {
        // SAFETY: pointer and length are of one slice.
        let sent = unsafe { libc::send(self.fd.as_raw_fd(), frame.as_ptr().cast(), frame.len(), 0) };
        assert_eq!(sent, frame.len() as isize, "sending: {}", io::Error::last_os_error());
    }

    fn try_receive(&self) -> Option<Vec<u8>> {
        let mut bytes = vec![0u8; 70_000];
        let mut control = [0u64; 32];
        let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
        // SAFETY: all zero is a valid msghdr; its pointers are to buffers of the given lengths.
        let (len, tag) = unsafe {
            let mut message: libc::msghdr = mem::zeroed();
            message.msg_iov = &raw mut part;
            message.msg_iovlen = 1;
            message.msg_control = control.as_mut_ptr().cast();
            message.msg_controllen = size_of_val(&control) as _;
            let len = libc::recvmsg(self.fd.as_raw_fd(), &raw mut message, 0);
            if len < 0 {
                return None;
            }
            let mut tag = None;
            let mut header = libc::CMSG_FIRSTHDR(&raw const message);
            while !header.is_null() {
                if (*header).cmsg_level == libc::SOL_PACKET && (*header).cmsg_type == libc::PACKET_AUXDATA {
                    let aux = libc::CMSG_DATA(header).cast::<libc::tpacket_auxdata>().read_unaligned();
                    if aux.tp_status & libc::TP_STATUS_VLAN_VALID != 0 {
                        tag = Some((aux.tp_vlan_tpid, aux.tp_vlan_tci));
                    }
                }
                header = libc::CMSG_NXTHDR(&raw const message, header);
            }
            (len as usize, tag)
        };
        bytes.truncate(len);
        if let Some((tpid, tci)) = tag {
            let mut inserted = tpid.to_be_bytes().to_vec();
            inserted.extend_from_slice(&tci.to_be_bytes());
            bytes.splice(12..12, inserted);
        }
        Some(bytes)
    }
}
