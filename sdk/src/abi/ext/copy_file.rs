//! `pactio.copy-file/1`: files of a tree are copied within it, without the host's help.

use super::{Answer, Capability, RenameMode};

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

operation_on_two_names!(CopyFile, COPY_FILE, copy_file);
