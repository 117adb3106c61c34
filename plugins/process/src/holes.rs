//! What is known of memory that is not there, while one poll lasts.

use std::fs;
use std::ops::Range;

use pactio_sdk::{Code, IoError};

use crate::regions;
use crate::target::Target;

/// Bytes per page: the least that any system has, so that no page is taken for a part of another.
pub(crate) const PAGE: u64 = 4096;

#[derive(Default)]
pub(crate) struct Holes {
    /// The last one that was found. It ends at a page that may be there.
    last: Range<u64>,
    /// What the process says of its memory; asked for when it is needed first, since that takes longer than some calls.
    maps: Option<Vec<Mapped>>,
}

struct Mapped {
    range: Range<u64>,
    readable: bool,
    writable: bool,
}

impl Holes {
    /// The last one that was found.
    pub(crate) fn last(&self) -> &Range<u64> {
        &self.last
    }

    /// The page of this address cannot be read. If the one before it could not either, the hole may be large, so the process
    /// is asked where it ends.
    pub(crate) fn found(&mut self, target: &Target, address: u64) {
        let start = address & !(PAGE - 1);
        let next = start.saturating_add(PAGE);
        let end = if self.last.end == start && start > 0 { self.readable_from(target, next) } else { next };
        self.last = start..end;
    }

    /// Where something that can be read begins, at or behind an address.
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
            // If it cannot be had, everything may be there.
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
