//! Offloads of a link, switched by the old ethtool ioctls: the `ethtool` program need not be there.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

use anyhow::{Context, Result, bail};

use crate::ifreq;

/// Checksums of sent frames are left to the NIC.
pub const TX_CHECKSUM: u32 = 0x17;
/// TCP segments are cut by the NIC.
pub const TSO: u32 = 0x1f;
/// Segments are cut as late as possible.
pub const GSO: u32 = 0x24;
/// Received segments are joined; on a veth this also makes it take frames that XDP redirects to it.
pub const GRO: u32 = 0x2c;

const SIOCETHTOOL: libc::c_ulong = 0x8946;

#[repr(C)]
struct Value {
    command: u32,
    data: u32,
}

/// Switches one of the constants of this module, in the calling thread's namespace.
///
/// # Errors
/// When there is no such link, or it cannot do that.
pub fn set(link: &str, command: u32, on: bool) -> Result<()> {
    let socket = UdpSocket::bind("0.0.0.0:0").context("cannot open a socket")?;
    let mut value = Value { command, data: u32::from(on) };
    let mut request = ifreq::about(link)?;
    request.ifr_ifru.ifru_data = (&raw mut value).cast();
    // SAFETY: SIOCETHTOOL reads the ifreq and the ethtool_value it points to; both live through the call.
    if unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) } < 0 {
        let error = io::Error::last_os_error();
        bail!("cannot set the offload {command:#x} of {link} to {on}: {error}");
    }
    Ok(())
}
