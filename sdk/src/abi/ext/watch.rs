//! `pactio.watch/1`: a tree tells the changes of its names.

use super::field::{self, Fields, FieldsOf};
use super::record::Record;
use super::{Capability, Name, Records};
use crate::{Code, IoError};

/// Tells the changes of a tree, at any depth. [`ChangeLog`](super::ChangeLog) does most of the work.
pub trait Watch: Send + Sync {
    /// Gives the changes behind a cursor, at least one: the answer comes when there is one. Every answer has a cursor for the
    /// next call. `from` is the cursor of an earlier answer, or 0 to begin: then the answer comes once the tree is watched, with
    /// a cursor and no change.
    ///
    /// Where changes were lost, such as those of a slow caller, the answer has [`ChangeKind::Missed`].
    fn watch(&self, from: u64, changes: Records<Change>);
}

impl Capability {
    /// [`Watch`].
    pub const WATCH: Self = Self::of_storage("pactio.watch/1", "tell changes");
}

operation_of_records!(Watch, WATCH, watch, Change);

/// A change of a name in a tree.
///
/// ```
/// use pactio_sdk::{Change, ChangeKind};
///
/// let change = Change::new(ChangeKind::Made, "music/new.ogg");
/// assert_eq!(change.to_string(), "made 'music/new.ogg'");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Change {
    /// What happened.
    pub kind: ChangeKind,
    /// The name, from the root of the tree, joined with `/`. Empty for the tree itself.
    pub name: Name,
}

/// What happened to a name. A name that was changed to another one was removed, and the other one was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChangeKind {
    /// The name is new, or stands for something else now. A folder may have had names in it from the beginning, which are not
    /// told: list it.
    Made,
    /// The bytes or the metadata changed.
    Modified,
    /// The name is gone, with all names in it.
    Removed,
    /// Changes were lost: any name may have changed. List the tree.
    Missed,
}

impl ChangeKind {
    /// The kind in a word.
    pub const fn text(self) -> &'static str {
        match self {
            Self::Made => "made",
            Self::Modified => "modified",
            Self::Removed => "removed",
            Self::Missed => "missed",
        }
    }
}

impl Change {
    /// A change of a name.
    pub fn new(kind: ChangeKind, name: impl Into<Name>) -> Self {
        Self { kind, name: name.into() }
    }

    /// Changes were lost.
    pub fn missed() -> Self {
        Self::new(ChangeKind::Missed, "")
    }
}

impl core::fmt::Display for Change {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self.kind {
            ChangeKind::Missed => f.write_str("changes were missed"),
            kind => write!(f, "{} '{}'", kind.text(), self.name),
        }
    }
}

impl Record for Change {
    fn write(&self, fields: &mut Fields<'_>) {
        let kind = match self.kind {
            ChangeKind::Missed => 0,
            ChangeKind::Made => 1,
            ChangeKind::Modified => 2,
            ChangeKind::Removed => 3,
        };
        fields.integer(field::CHANGE, kind);
        fields.bytes(field::NAME, &self.name);
    }

    fn read(fields: FieldsOf<'_>) -> Result<Self, IoError> {
        let kind = match fields.integer(field::CHANGE).ok_or(IoError::from_code(Code::CORRUPT))? {
            1 => ChangeKind::Made,
            2 => ChangeKind::Modified,
            3 => ChangeKind::Removed,
            // A kind of a later version: the caller has to look.
            _ => ChangeKind::Missed,
        };
        Ok(Self { kind, name: fields.bytes(field::NAME).unwrap_or_default().into() })
    }
}
