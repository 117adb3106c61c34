//! A part of a view that came back to the layer that took the view over.

use core::fmt;
use core::ops::Range;

use super::{BoundPacketView, Errorable, PacketPerms, ReadWrite, Report, Splittable, Write};
use crate::{Cause, IoError};

/// A range of an origin that came back from the device below, with its result and its bytes; it still owes the origin's answer.
///
/// The layer answers each part once, in any split, on any thread: as the device below answered ([`complete`](Self::complete)), as
/// failed after all ([`error`](Self::error), [`fail`](Self::fail)), or in any other way through the [view](Self::into_view).
/// Dropping the part fails it (rule P2).
///
/// ```
/// use pactio_sdk::{Code, IoError, PacketBox, ReboundPacket, Write};
///
/// // A layer that checks and decodes the bytes of the device below, in place.
/// let mut packet = PacketBox::<Write>::new_buf(4)?;
/// let rebound = ReboundPacket::new(packet.bind()?)?;
/// let view = rebound.bind_each(|mut part| {
///     match part.bytes_mut() {
///         Some(bytes) if bytes.is_ascii() => bytes.iter_mut().for_each(|byte| *byte = byte.to_ascii_uppercase()),
///         _ => return part.error(IoError::from_code(Code::CORRUPT)),
///     }
///     part.complete();
/// })?;
/// let (front, back) = view.split_at(2);
/// front.transfer_data(b"ok").complete();
/// back.transfer_data(&[0xff; 2]).complete();
/// assert_eq!(packet.simple_contiguous_slice()?, b"OK");
/// assert_eq!(packet.min_error(), Some((2, IoError::from_code(Code::CORRUPT))));
/// # Ok::<(), IoError>(())
/// ```
#[must_use = "a part that is dropped fails its range"]
pub struct ReturnedPart<Perms: PacketPerms> {
    view: BoundPacketView<Perms>,
    /// Offset of the part in the view that the layer took over.
    start: usize,
    result: Result<(), Cause>,
}

impl<Perms: PacketPerms> ReturnedPart<Perms> {
    /// `view` is a view of the origin, over bytes that no device has any more. If `result` is `Ok`, all of these bytes are
    /// initialised.
    pub(super) fn new(view: BoundPacketView<Perms>, start: usize, result: Result<(), Cause>) -> Self {
        Self { view, start, result }
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.view.len()
    }

    /// There are no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Range of the part in the view that the layer took over, in bytes.
    pub fn range(&self) -> Range<usize> {
        self.start..self.start + self.len()
    }

    /// The tag of the view that the layer took over.
    pub fn tag(&self) -> u64 {
        self.view.tag()
    }

    /// The result of the device below.
    ///
    /// # Errors
    ///
    /// The cause of the failure.
    pub fn result(&self) -> Result<(), &Cause> {
        self.result.as_ref().map(|_| ())
    }

    /// The result is not wanted any more.
    pub fn is_cancelled(&self) -> bool {
        self.view.is_cancelled()
    }

    /// The deadline of the request has passed; see [`BoundPacketView::is_late`].
    pub fn is_late(&self) -> bool {
        self.view.is_late()
    }

    /// The bytes, if the device below completed the part and the packet [has them in memory](BoundPacketView::has_bytes): the
    /// bytes that were read, that were written, or that an exchange gave.
    pub fn bytes(&self) -> Option<&[u8]> {
        self.result.as_ref().ok()?;
        let start = self.view.bytes()?;
        self.view.touch();
        // SAFETY: the range is this view's alone, its bytes are initialised since it was done, and they are written only through
        // `self`.
        Some(unsafe { core::slice::from_raw_parts(start, self.view.len()) })
    }

    fn bytes_mut_of_done(&mut self) -> Option<&mut [u8]> {
        self.result.as_ref().ok()?;
        let start = self.view.bytes()?;
        self.view.touch();
        // SAFETY: the range is this view's alone, its bytes are initialised since it was done, and they are accessed only through
        // `self`; the caller's permission lets a device write to the packet.
        Some(unsafe { core::slice::from_raw_parts_mut(start, self.view.len()) })
    }

    /// Splits into the first `at` bytes and the rest, as [`BoundPacketView::split_at`] does.
    pub fn split_at(self, at: usize) -> (Self, Self) {
        let (front, back) = self.view.split_at(at);
        let middle = self.start + front.len();
        let result = self.result.clone();
        (
            Self { view: front, start: self.start, result: self.result },
            Self { view: back, start: middle, result },
        )
    }

    /// Answers the origin as the device below answered: done, or failed with its error and text.
    pub fn complete(self) {
        match &self.result {
            Ok(()) => self.view.complete_in_place(),
            Err(cause) => self.view.fail(cause),
        }
    }

    /// Fails the part, regardless of the answer of the device below.
    pub fn error(self, error: IoError) {
        self.view.error(error);
    }

    /// Fails the part, regardless of the answer of the device below, with a text for people where the cause has one.
    pub fn fail(self, cause: &Cause) {
        self.view.fail(cause);
    }

    /// The origin's view, to be answered in any other way: sent to another device, or filled by a transfer.
    pub fn into_view(self) -> BoundPacketView<Perms> {
        self.view
    }
}

impl ReturnedPart<Write> {
    /// The bytes that were read, to be changed before the requester gets them: see [`bytes`](Self::bytes).
    pub fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        self.bytes_mut_of_done()
    }
}

impl ReturnedPart<ReadWrite> {
    /// The bytes that an exchange gave, to be changed before the requester gets them: see [`bytes`](Self::bytes).
    pub fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        self.bytes_mut_of_done()
    }
}

impl<Perms: PacketPerms> Splittable for ReturnedPart<Perms> {
    fn len(&self) -> usize {
        self.len()
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        self.split_at(at)
    }
}

impl<Perms: PacketPerms> Errorable for ReturnedPart<Perms> {
    fn error(self, error: IoError) {
        self.error(error);
    }

    fn fail(self, cause: &Cause) {
        self.fail(cause);
    }
}

impl<Perms: PacketPerms> fmt::Debug for ReturnedPart<Perms> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReturnedPart").field("range", &self.range()).field("result", &self.result).finish()
    }
}

/// All parts of an origin, in order, when its fresh view came back completely: one part for each range with one result. Parts
/// that are not taken out fail when this value is dropped.
#[must_use = "parts that are not taken out fail"]
#[derive(Debug)]
pub struct ReturnedParts<Perms: PacketPerms> {
    report: Report,
    rest: Option<BoundPacketView<Perms>>,
    /// Where `rest` begins in the view that the layer took over.
    at: usize,
}

impl<Perms: PacketPerms> ReturnedParts<Perms> {
    /// `origin` is the view over the bytes of `report`, and no device has any of these bytes.
    pub(super) fn new(report: Report, origin: BoundPacketView<Perms>) -> Self {
        Self { report, rest: Some(origin), at: 0 }
    }
}

impl<Perms: PacketPerms> Iterator for ReturnedParts<Perms> {
    type Item = ReturnedPart<Perms>;

    fn next(&mut self) -> Option<ReturnedPart<Perms>> {
        let rest = self.rest.take()?;
        let Some((end, result)) = self.report.outcome_at(self.at) else {
            // The rest has no bytes, and still owes an answer.
            rest.complete_in_place();
            return None;
        };
        let start = self.at;
        self.at = end;
        if end == self.report.len() {
            // The last part takes the whole rest: a split would leave an empty view that owes an answer.
            return Some(ReturnedPart::new(rest, start, result));
        }
        let (part, behind) = rest.split_at(end - start);
        self.rest = Some(behind);
        Some(ReturnedPart::new(part, start, result))
    }
}
