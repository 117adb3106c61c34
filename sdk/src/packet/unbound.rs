//! A view before it has a device.

use super::{BoundPacketView, PacketPerms, Splittable};
use crate::IoError;

/// A range of a packet that is not bound to a device yet: it can be cut and tagged, and then [bound](Self::bind) part by part.
///
/// The view is counted like a bound view, so a part that is dropped resolves too, with [`IoError::NOT_SUBMITTED`] (rule P13). The
/// count of views keeps the packet alive, so the view needs no lifetime, and the packet needs no reference count.
///
/// ```
/// use pactio_sdk::{IoError, PacketBox, Splittable, Write};
///
/// let mut packet = PacketBox::<Write>::new_buf(8)?;
/// let (mut front, back) = packet.view()?.split_at(4);
/// front.set_tag(7);
/// front.bind().transfer_data(b"data").complete();
/// drop(back);
/// assert_eq!(packet.report().min_error(), Some((4, IoError::NOT_SUBMITTED)));
/// # Ok::<(), IoError>(())
/// ```
#[derive(Debug)]
#[must_use = "a view that is dropped fails its range"]
pub struct PacketView<Perms: PacketPerms>(Option<BoundPacketView<Perms>>);

impl<Perms: PacketPerms> PacketView<Perms> {
    pub(super) fn new(view: BoundPacketView<Perms>) -> Self {
        Self(Some(view))
    }

    fn view(&self) -> &BoundPacketView<Perms> {
        self.0.as_ref().expect("only `bind` and `drop` take the view")
    }

    /// Length of the range in bytes.
    pub fn len(&self) -> usize {
        self.view().len()
    }

    /// The range is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// First byte of the range in its packet.
    pub fn start(&self) -> usize {
        self.view().offset()
    }

    /// End of the range in its packet.
    pub fn end(&self) -> usize {
        self.start() + self.len()
    }

    /// The tag: 63 bits that the device and the output see.
    pub fn tag(&self) -> u64 {
        self.view().tag()
    }

    /// Sets the tag.
    ///
    /// # Panics
    ///
    /// If `tag` does not fit 63 bits.
    pub fn set_tag(&mut self, tag: u64) {
        if let Some(view) = &mut self.0 {
            view.set_tag(tag);
        }
    }

    /// Binds the view: from here on it owes an answer.
    pub fn bind(mut self) -> BoundPacketView<Perms> {
        self.0.take().expect("only `bind` and `drop` take the view")
    }
}

impl<Perms: PacketPerms> Splittable for PacketView<Perms> {
    fn len(&self) -> usize {
        self.len()
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let (front, back) = self.bind().split_at(at);
        (Self::new(front), Self::new(back))
    }
}

impl<Perms: PacketPerms> Drop for PacketView<Perms> {
    fn drop(&mut self) {
        if let Some(view) = self.0.take() {
            view.error(IoError::NOT_SUBMITTED);
        }
    }
}
