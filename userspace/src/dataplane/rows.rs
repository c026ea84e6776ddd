//! `PAIRS` and `MEMBERS`, mapped: what the controller reads and writes without a system call.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// The rows of an mmapable array, shared with the programs.
pub(super) struct Rows<T> {
    first: NonNull<T>,
    len: u32,
}

// SAFETY: the mapping lives as long as the value, and rows are only accessed by atomics and volatile copies.
unsafe impl<T> Send for Rows<T> {}
// SAFETY: as above.
unsafe impl<T> Sync for Rows<T> {}

impl<T> Rows<T> {
    /// Maps all rows of a map. `T` must be a multiple of eight bytes.
    pub(super) fn new(map: BorrowedFd<'_>, len: u32) -> io::Result<Self> {
        const { assert!(size_of::<T>().is_multiple_of(8)) };
        // SAFETY: a new shared mapping at a place of the kernel's choice.
        let at = unsafe {
            mmap(
                std::ptr::null_mut(),
                size_of::<T>() * len as usize,
                ProtFlags::READ | ProtFlags::WRITE,
                MapFlags::SHARED,
                map.as_fd(),
                0,
            )
        }?;
        NonNull::new(at.cast())
            .map(|first| Rows { first, len })
            .ok_or_else(|| io::ErrorKind::OutOfMemory.into())
    }

    /// How many there are.
    pub(super) fn len(&self) -> u32 {
        self.len
    }

    /// A row; `None` past the last one.
    pub(super) fn get(&self, index: u32) -> Option<*mut T> {
        // SAFETY: within the mapping.
        (index < self.len).then(|| unsafe { self.first.as_ptr().add(index as usize) })
    }
}

impl<T> Drop for Rows<T> {
    fn drop(&mut self) {
        // SAFETY: the mapping of `new`; nothing refers to it any more. If it fails the mapping just stays.
        let _ = unsafe { munmap(self.first.as_ptr().cast(), size_of::<T>() * self.len as usize) };
    }
}

/// A word of a row.
///
/// # Safety
/// `field` must point into a mapped row.
pub(super) unsafe fn word<'a>(field: *mut u64) -> &'a AtomicU64 {
    // SAFETY: rows are aligned to eight bytes and stay mapped; both sides of the kernel store whole words.
    unsafe { AtomicU64::from_ptr(field) }
}

/// Half a word of a row.
///
/// # Safety
/// `field` must point into a mapped row.
pub(super) unsafe fn half<'a>(field: *mut u32) -> &'a AtomicU32 {
    // SAFETY: as in `word`.
    unsafe { AtomicU32::from_ptr(field) }
}

/// Copies a row word by word, each word read atomically.
pub(super) fn copy<T: aya::Pod>(row: *mut T) -> T {
    let mut out = std::mem::MaybeUninit::<T>::uninit();
    for i in 0..size_of::<T>() / 8 {
        // SAFETY: `row` is mapped and a multiple of eight bytes; `out` is as large.
        unsafe {
            let value = word(row.cast::<u64>().add(i)).load(Ordering::Relaxed);
            out.as_mut_ptr().cast::<u64>().add(i).write_unaligned(value);
        }
    }
    // SAFETY: every word has been written, and every bit pattern of a Pod is a value.
    unsafe { out.assume_init() }
}

/// Zeroes a row word by word.
pub(super) fn clear<T: aya::Pod>(row: *mut T) {
    for i in 0..size_of::<T>() / 8 {
        // SAFETY: as in `copy`.
        unsafe { word(row.cast::<u64>().add(i)) }.store(0, Ordering::Relaxed);
    }
}
