//! `pactio.statistics/2`: the device counts its work.

use super::{Capability, Metric, Records};

/// Gives the figures that a device counts.
pub trait Statistics: Send + Sync {
    /// Gives the figures, in the order in which they should be shown. `from` is 0, or the cursor of the previous answer.
    fn statistics(&self, from: u64, figures: Records<Metric>);
}

impl Capability {
    /// [`Statistics`].
    pub const STATISTICS: Self = Self::of_handling("pactio.statistics/2", "statistics");
}

operation_of_records!(Statistics, STATISTICS, statistics, Metric);
