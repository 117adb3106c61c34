//! Reads directories and headers of what is below. It waits, so it is for opening only.

use std::io;

use pactio_sdk::{Below, Code, IoRead};
use rawzip::ReaderAt;

/// A device below.
#[derive(Clone, Debug)]
pub(crate) struct Reader(pub(crate) Below);

/// More is not asked for at once.
const LARGEST: usize = 1 << 20;

impl ReaderAt for Reader {
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        let len = buffer.len().min(LARGEST);
        if len == 0 {
            return Ok(0);
        }
        let (report, bytes) = pollster::block_on(self.0.read_raw(offset, vec![0; len]))?;
        // What is behind a gap is not there yet.
        let count = report.done_ranges().next().filter(|done| done.start == 0).map_or(0, |done| done.end);
        match report.min_error() {
            Some((0, error)) if error.code() != Code::End => Err(error.into()),
            _ => {
                buffer[..count].copy_from_slice(&bytes[..count]);
                Ok(count)
            }
        }
    }
}

/// So many bytes from a position.
///
/// # Errors
///
/// If they are not all there.
pub(crate) fn read(reader: &impl ReaderAt, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; len];
    reader.read_exact_at(&mut bytes, offset)?;
    Ok(bytes)
}
