//! What an archive says of a file in it.

use std::sync::OnceLock;

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
    /// Size in bytes.
    pub(crate) fn size(&self) -> u64 {
        match self {
            Self::Stored(extents) => extents.iter().map(|extent| extent.len).sum(),
            Self::Zip(file) => file.size,
        }
    }
}

/// Bytes that files have, in one of the archive's files: from, and behind.
pub(crate) type Range = (Option<u16>, u64, u64);

/// Where two files have a byte in common: that makes a small archive that unpacks to a huge one.
pub(crate) fn overlap(mut ranges: Vec<Range>) -> Option<u64> {
    ranges.sort_unstable();
    let pair = ranges.windows(2).find(|pair| pair[0].0 == pair[1].0 && pair[0].2 > pair[1].1)?;
    Some(pair[1].1)
}
