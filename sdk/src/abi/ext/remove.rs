//! `pactio.remove/1`: the names in a tree can be removed.

use super::{Answer, Capability};

/// Removes the names in a tree. A tree has it if it was opened for writing.
pub trait Remove: Send + Sync {
    /// Removes `name`: a file, or a folder without names in it. Fails with [`Code::NOT_FOUND`](crate::Code::NOT_FOUND) if there is
    /// no such name. The answer may come later.
    fn remove(&self, name: &[u8], answer: Answer);
}

impl Capability {
    /// [`Remove`].
    pub const REMOVE: Self = Self::of_storage("pactio.remove/1", "remove names");
}

operation_on_name!(Remove, REMOVE, remove);
