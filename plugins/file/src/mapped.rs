//! A file in memory: reads of what the page cache has are copies, without a system call.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::job::{Job, Outcome, Step};

/// What was read is remembered in pieces of this size: the least that a page of any system has.
const PAGE: usize = 4096;

/// The mapping of a file, as long as the file was when it was opened.
pub(crate) struct Mapped {
    start: NonNull<u8>,
    len: usize,
    /// A bit for each page: it was read without waiting, so it was in memory. If the page cache loses it later, whoever touches it
    /// waits.
    seen: Box<[AtomicU64]>,
}

// SAFETY: the memory is only read, by copies that bear changes.
unsafe impl Send for Mapped {}
// SAFETY: as above.
unsafe impl Sync for Mapped {}

impl Mapped {
    /// # Errors
    ///
    /// What the system says. An empty file cannot be mapped.
    pub(crate) fn new(file: &File, len: u64) -> io::Result<Self> {
        let len = usize::try_from(len).map_err(|_| io::ErrorKind::FileTooLarge)?;
        // SAFETY: a new mapping, at a place that the system chooses.
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

    /// Reads what is in memory. The rest is left.
    pub(crate) fn copy(&self, job: Job) -> Outcome {
        let (job, Step { memory, len, position }) = match job.step() {
            Ok(next) => next,
            Err(outcome) => return outcome,
        };
        let Some(start) = usize::try_from(position).ok().filter(|start| *start < self.len) else {
            return Outcome::More(job);
        };
        let count = len.min(self.len - start);
        // Ordering: Relaxed. It is a guess, and guards nothing.
        if !pages(start, count).all(|page| self.word(page).load(Ordering::Relaxed) & bit(page) != 0) {
            return Outcome::More(job);
        }
        // SAFETY: the range lies in the mapping, and `memory` is the job's, of this length. Somebody may change the file meanwhile:
        // the C function copies whatever it finds. If it was made shorter, the system ends the process, which the option says.
        unsafe { libc::memcpy(memory.cast(), self.start.as_ptr().add(start).cast(), count) };
        // SAFETY: they were copied.
        unsafe { job.moved(count) }
    }

    /// So many bytes were read without waiting.
    pub(crate) fn saw(&self, position: u64, count: usize) {
        let Some(start) = usize::try_from(position).ok().filter(|start| *start < self.len) else { return };
        for page in pages(start, count.min(self.len - start)) {
            // Ordering: Relaxed, as in `copy`.
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
