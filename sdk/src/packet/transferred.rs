//! Bytes that were moved, with the answer still to be sent.

use core::mem::ManuallyDrop;

use super::{BoundPacketView, PacketPerms};
use crate::Error;

/// A range whose bytes were moved. Its answer is sent when it is completed or dropped, so that a device can move bytes
/// under a lock and wake the requester outside of it.
#[must_use = "the answer is sent when this is dropped: keep it until locks are released"]
#[derive(Debug)]
pub struct TransferredPacket<Perms: PacketPerms> {
    view: ManuallyDrop<BoundPacketView<Perms>>,
    /// So many leading bytes of the view were moved.
    moved: usize,
    /// What the rest fails with.
    rest: Error,
}

impl<Perms: PacketPerms> TransferredPacket<Perms> {
    #[inline(always)]
    pub(super) fn new(view: BoundPacketView<Perms>, moved: usize) -> Self {
        Self { view: ManuallyDrop::new(view), moved, rest: Error::END }
    }

    /// Number of bytes that were moved; the rest of the range will fail with [`Error::END`].
    pub fn moved(&self) -> usize {
        self.moved
    }

    /// Sends the answer now.
    #[inline]
    pub fn complete(self) {}

    /// Sends the answer that only the first `done` bytes are done after all, and that the rest failed with `error`: for a
    /// device that finds later what became of the bytes. No more can be done than were moved.
    pub fn complete_with(mut self, done: usize, error: Error) {
        self.moved = self.moved.min(done);
        self.rest = error;
    }

    /// Fails the whole range after all.
    pub fn error(self, error: Error) {
        self.complete_with(0, error);
    }
}

impl<Perms: PacketPerms> Drop for TransferredPacket<Perms> {
    #[inline]
    fn drop(&mut self) {
        if self.moved < self.view.len() {
            self.view.fail_from(self.moved, self.rest);
        }
        // SAFETY: the view is not used afterwards, and `ManuallyDrop` keeps it from being dropped.
        unsafe { self.view.finish() };
    }
}
