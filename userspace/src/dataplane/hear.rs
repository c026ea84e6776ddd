//! Multicast that the uplink must let in: neighbour solicitations for IPv6 entry addresses.
//!
//! They are sent to the solicited-node group's MAC (RFC 4291 section 2.7.1), which a NIC filters out unless the host has
//! the group. The address is entered into the NIC's filter as a static one, which outlives the controller; no
//! promiscuous mode, and no membership that a closed socket ends.

use std::io;
use std::net::UdpSocket;
use std::os::fd::AsRawFd;

const SIOCADDMULTI: libc::c_ulong = 0x8931;
const SIOCDELMULTI: libc::c_ulong = 0x8932;

/// The MAC that solicitations for an IPv6 address are sent to.
pub(super) fn solicited_node_mac(address: [u8; 16]) -> [u8; 6] {
    [0x33, 0x33, 0xff, address[13], address[14], address[15]]
}

/// Lets frames to this multicast MAC in, or no more. Success when it is so already.
pub(super) fn hear(uplink: &str, mac: [u8; 6], on: bool) -> io::Result<()> {
    let socket = UdpSocket::bind((std::net::Ipv4Addr::UNSPECIFIED, 0))?;
    // SAFETY: all zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    if uplink.len() >= request.ifr_name.len() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    for (to, from) in request.ifr_name.iter_mut().zip(uplink.bytes()) {
        *to = from as libc::c_char;
    }
    // SAFETY: all zero is a valid sockaddr; its family must be AF_UNSPEC, which is zero.
    let mut address: libc::sockaddr = unsafe { std::mem::zeroed() };
    for (to, from) in address.sa_data.iter_mut().zip(mac) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_hwaddr = address;
    let command = if on { SIOCADDMULTI } else { SIOCDELMULTI };
    // SAFETY: both commands read the ifreq, which lives through the call.
    if unsafe { libc::ioctl(socket.as_raw_fd(), command, &raw mut request) } == 0 {
        return Ok(());
    }
    match io::Error::last_os_error() {
        error if matches!(error.raw_os_error(), Some(libc::EEXIST | libc::ENOENT)) => Ok(()),
        error => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::solicited_node_mac;

    #[test]
    fn the_group_is_made_of_the_last_three_bytes() {
        let address: std::net::Ipv6Addr = "2001:db8::12:3456".parse().expect("an address");
        assert_eq!(solicited_node_mac(address.octets()), [0x33, 0x33, 0xff, 0x12, 0x34, 0x56]);
    }
}
