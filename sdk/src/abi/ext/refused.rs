//! `pactio.refused/1`: a tree reports the entries that it hides, and why.

use super::{Capability, Operation, Records, Refused};
use crate::{BoundPacketView, Write};

#[cfg(feature = "plugin")]
use super::extension::Operates;

/// Reports the entries that a tree does not show, such as those of an archive with names that lead out of it.
pub trait Refusals: Send + Sync {
    /// Lists the hidden entries, in the order of the storage. `from` is 0, or the cursor of the previous answer.
    fn refused(&self, from: u64, entries: Records<Refused>);
}

impl Capability {
    /// [`Refusals`].
    pub const REFUSED: Self = Self::of_storage("pactio.refused/1", "report hidden entries");
}

impl Operation for dyn Refusals {
    const OPERATION: Capability = Capability::REFUSED;

    fn operate(&self, number: u64, _: &[u8], view: BoundPacketView<Write>) {
        self.refused(number, Records::new(view));
    }

    #[cfg(feature = "plugin")]
    fn of<T: Operates<Self> + 'static>(operates: &T) -> &Self {
        operates
    }
}

#[cfg(feature = "plugin")]
impl<T: Operates<dyn Refusals> + ?Sized> Refusals for T {
    fn refused(&self, from: u64, entries: Records<Refused>) {
        self.operate(from, &[], entries.into_view());
    }
}
