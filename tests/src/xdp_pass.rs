//! An XDP program called `xdp_pass` that lets everything pass, on a link.
//!
//! A veth takes frames that the other end's XDP sends back (XDP_TX) reliably only if it has an XDP program itself: with
//! GRO alone they are put into its ring, but nobody is told (`veth_xdp_flush` asks for the receiver's program). They
//! then lie there until something else comes along, which for an ARP answer means seconds.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use anyhow::{Context, Result};

const BPF_PROG_LOAD: libc::c_long = 5;
const BPF_LINK_CREATE: libc::c_long = 28;
const BPF_PROG_TYPE_XDP: u32 = 6;
const BPF_XDP: u32 = 37;
const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;

/// The beginning of `union bpf_attr` for BPF_PROG_LOAD.
#[repr(C)]
#[derive(Default)]
struct Load {
    program_type: u32,
    instructions: u32,
    code: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

/// The beginning of `union bpf_attr` for BPF_LINK_CREATE.
#[repr(C)]
struct Create {
    program: u32,
    link: u32,
    kind: u32,
    flags: u32,
}

fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<OwnedFd> {
    // SAFETY: the pointer and the size are of one value that lives through the call, and so does what it points to.
    let fd = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attributes), size_of::<T>()) };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: both commands return a new descriptor.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// Attaches the program to a link of the calling thread's namespace, for as long as the descriptor lives.
///
/// # Errors
/// When there is no such link, or the kernel refuses.
pub fn attach(link: &str) -> Result<OwnedFd> {
    // r0 = XDP_PASS; exit
    let code: [u64; 2] = [0x0000_0002_0000_00b7, 0x0000_0000_0000_0095];
    let load = Load {
        program_type: BPF_PROG_TYPE_XDP,
        instructions: 2,
        code: code.as_ptr() as u64,
        license: c"GPL".as_ptr() as u64,
        name: *b"xdp_pass\0\0\0\0\0\0\0\0",
        ..Load::default()
    };
    let program = bpf(BPF_PROG_LOAD, &load).context("cannot load an XDP program")?;
    let name = std::ffi::CString::new(link)?;
    // SAFETY: a string with a final zero.
    let index = unsafe { libc::if_nametoindex(name.as_ptr()) };
    let program = u32::try_from(program.as_raw_fd()).map(|fd| (program, fd))?;
    let create = Create { program: program.1, link: index, kind: BPF_XDP, flags: XDP_FLAGS_DRV_MODE };
    bpf(BPF_LINK_CREATE, &create).with_context(|| format!("cannot attach an XDP program to {link}"))
}
