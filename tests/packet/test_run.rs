//! BPF_PROG_TEST_RUN: one frame through one program, without a wire.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use aya_obj::generated::bpf_attr;
use aya_obj::generated::bpf_cmd::BPF_PROG_TEST_RUN;

/// What came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Ran {
    /// XDP or TC action.
    pub(crate) verdict: u32,
    /// The frame afterwards.
    pub(crate) frame: Vec<u8>,
    /// The skb's mark afterwards; 0 in XDP.
    pub(crate) mark: u32,
}

fn run(program: BorrowedFd<'_>, frame: &[u8], context: &mut [u8]) -> Ran {
    repeat(program, frame, context, 1).0
}

/// Also says how long a run takes on average, in nanoseconds.
fn repeat(program: BorrowedFd<'_>, frame: &[u8], context: &mut [u8], times: u32) -> (Ran, u32) {
    // The kernel wants at least an Ethernet header and room for what grows.
    let mut out = vec![0u8; frame.len() + 256];
    // SAFETY: a union of plain integers; zero means "not given".
    let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
    attr.test.prog_fd = program.as_raw_fd() as u32;
    attr.test.data_in = frame.as_ptr() as u64;
    attr.test.data_size_in = frame.len() as u32;
    attr.test.data_out = out.as_mut_ptr() as u64;
    attr.test.data_size_out = out.len() as u32;
    attr.test.ctx_in = context.as_ptr() as u64;
    attr.test.ctx_size_in = context.len() as u32;
    attr.test.ctx_out = context.as_mut_ptr() as u64;
    attr.test.ctx_size_out = context.len() as u32;
    attr.test.repeat = times;
    // SAFETY: every pointer is to a buffer of the given length that outlives the call.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, BPF_PROG_TEST_RUN as libc::c_int, &raw mut attr, size_of::<bpf_attr>())
    };
    assert_eq!(result, 0, "BPF_PROG_TEST_RUN: {}", io::Error::last_os_error());
    // SAFETY: the kernel has filled these in.
    let (verdict, len, duration) =
        unsafe { (attr.test.retval, attr.test.data_size_out as usize, attr.test.duration) };
    out.truncate(len);
    (Ran { verdict, frame: out, mark: 0 }, duration)
}

/// Runs an XDP program on a frame that then goes where the program sent it (`BPF_F_TEST_XDP_LIVE_FRAMES`). `metadata`: what
/// stands in front of it.
pub(crate) fn xdp_live(program: BorrowedFd<'_>, metadata: &[u8], frame: &[u8]) {
    const LIVE_FRAMES: u32 = 1 << 1;
    let bytes = [metadata, frame].concat();
    let mut context = [0u8; XDP_MD];
    context[..4].copy_from_slice(&(metadata.len() as u32).to_ne_bytes());
    context[4..8].copy_from_slice(&(bytes.len() as u32).to_ne_bytes());
    // SAFETY: a union of plain integers; zero means "not given".
    let mut attr: bpf_attr = unsafe { std::mem::zeroed() };
    attr.test.prog_fd = program.as_raw_fd() as u32;
    attr.test.data_in = bytes.as_ptr() as u64;
    attr.test.data_size_in = bytes.len() as u32;
    attr.test.ctx_in = context.as_ptr() as u64;
    attr.test.ctx_size_in = context.len() as u32;
    attr.test.repeat = 1;
    attr.test.batch_size = 1;
    attr.test.flags = LIVE_FRAMES;
    // SAFETY: every pointer is to a buffer of the given length that outlives the call.
    let result = unsafe {
        libc::syscall(libc::SYS_bpf, BPF_PROG_TEST_RUN as libc::c_int, &raw mut attr, size_of::<bpf_attr>())
    };
    assert_eq!(result, 0, "BPF_PROG_TEST_RUN, live: {}", io::Error::last_os_error());
}

/// `struct xdp_md`: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
const XDP_MD: usize = 24;
/// `struct __sk_buff`, and where it has `mark` and `ifindex`.
const SK_BUFF: usize = 192;
const MARK: usize = 8;
const IFINDEX: usize = 40;

/// Runs an XDP program on a frame.
pub(crate) fn xdp(program: BorrowedFd<'_>, frame: &[u8]) -> Ran {
    let mut context = [0u8; XDP_MD];
    context[4..8].copy_from_slice(&(frame.len() as u32).to_ne_bytes());
    let mut ran = run(program, frame, &mut context);
    // What the program has put in front of the frame comes along.
    let begin = u32::from_ne_bytes([context[0], context[1], context[2], context[3]]) as usize;
    ran.frame.drain(..begin);
    ran
}

/// Verdicts of a TC program: to the host's stack, nowhere, elsewhere.
pub(crate) const OK: i32 = 0;
pub(crate) const SHOT: i32 = 2;
pub(crate) const REDIRECT: i32 = 7;

/// Runs a TC program on a frame of this interface, with this mark.
pub(crate) fn tc(program: BorrowedFd<'_>, frame: &[u8], ifindex: u32, mark: u32) -> Ran {
    let mut context = [0u8; SK_BUFF];
    context[MARK..MARK + 4].copy_from_slice(&mark.to_ne_bytes());
    context[IFINDEX..IFINDEX + 4].copy_from_slice(&ifindex.to_ne_bytes());
    let ran = run(program, frame, &mut context);
    let mark = u32::from_ne_bytes(context[MARK..MARK + 4].try_into().expect("four bytes"));
    Ran { mark, ..ran }
}

/// How often a program is run to see what that costs.
pub(crate) const TIMES: u32 = 200_000;

/// Nanoseconds that an XDP program takes for a frame that it does not change.
pub(crate) fn xdp_cost(program: BorrowedFd<'_>, frame: &[u8]) -> u32 {
    let mut context = [0u8; XDP_MD];
    context[4..8].copy_from_slice(&(frame.len() as u32).to_ne_bytes());
    repeat(program, frame, &mut context, TIMES).1
}

/// Nanoseconds that a TC program takes for a frame that it does not change.
pub(crate) fn tc_cost(program: BorrowedFd<'_>, frame: &[u8], ifindex: u32) -> u32 {
    let mut context = [0u8; SK_BUFF];
    context[IFINDEX..IFINDEX + 4].copy_from_slice(&ifindex.to_ne_bytes());
    repeat(program, frame, &mut context, TIMES).1
}
