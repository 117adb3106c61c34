//! Reads headers of the device below while the filter is opened.

use std::io::{self, Read, Seek, SeekFrom};

use pactio_sdk::{BlockOn, IoRead, Lower, OpenError};

/// A position in the device. Reads block.
pub(crate) struct Reader<'a> {
    below: &'a Lower,
    position: u64,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(below: &'a Lower) -> Self {
        Self { below, position: 0 }
    }

    pub(crate) fn at(below: &'a Lower, position: u64) -> Self {
        Self { below, position }
    }

    /// The first bytes; zeros, where the device has none.
    pub(crate) fn magic(&mut self) -> Result<[u8; 16], OpenError> {
        let mut magic = [0; 16];
        let mut read = 0;
        while read < magic.len() {
            match self.read(&mut magic[read..]).map_err(OpenError::from)? {
                0 => break,
                count => read += count,
            }
        }
        self.position = 0;
        Ok(magic)
    }
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.below.read_raw(self.position, vec![0; buffer.len().min(1 << 20)]);
        let (report, bytes) = self.below.block_on(read)?;
        // Only the bytes before the first gap count.
        let count = report.done_ranges().next().filter(|done| done.start == 0).map_or(0, |done| done.end);
        if count == 0
            && let Some((_, error)) = report.min_error()
            && error != pactio_sdk::IoError::END
        {
            return Err(error.into());
        }
        buffer[..count].copy_from_slice(&bytes[..count]);
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for Reader<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let moved = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.below.info().size().and_then(|size| size.checked_add_signed(by)),
        };
        self.position = moved.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}
