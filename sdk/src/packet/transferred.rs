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
}

impl<Perms: PacketPerms> TransferredPacket<Perms> {
    #[inline(always)]
    pub(super) fn new(view: BoundPacketView<Perms>, moved: usize) -> Self {
        Self { view: ManuallyDrop::new(view), moved }
    }

    /// Number of bytes that were moved; the rest of the range will fail with [`Error::END`].
    pub fn moved(&self) -> usize {
        self.moved
    }

    /// Sends the answer now.
    #[inline]
    pub fn complete(self) {}

    /// Fails the range after all, for a device that finds the data wrong afterwards.
    pub fn error(self, error: Error) {
        let this = ManuallyDrop::new(self);
        // SAFETY: `this` is not dropped, so the view is taken once.
        unsafe { core::ptr::read(&*this.view) }.error(error);
    }
}

impl<Perms: PacketPerms> Drop for TransferredPacket<Perms> {
    #[inline]
    fn drop(&mut self) {
        if self.moved < self.view.len() {
            self.view.fail_from(self.moved, Error::END);
        }
        // SAFETY: the view is not used afterwards, and `ManuallyDrop` keeps it from being dropped.
        unsafe { self.view.finish() };
    }
}
