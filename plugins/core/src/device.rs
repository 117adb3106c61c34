//! Memory at its addresses.

use std::sync::Arc;

use pactio_sdk::{
    BackendDevice, BoundPacketView, Capability, Code, Describe, DeviceInfo, ExtensionQuery, IoError, Kind,
    Lower, Mapping, Records, Region, Stat, Write,
};

use crate::files::Files;
use crate::segments::{Place, Segments};
use crate::source::Source;
use crate::unpack::Unpacker;

/// Each read is sent to its range of the file below, without a copy, or to the threads that unpack it.
pub(crate) struct CoreDevice {
    pub(crate) source: Arc<Source>,
    /// Unpacks the file, if its memory is compressed in blocks.
    pub(crate) unpacker: Option<Unpacker>,
    pub(crate) segments: Segments,
    pub(crate) files: Files,
}

impl CoreDevice {
    /// The device below, if requests are sent on to it.
    fn below(&self) -> Option<&Lower> {
        match &*self.source {
            Source::Below(below) if self.unpacker.is_none() => Some(below),
            _ => None,
        }
    }
}

impl BackendDevice for CoreDevice {
    fn info(&self) -> DeviceInfo {
        DeviceInfo::endless().read_only()
    }

    fn read(&self, position: u64, view: BoundPacketView<Write>) {
        let (mut at, mut view) = (position, view);
        loop {
            let (place, there) = self.segments.at(at);
            let there = usize::try_from(there).unwrap_or(usize::MAX).min(view.len());
            let send = |view: BoundPacketView<Write>| match place {
                Place::File(offset) => match &self.unpacker {
                    Some(unpacker) => unpacker.read(offset, view),
                    None => self.source.send(offset, view),
                },
                Place::Mapped(number, offset) => self.files.read(number, offset, view),
                Place::Lost => view.error(IoError::from_code(Code::CORRUPT)),
                Place::Hole => view.error(IoError::from_code(Code::NOT_MAPPED)),
            };
            if there == view.len() {
                return send(view);
            }
            let (part, rest) = view.split_at(there);
            send(part);
            let Some(next) = at.checked_add(there as u64) else { return rest.error(IoError::END) };
            (at, view) = (next, rest);
        }
    }

    fn extensions<'d>(&'d self, query: &mut ExtensionQuery<'d>) {
        match query.capability() {
            // Views that are sent on keep their request.
            Capability::CANCELLATION | Capability::ADMISSION | Capability::LIMITS => {
                if let Some(below) = self.below() {
                    below.extensions(query);
                }
            }
            _ => {
                query.offer::<dyn Mapping>(self).offer::<dyn Describe>(self);
            }
        }
    }
}

impl Describe for CoreDevice {
    fn stat(&self, answer: Records<Stat>) {
        let change = |mut stat: Stat| {
            (stat.kind, stat.size, stat.version) = (Some(Kind::MEMORY), None, None);
            stat
        };
        match self.below() {
            Some(below) => below.stat_with(answer, change),
            None => answer.complete_one(Ok::<_, IoError>(change(Stat::default()))),
        }
    }
}

impl Mapping for CoreDevice {
    fn map(&self, from: u64, mut answer: Records<Region>) {
        for region in self.segments.regions(from) {
            if !answer.push(&region) {
                return answer.complete(Some(region.range.start.max(from)));
            }
        }
        answer.complete(None);
    }
}
