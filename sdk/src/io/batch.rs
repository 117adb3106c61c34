//! Many views in one call.

use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;
use core::ptr;

use crate::{BoundPacketView, PacketPerms};

/// A view and where it goes.
#[repr(C)]
#[derive(Debug)]
#[cfg_attr(feature = "plugin", derive(abi_stable::StableAbi))]
pub struct Submission<Perms: PacketPerms, P> {
    /// Where.
    pub param: P,
    /// What.
    pub view: BoundPacketView<Perms>,
}

/// Views that are handed over together, as an iterator. Those that are not taken out fail when it is dropped.
///
/// ```
/// use pactio_sdk::{Batch, Error, PacketBox, Submission, Write};
///
/// let mut packet = PacketBox::<Write>::new_buf(8)?;
/// let (front, back) = packet.bind()?.split_at(4);
/// let mut queue = vec![Submission { param: 0u64, view: front }, Submission { param: 100, view: back }];
/// for (position, view) in Batch::drain(&mut queue) {
///     view.transfer_data(&[position as u8; 4]).complete();
/// }
/// assert_eq!(packet.simple_slice(), Ok(&[0, 0, 0, 0, 100, 100, 100, 100][..]));
/// # Ok::<(), Error>(())
/// ```
#[repr(C)]
#[cfg_attr(feature = "plugin", derive(abi_stable::StableAbi))]
pub struct Batch<'a, Perms: PacketPerms, P> {
    /// The next one to be taken out.
    pub(crate) next: *mut Submission<Perms, P>,
    /// So many are left.
    pub(crate) left: usize,
    _queue: PhantomData<&'a mut Submission<Perms, P>>,
}

// SAFETY: it owns views, which are `Send`, and parameters.
unsafe impl<Perms: PacketPerms, P: Send> Send for Batch<'_, Perms, P> {}

impl<'a, Perms: PacketPerms, P> Batch<'a, Perms, P> {
    /// Everything that is in `queue`, which is empty afterwards and keeps its memory.
    pub fn drain(queue: &'a mut Vec<Submission<Perms, P>>) -> Self {
        let left = queue.len();
        // SAFETY: from here on the elements are this value's; if it is forgotten, they leak.
        unsafe { queue.set_len(0) };
        Self { next: queue.as_mut_ptr(), left, _queue: PhantomData }
    }
}

impl<Perms: PacketPerms, P> Iterator for Batch<'_, Perms, P> {
    type Item = (P, BoundPacketView<Perms>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        // SAFETY: so many elements were left from `next` on, and each is read once.
        let Submission { param, view } = unsafe {
            let element = ptr::read(self.next);
            self.next = self.next.add(1);
            element
        };
        Some((param, view))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl<Perms: PacketPerms, P> ExactSizeIterator for Batch<'_, Perms, P> {}

impl<Perms: PacketPerms, P> Drop for Batch<'_, Perms, P> {
    fn drop(&mut self) {
        self.for_each(drop);
    }
}

impl<Perms: PacketPerms, P> fmt::Debug for Batch<'_, Perms, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("left", &self.left).finish()
    }
}
