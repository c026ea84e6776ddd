//! A member's end of a tap.

use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;

use anyhow::{Context, Result};

use super::PROBE_PORT;
use crate::vm::tap::{VNET_HEADER, plug_into};

/// TUNATTACHFILTER of linux/if_tun.h: _IOW('T', 213, struct sock_fprog)
const TUNATTACHFILTER: libc::c_ulong = 0x4010_54d5;

const fn line(code: u16, yes: u8, no: u8, value: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt: yes, jf: no, k: value }
}

/// Plugs in. What the stack sends into the tap (the peer's heartbeats, above all) is dropped where it would be queued:
/// nobody reads it.
pub(super) fn plug(name: &str) -> Result<File> {
    let file = plug_into(name)?;
    rustix::fs::fcntl_setfl(&file, rustix::fs::OFlags::NONBLOCK)?;
    // Classic BPF: the Ethernet type, then the IP protocol and the destination port, of both families.
    let code = [
        line(0x28, 0, 0, 12),
        line(0x15, 0, 4, 0x0800),
        line(0x30, 0, 0, 23),
        line(0x15, 0, 8, 17),
        line(0x28, 0, 0, 36),
        line(0x15, 5, 6, u32::from(PROBE_PORT)),
        line(0x15, 0, 5, 0x86dd),
        line(0x30, 0, 0, 20),
        line(0x15, 0, 3, 17),
        line(0x28, 0, 0, 56),
        line(0x15, 0, 1, u32::from(PROBE_PORT)),
        line(0x06, 0, 0, 0xffff),
        line(0x06, 0, 0, 0),
    ];
    let program = libc::sock_fprog { len: code.len() as u16, filter: code.as_ptr().cast_mut() };
    // SAFETY: TUNATTACHFILTER reads the program, which lives through the call.
    if unsafe { libc::ioctl(file.as_raw_fd(), TUNATTACHFILTER, &raw const program) } < 0 {
        return Err(io::Error::last_os_error()).with_context(|| format!("cannot filter what {name} queues"));
    }
    Ok(file)
}

/// Sends a frame.
pub(super) fn send(mut file: &File, frame: &[u8]) -> io::Result<()> {
    let header = [0; VNET_HEADER];
    file.write_vectored(&[io::IoSlice::new(&header), io::IoSlice::new(frame)]).map(drop)
}

/// The next frame, if there is one.
pub(super) fn receive(mut file: &File) -> Result<Option<Vec<u8>>> {
    let mut buffer = [0; 2048];
    match file.read(&mut buffer) {
        Ok(length) => Ok(Some(buffer[VNET_HEADER.min(length)..length].to_vec())),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error).context("cannot read from a tap"),
    }
}
