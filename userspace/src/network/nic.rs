//! What a NIC and its driver can do: its driver, offloads and queue by the ethtool and interface ioctls, its XDP features
//! by the kernel's `netdev` netlink family. Only looks; works in the calling thread's network namespace.

use std::io;
use std::mem;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

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
    let mut request = named(link)?;
    interface_ioctl(libc::SIOCGIFTXQLEN as libc::c_ulong, &mut request)?;
    // SAFETY: the kernel has written ifr_qlen, an int.
    let length = unsafe { request.ifr_ifru.ifru_ifindex };
    Ok(u32::try_from(length).unwrap_or(0))
}

fn ethtool(link: &str, data: &mut [u8]) -> io::Result<()> {
    let mut request = named(link)?;
    request.ifr_ifru.ifru_data = data.as_mut_ptr().cast();
    interface_ioctl(SIOCETHTOOL, &mut request)
}

fn named(link: &str) -> io::Result<libc::ifreq> {
    // SAFETY: all zero is a valid ifreq.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    if link.len() >= request.ifr_name.len() {
        return Err(io::Error::from(io::ErrorKind::InvalidInput));
    }
    for (to, from) in request.ifr_name.iter_mut().zip(link.bytes()) {
        *to = from as libc::c_char;
    }
    Ok(request)
}

fn interface_ioctl(command: libc::c_ulong, request: &mut libc::ifreq) -> io::Result<()> {
    let socket = socket(libc::AF_INET, libc::SOCK_DGRAM, 0)?;
    // SAFETY: the ifreq lives through the call, and so does what it points to: each caller's buffer is as long as its
    // command wants it.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), command, std::ptr::from_mut(request)) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

fn socket(family: libc::c_int, kind: libc::c_int, protocol: libc::c_int) -> io::Result<OwnedFd> {
    // SAFETY: a new descriptor, checked before it is owned.
    unsafe {
        let fd = libc::socket(family, kind | libc::SOCK_CLOEXEC, protocol);
        if fd < 0 { Err(io::Error::last_os_error()) } else { Ok(OwnedFd::from_raw_fd(fd)) }
    }
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
/// nlmsghdr and genlmsghdr.
const HEADERS: usize = 16 + 4;

/// The XDP features that the driver of a link names (`NETDEV_XDP_ACT_*`), by the link's index. Linux 6.3.
///
/// # Errors
/// The kernel's: ENOENT where it has no such family, ENODEV where there is no such link.
pub fn xdp_features(index: u32) -> io::Result<u64> {
    let socket = socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_GENERIC)?;
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

/// One request with one attribute, and its answer.
fn ask(socket: &OwnedFd, family: u16, command: u8, attribute: u16, value: &[u8]) -> io::Result<Vec<u8>> {
    let mut request = vec![0u8; HEADERS + 4 + value.len().next_multiple_of(4)];
    let length = request.len() as u32;
    request[0..4].copy_from_slice(&length.to_ne_bytes());
    request[4..6].copy_from_slice(&family.to_ne_bytes());
    request[6..8].copy_from_slice(&(libc::NLM_F_REQUEST as u16).to_ne_bytes());
    request[16] = command;
    request[17] = 1;
    request[20..22].copy_from_slice(&(4 + value.len() as u16).to_ne_bytes());
    request[22..24].copy_from_slice(&attribute.to_ne_bytes());
    request[24..24 + value.len()].copy_from_slice(value);
    let mut answer = vec![0u8; 32 * 1024];
    // SAFETY: both buffers have the lengths that are given.
    let length = unsafe {
        if libc::send(socket.as_raw_fd(), request.as_ptr().cast(), request.len(), 0) < 0 {
            return Err(io::Error::last_os_error());
        }
        libc::recv(socket.as_raw_fd(), answer.as_mut_ptr().cast(), answer.len(), 0)
    };
    if length < 0 {
        return Err(io::Error::last_os_error());
    }
    answer.truncate(length as usize);
    let kind = word(&answer, 4) as u16;
    if i32::from(kind) == libc::NLMSG_ERROR {
        return Err(io::Error::from_raw_os_error((word(&answer, 16) as i32).saturating_neg()));
    }
    Ok(answer)
}

/// The value of a message's attribute.
fn attribute(message: &[u8], wanted: u16) -> Option<&[u8]> {
    let mut rest = message.get(HEADERS..)?;
    while rest.len() >= 4 {
        let header = word(rest, 0);
        let (length, kind) = ((header & 0xffff) as usize, (header >> 16) as u16 & 0x3fff);
        let value = rest.get(4..length)?;
        if kind == wanted {
            return Some(value);
        }
        rest = rest.get(length.next_multiple_of(4)..).unwrap_or(&[]);
    }
    None
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

    #[test]
    fn attributes_are_found_and_broken_ones_are_not_believed() {
        let mut message = vec![0; HEADERS];
        message.extend([5, 0, 9, 0, 7, 0, 0, 0]);
        message.extend([6, 0, 3, 0, 1, 2, 0, 0]);
        assert_eq!(attribute(&message, 3), Some(&[1, 2][..]));
        assert_eq!(attribute(&message, 4), None);
        assert_eq!(attribute(&message[..HEADERS + 12], 3), None);
        assert_eq!(attribute(&[], 3), None);
        message[HEADERS] = 0;
        assert_eq!(attribute(&message, 3), None, "a length of nothing");
    }
}
