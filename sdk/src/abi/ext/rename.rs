//! `pactio.rename/1`: the names in a tree can be changed.

use super::{Answer, Capability, Operation};
use crate::{BoundPacketView, Code, IoError, Write};

#[cfg(feature = "plugin")]
use super::extension::Operates;

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

impl Operation for dyn Rename {
    const OPERATION: Capability = Capability::RENAME;

    fn operate(&self, number: u64, text: &[u8], view: BoundPacketView<Write>) {
        match (RenameMode::from_raw(number), both_names(text)) {
            (None, _) => view.error(IoError::UNSUPPORTED),
            (_, None) => view.error(IoError::from_code(Code::INVALID_INPUT)),
            (Some(mode), Some((from, to))) => self.rename(from, to, mode, Answer::new(view)),
        }
    }

    #[cfg(feature = "plugin")]
    fn of<T: Operates<Self> + 'static>(operates: &T) -> &Self {
        operates
    }
}

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

#[cfg(feature = "plugin")]
impl<T: Operates<dyn Rename> + ?Sized> Rename for T {
    fn rename(&self, from: &[u8], to: &[u8], mode: RenameMode, answer: Answer) {
        // Names have no zero byte.
        self.operate(mode.to_raw(), &[from, &[0], to].concat(), answer.into_view());
    }
}
