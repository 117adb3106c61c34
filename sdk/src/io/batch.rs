//! Many views in one call.

use alloc::vec::Vec;
use core::fmt;
use core::marker::PhantomData;
use core::ptr;

use crate::{BoundPacketView, PacketPerms, firewall};

/// A view and its destination.
#[repr(C)]
#[derive(Debug)]
#[cfg_attr(feature = "layout-check", derive(abi_stable::StableAbi))]
pub struct Submission<Perms: PacketPerms, P> {
    /// The destination.
    pub param: P,
    /// The view.
    pub view: BoundPacketView<Perms>,
}

impl<Perms: PacketPerms, P> Submission<Perms, P> {
    /// Adds a view at the end of a queue: the same as `push`, at less cost where the view was just made.
    ///
    /// ```
    /// # use pactio_sdk::{PacketBox, Submission, Write};
    /// # let mut packet = PacketBox::<Write>::new_buf(8)?;
    /// # let view = packet.bind()?;
    /// let mut queue = Vec::new();
    /// Submission::push_to(&mut queue, 4096u64, view);
    /// # Ok::<(), pactio_sdk::IoError>(())
    /// ```
    #[inline(always)]
    pub fn push_to(queue: &mut Vec<Self>, param: P, view: BoundPacketView<Perms>) {
        if queue.len() == queue.capacity() {
            queue.reserve(1);
        }
        // SAFETY: there is room for one more, and both of its fields are written.
        unsafe {
            let slot = queue.as_mut_ptr().add(queue.len());
            (&raw mut (*slot).param).write(param);
            view.write_to(&raw mut (*slot).view);
            queue.set_len(queue.len() + 1);
        }
    }
}

/// Views that are handed over together, as an iterator. Views that are not taken out fail when the batch is dropped.
///
/// ```
/// use pactio_sdk::{Batch, IoError, PacketBox, Submission, Write};
///
/// let mut packet = PacketBox::<Write>::new_buf(8)?;
/// let (front, back) = packet.bind()?.split_at(4);
/// let mut queue = vec![Submission { param: 0u64, view: front }, Submission { param: 100, view: back }];
/// for (position, view) in Batch::drain(&mut queue) {
///     view.transfer_data(&[position as u8; 4]).complete();
/// }
/// assert_eq!(packet.simple_slice(), Ok(&[0, 0, 0, 0, 100, 100, 100, 100][..]));
/// # Ok::<(), IoError>(())
/// ```
#[repr(C)]
#[cfg_attr(feature = "layout-check", derive(abi_stable::StableAbi))]
pub struct Batch<'a, Perms: PacketPerms, P> {
    /// The next view to be taken out.
    pub(crate) next: *mut Submission<Perms, P>,
    /// The number of views that are left.
    pub(crate) left: usize,
    _queue: PhantomData<&'a mut Submission<Perms, P>>,
}

// SAFETY: a batch owns views, which are `Send`, and parameters, which are `Send` by the bound.
unsafe impl<Perms: PacketPerms, P: Send> Send for Batch<'_, Perms, P> {}

impl<'a, Perms: PacketPerms, P> Batch<'a, Perms, P> {
    /// All views in `queue`, which is empty afterwards and keeps its memory.
    pub fn drain(queue: &'a mut Vec<Submission<Perms, P>>) -> Self {
        let left = queue.len();
        // SAFETY: from here on the batch owns the elements; if it is forgotten, they leak.
        unsafe { queue.set_len(0) };
        Self { next: queue.as_mut_ptr(), left, _queue: PhantomData }
    }
}

impl<Perms: PacketPerms, P> Batch<'_, Perms, P> {
    /// Moves all views that are left to the end of a queue.
    ///
    /// ```
    /// # use pactio_sdk::{Batch, PacketBox, Submission, Write};
    /// # let mut packet = PacketBox::<Write>::new_buf(8)?;
    /// # let (front, back) = packet.bind()?.split_at(4);
    /// # let mut sent = vec![Submission { param: 0u64, view: front }, Submission { param: 4, view: back }];
    /// let mut batch = Batch::drain(&mut sent);
    /// if let Some((_, view)) = batch.next() {
    ///     view.transfer_data(b"fast").complete(); // answered at once, the others later
    /// }
    /// let mut queue = Vec::new();
    /// batch.append_to(&mut queue);
    /// assert_eq!(queue[0].param, 4);
    /// # Ok::<(), pactio_sdk::IoError>(())
    /// ```
    pub fn append_to(mut self, queue: &mut Vec<Submission<Perms, P>>) {
        queue.reserve(self.left);
        let left = core::mem::take(&mut self.left);
        // SAFETY: `left` elements are left from `next` on, none of which is read again; there is room behind the queue's own
        // elements, and the queue's memory is not the memory that the batch borrows.
        unsafe {
            ptr::copy_nonoverlapping(self.next, queue.as_mut_ptr().add(queue.len()), left);
            queue.set_len(queue.len() + left);
        }
    }
}

impl<Perms: PacketPerms, P> Iterator for Batch<'_, Perms, P> {
    type Item = (P, BoundPacketView<Perms>);

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.left = self.left.checked_sub(1)?;
        // SAFETY: at least one element was left from `next` on, since `left` was not 0, and each element is read once.
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
        // Failing a view runs code of its requester. A panic in that code must not keep the other views from failing.
        for view in &mut *self {
            let _ = firewall::contain(|| drop(view));
        }
    }
}

impl<Perms: PacketPerms, P> fmt::Debug for Batch<'_, Perms, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch").field("left", &self.left).finish()
    }
}
