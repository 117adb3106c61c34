//! What an archive says of a file in it.

use std::sync::OnceLock;

use pactio_sdk::{Kind, Stat};

/// What a file is.
pub(crate) enum Content {
    /// Its bytes as they are, in parts that follow each other.
    Stored(Vec<Extent>),
    /// A file of a zip archive.
    Zip(ZipFile),
}

/// Bytes of an archive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Extent {
    /// In which file of an archive that has several; the directory's own, if none is named.
    pub(crate) part: Option<u16>,
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

/// What the directory of a zip archive says of a file.
pub(crate) struct ZipFile {
    /// Where its header is.
    pub(crate) header: u64,
    /// Length of its name as it is written.
    pub(crate) name_len: u16,
    /// Where its bytes are, since the header was read.
    pub(crate) start: OnceLock<u64>,
    pub(crate) method: u16,
    pub(crate) packed: u64,
    pub(crate) size: u64,
    pub(crate) crc: u32,
    pub(crate) encrypted: bool,
}

impl Content {
    /// The record of the file, without the identity of what the archive is stored in.
    pub(crate) fn stat(&self) -> Stat {
        let file = Stat::of(Kind::FILE);
        match self {
            Self::Stored(extents) => file.with_size(extents.iter().map(|extent| extent.len).sum()),
            Self::Zip(zip) => file.with_size(zip.size).with_version(version(zip.crc)),
        }
    }
}

/// The version tag of a file with this checksum.
pub(crate) fn version(crc: u32) -> String {
    format!("crc32:{crc:08x}")
}

/// Bytes that files have, in one of the archive's files: from, and behind.
pub(crate) type Range = (Option<u16>, u64, u64);

/// Where two files have a byte in common: that makes a small archive that unpacks to a huge one.
pub(crate) fn overlap(mut ranges: Vec<Range>) -> Option<u64> {
    ranges.sort_unstable();
    let pair = ranges.windows(2).find(|pair| pair[0].0 == pair[1].0 && pair[0].2 > pair[1].1)?;
    Some(pair[1].1)
}
