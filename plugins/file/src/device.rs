//! An open file.

use std::fs::File;
use std::ops::Range;
use std::sync::Arc;

use pactio_sdk::{
    Answer, BoundPacketView, Device, DeviceInfo, Error, Flush, FlushScope, Limits, Mapping, OpenMode, Read,
    ReadPacketObj, Records, Region, Resize, Write, WritePacketObj,
};
use rustix::fs::{SeekFrom, fdatasync, fsync, ftruncate, seek};
use rustix::io::{Errno, pread, pwrite};

use crate::pool::{Pool, THREADS};

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

    fn is_regular(&self) -> bool {
        self.file.metadata().is_ok_and(|metadata| metadata.is_file())
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

    fn limits(&self) -> Limits {
        Limits::NONE.with_zero_copy().with_in_flight(THREADS as u32 * 2)
    }

    fn flush(&self) -> Option<&dyn Flush> {
        self.mode.contains(OpenMode::WRITE).then_some(self)
    }

    fn resize(&self) -> Option<&dyn Resize> {
        (self.mode.contains(OpenMode::WRITE) && self.is_regular()).then_some(self)
    }

    fn mapping(&self) -> Option<&dyn Mapping> {
        self.is_regular().then_some(self)
    }
}

impl Flush for FileDevice {
    fn flush(&self, scope: FlushScope, answer: Answer) {
        let file = self.file.clone();
        self.pool.submit(move || {
            let flushed = match scope {
                FlushScope::Data => fdatasync(&file),
                FlushScope::All => fsync(&file),
            };
            answer.result(flushed.map_err(error));
        });
    }
}

impl Resize for FileDevice {
    fn resize(&self, size: u64, answer: Answer) {
        let file = self.file.clone();
        self.pool.submit(move || answer.result(ftruncate(&file, size).map_err(error)));
    }
}

impl Mapping for FileDevice {
    fn map(&self, from: u64, regions: Records<Region>) {
        let (file, mode) = (self.file.clone(), self.mode);
        self.pool.submit(move || map(&file, mode, from, regions));
    }
}

/// Answers with the parts of a file that are no holes.
fn map(file: &File, mode: OpenMode, from: u64, mut regions: Records<Region>) {
    let mut at = from;
    loop {
        let start = match seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            // There is only a hole behind it, or nothing.
            Err(Errno::NXIO) => return regions.complete(None),
            Err(errno) => return regions.error(error(errno)),
        };
        let end = match seek(file, SeekFrom::Hole(start)) {
            Ok(end) => end,
            // It was made shorter meanwhile.
            Err(Errno::NXIO) => return regions.complete(None),
            Err(errno) => return regions.error(error(errno)),
        };
        let region = Region {
            range: start..end,
            readable: mode.contains(OpenMode::READ),
            writable: mode.contains(OpenMode::WRITE),
            executable: false,
            name: String::new(),
        };
        if !regions.push(&region) {
            return regions.complete(Some(start));
        }
        at = end;
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
