//! `pactio.create-file/1`: files can be made in a tree, if there is no such name yet.

use super::{Answer, Capability, Operation};
use crate::{BoundPacketView, Write};

#[cfg(feature = "plugin")]
use super::extension::Operates;

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

impl Operation for dyn CreateFile {
    const OPERATION: Capability = Capability::CREATE_FILE;

    fn operate(&self, _: u64, text: &[u8], view: BoundPacketView<Write>) {
        self.create_file(text, Answer::new(view));
    }

    #[cfg(feature = "plugin")]
    fn of<T: Operates<Self> + 'static>(operates: &T) -> &Self {
        operates
    }
}

#[cfg(feature = "plugin")]
impl<T: Operates<dyn CreateFile> + ?Sized> CreateFile for T {
    fn create_file(&self, name: &[u8], answer: Answer) {
        self.operate(0, name, answer.into_view());
    }
}
