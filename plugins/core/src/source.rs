//! The file with the dump: the device below, or a temporary file with the decompressed bytes of it.

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

use pactio_sdk::{BlockOn, BoundPacketView, IoError, IoRead, Lower, PacketIo, Write};

use crate::blocks::ReadAt;
use crate::local::LocalFile;

pub(crate) enum Source {
    Below(Lower),
    /// Was decompressed when the filter was opened.
    Unpacked(Arc<LocalFile>),
}

impl Source {
    /// Its size in bytes, if it is known. Files that the kernel generates on each read, such as the memory of a process, report
    /// 0.
    pub(crate) fn size(&self) -> Option<u64> {
        match self {
            Self::Below(below) => below.info().size().filter(|size| *size > 0),
            Self::Unpacked(file) => Some(file.size()),
        }
    }

    /// Answers a view with the bytes from `offset` on.
    pub(crate) fn send(&self, offset: u64, view: BoundPacketView<Write>) {
        match self {
            Self::Below(below) => below.send_io(offset, view),
            Self::Unpacked(file) => file.read(offset, view),
        }
    }

    /// The first bytes; fewer at the end.
    pub(crate) fn magic(&self) -> io::Result<Vec<u8>> {
        let mut magic = Vec::new();
        Reader::new(self).take(16).read_to_end(&mut magic)?;
        Ok(magic)
    }
}

impl ReadAt for Source {
    fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let below = match self {
            Self::Below(below) => below,
            Self::Unpacked(file) => return file.read_now(offset, len),
        };
        let (report, mut bytes) = below.block_on(below.read_raw(offset, vec![0; len]))?;
        // Only the bytes before the first gap count.
        let count = report.done_ranges().next().filter(|done| done.start == 0).map_or(0, |done| done.end);
        if count == 0
            && let Some((_, error)) = report.min_error()
            && error != IoError::END
        {
            return Err(error.into());
        }
        bytes.truncate(count);
        Ok(bytes)
    }
}

/// A position in the file. Reads block.
pub(crate) struct Reader<'a> {
    source: &'a Source,
    position: u64,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(source: &'a Source) -> Self {
        Self::at(source, 0)
    }

    pub(crate) fn at(source: &'a Source, position: u64) -> Self {
        Self { source, position }
    }
}

impl ReadAt for Reader<'_> {
    fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        self.source.read_at(offset, len)
    }
}

impl Read for Reader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let bytes = self.source.read_at(self.position, buffer.len().min(1 << 20))?;
        buffer[..bytes.len()].copy_from_slice(&bytes);
        self.position += bytes.len() as u64;
        Ok(bytes.len())
    }
}

impl Seek for Reader<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let moved = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
            SeekFrom::End(by) => self.source.size().and_then(|size| size.checked_add_signed(by)),
        };
        self.position = moved.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}
