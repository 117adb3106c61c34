//! Memory of a caller that waits, and memory with an owner of its own kind.

use alloc::sync::Arc;
use core::marker::PhantomData;
use core::mem::MaybeUninit;
use core::pin::Pin;
use core::ptr::NonNull;
use core::task::{Context, Poll};

use super::{
    BoundPacketView, PacketBox, PacketMut, PacketPerms, PacketStore, ReadWrite, Report, Write, block,
};
use crate::IoError;

/// Borrows the caller's memory.
///
/// A future can be dropped or forgotten at any time. Memory may therefore only be lent where the caller cannot return or unwind
/// before the request is complete (rule P1): in a blocking call. The unsafe constructors require this; the blocking calls and the
/// blocking scope of the host ensure it.
#[derive(Debug)]
pub struct RefPacket<'a, Perms: PacketPerms> {
    packet: PacketBox<Perms>,
    _memory: PhantomData<&'a mut [u8]>,
}

impl<'a> RefPacket<'a, Write> {
    /// A read request into `memory`, which stays initialised in all cases.
    ///
    /// # Errors
    ///
    /// [`IoError::OUT_OF_MEMORY`] if the header cannot be allocated.
    ///
    /// # Safety
    ///
    /// The borrow does not end before the packet is complete, even if this value is forgotten.
    #[inline]
    pub unsafe fn for_read(memory: &'a mut [u8]) -> Result<Self, IoError> {
        // SAFETY: the caller's contract is the same.
        unsafe { Self::lend(NonNull::from(&mut *memory).cast(), memory.len()) }
    }
}

impl<'a> RefPacket<'a, Write> {
    /// A read request into `memory`. The ranges that are done are initialised afterwards.
    ///
    /// # Errors
    ///
    /// As [`for_read`](RefPacket::for_read).
    ///
    /// # Safety
    ///
    /// As for [`for_read`](RefPacket::for_read).
    pub unsafe fn for_read_uninit(memory: &'a mut [MaybeUninit<u8>]) -> Result<Self, IoError> {
        let block = block::allocate_lent(NonNull::from(&mut *memory).cast(), memory.len(), false)?;
        Ok(Self { packet: PacketBox::new(block), _memory: PhantomData })
    }
}

impl<Perms: PacketPerms> PacketBox<Perms> {
    /// A request over memory that another owner keeps, for hosts: a plugin in another language lends its memory.
    ///
    /// # Errors
    ///
    /// [`IoError::OUT_OF_MEMORY`] if the header cannot be allocated.
    ///
    /// # Safety
    ///
    /// The memory has `len` bytes, and is used by no other code until the packet is complete. The bytes are initialised if
    /// `initialised` says so, and in any case unless this is a read request.
    #[doc(hidden)]
    pub unsafe fn lent(bytes: NonNull<u8>, len: usize, initialised: bool) -> Result<Self, IoError> {
        block::allocate_lent(bytes, len, initialised).map(PacketBox::new)
    }
}

impl<'a> RefPacket<'a, ReadWrite> {
    /// An exchange of `memory`.
    ///
    /// # Errors
    ///
    /// As [`for_read`](RefPacket::for_read).
    ///
    /// # Safety
    ///
    /// As for [`for_read`](RefPacket::for_read).
    #[inline]
    pub unsafe fn for_exchange(memory: &'a mut [u8]) -> Result<Self, IoError> {
        // SAFETY: the caller's contract is the same.
        unsafe { Self::lend(NonNull::from(&mut *memory).cast(), memory.len()) }
    }
}

impl<'a> RefPacket<'a, super::Read> {
    /// A write request out of `memory`.
    ///
    /// # Errors
    ///
    /// As [`for_read`](RefPacket::for_read).
    ///
    /// # Safety
    ///
    /// As for [`for_read`](RefPacket::for_read).
    #[inline]
    pub unsafe fn for_write(memory: &'a [u8]) -> Result<Self, IoError> {
        // SAFETY: the caller's contract is the same.
        unsafe { Self::lend(NonNull::from(memory).cast(), memory.len()) }
    }
}

impl<Perms: PacketPerms> RefPacket<'_, Perms> {
    /// # Safety
    ///
    /// As for [`for_read`](RefPacket::for_read); the lifetime of the packet is that of the memory.
    #[inline]
    unsafe fn lend(bytes: NonNull<u8>, len: usize) -> Result<Self, IoError> {
        const IS_INITIALISED: bool = true;
        let block = block::allocate_lent(bytes, len, IS_INITIALISED)?;
        Ok(Self { packet: PacketBox::new(block), _memory: PhantomData })
    }
}

impl<Perms: PacketPerms> PacketStore<Perms> for RefPacket<'_, Perms> {
    type Back = Report;

    #[inline]
    fn packet(&self) -> &PacketBox<Perms> {
        &self.packet
    }

    #[inline]
    fn packet_mut(&mut self) -> PacketMut<'_, Perms> {
        PacketMut::new(&mut self.packet)
    }

    #[inline]
    fn sync_back(self) -> Result<Report, IoError> {
        if self.packet.is_complete() { Ok(self.packet.report()) } else { Err(IoError::IN_FLIGHT) }
    }
}

impl<Perms: PacketPerms> Future for RefPacket<'_, Perms> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.packet.poll_complete(cx)
    }
}

/// Memory with an owner: a buffer of a pool, a mapped region.
///
/// # Safety
///
/// The `len` bytes at `start` are initialised, may be written, do not move when the value is moved, are valid until the value is
/// dropped, and are used only through the value while it exists.
pub unsafe trait StableBytes: Send + 'static {
    /// The first byte.
    fn start(&mut self) -> NonNull<u8>;

    /// Number of bytes.
    fn len(&self) -> usize;

    /// There are no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// `false` for memory whose bytes need not be initialised: it may only be filled by a read request. For hosts, whose plugins
    /// in other languages lend memory of an unknown state.
    #[doc(hidden)]
    fn is_initialised(&self) -> bool {
        true
    }
}

/// Owns any [`StableBytes`], and gives the value back: no copy on the way in or out.
#[derive(Debug)]
pub struct KeptPacket<T, Perms: PacketPerms> {
    packet: PacketBox<Perms>,
    _value: PhantomData<T>,
}

impl<T: StableBytes, Perms: PacketPerms> KeptPacket<T, Perms> {
    /// A request over the bytes of `value`.
    ///
    /// # Errors
    ///
    /// [`IoError::OUT_OF_MEMORY`] if the header cannot be allocated.
    pub fn new(mut value: T) -> Result<Self, IoError> {
        let (bytes, len) = (value.start(), value.len());
        let block = block::allocate_kept(value)?;
        // SAFETY: the packet is ours, and its room keeps the value.
        unsafe { block::set_bytes(block, bytes.as_ptr(), len, true) };
        Ok(Self { packet: PacketBox::new(block), _value: PhantomData })
    }

    /// Starts a request; see [`PacketBox::bind`].
    ///
    /// # Errors
    ///
    /// As [`PacketBox::bind`].
    pub fn bind(&mut self) -> Result<BoundPacketView<Perms>, IoError> {
        self.packet.bind()
    }
}

impl<T: StableBytes, Perms: PacketPerms> PacketStore<Perms> for KeptPacket<T, Perms> {
    type Back = T;

    fn packet(&self) -> &PacketBox<Perms> {
        &self.packet
    }

    fn packet_mut(&mut self) -> PacketMut<'_, Perms> {
        PacketMut::new(&mut self.packet)
    }

    #[inline]
    fn sync_back(self) -> Result<T, IoError> {
        if !self.packet.is_complete() {
            return Err(IoError::IN_FLIGHT);
        }
        // SAFETY: the packet is complete and ours and was made by `new`; the value is taken once, since `self` ends.
        Ok(unsafe { block::take_kept(self.packet.block()) })
    }
}

impl<T, Perms: PacketPerms> Unpin for KeptPacket<T, Perms> {}

/// One buffer that several write requests read at the same time, without a copy.
///
/// ```
/// use std::sync::Arc;
///
/// use pactio_sdk::{IoError, SharedPacket};
///
/// let content: Arc<[u8]> = Arc::from(*b"to be kept twice");
/// let mut first = SharedPacket::new(content.clone())?;
/// let mut second = SharedPacket::new(content.clone())?;
/// let (one, other) = (first.bind()?, second.bind()?);
/// let mut copies = [[0; 16]; 2];
/// one.transfer_data(&mut copies[0]).complete();
/// other.transfer_data(&mut copies[1]).complete();
/// assert_eq!(copies, [*b"to be kept twice"; 2]);
/// # Ok::<(), IoError>(())
/// ```
#[derive(Debug)]
pub struct SharedPacket {
    packet: PacketBox<super::Read>,
}

impl SharedPacket {
    /// A write request of all of `bytes`.
    ///
    /// # Errors
    ///
    /// [`IoError::OUT_OF_MEMORY`] if the header cannot be allocated.
    pub fn new(bytes: Arc<[u8]>) -> Result<Self, IoError> {
        let (start, len) = (bytes.as_ptr().cast_mut(), bytes.len());
        let block = block::allocate_kept(bytes)?;
        // SAFETY: the packet is ours, and its room keeps a count of the bytes. Devices only read the bytes of a write request.
        unsafe { block::set_bytes(block, start, len, true) };
        Ok(Self { packet: PacketBox::new(block) })
    }

    /// Starts a request; see [`PacketBox::bind`].
    ///
    /// # Errors
    ///
    /// As [`PacketBox::bind`].
    pub fn bind(&mut self) -> Result<BoundPacketView<super::Read>, IoError> {
        self.packet.bind()
    }

    /// The account of every byte: done, or failed with a cause.
    pub fn report(&self) -> Report {
        self.packet.report()
    }
}

impl PacketStore<super::Read> for SharedPacket {
    type Back = Arc<[u8]>;

    fn packet(&self) -> &PacketBox<super::Read> {
        &self.packet
    }

    fn packet_mut(&mut self) -> PacketMut<'_, super::Read> {
        PacketMut::new(&mut self.packet)
    }

    fn sync_back(self) -> Result<Arc<[u8]>, IoError> {
        if !self.packet.is_complete() {
            return Err(IoError::IN_FLIGHT);
        }
        // SAFETY: the packet is complete and ours and was made by `new`; the value is taken once, since `self` ends.
        Ok(unsafe { block::take_kept::<Arc<[u8]>>(self.packet.block()) })
    }
}
