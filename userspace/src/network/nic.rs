//! What a NIC and its driver can do: its driver, offloads and queue by the ethtool and interface ioctls, its XDP features
//! by the kernel's `netdev` netlink family. Only looks; works in the calling thread's network namespace.

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType};

use super::ifreq;
use crate::netlink::{self, attribute};

/// An offload, as `ethtool -k` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offload {
    /// Its name: `rx-lro`, `rx-gro-hw`.
    pub name: String,
    /// Whether it is on.
    pub on: bool,
    /// Whether nobody can switch it.
    pub fixed: bool,
}

/// A driver can run XDP programs (`NETDEV_XDP_ACT_BASIC` of linux/netdev.h).
pub const XDP_BASIC: u64 = 1;
/// What they redirect leaves (`NETDEV_XDP_ACT_REDIRECT`).
pub const XDP_REDIRECT: u64 = 2;

// From <linux/ethtool.h> and <linux/sockios.h>.
const SIOCETHTOOL: libc::c_ulong = 0x8946;
const ETHTOOL_GDRVINFO: u32 = 0x03;
const ETHTOOL_GSTRINGS: u32 = 0x1b;
const ETHTOOL_GSSET_INFO: u32 = 0x37;
const ETHTOOL_GFEATURES: u32 = 0x3a;
const ETH_SS_FEATURES: u32 = 4;
const ETH_GSTRING_LEN: usize = 32;
/// sizeof(struct ethtool_drvinfo); the driver's name is its second field.
const DRVINFO: usize = 196;

/// The driver's name: `virtio_net`, `ixgbe`, `veth`.
///
/// # Errors
/// The kernel's, e.g. ENODEV.
pub fn driver(link: &str) -> io::Result<String> {
    let mut info = [0u8; DRVINFO];
    info[..4].copy_from_slice(&ETHTOOL_GDRVINFO.to_ne_bytes());
    ethtool(link, &mut info)?;
    Ok(text(&info[4..36]))
}

/// All offloads that this kernel knows, as they are on this link.
///
/// # Errors
/// The kernel's, e.g. ENODEV.
pub fn offloads(link: &str) -> io::Result<Vec<Offload>> {
    // ethtool_sset_info: command, reserved, mask of sets, then a length for each.
    let mut info = [0u8; 20];
    info[..4].copy_from_slice(&ETHTOOL_GSSET_INFO.to_ne_bytes());
    info[8..16].copy_from_slice(&(1u64 << ETH_SS_FEATURES).to_ne_bytes());
    ethtool(link, &mut info)?;
    let count = word(&info, 16) as usize;

    // ethtool_gstrings: command, set, length, then the strings.
    let mut names = vec![0u8; 12 + count * ETH_GSTRING_LEN];
    names[..4].copy_from_slice(&ETHTOOL_GSTRINGS.to_ne_bytes());
    names[4..8].copy_from_slice(&ETH_SS_FEATURES.to_ne_bytes());
    names[8..12].copy_from_slice(&(count as u32).to_ne_bytes());
    ethtool(link, &mut names)?;

    // ethtool_gfeatures: command, blocks, then for each 32 features: available, requested, active, never changed.
    let blocks = count.div_ceil(32);
    let mut values = vec![0u8; 8 + blocks * 16];
    values[..4].copy_from_slice(&ETHTOOL_GFEATURES.to_ne_bytes());
    values[4..8].copy_from_slice(&(blocks as u32).to_ne_bytes());
    ethtool(link, &mut values)?;

    let bit =
        |index: usize, field: usize| word(&values, 8 + index / 32 * 16 + field * 4) >> (index % 32) & 1 == 1;
    Ok((0..count)
        .map(|index| {
            let name = text(&names[12 + index * ETH_GSTRING_LEN..][..ETH_GSTRING_LEN]);
            Offload { name, on: bit(index, 2), fixed: !bit(index, 0) || bit(index, 3) }
        })
        .filter(|offload| !offload.name.is_empty())
        .collect())
}

/// How many packets wait in its queue at most (`txqueuelen`).
///
/// # Errors
/// The kernel's, e.g. ENODEV.
pub fn queue_length(link: &str) -> io::Result<u32> {
    let mut request = ifreq::about(link)?;
    interface_ioctl(libc::SIOCGIFTXQLEN as libc::c_ulong, &mut request)?;
    // SAFETY: the kernel has written ifr_qlen, an int.
    let length = unsafe { request.ifr_ifru.ifru_ifindex };
    Ok(u32::try_from(length).unwrap_or(0))
}

fn ethtool(link: &str, data: &mut [u8]) -> io::Result<()> {
    let mut request = ifreq::about(link)?;
    request.ifr_ifru.ifru_data = data.as_mut_ptr().cast();
    interface_ioctl(SIOCETHTOOL, &mut request)
}

fn interface_ioctl(command: libc::c_ulong, request: &mut libc::ifreq) -> io::Result<()> {
    let socket =
        rustix::net::socket_with(AddressFamily::INET, SocketType::DGRAM, SocketFlags::CLOEXEC, None)?;
    // SAFETY: the ifreq lives through the call, and so does what it points to: each caller's buffer is as long as its
    // command wants it.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), command, std::ptr::from_mut(request)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn text(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..at + 4).and_then(|word| word.try_into().ok()).map_or(0, u32::from_ne_bytes)
}

// From <linux/genetlink.h> and <linux/netdev.h>.
const GENL_ID_CTRL: u16 = 0x10;
const CTRL_CMD_GETFAMILY: u8 = 3;
const CTRL_ATTR_FAMILY_ID: u16 = 1;
const CTRL_ATTR_FAMILY_NAME: u16 = 2;
const NETDEV_CMD_DEV_GET: u8 = 1;
const NETDEV_A_DEV_IFINDEX: u16 = 1;
const NETDEV_A_DEV_XDP_FEATURES: u16 = 3;
/// sizeof(struct genlmsghdr): command, version, reserved.
const GENLMSGHDR: usize = 4;

/// The XDP features that the driver of a link names (`NETDEV_XDP_ACT_*`), by the link's index. Linux 6.3.
///
/// # Errors
/// The kernel's: ENOENT where it has no such family, ENODEV where there is no such link.
pub fn xdp_features(index: u32) -> io::Result<u64> {
    let socket = netlink::socket(netlink::GENERIC)?;
    let family = ask(&socket, GENL_ID_CTRL, CTRL_CMD_GETFAMILY, CTRL_ATTR_FAMILY_NAME, b"netdev\0")?;
    let family = attribute(&family, CTRL_ATTR_FAMILY_ID)
        .and_then(|value| value.get(..2)?.try_into().ok())
        .map(u16::from_ne_bytes)
        .ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))?;
    let device = ask(&socket, family, NETDEV_CMD_DEV_GET, NETDEV_A_DEV_IFINDEX, &index.to_ne_bytes())?;
    attribute(&device, NETDEV_A_DEV_XDP_FEATURES)
        .and_then(|value| value.get(..8)?.try_into().ok())
        .map(u64::from_ne_bytes)
        .ok_or_else(|| io::Error::from(io::ErrorKind::UnexpectedEof))
}

/// One question with one attribute, and the attributes of its answer.
fn ask(socket: &OwnedFd, family: u16, command: u8, attribute: u16, value: &[u8]) -> io::Result<Vec<u8>> {
    let mut question = vec![0u8; GENLMSGHDR + 4 + value.len().next_multiple_of(4)];
    question[0] = command;
    question[1] = 1;
    question[4..6].copy_from_slice(&(4 + value.len() as u16).to_ne_bytes());
    question[6..8].copy_from_slice(&attribute.to_ne_bytes());
    question[8..8 + value.len()].copy_from_slice(value);
    let mut answer = netlink::ask(socket, family, &question)?;
    answer.drain(..GENLMSGHDR.min(answer.len()));
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loopback_has_offloads_and_no_native_xdp() {
        let all = offloads("lo").expect("every machine has one");
        assert!(all.iter().any(|offload| offload.name == "rx-lro" && !offload.on), "{all:?}");
        assert!(all.iter().any(|offload| offload.name.starts_with("tx-checksum") && offload.on), "{all:?}");
        assert!(queue_length("lo").is_ok());
        if let Ok(features) = xdp_features(1) {
            assert_eq!(features & XDP_BASIC, 0, "its driver has no XDP");
        }
    }

    #[test]
    fn what_is_not_there_is_an_error() {
        assert!(driver("nosuchlink").is_err());
        assert!(offloads("nosuchlink").is_err());
        assert!(queue_length("a-name-too-long-for-it").is_err());
        assert!(xdp_features(u32::MAX / 2).is_err());
    }
}
