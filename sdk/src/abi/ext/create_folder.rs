//! `pactio.create-folder/1`: folders can be made in a tree.

use super::{Answer, Capability};

/// Makes folders in a tree. A tree has it if it was opened for writing, and if it has folders of their own: those of an object
/// store exist as long as there are keys in them.
pub trait CreateFolder: Send + Sync {
    /// Makes the folder `name`, whose parent exists. Fails with [`Code::ALREADY_EXISTS`](crate::Code::ALREADY_EXISTS) if there is
    /// such a name. The answer may come later.
    fn create_folder(&self, name: &[u8], answer: Answer);
}

impl Capability {
    /// [`CreateFolder`].
    pub const CREATE_FOLDER: Self = Self::of_storage("pactio.create-folder/1", "make folders");
}

operation_on_name!(CreateFolder, CREATE_FOLDER, create_folder);
