//! The buffers that a caller may pass to a request, and the way in which the result comes back into them.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::mem::MaybeUninit;

use super::{
    ComplexPacket, Filling, FullPacket, KeptPacket, OwnedPacket, PacketBox, PacketBytes, PacketMut,
    PacketPerms, PacketStore, Read, ReadWrite, SharedPacket, StableBytes, Unfilled, VecPacket, Write,
};
use crate::IoError;

/// A buffer that can be made into a request.
///
/// | buffer | request | copies | comes back as |
/// |--------|---------|--------|---------------|
/// | `&mut [u8]`, `&mut [u8; N]`, `&mut Vec<u8>` | read | one, at the end | `()` |
/// | `&mut [MaybeUninit<u8>]` | read | one, at the end | the leading part that was done, as `&mut [u8]` |
/// | `&[u8]`, `&[u8; N]`, `&Vec<u8>` | write | one, at the start | `()` |
/// | `&mut [u8]` | exchange | two | `()` |
/// | `Vec<u8>`, `Box<[u8]>` | all | none | the same memory |
/// | `Arc<[u8]>`, of which several requests may have a clone | write | none | the `Arc` |
/// | buffers of a pool, any [`StableBytes`] in a [`KeptPacket`] | all | none | the same buffer |
/// | [`PacketBox`], [`VecPacket`], [`FullPacket`], [`ComplexPacket`] | its own | none | the packet, or the value that it keeps |
///
/// A borrowed buffer is copied, since the future may be forgotten while the device still works: a request in flight owns its
/// memory (rule P1). An owned buffer goes with the request and comes back with the result. To lend a buffer without a copy, the
/// caller has to wait: the blocking calls and the blocking scope do that.
///
/// A future that is never awaited can therefore not refer to freed memory. Borrowed memory must outlive the future:
///
/// ```compile_fail,E0597
/// # use pactio_sdk::{CopiedBack, IntoPacket, Write};
/// let request: CopiedBack<'_, Write>;
/// {
///     let mut short_lived = [0; 64];
///     request = (&mut short_lived).into_packet().unwrap();
/// }
/// drop(request);
/// ```
pub trait IntoPacket<Perms: PacketPerms> {
    /// Keeps the packet and the data that is needed to give the buffer back.
    type Store: PacketStore<Perms>;

    /// Makes the request.
    ///
    /// # Errors
    ///
    /// [`IoError::OUT_OF_MEMORY`] if memory cannot be allocated.
    fn into_packet(self) -> Result<Self::Store, IoError>;

    /// Performs a read without a packet, for small buffers that a packet's bytes would be copied to: `fill` fills the bytes.
    /// Gives the buffer in the form in which it comes back; or unchanged, if not all bytes are filled.
    #[doc(hidden)]
    #[inline(always)]
    fn fill_now(
        self,
        fill: impl FnOnce(&mut Unfilled<'_>),
    ) -> Result<<Self::Store as PacketStore<Perms>>::Back, Self>
    where
        Self: Sized,
    {
        let _ = fill;
        Err(self)
    }
}

/// Largest buffer that is filled without a packet, in bytes. The bytes are on the stack first, so that a failure leaves the
/// buffer unchanged.
pub(crate) const MAX_ON_STACK: usize = 256;

/// A read request or an exchange with bytes that are copied into a borrowed buffer when it is complete.
#[derive(Debug)]
pub struct CopiedBack<'a, Perms: PacketPerms> {
    packet: PacketBox<Perms>,
    buffer: &'a mut [u8],
}

impl<Perms: PacketPerms> PacketStore<Perms> for CopiedBack<'_, Perms> {
    type Back = ();

    #[inline]
    fn packet(&self) -> &PacketBox<Perms> {
        &self.packet
    }

    #[inline]
    fn packet_mut(&mut self) -> PacketMut<'_, Perms> {
        PacketMut::new(&mut self.packet)
    }

    #[inline]
    fn sync_back(self) -> Result<(), IoError> {
        if !self.packet.is_complete() {
            return Err(IoError::IN_FLIGHT);
        }
        self.packet.copy_done_to(self.buffer);
        Ok(())
    }
}

/// A read request for a borrowed buffer that need not be initialised.
#[derive(Debug)]
pub struct CopiedUninit<'a> {
    packet: PacketBox<Write>,
    buffer: &'a mut [MaybeUninit<u8>],
}

impl<'a> PacketStore<Write> for CopiedUninit<'a> {
    /// The leading part that was done.
    type Back = &'a mut [u8];

    fn packet(&self) -> &PacketBox<Write> {
        &self.packet
    }

    fn packet_mut(&mut self) -> PacketMut<'_, Write> {
        PacketMut::new(&mut self.packet)
    }

    #[inline]
    fn sync_back(self) -> Result<&'a mut [u8], IoError> {
        if !self.packet.is_complete() {
            return Err(IoError::IN_FLIGHT);
        }
        let done = &mut self.buffer[..self.packet.error_clamp()];
        // Without a leading byte the result is empty; the call below would fail with the error of the first byte.
        if !done.is_empty() {
            let bytes = self.packet.simple_contiguous_slice()?;
            // SAFETY: `MaybeUninit<u8>` has the layout of `u8`, and the source is initialised.
            done.copy_from_slice(unsafe { core::slice::from_raw_parts(bytes.as_ptr().cast(), bytes.len()) });
        }
        // SAFETY: all of `done` was just initialised.
        Ok(unsafe { &mut *(core::ptr::from_mut(done) as *mut [u8]) })
    }
}

/// A write request of bytes that were copied.
#[derive(Debug)]
pub struct WriteFrom(PacketBox<Read>);

impl PacketStore<Read> for WriteFrom {
    type Back = ();

    #[inline]
    fn packet(&self) -> &PacketBox<Read> {
        &self.0
    }

    #[inline]
    fn packet_mut(&mut self) -> PacketMut<'_, Read> {
        PacketMut::new(&mut self.0)
    }

    #[inline]
    fn sync_back(self) -> Result<(), IoError> {
        if self.0.is_complete() { Ok(()) } else { Err(IoError::IN_FLIGHT) }
    }
}

/// Requests that are their own store.
macro_rules! own_store {
    ($([$($generics:tt)*] $perms:ty, $type:ty;)*) => {
        $(
            impl<$($generics)*> IntoPacket<$perms> for $type {
                type Store = Self;

                #[inline]
                fn into_packet(self) -> Result<Self, IoError> {
                    Ok(self)
                }
            }
        )*
    };
}

own_store! {
    [P: PacketPerms] P, PacketBox<P>;
    [P: PacketPerms] P, VecPacket<P>;
    [P: PacketPerms] P, OwnedPacket<P>;
    [T, P: PacketPerms] P, FullPacket<T, P>;
    [T: PacketBytes<P>, P: PacketPerms] P, ComplexPacket<T, P>;
    [T: StableBytes, P: PacketPerms] P, KeptPacket<T, P>;
    [] Read, SharedPacket;
}

impl<'a> IntoPacket<Write> for &'a mut [u8] {
    type Store = CopiedBack<'a, Write>;

    #[inline]
    fn into_packet(self) -> Result<Self::Store, IoError> {
        Ok(CopiedBack { packet: PacketBox::new_buf(self.len())?, buffer: self })
    }

    #[inline(always)]
    fn fill_now(self, fill: impl FnOnce(&mut Unfilled<'_>)) -> Result<(), Self> {
        // The bytes go through the stack: an incomplete read leaves the buffer unchanged. A larger buffer needs a packet.
        let mut memory = [MaybeUninit::uninit(); MAX_ON_STACK];
        let Some(memory) = memory.get_mut(..self.len()) else { return Err(self) };
        let mut filling = Filling::new(memory);
        fill(&mut filling.unfilled());
        if !filling.is_full() {
            return Err(self);
        }
        // SAFETY: all bytes of `memory` are filled; `MaybeUninit<u8>` has the layout of `u8`.
        self.copy_from_slice(unsafe { core::slice::from_raw_parts(memory.as_ptr().cast(), memory.len()) });
        Ok(())
    }
}

impl<'a> IntoPacket<ReadWrite> for &'a mut [u8] {
    type Store = CopiedBack<'a, ReadWrite>;

    fn into_packet(self) -> Result<Self::Store, IoError> {
        Ok(CopiedBack { packet: PacketBox::copy_from_slice(self)?, buffer: self })
    }
}

impl<'a> IntoPacket<Write> for &'a mut [MaybeUninit<u8>] {
    type Store = CopiedUninit<'a>;

    fn into_packet(self) -> Result<Self::Store, IoError> {
        Ok(CopiedUninit { packet: PacketBox::new_buf(self.len())?, buffer: self })
    }
}

impl IntoPacket<Read> for &[u8] {
    type Store = WriteFrom;

    #[inline]
    fn into_packet(self) -> Result<WriteFrom, IoError> {
        Ok(WriteFrom(PacketBox::copy_from_slice(self)?))
    }
}

impl<'a, P: PacketPerms, const N: usize> IntoPacket<P> for &'a mut [u8; N]
where
    &'a mut [u8]: IntoPacket<P>,
{
    type Store = <&'a mut [u8] as IntoPacket<P>>::Store;

    #[inline]
    fn into_packet(self) -> Result<Self::Store, IoError> {
        self.as_mut_slice().into_packet()
    }

    #[inline(always)]
    fn fill_now(
        self,
        fill: impl FnOnce(&mut Unfilled<'_>),
    ) -> Result<<Self::Store as PacketStore<P>>::Back, Self> {
        let filled = self.as_mut_slice().fill_now(fill);
        filled.map_err(|slice| slice.try_into().expect("the slice is the array"))
    }
}

impl<'a, P: PacketPerms> IntoPacket<P> for &'a mut Vec<u8>
where
    &'a mut [u8]: IntoPacket<P>,
{
    type Store = <&'a mut [u8] as IntoPacket<P>>::Store;

    fn into_packet(self) -> Result<Self::Store, IoError> {
        self.as_mut_slice().into_packet()
    }
}

impl<const N: usize> IntoPacket<Read> for &[u8; N] {
    type Store = WriteFrom;

    #[inline]
    fn into_packet(self) -> Result<WriteFrom, IoError> {
        self.as_slice().into_packet()
    }
}

impl IntoPacket<Read> for &Vec<u8> {
    type Store = WriteFrom;

    fn into_packet(self) -> Result<WriteFrom, IoError> {
        self.as_slice().into_packet()
    }
}

impl<P: PacketPerms> IntoPacket<P> for Vec<u8> {
    type Store = VecPacket<P>;

    fn into_packet(self) -> Result<VecPacket<P>, IoError> {
        VecPacket::new(self)
    }
}

impl IntoPacket<Read> for Arc<[u8]> {
    type Store = SharedPacket;

    fn into_packet(self) -> Result<SharedPacket, IoError> {
        SharedPacket::new(self)
    }
}

impl<P: PacketPerms> IntoPacket<P> for Box<[u8]> {
    type Store = OwnedPacket<P>;

    fn into_packet(self) -> Result<OwnedPacket<P>, IoError> {
        OwnedPacket::new(self)
    }
}
