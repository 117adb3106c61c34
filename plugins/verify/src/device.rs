//! A device whose reads are checked.

use std::sync::Arc;

use pactio_blocks::{Blocks, Reader};
use pactio_sdk::{
    BoundPacketView, Capability, DeviceInfo, ExtensionQuery, Filter, Limiting, Limits, Lower, Write,
};

use crate::hashes::Hashes;

/// See the [crate](crate).
pub(crate) struct VerifiedDevice(Reader<Hashes>);

impl VerifiedDevice {
    pub(crate) fn new(lower: Lower, hashes: Arc<Hashes>) -> Self {
        Self(Reader::new(lower, hashes))
    }
}

impl Filter for VerifiedDevice {
    const FORWARDS: &'static [Capability] = &[Capability::CANCELLATION, Capability::STAT, Capability::MAP];

    fn lower(&self) -> &Lower {
        self.0.lower()
    }

    fn info(&self, lower: DeviceInfo) -> DeviceInfo {
        // Bytes that were added after the hashes were made have no hash.
        let info = self.0.blocks().end().map_or(lower, DeviceInfo::with_size);
        info.read_only()
    }

    fn read(&self, position: u64, view: BoundPacketView<Write>) {
        self.0.read(position, view);
    }

    fn extensions<'d>(&'d self, query: &mut ExtensionQuery<'d>) {
        query.offer::<dyn Limiting>(self);
    }
}

impl Limiting for VerifiedDevice {
    /// Requests of any length and position are taken; the number in flight is that of the device below.
    fn limits(&self) -> Limits {
        match self.lower().limits().in_flight() {
            Some(count) => Limits::NONE.with_in_flight(count),
            None => Limits::NONE,
        }
    }
}
