//! `pactio.rename/1`: the names in a tree can be changed.

use super::{Answer, Capability};

/// Renames the names in a tree. A tree has it if it was opened for writing.
pub trait Rename: Send + Sync {
    /// Renames `from` to `to` within the tree. With [`RenameMode::Keep`], an existing name `to` is the error
    /// [`Code::ALREADY_EXISTS`](crate::Code::ALREADY_EXISTS), and nothing changes. The answer may come later.
    fn rename(&self, from: &[u8], to: &[u8], mode: RenameMode, answer: Answer);
}

/// The treatment of a name that exists, when a file is renamed or copied to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RenameMode {
    /// It stays, and the operation fails.
    Keep,
    /// It is replaced.
    Replace,
}

impl Capability {
    /// [`Rename`].
    pub const RENAME: Self = Self::of_storage("pactio.rename/1", "rename");
}

operation_on_two_names!(Rename, RENAME, rename);

/// Splits the text of an operation into two names, with a zero byte between them. Names have no zero byte.
pub(super) fn both_names(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let end = text.iter().position(|byte| *byte == 0)?;
    Some((&text[..end], &text[end + 1..]))
}

impl RenameMode {
    /// The mode for a number that crossed the boundary.
    pub(super) fn from_raw(number: u64) -> Option<Self> {
        match number {
            0 => Some(Self::Keep),
            1 => Some(Self::Replace),
            _ => None,
        }
    }

    /// The number that crosses the boundary.
    #[doc(hidden)]
    pub fn to_raw(self) -> u64 {
        match self {
            Self::Keep => 0,
            Self::Replace => 1,
        }
    }
}
