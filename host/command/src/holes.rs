//! Ranges of a device that could not be read, and the account of them.

use std::ops::Range;

use pactio::Code;
use pactio_sdk::IoError;

use super::failure::Failure;
use super::standard::say;

/// Ranges, in order. Adjacent ones with the same cause are one.
#[derive(Default)]
pub(super) struct Holes(Vec<(Range<u64>, IoError)>);

/// Ranges that are printed one by one.
const MAX_PRINTED: usize = 20;

impl Holes {
    pub(super) fn add(&mut self, range: Range<u64>, error: IoError) {
        match self.0.last_mut() {
            Some((last, cause)) if last.end == range.start && *cause == error => last.end = range.end,
            _ => self.0.push((range, error)),
        }
    }

    /// Number of bytes in them.
    pub(super) fn bytes(&self) -> u64 {
        self.0.iter().map(|(range, _)| range.end - range.start).sum()
    }

    /// A range ends behind the end of the device.
    pub(super) fn is_cut_off(&self) -> bool {
        self.0.iter().any(|(_, error)| error.code() == Code::END)
    }

    /// Prints the first ranges on standard error.
    pub(super) fn print(&self) {
        for (range, error) in self.0.iter().take(MAX_PRINTED) {
            say(format_args!("pactio: {:#x}-{:#x} cannot be read: {error}", range.start, range.end));
        }
        if self.0.len() > MAX_PRINTED {
            say(format_args!("pactio: and {} more ranges", self.0.len() - MAX_PRINTED));
        }
    }

    /// Memory that is not mapped is no failure; other ranges are, and the failure counts their bytes.
    pub(super) fn failure(&self, url: &str) -> Option<Failure> {
        let is_failure = |error: &IoError| !matches!(error.code(), Code::NOT_MAPPED | Code::END);
        let failed: Vec<_> = self.0.iter().filter(|(_, error)| is_failure(error)).collect();
        if failed.is_empty() {
            return None;
        }
        let bytes: u64 = failed.iter().map(|(range, _)| range.end - range.start).sum();
        let mut causes: Vec<_> = failed.iter().map(|(_, error)| error.to_string()).collect();
        causes.sort();
        causes.dedup();
        let causes = causes.join(", ");
        Some(Failure::incomplete(format!("{bytes} bytes of '{url}' could not be read: {causes}")))
    }
}
