//! An XDP program called `xdp_pass` that lets everything pass, on a link.
//!
//! A veth takes frames that the other end's XDP sends back (XDP_TX) reliably only if it has an XDP program itself: with
//! GRO alone they are put into its ring, but nobody is told (`veth_xdp_flush` asks for the receiver's program). They
//! then lie there until something else comes along, which for an ARP answer means seconds.

use std::os::fd::{AsFd as _, OwnedFd};

use anyhow::Result;

use crate::bpf::{self, Hook};

/// Attaches the program to a link of the calling thread's namespace, for as long as the descriptor lives.
///
/// # Errors
/// When there is no such link, or the kernel refuses.
pub fn attach(link: &str) -> Result<OwnedFd> {
    // r0 = XDP_PASS; exit
    let code = [0x0000_0002_0000_00b7, 0x0000_0000_0000_0095];
    let program = bpf::load("xdp_pass", Hook::Xdp, &code)?;
    bpf::attach(program.as_fd(), Hook::Xdp, link)
}
