//! A member's QEMU process, for fencing: killed at once, and seen to be gone, without libvirt's help.
//!
//! libvirt asks QEMU to end (SIGTERM) and kills it only after ten seconds, which is how long a QEMU that hangs or is
//! stopped would delay a fence; and a libvirtd that hangs would delay it for ever.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

use super::super::domain_xml::NAMESPACE;

/// Where libvirt's system daemon keeps the state of running domains.
const STATE: &str = "/run/libvirt/qemu";

/// Kills the QEMU of the domain `name`, if there is one and it is a member's, and waits until it is gone. `Ok(false)`:
/// there was none that could be found.
pub(super) fn kill(name: &str, limit: Duration) -> io::Result<bool> {
    let Some(process) = open(name)? else { return Ok(false) };
    match pidfd_send_signal(&process, Signal::KILL) {
        Ok(()) | Err(Errno::SRCH) => {}
        Err(error) => return Err(error.into()),
    }
    if ends_within(&process, limit)? {
        return Ok(true);
    }
    Err(io::Error::new(io::ErrorKind::TimedOut, "its process survives SIGKILL (is it stuck in I/O?)"))
}

/// Whether the QEMU of the member's domain `name` is known and has ended, though libvirt may not have seen it yet.
pub(super) fn is_dead(name: &str) -> bool {
    matches!(open(name), Ok(Some(process)) if matches!(ends_within(&process, Duration::ZERO), Ok(true)))
}

/// The process of a member's domain; `None` when there is none, or when the domain is somebody else's (a foreign domain
/// may have any name).
fn open(name: &str) -> io::Result<Option<OwnedFd>> {
    let state = Path::new(STATE);
    let ours = fs::read_to_string(state.join(format!("{name}.xml"))).is_ok_and(|xml| xml.contains(NAMESPACE));
    let pid =
        fs::read_to_string(state.join(format!("{name}.pid"))).ok().and_then(|text| text.trim().parse().ok());
    let Some(pid) = pid.filter(|_| ours).and_then(Pid::from_raw) else { return Ok(None) };
    // The pidfd is opened before it is checked that the process is that QEMU, so that it cannot become another one.
    let process = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(process) => process,
        Err(Errno::SRCH) => return Ok(None),
        Err(error) => return Err(error.into()),
    };
    let command_line = fs::read(format!("/proc/{}/cmdline", pid.as_raw_nonzero())).unwrap_or_default();
    // One that has ended and is not reaped yet has no command line any more.
    let meant = names_guest(&command_line, name)
        || (command_line.is_empty() && ends_within(&process, Duration::ZERO)?);
    Ok(meant.then_some(process))
}

/// A pidfd becomes readable when the process has ended, its files and memory given back.
fn ends_within(process: &OwnedFd, limit: Duration) -> io::Result<bool> {
    let end = Instant::now() + limit;
    loop {
        let left = end.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        match poll(&mut [PollFd::new(process, PollFlags::IN)], Some(&timeout)) {
            Ok(ready) => return Ok(ready > 0),
            Err(Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

/// Whether this is the command line of the QEMU that libvirt started for `name`: `-name guest=NAME,debug-threads=on`.
fn names_guest(command_line: &[u8], name: &str) -> bool {
    let wanted = format!("guest={name}");
    command_line.split(|byte| *byte == 0).any(|argument| {
        let argument = String::from_utf8_lossy(argument);
        argument.split(',').any(|part| part == wanted)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_qemu_of_that_very_domain_is_meant() {
        let line = b"/usr/bin/qemu-system-x86_64\0-name\0guest=hotpair-web-0-g1,debug-threads=on\0-S\0";
        assert!(names_guest(line, "hotpair-web-0-g1"));
        assert!(!names_guest(line, "hotpair-web-0-g"));
        assert!(!names_guest(line, "hotpair-web-0-g12"));
        assert!(!names_guest(b"", "hotpair-web-0-g1"));
    }
}
