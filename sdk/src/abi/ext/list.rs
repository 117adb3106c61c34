//! `pactio.list/2`: the device is a tree, and its folders can be listed.

use super::{Capability, Entry, Operation, Records};
use crate::{BoundPacketView, Write};

#[cfg(feature = "plugin")]
use super::extension::Operates;

/// Lists the folders of a tree.
///
/// A long list takes several answers. [`ListCursors`](super::ListCursors) keeps the rest of a list between two calls, so that all
/// answers are of one snapshot.
pub trait Listing: Send + Sync {
    /// Lists a folder. `folder` holds the names on the path, joined with `/`, and is empty for the root; names are bytes. `from`
    /// is 0, or the cursor of the previous answer.
    fn list(&self, folder: &[u8], from: u64, entries: Records<Entry>);
}

impl Capability {
    /// [`Listing`].
    pub const LIST: Self = Self::of_storage("pactio.list/2", "list");
}

impl Operation for dyn Listing {
    const OPERATION: Capability = Capability::LIST;

    fn operate(&self, number: u64, text: &[u8], view: BoundPacketView<Write>) {
        self.list(text, number, Records::new(view));
    }

    #[cfg(feature = "plugin")]
    fn of<T: Operates<Self> + 'static>(operates: &T) -> &Self {
        operates
    }
}

#[cfg(feature = "plugin")]
impl<T: Operates<dyn Listing> + ?Sized> Listing for T {
    fn list(&self, folder: &[u8], from: u64, entries: Records<Entry>) {
        self.operate(from, folder, entries.into_view());
    }
}
