//! A network and a mount namespace of its own for a thread.

use std::panic::resume_unwind;

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::{UnshareFlags, unshare_unsafe};

/// Runs something in namespaces of its own, with a tmpfs at `/mnt`. Gone afterwards with all that is in them, also
/// when this process is killed. A panic goes through.
///
/// # Panics
/// When there are no namespaces to be had: it needs root.
pub fn alone<T: Send>(what: impl FnOnce() -> T + Send) -> T {
    let done = std::thread::scope(|scope| {
        let inside = || {
            // SAFETY: this thread shares nothing with others by way of its namespaces, and ends with them.
            unsafe { unshare_unsafe(UnshareFlags::NEWNET | UnshareFlags::NEWNS) }.expect("own namespaces");
            mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)
                .expect("private mounts");
            mount("tmpfs", "/mnt", "tmpfs", MountFlags::empty(), None).expect("a tmpfs");
            what()
        };
        scope.spawn(inside).join()
    });
    done.unwrap_or_else(|panic| resume_unwind(panic))
}
