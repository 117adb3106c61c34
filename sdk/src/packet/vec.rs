//! An owned vector as a request: no copy on the way in or out.

use alloc::vec::Vec;
use core::mem::{ManuallyDrop, MaybeUninit};
use core::pin::Pin;
use core::task::{Context, Poll};

use super::{BoundPacketView, PacketBox, PacketPerms, Report, Write, block};
use crate::Error;

/// Owns a vector; its length is the length of the request.
///
/// ```
/// # use pactio_sdk::{Error, VecPacket, Write};
/// let mut packet = VecPacket::<Write>::new(vec![0; 6])?;
/// packet.bind()?.transfer_data(b"pactio").complete();
/// assert_eq!(packet.take()?, b"pactio");
/// # Ok::<(), Error>(())
/// ```
#[derive(Debug)]
pub struct VecPacket<Perms: PacketPerms> {
    packet: PacketBox<Perms>,
}

impl<Perms: PacketPerms> VecPacket<Perms> {
    /// A request over the bytes of `vector`.
    ///
    /// # Errors
    ///
    /// [`Error::OUT_OF_MEMORY`] if the header cannot be allocated.
    pub fn new(vector: Vec<u8>) -> Result<Self, Error> {
        let mut vector = ManuallyDrop::new(vector);
        let (pointer, len, capacity) = (vector.as_mut_ptr(), vector.len(), vector.capacity());
        // SAFETY: the same allocation with the same layout, taken from a vector that is not dropped.
        let vector = unsafe { Vec::from_raw_parts(pointer.cast::<MaybeUninit<u8>>(), len, capacity) };
        Ok(Self { packet: PacketBox::new(block::allocate_vector(vector, true)?) })
    }

    pub(crate) fn as_packet(&self) -> &PacketBox<Perms> {
        &self.packet
    }

    pub(crate) fn as_packet_mut(&mut self) -> &mut PacketBox<Perms> {
        &mut self.packet
    }

    /// Starts a request; see [`PacketBox::bind`].
    ///
    /// # Errors
    ///
    /// As [`PacketBox::bind`].
    pub fn bind(&mut self) -> Result<BoundPacketView<Perms>, Error> {
        self.packet.bind()
    }

    /// What happened to every byte.
    pub fn report(&self) -> Report {
        self.packet.report()
    }

    /// The vector; the packet is empty afterwards. Ranges that were not done hold what they held before, or a part of
    /// the device's data.
    ///
    /// # Errors
    ///
    /// [`Error::IN_FLIGHT`] while views exist; nothing is taken then.
    pub fn take(&mut self) -> Result<Vec<u8>, Error> {
        let mut vector = ManuallyDrop::new(self.take_uninit()?);
        let (pointer, len, capacity) = (vector.as_mut_ptr(), vector.len(), vector.capacity());
        // SAFETY: the vector was made from initialised bytes, and no view can make bytes uninitialised again.
        Ok(unsafe { Vec::from_raw_parts(pointer.cast(), len, capacity) })
    }

    fn take_uninit(&mut self) -> Result<Vec<MaybeUninit<u8>>, Error> {
        if !self.packet.is_complete() {
            return Err(Error::IN_FLIGHT);
        }
        // SAFETY: complete, ours, and made with `allocate_vector`.
        Ok(unsafe { block::take_vector(self.packet.block()) })
    }
}

impl VecPacket<Write> {
    /// A request that fills the spare capacity of an empty vector: `len` bytes that need not be initialised first.
    ///
    /// # Errors
    ///
    /// [`Error::OUT_OF_MEMORY`] if the memory cannot be had.
    pub fn with_len(len: usize) -> Result<Self, Error> {
        let mut vector = Vec::<MaybeUninit<u8>>::new();
        vector.try_reserve_exact(len).map_err(|_| Error::OUT_OF_MEMORY)?;
        // SAFETY: the capacity is there, and `MaybeUninit` needs no initialisation.
        unsafe { vector.set_len(len) };
        Ok(Self { packet: PacketBox::new(block::allocate_vector(vector, false)?) })
    }

    /// The leading bytes that were done, as a vector of that length.
    ///
    /// # Errors
    ///
    /// [`Error::IN_FLIGHT`] while views exist.
    pub fn take_done(&mut self) -> Result<Vec<u8>, Error> {
        let done = self.packet.report().error_clamp();
        let mut vector = ManuallyDrop::new(self.take_uninit()?);
        let (pointer, capacity) = (vector.as_mut_ptr(), vector.capacity());
        // SAFETY: the leading `done` bytes are initialised.
        Ok(unsafe { Vec::from_raw_parts(pointer.cast(), done, capacity) })
    }
}

impl<Perms: PacketPerms> Future for VecPacket<Perms> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.packet.poll_complete(cx)
    }
}
