//! The known holes in the memory of a process, for the duration of one poll.

use std::fs;
use std::ops::Range;

use pactio_sdk::{Code, IoError};

use crate::regions;
use crate::target::Target;

/// Bytes per page: the smallest page of any system, so that no page is taken for a part of another.
pub(crate) const PAGE: u64 = 4096;

#[derive(Default)]
pub(crate) struct Holes {
    /// The last hole that was found. It ends at a page that may exist.
    last: Range<u64>,
    /// The map of the process; read when it is first needed, since that takes longer than some calls.
    maps: Option<Vec<Mapped>>,
}

struct Mapped {
    range: Range<u64>,
    readable: bool,
    writable: bool,
}

impl Holes {
    /// The last hole that was found.
    pub(crate) fn last(&self) -> &Range<u64> {
        &self.last
    }

    /// Records that the page of this address cannot be read. If the page before it could not be read either, the hole may be
    /// large, so its end is looked up in the map of the process.
    pub(crate) fn found(&mut self, target: &Target, address: u64) {
        let start = address & !(PAGE - 1);
        let next = start.saturating_add(PAGE);
        let end = if self.last.end == start && start > 0 { self.readable_from(target, next) } else { next };
        self.last = start..end;
    }

    /// The first readable address, at or behind `address`.
    fn readable_from(&mut self, target: &Target, address: u64) -> u64 {
        let maps = self.maps(target);
        let first = maps.partition_point(|mapped| mapped.range.end <= address);
        let readable = maps[first..].iter().find(|mapped| mapped.readable);
        readable.map_or(u64::MAX, |mapped| mapped.range.start.max(address))
    }

    /// Why the page of this address could not be written.
    pub(crate) fn why_not_written(&mut self, target: &Target, address: u64) -> IoError {
        let read_only =
            |mapped: &Mapped| mapped.range.contains(&address) && !mapped.writable && mapped.readable;
        let code = if self.maps(target).iter().any(read_only) { Code::READ_ONLY } else { Code::NOT_MAPPED };
        IoError::from_code(code)
    }

    fn maps(&mut self, target: &Target) -> &[Mapped] {
        self.maps.get_or_insert_with(|| {
            // If the map cannot be read, every page may exist.
            let everything = Mapped { range: 0..u64::MAX, readable: true, writable: true };
            let Ok(text) = fs::read(format!("/proc/{}/maps", target.pid())) else { return vec![everything] };
            let regions = regions::parse(&text).map(|region| Mapped {
                range: region.range,
                readable: region.readable,
                writable: region.writable,
            });
            regions.collect()
        })
    }
}
