//! Asks a guest for a sign of life where no agent gives one: ARP and neighbour solicitations into its tap.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hotpair_abi as abi;

use super::frame;
use super::link::Link;
use super::packet_socket::PacketSocket;

/// Probes one member through its tap (`heartbeat.source = "probe"`). Needs CAP_NET_RAW and, for the mark, CAP_NET_ADMIN.
///
/// The answers are not received here: any frame that leaves the tap is a sign of life, and `from_guest` stamps it.
#[derive(Debug)]
pub struct Prober {
    socket: PacketSocket,
    frames: Vec<Vec<u8>>,
}

impl Prober {
    /// Opens a raw socket on the tap and prepares one question for each entry address. The frames carry
    /// [`abi::MARK`], which lets them pass `to_guest_from_host`.
    ///
    /// # Errors
    /// The kernel's, e.g. EPERM, or ENODEV when the tap is gone.
    pub fn open(tap: &Link, guest_mac: [u8; 6], entry: &[IpAddr]) -> io::Result<Prober> {
        let socket = PacketSocket::open(tap.index)?;
        socket.mark(abi::MARK)?;
        let frames = entry
            .iter()
            .map(|address| match address {
                IpAddr::V4(v4) => {
                    frame::arp_probe(guest_mac, abi::GATEWAY_MAC, Ipv4Addr::from(abi::HOST_V4), *v4)
                }
                IpAddr::V6(v6) => {
                    frame::ns_probe(guest_mac, abi::GATEWAY_MAC, Ipv6Addr::from(abi::HOST_V6), *v6)
                }
            })
            .collect();
        Ok(Prober { socket, frames })
    }

    /// Sends every question once. Never blocks.
    ///
    /// # Errors
    /// The first error of the kernel (ENETDOWN: the tap is down; ENXIO or ENODEV: it is gone); ENOBUFS only means that
    /// the guest does not read its queue, which is no error of the probe.
    pub fn probe(&self) -> io::Result<()> {
        let mut result = Ok(());
        for frame in &self.frames {
            match self.socket.send(frame) {
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                other => result = result.and(other),
            }
        }
        result
    }
}
