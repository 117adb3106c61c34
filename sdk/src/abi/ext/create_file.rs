//! `pactio.create-file/1`: files can be made in a tree, if there is no such name yet.

use super::{Answer, Capability};

/// Makes empty files in a tree, each in one step: of several callers at the same time, one succeeds. A tree has it if it was
/// opened for writing.
pub trait CreateFile: Send + Sync {
    /// Makes the empty file `name`, whose folder exists. Fails with [`Code::ALREADY_EXISTS`](crate::Code::ALREADY_EXISTS) if there
    /// is such a name, and changes nothing then. The answer may come later.
    fn create_file(&self, name: &[u8], answer: Answer);
}

impl Capability {
    /// [`CreateFile`].
    pub const CREATE_FILE: Self = Self::of_storage("pactio.create-file/1", "make files");
}

operation_on_name!(CreateFile, CREATE_FILE, create_file);
