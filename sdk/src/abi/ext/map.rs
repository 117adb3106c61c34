//! `pactio.map/2`: the device says which of its positions exist.

use super::{Capability, Operation, Records, Region};
use crate::{BoundPacketView, Write};

#[cfg(feature = "plugin")]
use super::extension::Operates;

/// Lists the ranges of positions that exist: of a file with holes, or of the memory of a process.
pub trait Mapping: Send + Sync {
    /// Lists the regions in order. `from` is 0, or the cursor of the previous answer. Cursors are positions, and a region may
    /// begin before the cursor.
    fn map(&self, from: u64, regions: Records<Region>);
}

impl Capability {
    /// [`Mapping`].
    pub const MAP: Self = Self::of_storage("pactio.map/2", "regions");
}

impl Operation for dyn Mapping {
    const OPERATION: Capability = Capability::MAP;

    fn operate(&self, number: u64, _: &[u8], view: BoundPacketView<Write>) {
        self.map(number, Records::new(view));
    }

    #[cfg(feature = "plugin")]
    fn of<T: Operates<Self> + 'static>(operates: &T) -> &Self {
        operates
    }
}

#[cfg(feature = "plugin")]
impl<T: Operates<dyn Mapping> + ?Sized> Mapping for T {
    fn map(&self, from: u64, regions: Records<Region>) {
        self.operate(from, &[], regions.into_view());
    }
}
