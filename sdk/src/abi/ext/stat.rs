//! `pactio.stat/1`: metadata of the stored bytes: kind, size, times, identity, version.

use core::fmt;
use std::time::SystemTime;

use super::field::{self, Fields, FieldsOf};
use super::record::Record;
use super::{Capability, Operation, Records};
use crate::{BoundPacketView, IoError, Write};

#[cfg(feature = "plugin")]
use super::extension::Operates;

/// Gives the metadata of the stored bytes.
///
/// A filter with the positions of the device below forwards this extension: its bytes change when the bytes below change. A
/// filter with another size, or with bytes that may change by themselves, gives its own size and version tag, and the identity of
/// the device below: [`Lower::stat_with`](crate::Lower::stat_with) does that.
pub trait Describe: Send + Sync {
    /// Answers with one record.
    fn stat(&self, answer: Records<Stat>);
}

impl Capability {
    /// [`Describe`].
    pub const STAT: Self = Self::of_storage("pactio.stat/1", "stat");
}

impl Operation for dyn Describe {
    const OPERATION: Capability = Capability::STAT;

    fn operate(&self, _: u64, _: &[u8], view: BoundPacketView<Write>) {
        self.stat(Records::new(view));
    }

    #[cfg(feature = "plugin")]
    fn of<T: Operates<Self> + 'static>(operates: &T) -> &Self {
        operates
    }
}

#[cfg(feature = "plugin")]
impl<T: Operates<dyn Describe> + ?Sized> Describe for T {
    fn stat(&self, answer: Records<Stat>) {
        self.operate(0, &[], answer.into_view());
    }
}

/// Metadata of stored bytes. Every field may be unknown.
///
/// ```
/// use pactio_sdk::{Kind, Stat};
///
/// let stat = Stat::of(Kind::FILE).with_size(4096).with_mode(0o644);
/// assert_eq!((stat.kind, stat.size), (Some(Kind::FILE), Some(4096)));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stat {
    /// The kind of object that holds the bytes.
    pub kind: Option<Kind>,
    /// Size in bytes.
    pub size: Option<u64>,
    /// When the bytes changed last.
    pub modified: Option<SystemTime>,
    /// When the bytes were read last.
    pub accessed: Option<SystemTime>,
    /// When the metadata changed last.
    pub changed: Option<SystemTime>,
    /// When the object was made.
    pub created: Option<SystemTime>,
    /// The storage that holds the bytes.
    pub identity: Option<Identity>,
    /// A tag that changes whenever the content does, such as the ETag of an object.
    pub version: Option<String>,
    /// The permission bits of the system: `0o644`.
    pub mode: Option<u32>,
    /// The media type, such as `text/plain`.
    pub content_type: Option<String>,
    /// The user's metadata: keys and values.
    pub metadata: Vec<(String, String)>,
}

/// The kind of object that holds stored bytes. Later versions can add constants without breaking a `match`.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Kind(u8);

impl Kind {
    /// A file, or an object of a store.
    pub const FILE: Self = Self(1);
    /// A folder: a tree of names.
    pub const FOLDER: Self = Self(2);
    /// A symbolic link that was not followed.
    pub const LINK: Self = Self(3);
    /// A pipe.
    pub const PIPE: Self = Self(4);
    /// A socket.
    pub const SOCKET: Self = Self(5);
    /// A character device, such as a terminal.
    pub const CHARACTER_DEVICE: Self = Self(6);
    /// A block device, such as a disk.
    pub const BLOCK_DEVICE: Self = Self(7);
    /// Memory: of this process, of another one, or of a dump.
    pub const MEMORY: Self = Self(8);

    /// The value as it crosses the boundary.
    pub const fn to_byte(self) -> u8 {
        self.0
    }

    /// The kind for a byte. Every byte has a kind; this version need not have a name for it.
    pub const fn from_byte(byte: u8) -> Self {
        Self(byte)
    }

    /// The kind in words.
    pub const fn text(self) -> &'static str {
        match self {
            Self::FILE => "file",
            Self::FOLDER => "folder",
            Self::LINK => "symbolic link",
            Self::PIPE => "pipe",
            Self::SOCKET => "socket",
            Self::CHARACTER_DEVICE => "character device",
            Self::BLOCK_DEVICE => "block device",
            Self::MEMORY => "memory",
            _ => "unknown to this version",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.text())
    }
}

impl fmt::Debug for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Kind({}: {})", self.0, self.text())
    }
}

/// The storage that holds bytes. Two devices with equal identities hold the same bytes: writing through one changes the other.
///
/// Devices that show a part of the stored bytes, or decode them, have the identity of the storage below.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Identity {
    /// A file of the local system.
    #[non_exhaustive]
    File {
        /// The number of its file system.
        device: u64,
        /// Its number in the file system.
        inode: u64,
    },
    /// A part of any other storage that keeps bytes under keys: an object of a store, the memory of a process.
    #[non_exhaustive]
    Stored {
        /// The storage, such as the address of a store and a bucket.
        store: String,
        /// The key in the storage.
        key: Vec<u8>,
    },
}

impl Identity {
    /// A file of the local system, by the numbers that the system gives it.
    pub const fn file(device: u64, inode: u64) -> Self {
        Self::File { device, inode }
    }

    /// A key of a store.
    pub fn stored(store: impl Into<String>, key: impl Into<Vec<u8>>) -> Self {
        Self::Stored { store: store.into(), key: key.into() }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { device, inode } => write!(f, "file {inode} of device {device}"),
            Self::Stored { store, key } => write!(f, "{store} {}", super::Name::show(key)),
        }
    }
}

impl Stat {
    /// Only the kind is known.
    pub fn of(kind: Kind) -> Self {
        Self { kind: Some(kind), ..Self::default() }
    }

    /// The same metadata with a size in bytes.
    #[must_use]
    pub fn with_size(self, size: u64) -> Self {
        Self { size: Some(size), ..self }
    }

    /// The same metadata with the storage that holds the bytes.
    #[must_use]
    pub fn with_identity(self, identity: Identity) -> Self {
        Self { identity: Some(identity), ..self }
    }

    /// The same metadata with a tag that changes whenever the content does.
    #[must_use]
    pub fn with_version(self, version: impl Into<String>) -> Self {
        Self { version: Some(version.into()), ..self }
    }

    /// The same metadata with the time when the bytes changed last.
    #[must_use]
    pub fn with_modified(self, modified: SystemTime) -> Self {
        Self { modified: Some(modified), ..self }
    }

    /// The same metadata with the permission bits of the system.
    #[must_use]
    pub fn with_mode(self, mode: u32) -> Self {
        Self { mode: Some(mode), ..self }
    }

    /// The object is a folder.
    pub fn is_folder(&self) -> bool {
        self.kind == Some(Kind::FOLDER)
    }

    /// The metadata of a file of the local system.
    pub fn of_file(metadata: &std::fs::Metadata) -> Self {
        let kind = metadata.file_type();
        let mut stat = Self {
            kind: Some(if kind.is_dir() {
                Kind::FOLDER
            } else if kind.is_symlink() {
                Kind::LINK
            } else {
                Kind::FILE
            }),
            size: kind.is_file().then_some(metadata.len()),
            modified: metadata.modified().ok(),
            accessed: metadata.accessed().ok(),
            created: metadata.created().ok(),
            ..Self::default()
        };
        #[cfg(unix)]
        {
            use std::os::unix::fs::{FileTypeExt, MetadataExt};
            use std::time::{Duration, UNIX_EPOCH};

            let special = [
                (kind.is_fifo(), Kind::PIPE),
                (kind.is_socket(), Kind::SOCKET),
                (kind.is_char_device(), Kind::CHARACTER_DEVICE),
                (kind.is_block_device(), Kind::BLOCK_DEVICE),
            ];
            if let Some((_, kind)) = special.into_iter().find(|(is, _)| *is) {
                stat.kind = Some(kind);
            }
            stat.mode = Some(metadata.mode() & 0o7777);
            stat.identity = Some(Identity::file(metadata.dev(), metadata.ino()));
            let (seconds, nanoseconds) = (metadata.ctime(), metadata.ctime_nsec() as u32);
            stat.changed = u64::try_from(seconds)
                .ok()
                .and_then(|seconds| UNIX_EPOCH.checked_add(Duration::new(seconds, nanoseconds)));
        }
        stat
    }
}

impl Stat {
    /// Writes the fields that are known: as a record, or as a part of an `Entry` or `Origin`.
    pub(super) fn write_fields(&self, fields: &mut Fields<'_>) {
        fields.optional(field::KIND, self.kind.map(|kind| kind.to_byte().into()));
        fields.optional(field::SIZE, self.size);
        let times = [
            (field::MODIFIED, self.modified),
            (field::ACCESSED, self.accessed),
            (field::CHANGED, self.changed),
            (field::CREATED, self.created),
        ];
        for (tag, time) in times {
            if let Some(time) = time {
                fields.time(tag, time);
            }
        }
        match &self.identity {
            None => {}
            Some(Identity::File { device, inode }) => {
                fields.integer(field::DEVICE, *device);
                fields.integer(field::INODE, *inode);
            }
            Some(Identity::Stored { store, key }) => {
                fields.bytes(field::STORE, store.as_bytes());
                fields.bytes(field::KEY, key);
            }
        }
        if let Some(version) = &self.version {
            fields.bytes(field::VERSION, version.as_bytes());
        }
        fields.optional(field::MODE, self.mode.map(u64::from));
        if let Some(content_type) = &self.content_type {
            fields.bytes(field::CONTENT_TYPE, content_type.as_bytes());
        }
        for (key, value) in &self.metadata {
            fields.bytes(field::METADATA, &[key.as_bytes(), b"\0", value.as_bytes()].concat());
        }
    }

    pub(super) fn read_fields(fields: FieldsOf<'_>) -> Self {
        let metadata = fields.iter().filter(|(tag, _)| *tag == field::METADATA).filter_map(|(_, value)| {
            let end = value.iter().position(|&byte| byte == 0)?;
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            Some((text(&value[..end]), text(&value[end + 1..])))
        });
        Self {
            kind: fields.integer(field::KIND).and_then(|kind| u8::try_from(kind).ok()).map(Kind),
            size: fields.integer(field::SIZE),
            modified: fields.time(field::MODIFIED),
            accessed: fields.time(field::ACCESSED),
            changed: fields.time(field::CHANGED),
            created: fields.time(field::CREATED),
            identity: identity_of(fields),
            version: fields.text(field::VERSION),
            mode: fields.integer(field::MODE).and_then(|mode| u32::try_from(mode).ok()),
            content_type: fields.text(field::CONTENT_TYPE),
            metadata: metadata.collect(),
        }
    }
}

fn identity_of(fields: FieldsOf<'_>) -> Option<Identity> {
    if let (Some(device), Some(inode)) = (fields.integer(field::DEVICE), fields.integer(field::INODE)) {
        return Some(Identity::file(device, inode));
    }
    Some(Identity::stored(fields.text(field::STORE)?, fields.bytes(field::KEY)?))
}

impl Record for Stat {
    fn write(&self, fields: &mut Fields<'_>) {
        self.write_fields(fields);
    }

    fn read(fields: FieldsOf<'_>) -> Result<Self, IoError> {
        Ok(Self::read_fields(fields))
    }
}
