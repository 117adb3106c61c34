//! Storage of a request while it is in flight, and the return of the value that it was made from.

use core::ops::Deref;
use core::task::{Context, Poll};

use super::{Attributes, BoundPacketView, OutputRef, PacketBox, PacketPerms, Unfilled};
use crate::IoError;

/// Keeps a packet, and gives back the value that the packet was made from.
///
/// There is one place for a packet: a block on the heap, which its last user frees (rule P1). Packets inside of futures, which
/// other systems place through an `OpaqueStore`, do not exist here: a future can be forgotten while the device still writes.
/// Blocks of the usual sizes are reused, so a warm program does not allocate.
pub trait PacketStore<Perms: PacketPerms>: Sized + Unpin {
    /// The value that the user gets back.
    type Back;

    /// The packet.
    fn packet(&self) -> &PacketBox<Perms>;

    /// The packet, to be bound and polled.
    fn packet_mut(&mut self) -> PacketMut<'_, Perms>;

    /// Puts the bytes that were done into the user's memory, and gives back the value that the request was made from.
    ///
    /// # Errors
    ///
    /// [`IoError::IN_FLIGHT`] while views exist.
    fn sync_back(self) -> Result<Self::Back, IoError>;
}

/// A packet that may be bound and polled, but not replaced: the store that keeps the packet relies on its bytes (rule P15).
///
/// ```compile_fail,E0596
/// # use pactio_sdk::{PacketBox, PacketStore, VecPacket, Write};
/// let mut vector = VecPacket::<Write>::new(vec![0; 4]).unwrap();
/// let mut other = PacketBox::<Write>::new_buf(1000).unwrap();
/// std::mem::swap(&mut *vector.packet_mut(), &mut other);
/// ```
#[derive(Debug)]
pub struct PacketMut<'a, Perms: PacketPerms>(&'a mut PacketBox<Perms>);

impl<'a, Perms: PacketPerms> PacketMut<'a, Perms> {
    #[inline(always)]
    pub(crate) fn new(packet: &'a mut PacketBox<Perms>) -> Self {
        Self(packet)
    }

    /// See [`PacketBox::bind`].
    ///
    /// # Errors
    ///
    /// As [`PacketBox::bind`].
    #[inline]
    pub fn bind(&mut self) -> Result<BoundPacketView<Perms>, IoError> {
        self.0.bind()
    }

    /// See [`PacketBox::bind_to`].
    ///
    /// # Errors
    ///
    /// As [`PacketBox::bind_to`].
    pub fn bind_to(&mut self, output: OutputRef) -> Result<BoundPacketView<Perms>, IoError> {
        self.0.bind_to(output)
    }

    /// See [`PacketBox::bind_with`].
    ///
    /// # Errors
    ///
    /// As [`PacketBox::bind_with`].
    pub fn bind_with(
        &mut self,
        attributes: Attributes,
        output: Option<OutputRef>,
    ) -> Result<BoundPacketView<Perms>, IoError> {
        self.0.bind_with(attributes, output)
    }

    /// Performs a read without a view: `fill` fills the packet's bytes. `false`: not all of them are filled.
    #[inline(always)]
    pub(crate) fn fill_now(&mut self, fill: impl FnOnce(&mut Unfilled<'_>)) -> bool {
        self.0.fill_now(fill)
    }

    /// Ready when no view is in flight; otherwise the last view wakes the waker.
    #[inline]
    pub fn poll_complete(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.0.poll_complete(cx)
    }
}

impl<Perms: PacketPerms> Deref for PacketMut<'_, Perms> {
    type Target = PacketBox<Perms>;

    fn deref(&self) -> &PacketBox<Perms> {
        self.0
    }
}

impl<Perms: PacketPerms> PacketStore<Perms> for PacketBox<Perms> {
    type Back = Self;

    #[inline]
    fn packet(&self) -> &PacketBox<Perms> {
        self
    }

    #[inline]
    fn packet_mut(&mut self) -> PacketMut<'_, Perms> {
        PacketMut(self)
    }

    #[inline]
    fn sync_back(self) -> Result<Self, IoError> {
        if self.is_complete() { Ok(self) } else { Err(IoError::IN_FLIGHT) }
    }
}
