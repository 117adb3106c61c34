//! The result of every byte of a request.

use alloc::boxed::Box;
use core::fmt;
use core::ops::Range;

use rangemap::RangeMap;

use super::{BoundPacketView, PacketPerms, Read, Write};
use crate::{Cause, IoError};

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
    /// `None` until a range fails: a request that was done allocates nothing and drops nothing.
    failed: Option<Box<RangeMap<usize, Cause>>>,
}

impl Report {
    /// The account of a request of `len` bytes that were all done.
    pub fn all_done(len: usize) -> Self {
        Self { len, segments: 1, failed: None }
    }

    pub(super) fn with_segments(mut self, segments: usize) -> Self {
        self.segments = segments;
        self
    }

    /// Number of parts in which the request came back: one, plus one for each split on its way.
    pub fn segments(&self) -> usize {
        self.segments
    }

    /// Marks a range as failed. An empty range changes nothing.
    ///
    /// # Panics
    ///
    /// If the range ends behind the request or begins behind its own end.
    pub fn fail(&mut self, range: Range<usize>, cause: impl Into<Cause>) {
        assert!(
            range.start <= range.end && range.end <= self.len,
            "{range:?} is not within {} bytes",
            self.len
        );
        if !range.is_empty() {
            self.failed.get_or_insert_default().insert(range, cause.into());
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

    /// All ranges in order, without gaps or overlaps; neighbours differ, at least in the text of their failures.
    pub fn ranges(&self) -> impl Iterator<Item = (Range<usize>, Result<(), IoError>)> + '_ {
        self.outcomes().map(|(range, outcome)| (range, outcome.map_err(Cause::error)))
    }

    /// All ranges in order, with the whole cause of each failure.
    pub fn outcomes(&self) -> impl Iterator<Item = (Range<usize>, Result<(), &Cause>)> + '_ {
        let mut offset = 0;
        let mut failed = self.causes().peekable();
        core::iter::from_fn(move || {
            if offset == self.len {
                return None;
            }
            let (range, result) = match failed.peek() {
                Some((range, cause)) if range.start == offset => (range.clone(), Err(*cause)),
                // Bytes up to the next failure, or to the end, were done.
                next => (offset..next.map_or(self.len, |(range, _)| range.start), Ok(())),
            };
            if result.is_err() {
                failed.next();
            }
            offset = range.end;
            Some((range, result))
        })
    }

    /// The end and the result of the range that has the byte at `offset`; `None` past the end of the request.
    pub(super) fn outcome_at(&self, offset: usize) -> Option<(usize, Result<(), Cause>)> {
        if offset >= self.len {
            return None;
        }
        let Some(failed) = &self.failed else { return Some((self.len, Ok(()))) };
        if let Some((range, cause)) = failed.get_key_value(&offset) {
            return Some((range.end, Err(cause.clone())));
        }
        let next = failed.overlapping(offset..self.len).next();
        Some((next.map_or(self.len, |(range, _)| range.start), Ok(())))
    }

    /// Answers a view with a part of the request's bytes: bytes that were done here are done in the view, and bytes that failed
    /// fail with the same cause. So one request serves others that lie within it. `bytes` are all bytes of the request; the
    /// view's bytes begin at `start`. Bytes past the end of the request fail with [`IoError::END`].
    ///
    /// # Panics
    ///
    /// If `bytes` are shorter than the request and lack bytes of the view that were done. The part that lacks them and the parts
    /// behind it fail then.
    pub fn answer(&self, bytes: &[u8], start: usize, view: BoundPacketView<Write>) {
        self.answer_with(start, view, |range| Ok(&bytes[range]));
    }

    /// As [`answer`](Self::answer), with the function `bytes` that gives the bytes of each range that was done.
    pub(super) fn answer_with<'b>(
        &self,
        start: usize,
        view: BoundPacketView<Write>,
        bytes: impl Fn(Range<usize>) -> Result<&'b [u8], IoError>,
    ) {
        self.answer_parts(start, view, |range, part, outcome| {
            match outcome.and_then(|()| bytes(range).map_err(Cause::from)) {
                Ok(bytes) => part.transfer_data(bytes).complete(),
                Err(cause) => part.fail(&cause),
            }
        });
    }

    /// Answers the view of a write, for a filter that writes an encoded copy of the view's bytes, such as an encrypted one, to
    /// the device below: this is the report of that write. Bytes that were written are done, and bytes that failed fail with the
    /// same cause. The copy has a byte for each of the view, which begins at `start` in it. Bytes past its end fail with
    /// [`IoError::END`].
    pub fn answer_write(&self, start: usize, view: BoundPacketView<Read>) {
        self.answer_parts(start, view, |_, part, outcome| match outcome {
            Ok(()) => part.accept().complete(),
            Err(cause) => part.fail(&cause),
        });
    }

    /// Splits a view into parts with one outcome each, and calls `answer` with each part, its range in the request and its
    /// outcome. The view begins at `start` of the request; its bytes past the end of the request fail.
    fn answer_parts<Perms: PacketPerms>(
        &self,
        start: usize,
        view: BoundPacketView<Perms>,
        answer: impl Fn(Range<usize>, BoundPacketView<Perms>, Result<(), Cause>),
    ) {
        let (mut rest, mut offset) = (view, start);
        while !rest.is_empty()
            && let Some((end, outcome)) = self.outcome_at(offset)
        {
            let (part, behind) = rest.split_at(end - offset);
            let range = offset..offset + part.len();
            (rest, offset) = (behind, range.end);
            answer(range, part, outcome);
        }
        // Bytes past the end of the request. An empty rest owes an answer too, and fails no byte.
        rest.error(IoError::END);
    }

    /// The ranges that were done, in order.
    pub fn done_ranges(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        self.ranges().filter(|(_, result)| result.is_ok()).map(|(range, _)| range)
    }

    /// The ranges that failed, in order.
    pub fn failed_ranges(&self) -> impl Iterator<Item = (Range<usize>, IoError)> + '_ {
        self.causes().map(|(range, cause)| (range, cause.error()))
    }

    /// The ranges that failed, in order, with the whole cause of each.
    pub fn causes(&self) -> impl Iterator<Item = (Range<usize>, &Cause)> + '_ {
        self.failed.iter().flat_map(|failed| failed.iter()).map(|(range, cause)| (range.clone(), cause))
    }

    /// Number of bytes that were done.
    pub fn done(&self) -> usize {
        self.len - self.causes().map(|(range, _)| range.len()).sum::<usize>()
    }

    /// Every byte was done.
    pub fn is_done(&self) -> bool {
        self.failed.is_none()
    }

    /// Length of the leading part that was done.
    pub fn error_clamp(&self) -> usize {
        self.min_error().map_or(self.len, |(offset, _)| offset)
    }

    /// The lowest offset that failed, and its error.
    pub fn min_error(&self) -> Option<(usize, IoError)> {
        self.min_cause().map(|(offset, cause)| (offset, cause.error()))
    }

    /// The lowest offset that failed, and the whole cause.
    pub fn min_cause(&self) -> Option<(usize, &Cause)> {
        self.causes().next().map(|(range, cause)| (range.start, cause))
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

    /// Succeeds if every byte was done.
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
        /// A message is for people: ranges beyond this number are only counted.
        const SHOWN: usize = 4;
        write!(f, "{} of {} bytes", self.done(), self.len)?;
        for (range, cause) in self.causes().take(SHOWN) {
            write!(f, "; {}..{}: {cause}", range.start, range.end)?;
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
