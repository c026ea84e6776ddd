//! What both sides of the kernel boundary agree on.
//!
//! Map layouts, the role word, counters and events, the heartbeat's wire format, and the packet logic that decides
//! about frames. No I/O, no allocation, no clock: the same code runs in the eBPF programs, in the controller, in the
//! guest agent and in native tests.
//!
//! Nothing in here may depend on the host it is compiled for: every structure is `#[repr(C)]` with explicit padding,
//! and its size is asserted at compile time.
#![cfg_attr(not(any(test, feature = "user")), no_std)]

pub mod address;
pub mod checksum;
pub mod count;
pub mod event;
pub mod flow;
pub mod frame;
pub mod handover;
pub mod heartbeat;
pub mod ids;
pub mod index;
pub mod maps;
pub mod neighbour;
pub mod packet;
pub mod role;
pub mod tcp;
pub mod voice;

pub use address::{
    Address, GATEWAY_MAC, HOST_V4, HOST_V6, ME_V4, ME_V6, Mac, PEER_V4, PEER_V6, address_key, is_v4_key,
};
pub use ids::{Epoch, PairId, Slot};
pub use role::RoleWord;

/// Version of everything in this crate that a pinned map or a running program could hold, or that one program hands to
/// another: an upgrade replaces them one after the other, and frames pass meanwhile.
///
/// Raise it with every change to a map structure, a counter's or event's number, the meaning of a field, what travels in
/// front of a frame ([`tcp::plan::Plan`]), or what its MAC or mark ([`MARK`]) says. A controller refuses to adopt a data
/// plane of another version.
pub const ABI_VERSION: u32 = 10;

/// `skb->mark` of frames that hotpair itself puts onto a tap's egress path, so that `to_guest_from_host` tells them
/// from what the host's own stack sends.
pub const MARK: u32 = 0x4850_0001;
