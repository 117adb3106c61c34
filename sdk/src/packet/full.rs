//! One plain value as a request.

use core::fmt;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::pin::Pin;
use core::task::{Context, Poll};

use bytemuck::{AnyBitPattern, NoUninit};

use super::{BoundPacketView, Filled, PacketBox, PacketMut, PacketPerms, PacketStore, Report, Write, block};
use crate::IoError;

/// A header and a plain value `T` in one block.
///
/// ```
/// # use pactio_sdk::{IoError, FullPacket, Write};
/// let mut packet = FullPacket::<u32, Write>::new_uninit()?;
/// packet.bind()?.transfer_data(&7u32.to_ne_bytes()).complete();
/// assert_eq!(packet.get(), Ok(7));
/// # Ok::<(), IoError>(())
/// ```
///
/// Types with padding are never sent:
///
/// ```compile_fail,E0277
/// # use pactio_sdk::{FullPacket, Read};
/// #[derive(Clone, Copy)]
/// #[repr(C)]
/// struct Padded(u8, u32);
/// let packet = FullPacket::<Padded, Read>::new(Padded(1, 2));
/// ```
pub struct FullPacket<T, Perms: PacketPerms> {
    packet: PacketBox<Perms>,
    _value: PhantomData<T>,
}

impl<T: AnyBitPattern> FullPacket<T, Write> {
    /// A value that a device will fill.
    ///
    /// # Errors
    ///
    /// [`IoError::OUT_OF_MEMORY`] if the memory cannot be allocated.
    #[inline]
    pub fn new_uninit() -> Result<Self, IoError> {
        let block = block::allocate(size_of::<T>(), align_of::<T>())?;
        Ok(Self { packet: PacketBox::new(block), _value: PhantomData })
    }
}

impl<T: AnyBitPattern, Perms: PacketPerms> FullPacket<T, Perms> {
    /// The value, if every byte of it arrived.
    ///
    /// # Errors
    ///
    /// The error at the lowest offset that did not arrive.
    #[inline]
    pub fn get(&self) -> Result<T, IoError> {
        if size_of::<T>() != 0 && !self.packet.is_done() {
            self.packet.report().err_any()?;
        }
        let mut value = MaybeUninit::<T>::uninit();
        let bytes = self.packet.simple_slice()?;
        // SAFETY: `bytes` are `size_of::<T>()` initialised bytes, and any of those are a valid `T`.
        unsafe {
            core::ptr::copy_nonoverlapping(bytes.as_ptr(), value.as_mut_ptr().cast(), bytes.len());
            Ok(value.assume_init())
        }
    }
}

impl<T: NoUninit, Perms: PacketPerms> FullPacket<T, Perms> {
    /// A value that a device will read, overwrite, or exchange for its own.
    ///
    /// # Errors
    ///
    /// [`IoError::OUT_OF_MEMORY`] if the memory cannot be allocated.
    pub fn new(value: T) -> Result<Self, IoError> {
        let block = block::allocate(size_of::<T>(), align_of::<T>())?;
        // SAFETY: the block is ours alone and has room for a `T`, which has no uninitialised bytes.
        unsafe {
            (*block.as_ptr()).packet.bytes.cast::<T>().write(value);
            block::set_initialised(block);
        }
        Ok(Self { packet: PacketBox::new(block), _value: PhantomData })
    }
}

impl<T: NoUninit, Perms: Filled> FullPacket<T, Perms> {
    /// Replaces the value, for the next request.
    ///
    /// # Errors
    ///
    /// [`IoError::IN_FLIGHT`] while views exist.
    pub fn set(&mut self, value: T) -> Result<(), IoError> {
        self.packet.bytes_mut()?.copy_from_slice(bytemuck::bytes_of(&value));
        Ok(())
    }
}

impl<T, Perms: PacketPerms> FullPacket<T, Perms> {
    /// Starts a request; see [`PacketBox::bind`].
    ///
    /// # Errors
    ///
    /// As [`PacketBox::bind`].
    #[inline]
    pub fn bind(&mut self) -> Result<BoundPacketView<Perms>, IoError> {
        self.packet.bind()
    }

    /// The account of every byte: done, or failed with a cause.
    pub fn report(&self) -> Report {
        self.packet.report()
    }
}

impl<T, Perms: PacketPerms> PacketStore<Perms> for FullPacket<T, Perms> {
    type Back = Self;

    #[inline]
    fn packet(&self) -> &PacketBox<Perms> {
        &self.packet
    }

    #[inline]
    fn packet_mut(&mut self) -> PacketMut<'_, Perms> {
        PacketMut::new(&mut self.packet)
    }

    #[inline]
    fn sync_back(self) -> Result<Self, IoError> {
        if self.packet.is_complete() { Ok(self) } else { Err(IoError::IN_FLIGHT) }
    }
}

impl<T, Perms: PacketPerms> Future for FullPacket<T, Perms> {
    type Output = ();

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.packet.poll_complete(cx)
    }
}

// The value lives in the block, not in the handle.
impl<T, Perms: PacketPerms> Unpin for FullPacket<T, Perms> {}

impl<T, Perms: PacketPerms> fmt::Debug for FullPacket<T, Perms> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.packet.fmt(f)
    }
}
