//! `pactio.remove/1`: the names in a tree can be removed.

use super::{Answer, Capability, Operation};
use crate::{BoundPacketView, Write};

#[cfg(feature = "plugin")]
use super::extension::Operates;

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

impl Operation for dyn Remove {
    const OPERATION: Capability = Capability::REMOVE;

    fn operate(&self, _: u64, text: &[u8], view: BoundPacketView<Write>) {
        self.remove(text, Answer::new(view));
    }

    #[cfg(feature = "plugin")]
    fn of<T: Operates<Self> + 'static>(operates: &T) -> &Self {
        operates
    }
}

#[cfg(feature = "plugin")]
impl<T: Operates<dyn Remove> + ?Sized> Remove for T {
    fn remove(&self, name: &[u8], answer: Answer) {
        self.operate(0, name, answer.into_view());
    }
}
