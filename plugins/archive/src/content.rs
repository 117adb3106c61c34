//! What an archive says of a file in it.

use rawzip::ZipArchiveEntryWayfinder;

/// Something with a name in an archive.
pub(crate) struct Item {
    /// The names on the way, joined with '/'.
    pub(crate) name: String,
    pub(crate) content: Content,
}

/// What a name stands for.
pub(crate) enum Content {
    Folder,
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
    pub(crate) place: ZipArchiveEntryWayfinder,
    pub(crate) method: u16,
    pub(crate) packed: u64,
    pub(crate) size: u64,
    pub(crate) crc: u32,
    pub(crate) encrypted: bool,
}

impl Content {
    pub(crate) fn is_folder(&self) -> bool {
        matches!(self, Self::Folder)
    }

    /// Size in bytes of a file.
    pub(crate) fn size(&self) -> Option<u64> {
        match self {
            Self::Folder => None,
            Self::Stored(extents) => Some(extents.iter().map(|extent| extent.len).sum()),
            Self::Zip(file) => Some(file.size),
        }
    }
}
