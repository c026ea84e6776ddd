//! Which boot of the kernel this is, and the clock that counts from it.
//!
//! The boot id belongs to the kernel, not to this process: `/proc/sys/kernel/random/boot_id`. A restarted agent is the
//! same boot, so its sequence must not go back; it begins at the microseconds since boot, which rise a thousand times
//! faster than a sequence that beats once a millisecond. Nothing has to be written down for that.

use std::fs;

use rustix::time::{ClockId, clock_gettime};

/// Where the kernel says which boot this is.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Why the boot id could not be found.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The file is not there or not readable.
    #[error("cannot read {BOOT_ID}: is /proc mounted? (--boot-id sets one by hand)")]
    Unreadable(#[source] std::io::Error),
    /// It does not hold a UUID.
    #[error("{BOOT_ID} holds {0:?}, which is not a UUID (--boot-id sets one by hand)")]
    NotAUuid(String),
}

/// The kernel's boot id, folded to 64 bits.
///
/// # Errors
/// When the file is missing or holds something else than a UUID.
pub fn boot_id() -> Result<u64, BootError> {
    let text = fs::read_to_string(BOOT_ID).map_err(BootError::Unreadable)?;
    fold(text.trim()).ok_or_else(|| BootError::NotAUuid(text.trim().to_owned()))
}

/// Both halves of a UUID in one word. It is random already (version 4), so folding is all the hashing it needs.
fn fold(uuid: &str) -> Option<u64> {
    let digits: String = uuid.chars().filter(|c| *c != '-').collect();
    if digits.len() != 32 {
        return None;
    }
    let value = u128::from_str_radix(&digits, 16).ok()?;
    Some((value >> 64) as u64 ^ value as u64)
}

/// CLOCK_BOOTTIME, nanoseconds: goes on while the machine is suspended, never back.
#[must_use]
pub fn now_ns() -> u64 {
    let now = clock_gettime(ClockId::Boottime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// The sequence that an agent starting now begins with.
#[must_use]
pub fn first_sequence() -> u64 {
    now_ns() / 1_000
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_id_is_the_kernels_and_stays_the_same() {
        assert_eq!(boot_id().expect("this kernel has one"), boot_id().expect("still"));
        assert_eq!(fold("00000000-0000-0001-0000-000000000002"), Some(3));
        assert_ne!(
            fold("6f1d4d8e-4f0e-4a5e-9d6e-0a1b2c3d4e5f"),
            fold("6f1d4d8e-4f0e-4a5e-9d6e-0a1b2c3d4e60")
        );
        for bad in ["", "1234", "zzzzzzzz-zzzz-zzzz-zzzz-zzzzzzzzzzzz"] {
            assert_eq!(fold(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn a_restarted_agent_begins_above_where_the_last_one_could_have_come() {
        let first = first_sequence();
        std::thread::sleep(std::time::Duration::from_millis(20));
        // At the fastest interval, 1 ms, the first agent has sent 20 by now.
        assert!(first_sequence() > first + 20);
    }
}
