//! `pactio.statistics/2`: the device counts its work.

use super::{Capability, Metric, Operation, Records};
use crate::{BoundPacketView, Write};

#[cfg(feature = "plugin")]
use super::extension::Operates;

/// Gives the figures that a device counts.
pub trait Statistics: Send + Sync {
    /// Gives the figures, in the order in which they should be shown. `from` is 0, or the cursor of the previous answer.
    fn statistics(&self, from: u64, figures: Records<Metric>);
}

impl Capability {
    /// [`Statistics`].
    pub const STATISTICS: Self = Self::of_handling("pactio.statistics/2", "statistics");
}

impl Operation for dyn Statistics {
    const OPERATION: Capability = Capability::STATISTICS;

    fn operate(&self, number: u64, _: &[u8], view: BoundPacketView<Write>) {
        self.statistics(number, Records::new(view));
    }

    #[cfg(feature = "plugin")]
    fn of<T: Operates<Self> + 'static>(operates: &T) -> &Self {
        operates
    }
}

#[cfg(feature = "plugin")]
impl<T: Operates<dyn Statistics> + ?Sized> Statistics for T {
    fn statistics(&self, from: u64, figures: Records<Metric>) {
        self.operate(from, &[], figures.into_view());
    }
}
