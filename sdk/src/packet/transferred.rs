//! Bytes that were moved, with the answer still to be sent.

use core::mem::ManuallyDrop;

use super::{BoundPacketView, Errorable, PacketPerms, Splittable};
use crate::IoError;

/// A range whose bytes were moved. Its answer is sent when it is completed or dropped, so that a device can move bytes
/// under a lock and wake the requester outside of it.
#[must_use = "the answer is sent when this is dropped: keep it until locks are released"]
#[derive(Debug)]
pub struct TransferredPacket<Perms: PacketPerms> {
    view: ManuallyDrop<BoundPacketView<Perms>>,
    /// So many leading bytes of the view were moved.
    moved: usize,
    /// What the rest fails with.
    rest: IoError,
}

impl<Perms: PacketPerms> TransferredPacket<Perms> {
    #[inline(always)]
    pub(super) fn new(view: BoundPacketView<Perms>, moved: usize, rest: IoError) -> Self {
        Self { view: ManuallyDrop::new(view), moved, rest }
    }

    /// Number of bytes that were moved; the rest of the range will fail, mostly with [`IoError::END`].
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

    /// Sends the answer now.
    #[inline]
    pub fn complete(self) {}

    /// Sends the answer that only the first `done` bytes are done after all, and that the rest failed with `error`: for a
    /// device that finds later what became of the bytes. No more can be done than were moved.
    pub fn complete_with(mut self, done: usize, error: IoError) {
        self.moved = self.moved.min(done);
        self.rest = error;
    }

    /// Fails the whole range after all.
    pub fn error(self, error: IoError) {
        self.complete_with(0, error);
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
        let at = front.len();
        (Self::new(front, moved.min(at), rest), Self::new(back, moved.saturating_sub(at), rest))
    }
}

impl<Perms: PacketPerms> Errorable for TransferredPacket<Perms> {
    fn error(self, error: IoError) {
        self.error(error);
    }
}

impl<Perms: PacketPerms> Drop for TransferredPacket<Perms> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: the view is not used afterwards, and `ManuallyDrop` keeps it from being dropped.
        unsafe { self.view.settle(self.moved, self.rest) };
    }
}
