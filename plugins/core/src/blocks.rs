//! The interface of dumps that are compressed in blocks. The unpacked bytes of all blocks in order are the bytes that segments
//! are places in.

use std::io;
use std::ops::Range;

use crate::segments::Segment;

/// Bytes at positions.
pub(crate) trait ReadAt {
    /// At most `len` bytes from `offset` on; fewer at the end.
    fn read_at(&self, offset: u64, len: usize) -> io::Result<Vec<u8>>;
}

/// A dump that is compressed in blocks.
pub(crate) struct Packed {
    pub(crate) segments: Vec<Segment>,
    pub(crate) blocks: Box<dyn Blocks>,
    /// Number of bytes of memory that the headers promise and the file does not have.
    pub(crate) lost: u64,
}

pub(crate) trait Blocks: Send + Sync {
    /// The block with the unpacked byte at `offset`, as a range of unpacked bytes; `None` behind the last.
    fn find(&self, offset: u64) -> Option<Range<u64>>;

    /// Unpacks a block.
    ///
    /// # Errors
    ///
    /// If the file cannot be read.
    fn unpack(&self, file: &dyn ReadAt, block: &Range<u64>) -> io::Result<Unpacked>;
}

/// An unpacked block.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Unpacked {
    pub(crate) bytes: Vec<u8>,
    /// Ranges of the bytes that are damaged in the file, in order.
    pub(crate) damaged: Vec<Range<usize>>,
}

impl Unpacked {
    /// Adds bytes, or `len` damaged ones.
    pub(crate) fn push(&mut self, bytes: Option<&[u8]>, len: usize) {
        let start = self.bytes.len();
        match bytes.filter(|bytes| bytes.len() == len) {
            Some(bytes) => self.bytes.extend_from_slice(bytes),
            None => {
                self.bytes.resize(start + len, 0);
                self.damaged.push(start..start + len);
            }
        }
    }
}
