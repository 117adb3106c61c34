//! Bytes that were moved, with the answer still to be sent.

use core::mem::ManuallyDrop;

use super::{BoundPacketView, Errorable, PacketPerms, Splittable};
use crate::{Cause, IoError};

/// A range with bytes that were moved and an answer that is still owed.
///
/// A device can move bytes under a lock and call [`complete`](Self::complete) after the lock is released: the answer may
/// run code of the requester. Dropping the value fails the whole range with [`IoError::UNANSWERED`] (rule P2), so that a
/// panic or an early return between the two never looks like success.
///
/// ```
/// # use pactio_sdk::{BoundPacketView, IoError, PacketBox, Read};
/// fn store(view: BoundPacketView<Read>, commit: impl FnOnce(&[u8]) -> Result<(), IoError>) -> Result<(), IoError> {
///     let mut bytes = vec![0; view.len()];
///     let moved = view.transfer_data(&mut bytes);
///     commit(&bytes)?; // on failure, `moved` is dropped and the request fails
///     moved.complete();
///     Ok(())
/// }
/// # let mut packet = PacketBox::<Read>::copy_from_slice(b"data")?;
/// # assert!(store(packet.bind()?, |_| Err(IoError::UNSUPPORTED)).is_err());
/// # assert_eq!(packet.err_any(), Err(IoError::UNANSWERED));
/// # store(packet.bind()?, |_| Ok(()))?;
/// # assert_eq!(packet.err_any(), Ok(()));
/// # Ok::<(), IoError>(())
/// ```
#[must_use = "dropping it fails the range: call `complete`"]
#[derive(Debug)]
pub struct TransferredPacket<Perms: PacketPerms> {
    view: ManuallyDrop<BoundPacketView<Perms>>,
    /// Number of leading bytes of the view that were moved.
    moved: usize,
    /// The error with which the rest fails.
    rest: IoError,
}

impl<Perms: PacketPerms> TransferredPacket<Perms> {
    #[inline(always)]
    pub(super) fn new(view: BoundPacketView<Perms>, moved: usize, rest: IoError) -> Self {
        Self { view: ManuallyDrop::new(view), moved, rest }
    }

    /// The view again, to hand it to another device. The moved bytes do not count as done.
    pub fn into_view(self) -> BoundPacketView<Perms> {
        // SAFETY: `self` is forgotten, so the view is taken once.
        unsafe { ManuallyDrop::take(&mut ManuallyDrop::new(self).view) }
    }

    /// Number of bytes that were moved; the rest of the range will fail, in most cases with [`IoError::END`].
    pub fn moved(&self) -> usize {
        self.moved
    }

    /// Length of the range in bytes.
    pub fn len(&self) -> usize {
        self.view.len()
    }

    /// The range is empty.
    pub fn is_empty(&self) -> bool {
        self.view.is_empty()
    }

    /// The tag of the view.
    pub fn tag(&self) -> u64 {
        self.view.tag()
    }

    /// Answers: the moved bytes are done, the rest of the range fails, in most cases with [`IoError::END`].
    #[inline(always)]
    pub fn complete(self) {
        let (moved, rest) = (self.moved, self.rest);
        self.answer(moved, rest);
    }

    /// Answers: the first `done` bytes are done, the rest failed with `error`. For a device that learns after the transfer how
    /// many bytes succeeded. A `done` above the number of moved bytes counts as that number.
    pub fn complete_with(self, done: usize, error: IoError) {
        let done = self.moved.min(done);
        self.answer(done, error);
    }

    /// Fails the whole range.
    pub fn error(self, error: IoError) {
        self.answer(0, error);
    }

    /// Fails the whole range, with a text for people where the cause has one.
    pub fn fail(self, cause: &Cause) {
        let this = ManuallyDrop::new(self);
        // SAFETY: the view is not used again: neither `this` nor its `view` field is dropped.
        unsafe { this.view.settle_with_text(0, cause) };
    }

    #[inline(always)]
    fn answer(self, done: usize, rest: IoError) {
        let this = ManuallyDrop::new(self);
        // SAFETY: the view is not used again: neither `this` nor its `view` field is dropped.
        unsafe { this.view.settle(done, rest) };
    }
}

impl<Perms: PacketPerms> Splittable for TransferredPacket<Perms> {
    fn len(&self) -> usize {
        self.len()
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let mut this = ManuallyDrop::new(self);
        let (moved, rest) = (this.moved, this.rest);
        // SAFETY: `this` is not used or dropped afterwards.
        let (front, back) = unsafe { ManuallyDrop::take(&mut this.view) }.split_at(at);
        // Less than `at` if `at` is past the end.
        let middle = front.len();
        (Self::new(front, moved.min(middle), rest), Self::new(back, moved.saturating_sub(middle), rest))
    }
}

impl<Perms: PacketPerms> Errorable for TransferredPacket<Perms> {
    fn error(self, error: IoError) {
        self.error(error);
    }

    fn fail(self, cause: &Cause) {
        self.fail(cause);
    }
}

impl<Perms: PacketPerms> Drop for TransferredPacket<Perms> {
    #[cold]
    fn drop(&mut self) {
        // SAFETY: the view is not used again, and `ManuallyDrop` keeps it from being dropped.
        unsafe { self.view.settle(0, IoError::UNANSWERED) };
    }
}
