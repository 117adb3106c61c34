//! What happened to every byte of a request.

use core::fmt;
use core::ops::Range;

use rangemap::RangeMap;

use crate::IoError;

/// The exact account of a request: every byte is done, or failed with an error.
///
/// ```
/// # use pactio_sdk::{IoError, PacketBox, Write};
/// # let mut packet = PacketBox::<Write>::new_buf(12)?;
/// # let (a, rest) = packet.bind()?.split_at(4);
/// # let (b, c) = rest.split_at(4);
/// # a.transfer_data(&[0; 4]).complete();
/// # b.error(IoError::UNSUPPORTED);
/// # c.transfer_data(&[0; 4]).complete();
/// let report = packet.report();
/// assert_eq!(report.ranges().count(), 3);
/// assert_eq!(report.done(), 8);
/// assert_eq!(report.error_clamp(), 4);
/// assert_eq!(report.to_string(), "8 of 12 bytes; 4..8: not supported");
/// # Ok::<(), IoError>(())
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Report {
    len: usize,
    segments: usize,
    failed: RangeMap<usize, IoError>,
}

impl Report {
    /// The account of a request of `len` bytes that were all done.
    pub fn all_done(len: usize) -> Self {
        Self { len, segments: 1, failed: RangeMap::new() }
    }

    pub(super) fn with_segments(mut self, segments: usize) -> Self {
        self.segments = segments;
        self
    }

    /// Number of parts in which the request came back: one, and one more for each split on its way.
    pub fn segments(&self) -> usize {
        self.segments
    }

    /// Marks a range as failed. An empty range changes nothing.
    ///
    /// # Panics
    ///
    /// If the range ends behind the request or begins behind its own end.
    pub fn fail(&mut self, range: Range<usize>, error: IoError) {
        assert!(
            range.start <= range.end && range.end <= self.len,
            "{range:?} is not within {} bytes",
            self.len
        );
        if !range.is_empty() {
            self.failed.insert(range, error);
        }
    }

    /// Length of the request in bytes: the sum of all ranges.
    pub fn len(&self) -> usize {
        self.len
    }

    /// The request had no bytes.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// All ranges in order, without gaps or overlaps; neighbours differ.
    pub fn ranges(&self) -> impl Iterator<Item = (Range<usize>, Result<(), IoError>)> + '_ {
        let mut at = 0;
        let mut failed = self.failed.iter().peekable();
        core::iter::from_fn(move || {
            if at == self.len {
                return None;
            }
            let (range, result) = match failed.peek() {
                Some((range, error)) if range.start == at => ((*range).clone(), Err(**error)),
                next => (at..next.map_or(self.len, |(range, _)| range.start), Ok(())),
            };
            if result.is_err() {
                failed.next();
            }
            at = range.end;
            Some((range, result))
        })
    }

    /// The ranges that were done, in order.
    pub fn done_ranges(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        self.ranges().filter(|(_, result)| result.is_ok()).map(|(range, _)| range)
    }

    /// The ranges that failed, in order.
    pub fn failed_ranges(&self) -> impl Iterator<Item = (Range<usize>, IoError)> + '_ {
        self.failed.iter().map(|(range, error)| (range.clone(), *error))
    }

    /// Number of bytes that were done.
    pub fn done(&self) -> usize {
        self.len - self.failed.iter().map(|(range, _)| range.len()).sum::<usize>()
    }

    /// Every byte was done.
    pub fn is_done(&self) -> bool {
        self.failed.is_empty()
    }

    /// Length of the leading part that was done.
    pub fn error_clamp(&self) -> usize {
        self.min_error().map_or(self.len, |(offset, _)| offset)
    }

    /// The lowest offset that failed, and its error.
    pub fn min_error(&self) -> Option<(usize, IoError)> {
        self.failed.iter().next().map(|(range, error)| (range.start, *error))
    }

    /// Length of the leading part that was done.
    ///
    /// # Errors
    ///
    /// The error of the first byte, if that failed.
    pub fn err_on_zero(&self) -> Result<usize, IoError> {
        match self.min_error() {
            Some((0, error)) => Err(error),
            Some((offset, _)) => Ok(offset),
            None => Ok(self.len),
        }
    }

    /// Nothing, if every byte was done.
    ///
    /// # Errors
    ///
    /// The error at the lowest offset that failed.
    pub fn err_any(&self) -> Result<(), IoError> {
        self.min_error().map_or(Ok(()), |(_, error)| Err(error))
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        /// A message is read by people: more ranges than this are counted.
        const SHOWN: usize = 4;
        write!(f, "{} of {} bytes", self.done(), self.len)?;
        for (range, error) in self.failed_ranges().take(SHOWN) {
            write!(f, "; {}..{}: {error}", range.start, range.end)?;
        }
        match self.failed_ranges().count().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "; and {more} more ranges"),
        }
    }
}

impl fmt::Debug for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Report({self})")
    }
}
