//! Taps from the side of who plugs into them.

use std::fs::{File, OpenOptions};
use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use anyhow::{Context, Result};

use crate::ifreq;

/// Bytes of `struct virtio_net_hdr` before each frame.
pub(crate) const VNET_HEADER: usize = 10;
/// Header, and the largest frame a segment offload makes.
pub(super) const LARGEST: usize = VNET_HEADER + 18 + 65536;

// linux/if_tun.h: what the reader of the tap can finish by itself.
const TUN_F_CSUM: libc::c_ulong = 0x01;
const TUN_F_TSO4: libc::c_ulong = 0x02;
const TUN_F_TSO6: libc::c_ulong = 0x04;

/// Plugs into the tap of this name in the calling thread's namespace, as QEMU does; makes it where there is none. Frames
/// carry virtio headers and keep their unfinished checksums and segments.
pub(crate) fn plug_into(name: &str) -> Result<File> {
    let device = OpenOptions::new().read(true).write(true).open("/dev/net/tun").context("/dev/net/tun")?;
    let mut request = ifreq::about(name)?;
    request.ifr_ifru.ifru_flags = (libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR) as libc::c_short;
    let fd = device.as_raw_fd();
    // SAFETY: TUNSETIFF reads and writes one ifreq, which lives through the call.
    if unsafe { libc::ioctl(fd, libc::TUNSETIFF, &raw mut request) } < 0 {
        return Err(io::Error::last_os_error())
            .with_context(|| format!("cannot plug into the tap {name} (EBUSY: somebody else has)"));
    }
    let size = VNET_HEADER as libc::c_int;
    // SAFETY: TUNSETVNETHDRSZ reads one int, which lives through the call.
    if unsafe { libc::ioctl(fd, libc::TUNSETVNETHDRSZ, &raw const size) } < 0 {
        return Err(io::Error::last_os_error()).context("TUNSETVNETHDRSZ");
    }
    // SAFETY: TUNSETOFFLOAD takes its argument by value.
    if unsafe { libc::ioctl(fd, libc::TUNSETOFFLOAD, TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6) } < 0 {
        return Err(io::Error::last_os_error()).context("TUNSETOFFLOAD");
    }
    Ok(device)
}

/// The MTU of a link in the calling thread's namespace.
pub(super) fn mtu(name: &str) -> Result<u32> {
    let socket = UdpSocket::bind("0.0.0.0:0").context("cannot open a socket")?;
    let mut request = ifreq::about(name)?;
    // SAFETY: SIOCGIFMTU reads and writes one ifreq, which lives through the call.
    if unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCGIFMTU, &raw mut request) } < 0 {
        return Err(io::Error::last_os_error()).with_context(|| format!("cannot read the MTU of {name}"));
    }
    // SAFETY: SIOCGIFMTU has filled in this member of the union.
    Ok(unsafe { request.ifr_ifru.ifru_mtu }.try_into()?)
}
