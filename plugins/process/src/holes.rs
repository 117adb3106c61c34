//! The known holes in the memory of a process, for the duration of one poll.

use std::ops::Range;

use pactio_sdk::{Code, IoError};

use crate::files::ProcFiles;
use crate::maps::Maps;
use crate::pages::PAGE;
use crate::target::Target;

#[derive(Default)]
pub(crate) struct Holes {
    /// The last hole that was found. It ends at a page that may exist.
    last: Range<u64>,
}

impl Holes {
    /// The last hole that was found.
    pub(crate) fn last(&self) -> &Range<u64> {
        &self.last
    }

    /// Records that the page of this address cannot be read. If the page before it could not be read either, the hole may be
    /// large, so its end is looked up in the map of the process.
    pub(crate) fn found(&mut self, maps: &mut Maps, files: &ProcFiles, target: &Target, address: u64) {
        let start = address & !(PAGE - 1);
        let next = start.saturating_add(PAGE);
        let is_large = self.last.end == start && start > 0;
        self.last = start..if is_large { maps.readable_from(files, target, next) } else { next };
    }
}

/// Why the page of this address could not be written.
pub(crate) fn why_not_written(maps: &mut Maps, files: &ProcFiles, target: &Target, address: u64) -> IoError {
    let is_read_only = maps
        .at_or_behind(files, target, address)
        .is_some_and(|mapping| mapping.range.contains(&address) && !mapping.writable && mapping.readable);
    IoError::from_code(if is_read_only { Code::READ_ONLY } else { Code::NOT_MAPPED })
}
