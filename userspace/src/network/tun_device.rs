//! What netlink cannot do: making a persistent tap, and the sysctls of a link.

use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::path::Path;

use super::error::NetworkError;
use super::ifreq;
use super::link::check_name;

/// Makes a persistent, single-queue tap in the calling thread's namespace. It must not exist.
///
/// The virtio header is on: who attaches decides for itself, and QEMU does.
pub(super) fn create_persistent_tap(name: &str) -> Result<(), NetworkError> {
    check_name(name)?;
    let failed = |what: &str, source| NetworkError::Tap { what: format!("{what} the tap {name}"), source };
    let device = OpenOptions::new()
        .read(true)
        .write(true)
        .open("/dev/net/tun")
        .map_err(|e| failed("open /dev/net/tun (is the tun module loaded?) to make", e))?;
    let mut request = ifreq::about(name).map_err(|e| failed("name", e))?;
    let flags = libc::IFF_TAP | libc::IFF_NO_PI | libc::IFF_VNET_HDR | libc::IFF_TUN_EXCL;
    request.ifr_ifru.ifru_flags = flags as libc::c_short;
    // SAFETY: TUNSETIFF reads and writes one ifreq, which lives through the call.
    if unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, &raw mut request) } < 0 {
        return Err(failed("create (TUNSETIFF)", io::Error::last_os_error()));
    }
    // SAFETY: TUNSETPERSIST takes its argument by value.
    if unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETPERSIST, 1) } < 0 {
        return Err(failed("keep (TUNSETPERSIST)", io::Error::last_os_error()));
    }
    Ok(())
}

/// IPv6 on, router advertisements and redirects of guests ignored. `false` on a host without IPv6.
///
/// Of a guest's frames only what the data plane lets through reaches the tap's stack; this is for when it is not there.
pub(super) fn take_no_router_advice(name: &str) -> Result<bool, NetworkError> {
    check_name(name)?;
    // /proc/sys/net shows the namespace of whoever reads it.
    let settings = Path::new("/proc/sys/net/ipv6/conf").join(name);
    if !settings.exists() {
        tracing::warn!(tap = name, "this host has no IPv6: entry addresses of that kind will not work");
        return Ok(false);
    }
    for (key, value) in
        [("disable_ipv6", "0"), ("accept_ra", "0"), ("autoconf", "0"), ("accept_redirects", "0")]
    {
        let path = settings.join(key);
        let already = fs::read_to_string(&path).is_ok_and(|now| now.trim() == value);
        if already {
            continue;
        }
        match fs::write(&path, value) {
            Ok(()) => {}
            // A read-only /proc/sys is common in containers; what is left is defence in depth, but IPv6 must be on.
            Err(error) if key != "disable_ipv6" && error.kind() == ErrorKind::ReadOnlyFilesystem => {
                tracing::warn!(tap = name, key, "cannot be set: /proc/sys is read-only");
            }
            Err(source) => {
                return Err(NetworkError::Tap {
                    what: format!("set net.ipv6.conf.{name}.{key} to {value}"),
                    source,
                });
            }
        }
    }
    Ok(true)
}
