//! A file in memory: reads of cached bytes are copies, without a system call.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};

use pactio_sdk::Unfilled;

use crate::job::{Job, Outcome, Step};

/// Reads are remembered in pieces of this size: the smallest page size of any system.
const PAGE: usize = 4096;

/// The mapping of a file. Its length is the file's length at the open.
pub(crate) struct Mapped {
    start: NonNull<u8>,
    len: usize,
    /// A bit for each page: the page was read without waiting, so it was in memory. If the page cache drops it later, a thread
    /// that touches it waits.
    seen: Box<[AtomicU64]>,
}

// SAFETY: the mapping is only read, by copies that tolerate concurrent changes.
unsafe impl Send for Mapped {}
// SAFETY: the mapping is only read, by copies that tolerate concurrent changes, and `seen` is atomic.
unsafe impl Sync for Mapped {}

impl Mapped {
    /// # Errors
    ///
    /// The system's error. An empty file cannot be mapped.
    pub(crate) fn new(file: &File, len: u64) -> io::Result<Self> {
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge)?;
        // SAFETY: this is a new mapping, at an address that the system chooses.
        let start = unsafe {
            libc::mmap(ptr::null_mut(), len, libc::PROT_READ, libc::MAP_SHARED, file.as_raw_fd(), 0)
        };
        if start == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::OutOfMemory)?;
        let words = len.div_ceil(PAGE).div_ceil(64);
        Ok(Self { start, len, seen: (0..words).map(|_| AtomicU64::new(0)).collect() })
    }

    /// Reads the bytes that are in memory. The rest is left.
    pub(crate) fn copy(&self, job: Job) -> Outcome {
        let (job, Step { memory, len, position }) = match job.step() {
            Ok(next) => next,
            Err(outcome) => return outcome,
        };
        let Some(start) = usize::try_from(position).ok().filter(|start| *start < self.len) else {
            return Outcome::More(job);
        };
        let count = len.min(self.len - start);
        // SAFETY: `memory` belongs to the job and has at least `count` bytes, which `moved` counts if they were copied.
        unsafe {
            match self.copy_seen(start, memory, count) {
                true => job.moved(count),
                false => Outcome::More(job),
            }
        }
    }

    /// Fills all of `into`, if its bytes are in memory.
    pub(crate) fn fill(&self, position: u64, into: &mut Unfilled<'_>) {
        let len = into.remaining();
        let Some(start) = usize::try_from(position).ok().filter(|start| *start < self.len) else { return };
        // SAFETY: `len` bytes remain, which are counted if they were copied.
        unsafe {
            if len <= self.len - start && self.copy_seen(start, into.unfilled_ptr(), len) {
                into.advance_unchecked(len);
            }
        }
    }

    /// Copies bytes of the mapping, if their pages were seen in memory.
    ///
    /// # Safety
    ///
    /// The range lies in the mapping, and `memory` is valid for writes of `count` bytes.
    unsafe fn copy_seen(&self, start: usize, memory: *mut u8, count: usize) -> bool {
        // Ordering: Relaxed. The bit is a hint, and guards nothing.
        if !pages(start, count).all(|page| self.word(page).load(Ordering::Relaxed) & bit(page) != 0) {
            return false;
        }
        // SAFETY: the caller promises the range and the memory. The file may change meanwhile: the C function copies the bytes
        // that it finds. If the file was truncated, the system ends the process, as the option's text says.
        unsafe { libc::memcpy(memory.cast(), self.start.as_ptr().add(start).cast(), count) };
        true
    }

    /// Records that `count` bytes were read without waiting.
    pub(crate) fn saw(&self, position: u64, count: usize) {
        let Some(start) = usize::try_from(position).ok().filter(|start| *start < self.len) else { return };
        for page in pages(start, count.min(self.len - start)) {
            // Ordering: Relaxed. The bit is a hint, and guards nothing.
            self.word(page).fetch_or(bit(page), Ordering::Relaxed);
        }
    }

    fn word(&self, page: usize) -> &AtomicU64 {
        &self.seen[page / 64]
    }
}

fn bit(page: usize) -> u64 {
    1 << (page % 64)
}

fn pages(start: usize, count: usize) -> Range<usize> {
    start / PAGE..(start + count).div_ceil(PAGE)
}

impl Drop for Mapped {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and nothing refers to it any more.
        unsafe { libc::munmap(self.start.as_ptr().cast(), self.len) };
    }
}
