//! Tells the network where an entry address is now: gratuitous ARP and unsolicited neighbour advertisements.

use std::io;
use std::net::IpAddr;

use super::frame;
use super::link::Link;
use super::packet_socket::PacketSocket;

/// Announces entry addresses on the uplink. Needs CAP_NET_RAW.
#[derive(Debug)]
pub struct Announcer {
    socket: PacketSocket,
    mac: [u8; 6],
}

impl Announcer {
    /// Opens a raw socket on the uplink.
    ///
    /// # Errors
    /// The kernel's, e.g. EPERM without CAP_NET_RAW, ENODEV when the uplink is gone.
    pub fn open(uplink: &Link) -> io::Result<Announcer> {
        Ok(Announcer { socket: PacketSocket::open(uplink.index)?, mac: uplink.mac })
    }

    /// Announces each address once: IPv4 as ARP request and as ARP reply, IPv6 as a neighbour advertisement with the
    /// override flag. Frames can get lost: announce again a little later.
    ///
    /// # Errors
    /// The first error of the kernel (e.g. ENETDOWN); the other addresses are announced all the same.
    pub fn announce(&self, entry: &[IpAddr]) -> io::Result<()> {
        let mut result = Ok(());
        for address in entry {
            let frames = match address {
                IpAddr::V4(v4) => {
                    vec![frame::gratuitous_request(self.mac, *v4), frame::gratuitous_reply(self.mac, *v4)]
                }
                IpAddr::V6(v6) => vec![frame::unsolicited_na(self.mac, *v6)],
            };
            for frame in frames {
                result = result.and(self.socket.send(&frame));
            }
        }
        result
    }
}
