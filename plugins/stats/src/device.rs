//! A device that counts its requests, and reports the counts.

use pactio_sdk::{
    BoundPacketView, Capability, Counts, ExtensionQuery, Filter, Lower, Metric, NoPos, PacketIo, Read,
    ReadWrite, Records, RequestKind, Statistics, Write,
};

/// See the [crate](crate).
pub(crate) struct StatsDevice {
    lower: Lower,
    counts: Counts,
}

impl StatsDevice {
    pub(crate) fn new(lower: Lower) -> Self {
        Self { lower, counts: Counts::default() }
    }
}

impl Filter for StatsDevice {
    const FORWARDS: &'static [Capability] = &[
        Capability::CANCELLATION,
        Capability::ADMISSION,
        Capability::LIMITS,
        Capability::STAT,
        Capability::FLUSH,
        Capability::PUBLISH,
        Capability::RESIZE,
        Capability::ZERO,
        Capability::MAP,
        Capability::LIST,
        Capability::PROVENANCE,
        Capability::REFUSED,
    ];

    fn lower(&self) -> &Lower {
        &self.lower
    }

    fn read(&self, position: u64, view: BoundPacketView<Write>) {
        self.counts.pass(RequestKind::Read, view, |view| self.lower.send_io(position, view));
    }

    fn write(&self, position: u64, view: BoundPacketView<Read>) {
        self.counts.pass(RequestKind::Write, view, |view| self.lower.send_io(position, view));
    }

    fn exchange(&self, position: u64, view: BoundPacketView<ReadWrite>) {
        self.counts.pass(RequestKind::Exchange, view, |view| self.lower.send_io(position, view));
    }

    fn read_next(&self, view: BoundPacketView<Write>) {
        self.counts.pass(RequestKind::Read, view, |view| self.lower.send_io(NoPos, view));
    }

    fn write_next(&self, view: BoundPacketView<Read>) {
        self.counts.pass(RequestKind::Write, view, |view| self.lower.send_io(NoPos, view));
    }

    fn extensions<'d>(&'d self, query: &mut ExtensionQuery<'d>) {
        query.offer::<dyn Statistics>(self);
    }
}

impl Statistics for StatsDevice {
    fn statistics(&self, from: u64, figures: Records<Metric>) {
        figures.complete_from(from, self.counts.figures());
    }
}
