//! The record of a file in an archive.

use std::sync::OnceLock;

use pactio_sdk::{Kind, Stat};

/// The content of a file.
pub(crate) enum Content {
    /// Uncompressed bytes, in parts that follow each other, and their check sum if the archive has one.
    Stored { extents: Vec<Extent>, crc: Option<u32> },
    /// A file of a zip archive.
    Zip(ZipFile),
}

/// Bytes of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// Number of the file that holds them, if the archive has several; `None` for the directory's own file.
    pub(crate) part: Option<u16>,
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

/// The record of a file in the directory of a zip archive.
pub(crate) struct ZipFile {
    /// The position of the file's header.
    pub(crate) header: u64,
    /// The position of the file's bytes, known after the header was read.
    pub(crate) start: OnceLock<u64>,
    pub(crate) method: u16,
    pub(crate) packed: u64,
    pub(crate) size: u64,
    pub(crate) crc: u32,
    pub(crate) encrypted: bool,
    /// Sizes and check sum may follow the bytes instead of being in the header.
    pub(crate) described_behind: bool,
}

impl Content {
    /// The record of the file, without the identity of the archive's storage.
    pub(crate) fn stat(&self) -> Stat {
        let file = Stat::of(Kind::FILE);
        match self {
            Self::Stored { extents, crc } => {
                let mut file = file.with_size(extents.iter().map(|extent| extent.len).sum());
                file.version = crc.map(version);
                file
            }
            Self::Zip(zip) => file.with_size(zip.size).with_version(version(zip.crc)),
        }
    }
}

/// The version tag of a file with this checksum.
pub(crate) fn version(crc: u32) -> String {
    format!("crc32:{crc:08x}")
}

/// A range of bytes in one of the archive's files: the part, the first byte and the end.
pub(crate) type Range = (Option<u16>, u64, u64);

/// The position where two ranges overlap. With overlaps, a small archive could unpack to a huge size.
pub(crate) fn overlap(mut ranges: Vec<Range>) -> Option<u64> {
    ranges.sort_unstable();
    let pair = ranges.windows(2).find(|pair| pair[0].0 == pair[1].0 && pair[0].2 > pair[1].1)?;
    Some(pair[1].1)
}
