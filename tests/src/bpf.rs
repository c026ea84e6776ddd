//! The few calls of bpf(2) that tests and benchmarks make themselves: small programs written as instructions.
//!
//! Programs and links are gone when their descriptors are closed.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

use anyhow::{Context, Result};
use aya_obj::generated::bpf_attach_type::{BPF_TCX_INGRESS, BPF_XDP};
use aya_obj::generated::bpf_prog_type::{BPF_PROG_TYPE_SCHED_CLS, BPF_PROG_TYPE_XDP};
use aya_obj::generated::{bpf_attr, bpf_cmd, bpf_link_info, bpf_prog_info};

const XDP_FLAGS_DRV_MODE: u32 = 1 << 2;
/// Each frame is a real one: what the program decides is done to it.
const BPF_F_TEST_XDP_LIVE_FRAMES: u32 = 1 << 1;

/// Where a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hook {
    /// XDP, in the driver.
    Xdp,
    /// TCX ingress.
    Ingress,
}

fn bpf(command: bpf_cmd, attr: &mut bpf_attr) -> io::Result<i32> {
    // SAFETY: `attr` is a whole, initialised attribute block; whatever it points to is held by the caller.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command as libc::c_int, attr, size_of::<bpf_attr>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result as i32) }
}

fn zeroed() -> bpf_attr {
    // SAFETY: a union of plain integers; zero means "not given".
    unsafe { std::mem::zeroed() }
}

fn owned(fd: i32) -> OwnedFd {
    // SAFETY: the kernel has just made it for us.
    unsafe { OwnedFd::from_raw_fd(fd) }
}

/// Loads a program.
///
/// # Errors
/// When the kernel refuses it, with the verifier's words.
pub fn load(name: &str, hook: Hook, code: &[u64]) -> Result<OwnedFd> {
    let mut log = vec![0u8; 1 << 16];
    let mut attr = zeroed();
    // SAFETY: a view of the union that is plain integers.
    let program = unsafe { &mut attr.__bindgen_anon_3 };
    let (kind, attach) = match hook {
        Hook::Xdp => (BPF_PROG_TYPE_XDP, BPF_XDP),
        Hook::Ingress => (BPF_PROG_TYPE_SCHED_CLS, BPF_TCX_INGRESS),
    };
    program.prog_type = kind as u32;
    program.expected_attach_type = attach as u32;
    program.insn_cnt = code.len() as u32;
    program.insns = code.as_ptr() as u64;
    program.license = c"GPL".as_ptr() as u64;
    program.log_level = 1;
    program.log_size = log.len() as u32;
    program.log_buf = log.as_mut_ptr() as u64;
    for (to, from) in program.prog_name.iter_mut().take(15).zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    bpf(bpf_cmd::BPF_PROG_LOAD, &mut attr).map(owned).with_context(|| {
        let said = log.split(|byte| *byte == 0).next().unwrap_or_default();
        format!("cannot load the program {name}: {}", String::from_utf8_lossy(said).trim())
    })
}

/// Attaches a program to a link of the calling thread's namespace, for as long as the descriptor lives.
///
/// # Errors
/// When there is no such link, or the kernel refuses.
pub fn attach(program: BorrowedFd<'_>, hook: Hook, link: &str) -> Result<OwnedFd> {
    let (kind, flags) = match hook {
        Hook::Xdp => (BPF_XDP, XDP_FLAGS_DRV_MODE),
        Hook::Ingress => (BPF_TCX_INGRESS, 0),
    };
    let mut attr = zeroed();
    attr.link_create.__bindgen_anon_1.prog_fd = program.as_raw_fd() as u32;
    attr.link_create.__bindgen_anon_2.target_ifindex = ifindex(link);
    attr.link_create.attach_type = kind as u32;
    attr.link_create.flags = flags;
    bpf(bpf_cmd::BPF_LINK_CREATE, &mut attr)
        .map(owned)
        .with_context(|| format!("cannot attach a program to {link}"))
}

/// The index of a link of the calling thread's namespace; 0 if there is none.
#[must_use]
pub fn ifindex(link: &str) -> u32 {
    let Ok(name) = std::ffi::CString::new(link) else { return 0 };
    // SAFETY: a string with a final zero.
    unsafe { libc::if_nametoindex(name.as_ptr()) }
}

/// Sets an element of a map with `u32` keys.
///
/// # Errors
/// When the kernel refuses.
pub fn set(map: impl AsFd, key: u32, value: &[u32]) -> Result<()> {
    let mut attr = zeroed();
    attr.__bindgen_anon_2.map_fd = map.as_fd().as_raw_fd() as u32;
    attr.__bindgen_anon_2.key = std::ptr::from_ref(&key) as u64;
    attr.__bindgen_anon_2.__bindgen_anon_1.value = value.as_ptr() as u64;
    bpf(bpf_cmd::BPF_MAP_UPDATE_ELEM, &mut attr).context("cannot set an element of a map")?;
    Ok(())
}

/// The element of a map with `u32` keys: two words, as a devmap has (the interface and the program's id).
///
/// # Errors
/// When there is none, or the kernel refuses.
pub fn get(map: impl AsFd, key: u32) -> io::Result<[u32; 2]> {
    let mut value = [0; 2];
    let mut attr = zeroed();
    attr.__bindgen_anon_2.map_fd = map.as_fd().as_raw_fd() as u32;
    attr.__bindgen_anon_2.key = std::ptr::from_ref(&key) as u64;
    attr.__bindgen_anon_2.__bindgen_anon_1.value = value.as_mut_ptr() as u64;
    bpf(bpf_cmd::BPF_MAP_LOOKUP_ELEM, &mut attr)?;
    Ok(value)
}

/// What the kernel says of an object.
fn info<T>(object: BorrowedFd<'_>, info: &mut T) -> io::Result<()> {
    let mut attr = zeroed();
    attr.info.bpf_fd = object.as_raw_fd() as u32;
    attr.info.info_len = size_of::<T>() as u32;
    attr.info.info = std::ptr::from_mut(info) as u64;
    bpf(bpf_cmd::BPF_OBJ_GET_INFO_BY_FD, &mut attr).map(drop)
}

/// A program's id.
///
/// # Errors
/// When the kernel refuses.
pub fn program_id(program: BorrowedFd<'_>) -> io::Result<u32> {
    // SAFETY: a structure of plain integers; zeroed pointers say that nothing more is wanted.
    let mut of: bpf_prog_info = unsafe { std::mem::zeroed() };
    info(program, &mut of)?;
    Ok(of.id)
}

/// The id of the program that a pinned link runs.
///
/// # Errors
/// When it is no link, or the kernel refuses.
pub fn program_of_link(pin: &Path) -> Result<u32> {
    let path = std::ffi::CString::new(pin.as_os_str().as_encoded_bytes())?;
    let mut attr = zeroed();
    attr.__bindgen_anon_4.pathname = path.as_ptr() as u64;
    let link = bpf(bpf_cmd::BPF_OBJ_GET, &mut attr).map(owned).context("cannot open the link")?;
    // SAFETY: a structure of plain integers.
    let mut of: bpf_link_info = unsafe { std::mem::zeroed() };
    info(link.as_fd(), &mut of).context("nothing is known of the link")?;
    Ok(of.prog_id)
}

/// Runs an XDP program on `times` live copies of a frame, as if they had come in through the interface; what it
/// decides is done. The kernel uses a frame's memory again as it comes back: the program must write what later ones
/// change.
///
/// # Errors
/// When the interface takes no XDP frames, or a signal comes first.
pub fn live(program: BorrowedFd<'_>, ifindex: u32, frame: &[u8], times: u32) -> io::Result<()> {
    // struct xdp_md: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex
    let context = [0, frame.len() as u32, 0, ifindex, 0, 0];
    let mut attr = zeroed();
    attr.test.prog_fd = program.as_raw_fd() as u32;
    attr.test.data_in = frame.as_ptr() as u64;
    attr.test.data_size_in = frame.len() as u32;
    attr.test.ctx_in = context.as_ptr() as u64;
    attr.test.ctx_size_in = size_of_val(&context) as u32;
    attr.test.repeat = times;
    attr.test.flags = BPF_F_TEST_XDP_LIVE_FRAMES;
    bpf(bpf_cmd::BPF_PROG_TEST_RUN, &mut attr).map(drop)
}
