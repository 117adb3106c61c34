//! `pactio.map/2`: the device says which of its positions exist.

use super::{Capability, Records, Region};

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

operation_of_records!(Mapping, MAP, map, Region);
