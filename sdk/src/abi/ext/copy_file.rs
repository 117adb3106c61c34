//! `pactio.copy-file/1`: files of a tree are copied within it, without the host's help.

use super::rename::both_names;
use super::{Answer, Capability, Operation, RenameMode};
use crate::{BoundPacketView, Code, IoError, Write};

#[cfg(feature = "plugin")]
use super::extension::Operates;

/// Copies files within a tree: in a store on its servers, in a file system by sharing blocks where it can. A tree has it if it
/// was opened for writing.
pub trait CopyFile: Send + Sync {
    /// Copies the file `from` to the name `to`, whose folder exists. With [`RenameMode::Keep`], an existing name `to` is the
    /// error [`Code::ALREADY_EXISTS`](crate::Code::ALREADY_EXISTS), and nothing changes. `to` has the whole copy or what it was
    /// before. The answer may come later.
    fn copy_file(&self, from: &[u8], to: &[u8], mode: RenameMode, answer: Answer);
}

impl Capability {
    /// [`CopyFile`].
    pub const COPY_FILE: Self = Self::of_storage("pactio.copy-file/1", "copy files");
}

impl Operation for dyn CopyFile {
    const OPERATION: Capability = Capability::COPY_FILE;

    fn operate(&self, number: u64, text: &[u8], view: BoundPacketView<Write>) {
        match (RenameMode::from_raw(number), both_names(text)) {
            (None, _) => view.error(IoError::UNSUPPORTED),
            (_, None) => view.error(IoError::from_code(Code::INVALID_INPUT)),
            (Some(mode), Some((from, to))) => self.copy_file(from, to, mode, Answer::new(view)),
        }
    }

    #[cfg(feature = "plugin")]
    fn of<T: Operates<Self> + 'static>(operates: &T) -> &Self {
        operates
    }
}

#[cfg(feature = "plugin")]
impl<T: Operates<dyn CopyFile> + ?Sized> CopyFile for T {
    fn copy_file(&self, from: &[u8], to: &[u8], mode: RenameMode, answer: Answer) {
        // Names have no zero byte.
        self.operate(mode.to_raw(), &[from, &[0], to].concat(), answer.into_view());
    }
}
