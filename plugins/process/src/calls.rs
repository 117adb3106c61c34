//! The system calls, for many ranges of a process at once.

use std::io;

use libc::{c_ulong, c_void, iovec, pid_t};
use pactio_sdk::{Code, IoError};

use crate::target::Target;

/// Most ranges of one call: the system takes no more.
pub(crate) const MAX_RANGES: usize = 1024;

/// Most bytes of one range, and about the most of one call. The system's limit is a little below twice that.
pub(crate) const MAX_BYTES: usize = 1 << 30;

type Call = unsafe extern "C" fn(pid_t, *const iovec, c_ulong, *const iovec, c_ulong, c_ulong) -> isize;

/// Ranges of a process, each with its range of local memory.
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

    /// Copies from the process and returns the number of bytes: the copy ends at the first page that cannot be read.
    ///
    /// # Errors
    ///
    /// If the process has ended, or the system refuses the call.
    ///
    /// # Safety
    ///
    /// All local memory is valid for writes.
    pub(crate) unsafe fn read(&self, target: &Target) -> Result<usize, IoError> {
        // SAFETY: the caller promises that all local memory is valid for writes.
        unsafe { self.call(libc::process_vm_readv, target) }
    }

    /// Copies to the process, as [`read`](Self::read) does from it.
    ///
    /// # Errors
    ///
    /// If the process has ended, or the system refuses the call.
    ///
    /// # Safety
    ///
    /// All local memory is valid for reads. The call changes memory of the process, and the process has to tolerate that: opening
    /// it for writing requests such changes.
    pub(crate) unsafe fn write(&self, target: &Target) -> Result<usize, IoError> {
        if !target.is_alive() {
            // Another process may have its number.
            return Err(IoError::from_code(Code::DISCONNECTED));
        }
        // SAFETY: the caller promises that all local memory is valid for reads.
        unsafe { self.call(libc::process_vm_writev, target) }
    }

    /// # Safety
    ///
    /// All local memory is valid for the accesses of `call`.
    unsafe fn call(&self, call: Call, target: &Target) -> Result<usize, IoError> {
        let count = self.len() as c_ulong;
        // SAFETY: both lists have `count` ranges, and the caller promises that the local memory is valid for the accesses of
        // `call`.
        let moved = unsafe { call(target.pid(), self.local.as_ptr(), count, self.remote.as_ptr(), count, 0) };
        let moved = usize::try_from(moved).or_else(|_| none_moved());
        // If the process has ended, the call may have reached another process that got its number.
        if target.is_alive() { moved } else { Err(IoError::from_code(Code::DISCONNECTED)) }
    }
}

/// A call moved no bytes: the reason is its first page, or the process.
fn none_moved() -> Result<usize, IoError> {
    let error = io::Error::last_os_error();
    match error.raw_os_error() {
        Some(libc::EFAULT) => Ok(0),
        Some(libc::ESRCH) => Err(IoError::from_code(Code::DISCONNECTED)),
        _ => Err(error.into()),
    }
}
