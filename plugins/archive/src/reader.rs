//! Reads directories and headers from the device below. The reads block, so only opening uses them.

use std::cell::Cell;
use std::io;

use pactio_sdk::{BlockOn, Code, IoError, IoRead, Lower};
use rawzip::ReaderAt;

use crate::failure::below;

/// A device below.
#[derive(Clone, Debug)]
pub(crate) struct Reader(pub(crate) Lower);

/// Maximum length of one read.
const LARGEST: usize = 1 << 20;

impl ReaderAt for Reader {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let len = buffer.len().min(LARGEST);
        if len == 0 {
            return Ok(0);
        }
        let (report, bytes) = self.0.block_on(self.0.read_raw(offset, vec![0; len]))?;
        // Only the bytes before the first gap count.
        let count = report.done_ranges().next().filter(|done| done.start == 0).map_or(0, |done| done.end);
        match report.min_error() {
            // A failure further behind is left to the next read, which begins there. At the end of the device, the count is
            // 0.
            Some((0, error)) if error.code() != Code::END => Err(error.into()),
            _ => {
                buffer[..count].copy_from_slice(&bytes[..count]);
                Ok(count)
            }
        }
    }
}

/// Reads `len` bytes from a position.
///
/// # Errors
///
/// If not all of them can be read.
pub(crate) fn read(reader: &impl ReaderAt, offset: u64, len: usize) -> Result<Vec<u8>, IoError> {
    let mut bytes = vec![0; len];
    reader.read_exact_at(&mut bytes, offset).map_err(|error| below(&error))?;
    Ok(bytes)
}

/// A reader that has read the end of the archive in one request: most lookups are there. The reader keeps the first failure,
/// because some callers do not report it.
pub(crate) struct Tail<'r, R> {
    reader: &'r R,
    start: u64,
    end: Vec<u8>,
    failed: Cell<Option<IoError>>,
    /// The position at which the archive begins: other positions are relative to it.
    base: Cell<u64>,
}

impl<'r, R: ReaderAt> Tail<'r, R> {
    /// Length of the end that is read in one request: more than the end record of a zip archive with the longest comment.
    const LONGEST: u64 = 128 << 10;

    pub(crate) fn new(reader: &'r R, size: u64) -> Result<Self, IoError> {
        let start = size.saturating_sub(Self::LONGEST);
        let end = read(reader, start, (size - start) as usize)?;
        Ok(Self { reader, start, end, failed: Cell::default(), base: Cell::new(0) })
    }

    /// The position at which the archive begins: other positions are relative to it.
    pub(crate) fn base(&self) -> u64 {
        self.base.get()
    }

    pub(crate) fn set_base(&self, base: u64) {
        self.base.set(base);
    }

    /// The first failure.
    pub(crate) fn failed(&self) -> Option<IoError> {
        self.failed.get()
    }
}

impl<R: ReaderAt> ReaderAt for Tail<'_, R> {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let offset = offset.saturating_add(self.base.get());
        if let Some(skip) = offset.checked_sub(self.start) {
            let rest = usize::try_from(skip).ok().and_then(|skip| self.end.get(skip..)).unwrap_or_default();
            let count = rest.len().min(buffer.len());
            buffer[..count].copy_from_slice(&rest[..count]);
            return Ok(count);
        }
        self.reader.read_at(buffer, offset).inspect_err(|error| {
            self.failed.set(self.failed.get().or_else(|| Some(below(error))));
        })
    }
}
