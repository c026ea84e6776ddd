//! The priority of the engine's thread. `doctor` measures at the same.

use std::io;

/// Above every ordinary thread, below the kernel's own (which have 50 and more).
const PRIORITY: i32 = 10;

/// Runs the calling thread before ordinary ones: a busy host must not look like a dead member.
///
/// # Errors
/// EPERM without CAP_SYS_NICE (and without a fitting RLIMIT_RTPRIO).
pub(crate) fn raise() -> io::Result<()> {
    let parameter = libc::sched_param { sched_priority: PRIORITY };
    // SAFETY: sched_setscheduler(2) reads the parameter and changes this thread alone.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameter) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
