//! A device that counts, and tells.

use pactio_sdk::{
    BackendDevice, BoundPacketView, Counted, Counts, DeviceInfo, Figure, Lower, Records, Statistics, Write,
};

/// See the [crate](crate).
pub(crate) struct StatsDevice {
    counted: Counted<Lower>,
    counts: Counts,
}

impl StatsDevice {
    pub(crate) fn new(below: Lower) -> Self {
        let counted = Counted::new(below);
        Self { counts: counted.counts(), counted }
    }
}

impl BackendDevice for StatsDevice {
    fn info(&self) -> DeviceInfo {
        self.counted.info()
    }

    fn below(&self) -> Option<&dyn BackendDevice> {
        Some(&self.counted)
    }

    fn read(&self, position: u64, view: BoundPacketView<Write>) {
        self.counted.read(position, view);
    }

    fn statistics(&self) -> Option<&dyn Statistics> {
        Some(self)
    }
}

impl Statistics for StatsDevice {
    fn statistics(&self, from: u64, figures: Records<Figure>) {
        figures.complete_from(from, self.counts.figures());
    }
}
