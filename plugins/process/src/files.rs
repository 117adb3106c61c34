//! The files of `/proc/PID` through which the memory of a process is examined. Each stays with the memory that the process had
//! when the file was opened: a program that replaces itself (`exec`) gets new memory, and the files are opened again.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;

use crate::target::Target;

/// The files, each opened when it is first used. `None`, where the system does not permit it.
#[derive(Default)]
pub(crate) struct ProcFiles {
    mem: OnceLock<Option<File>>,
    maps: OnceLock<Option<File>>,
    pagemap: OnceLock<Option<File>>,
}

/// Why the file `mem` gave no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unread {
    /// The process has ended, or has other memory now.
    Gone,
    /// The system does not permit it, or not for this address.
    Unusable,
}

impl ProcFiles {
    fn open<'f>(file: &'f OnceLock<Option<File>>, target: &Target, name: &str) -> io::Result<&'f File> {
        if let Some(opened) = file.get() {
            return opened.as_ref().ok_or_else(|| io::ErrorKind::PermissionDenied.into());
        }
        let opened = match File::open(format!("/proc/{}/{name}", target.pid())) {
            // Another process may have the number; if this one lives after the file was opened, the file is its own.
            Ok(_) if !target.is_alive() => return Err(io::ErrorKind::NotFound.into()),
            Ok(opened) => Some(opened),
            Err(error)
                if matches!(error.kind(), io::ErrorKind::PermissionDenied | io::ErrorKind::NotFound) =>
            {
                None
            }
            // It may be there next time.
            Err(error) => return Err(error),
        };
        file.get_or_init(|| opened).as_ref().ok_or_else(|| io::ErrorKind::PermissionDenied.into())
    }

    /// The memory of these files is gone: the process has ended, or has replaced its program.
    pub(crate) fn is_stale(&self, target: &Target) -> bool {
        let mut entry = [0; 8];
        // The first entry exists as long as the memory does.
        self.pagemap(target).is_ok_and(|pagemap| pagemap.read_at(&mut entry, 0).is_ok_and(|count| count == 0))
    }

    /// Reads up to `len` bytes, also of pages that the process itself may not read. Gives the number of bytes before the first
    /// page that cannot be read.
    ///
    /// # Errors
    ///
    /// If this memory is gone, or the file cannot be used.
    ///
    /// # Safety
    ///
    /// `memory` is valid for writes of `len` bytes.
    pub(crate) unsafe fn read(
        &self,
        target: &Target,
        address: u64,
        memory: *mut u8,
        len: usize,
    ) -> Result<usize, Unread> {
        let file = Self::open(&self.mem, target, "mem").map_err(|_| Unread::Unusable)?;
        // The kernel takes every address for the memory of a process.
        let offset = address.cast_signed();
        // SAFETY: the descriptor is open, and the caller promises that the memory is valid.
        let count = unsafe { libc::pread(file.as_raw_fd(), memory.cast(), len, offset) };
        match usize::try_from(count) {
            Ok(0) => Err(Unread::Gone),
            Ok(count) => Ok(count),
            Err(_) if io::Error::last_os_error().raw_os_error() == Some(libc::EIO) => Ok(0),
            Err(_) => Err(Unread::Unusable),
        }
    }

    /// The map, to be asked for single addresses.
    pub(crate) fn maps(&self, target: &Target) -> io::Result<&File> {
        Self::open(&self.maps, target, "maps")
    }

    /// The state of each page.
    pub(crate) fn pagemap(&self, target: &Target) -> io::Result<&File> {
        Self::open(&self.pagemap, target, "pagemap")
    }
}

/// A call on a file with a structure that the kernel reads and writes.
///
/// # Errors
///
/// The error of the call.
///
/// # Safety
///
/// `request` is a call that takes a `T`, and whose other pointers, which are in `argument`, are valid for it.
pub(crate) unsafe fn control<T>(file: &File, request: libc::c_ulong, argument: &mut T) -> io::Result<usize> {
    loop {
        // SAFETY: the descriptor is open, and the caller promises that the call takes this structure.
        let result = unsafe { libc::ioctl(file.as_raw_fd(), request, std::ptr::from_mut(argument)) };
        if let Ok(result) = usize::try_from(result) {
            return Ok(result);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}
