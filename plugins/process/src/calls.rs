//! The system's calls, for many ranges of a process at once.

use std::io;

use libc::{c_ulong, c_void, iovec, pid_t};
use pactio_sdk::{Code, IoError};

use crate::target::Target;

/// Most ranges of one call: what the system takes.
pub(crate) const MOST: usize = 1024;

/// Most bytes of one range, and about the most of one call. The system's limit is a little below twice that.
pub(crate) const MOST_BYTES: usize = 1 << 30;

type Call = unsafe extern "C" fn(pid_t, *const iovec, c_ulong, *const iovec, c_ulong, c_ulong) -> isize;

/// Ranges of a process, each with the memory of ours that belongs to it.
pub(crate) struct Ranges {
    local: Vec<iovec>,
    remote: Vec<iovec>,
}

impl Ranges {
    pub(crate) fn with_capacity(count: usize) -> Self {
        Self { local: Vec::with_capacity(count), remote: Vec::with_capacity(count) }
    }

    pub(crate) fn push(&mut self, address: u64, memory: *mut u8, len: usize) {
        self.local.push(iovec { iov_base: memory.cast(), iov_len: len });
        self.remote.push(iovec { iov_base: address as *mut c_void, iov_len: len });
    }

    pub(crate) fn len(&self) -> usize {
        self.local.len()
    }

    /// Copies from the process, and says how many bytes that were: it ends at the first page that cannot be read.
    ///
    /// # Errors
    ///
    /// If the process has ended, or the system does not do it at all.
    ///
    /// # Safety
    ///
    /// All memory of ours may be written to.
    pub(crate) unsafe fn read(&self, target: &Target) -> Result<usize, IoError> {
        // SAFETY: as required of the caller.
        unsafe { self.call(libc::process_vm_readv, target) }
    }

    /// Copies to the process, as [`read`](Self::read) does from it.
    ///
    /// # Errors
    ///
    /// As there.
    ///
    /// # Safety
    ///
    /// All memory of ours may be read. What is written to is memory of the process, which has to bear that: opening it to be
    /// written asks for it.
    pub(crate) unsafe fn write(&self, target: &Target) -> Result<usize, IoError> {
        if !target.is_alive() {
            // Its number may be another's.
            return Err(IoError::from_code(Code::DISCONNECTED));
        }
        // SAFETY: as required of the caller.
        unsafe { self.call(libc::process_vm_writev, target) }
    }

    /// # Safety
    ///
    /// As the call needs it.
    unsafe fn call(&self, call: Call, target: &Target) -> Result<usize, IoError> {
        let count = self.len() as c_ulong;
        // SAFETY: both lists have so many ranges; the rest is required of the caller.
        let moved = unsafe { call(target.pid(), self.local.as_ptr(), count, self.remote.as_ptr(), count, 0) };
        let moved = usize::try_from(moved).or_else(|_| none_moved());
        // If it has ended, it may have been another one that got its number.
        if target.is_alive() { moved } else { Err(IoError::from_code(Code::DISCONNECTED)) }
    }
}

/// A call moved nothing: because of its first page, or because of the process.
fn none_moved() -> Result<usize, IoError> {
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EFAULT) => Ok(0),
        Some(libc::ESRCH) => Err(IoError::from_code(Code::DISCONNECTED)),
        _ => Err(error.into()),
    }
}
