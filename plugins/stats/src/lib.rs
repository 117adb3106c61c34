//! A filter that counts requests, bytes, errors and times: `file:/data/image | stats`. Its figures are the device's statistics.

use pactio_sdk::{
    Backend, Below, BoundPacketView, Counted, Counts, Device, DeviceInfo, Figure, OpenError, OpenRequest,
    Records, Statistics, Write,
};

struct Stats;

struct StatsDevice {
    counted: Counted<Below>,
    counts: Counts,
}

impl Backend for Stats {
    type Device = StatsDevice;

    fn open(&self, request: &OpenRequest<'_>) -> Result<StatsDevice, OpenError> {
        let counted = Counted::new(request.below()?);
        Ok(StatsDevice { counts: counted.counts(), counted })
    }
}

impl Device for StatsDevice {
    fn info(&self) -> DeviceInfo {
        self.counted.info()
    }

    fn below(&self) -> Option<&dyn Device> {
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

pactio_sdk::export_plugin! {
    id: "stats",
    description: "counts requests, bytes, errors and times",
    schemes: ["stats"],
    filter: Stats,
}
