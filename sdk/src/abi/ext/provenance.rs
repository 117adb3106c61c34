//! `pactio.provenance/2`: a tree that is made of several sources tells where a name comes from.

use super::{Capability, Operation, Origin, Records};
use crate::{BoundPacketView, Write};

#[cfg(feature = "plugin")]
use super::extension::Operates;

/// Tells which sources of a tree have a name.
pub trait Provenance: Send + Sync {
    /// Lists the sources that have the name, in the order in which they are looked up: the first serves the name and hides the
    /// rest. `from` is 0, or the cursor of the previous answer.
    fn provenance(&self, name: &[u8], from: u64, origins: Records<Origin>);
}

impl Capability {
    /// [`Provenance`].
    pub const PROVENANCE: Self = Self::of_storage("pactio.provenance/2", "say where names come from");
}

impl Operation for dyn Provenance {
    const OPERATION: Capability = Capability::PROVENANCE;

    fn operate(&self, number: u64, text: &[u8], view: BoundPacketView<Write>) {
        self.provenance(text, number, Records::new(view));
    }

    #[cfg(feature = "plugin")]
    fn of<T: Operates<Self> + 'static>(operates: &T) -> &Self {
        operates
    }
}

#[cfg(feature = "plugin")]
impl<T: Operates<dyn Provenance> + ?Sized> Provenance for T {
    fn provenance(&self, name: &[u8], from: u64, origins: Records<Origin>) {
        self.operate(from, name, origins.into_view());
    }
}
