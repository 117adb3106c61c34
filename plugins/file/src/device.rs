//! An open file.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use pactio_sdk::{
    BoundPacketView, Device, DeviceInfo, Error, OpenMode, Read, ReadPacketObj, Write, WritePacketObj,
};
use rustix::fs::{SeekFrom, seek};
use rustix::io::{Errno, pread, pwrite};

use crate::pool::Pool;

/// A file and the threads that do its I/O.
pub(crate) struct FileDevice {
    file: Arc<File>,
    mode: OpenMode,
    pool: Arc<Pool>,
}

impl FileDevice {
    pub(crate) fn new(file: File, mode: OpenMode, pool: Arc<Pool>) -> Self {
        Self { file: Arc::new(file), mode, pool }
    }

    /// Size now; `None` for devices without an end.
    fn size(&self) -> Option<u64> {
        use std::os::unix::fs::FileTypeExt;
        let metadata = self.file.metadata().ok()?;
        if metadata.is_file() {
            Some(metadata.len())
        } else if metadata.file_type().is_block_device() {
            // All I/O is positioned, so nobody depends on where this leaves the file.
            seek(&self.file, SeekFrom::End(0)).ok()
        } else {
            None
        }
    }
}

impl Device for FileDevice {
    fn info(&self) -> DeviceInfo {
        let info = self.size().map_or(DeviceInfo::endless(), DeviceInfo::with_size);
        let info = if self.mode.contains(OpenMode::WRITE) { info } else { info.read_only() };
        if self.mode.contains(OpenMode::READ) { info } else { info.write_only() }
    }

    fn read(&self, position: u64, view: BoundPacketView<Write>) {
        let file = self.file.clone();
        self.pool.submit(move || match view.try_alloc(1) {
            Ok(bytes) => read(&file, position, bytes),
            Err(view) => {
                let mut copy = vec![0; view.len()];
                let (count, reason) = read_slice(&file, position, &mut copy);
                view.transfer_data(&copy[..count]).complete_with(count, reason);
            }
        });
    }

    fn write(&self, position: u64, view: BoundPacketView<Read>) {
        let file = self.file.clone();
        self.pool.submit(move || match view.try_alloc(1) {
            Ok(bytes) => write(&file, position, bytes),
            Err(view) => {
                let mut copy = vec![0; view.len()];
                let transferred = view.transfer_data(&mut copy);
                let (count, reason) = write_slice(&file, position, &copy);
                transferred.complete_with(count, reason);
            }
        });
    }
}

fn error(errno: Errno) -> Error {
    std::io::Error::from(errno).into()
}

/// Fills `bytes` from the file.
fn read(file: &File, position: u64, mut bytes: WritePacketObj) {
    let (_, reason) = transfer(bytes.len(), position, Error::END, |part, at| {
        // SAFETY: the system only writes data there.
        let unfilled = unsafe { bytes.unfilled_uninit() };
        let count = pread(file, &mut unfilled[..part.len()], at)?.0.len();
        // SAFETY: the system wrote so many bytes at the start of the unfilled part.
        unsafe { bytes.advance_unchecked(count) };
        Ok(count)
    });
    bytes.complete_with(reason);
}

fn read_slice(file: &File, position: u64, to: &mut [u8]) -> (usize, Error) {
    transfer(to.len(), position, Error::END, |part, at| pread(file, &mut to[part], at))
}

/// Writes `bytes` to the file.
fn write(file: &File, position: u64, bytes: ReadPacketObj) {
    let (count, reason) = write_slice(file, position, &bytes);
    bytes.complete_with(count, reason);
}

fn write_slice(file: &File, position: u64, from: &[u8]) -> (usize, Error) {
    transfer(from.len(), position, Error::TOO_LARGE, |part, at| pwrite(file, &from[part], at))
}

/// Calls `step` with the part that is not done and its position in the file, until `len` bytes are done; goes on after
/// short and interrupted calls. Gives the number of bytes that are done, and why there are no more: `end` where the system
/// moves none, and where its positions end.
fn transfer(
    len: usize,
    position: u64,
    end: Error,
    mut step: impl FnMut(Range<usize>, u64) -> Result<usize, Errno>,
) -> (usize, Error) {
    let mut done = 0;
    while done < len {
        let at = position.saturating_add(done as u64);
        let room = usize::try_from((i64::MAX as u64).saturating_sub(at)).unwrap_or(usize::MAX);
        if room == 0 {
            return (done, end);
        }
        match step(done..len.min(done.saturating_add(room)), at) {
            Ok(0) => return (done, end),
            Ok(count) => done += count,
            Err(Errno::INTR) => {}
            Err(errno) => return (done, error(errno)),
        }
    }
    (done, end)
}
