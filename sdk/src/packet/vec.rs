//! Owned memory as a request: no copy on the way in or out.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::mem::{ManuallyDrop, MaybeUninit};
use core::pin::Pin;
use core::task::{Context, Poll};

use super::{BoundPacketView, PacketBox, PacketMut, PacketPerms, PacketStore, Report, Write, block};
use crate::IoError;

type Uninit = Vec<MaybeUninit<u8>>;

/// Owns a vector; its length is the length of the request.
///
/// ```
/// # use pactio_sdk::{IoError, VecPacket, Write};
/// let mut packet = VecPacket::<Write>::new(vec![0; 6])?;
/// packet.bind()?.transfer_data(b"pactio").complete();
/// assert_eq!(packet.take()?, b"pactio");
/// # Ok::<(), IoError>(())
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
    /// [`IoError::OUT_OF_MEMORY`] if the header cannot be allocated.
    pub fn new(vector: Vec<u8>) -> Result<Self, IoError> {
        let mut vector = ManuallyDrop::new(vector);
        let (pointer, len, capacity) = (vector.as_mut_ptr(), vector.len(), vector.capacity());
        // SAFETY: the three parts come from a vector that is not dropped, and `MaybeUninit<u8>` has the layout of `u8`.
        Self::keep(unsafe { Vec::from_raw_parts(pointer.cast(), len, capacity) }, true)
    }

    fn keep(mut vector: Uninit, initialised: bool) -> Result<Self, IoError> {
        let (bytes, len) = (vector.as_mut_ptr(), vector.len());
        let block = block::allocate_kept(vector)?;
        // SAFETY: the packet is ours, and its room keeps the vector.
        unsafe { block::set_bytes(block, bytes.cast(), len, initialised) };
        Ok(Self { packet: PacketBox::new(block) })
    }

    /// Starts a request; see [`PacketBox::bind`].
    ///
    /// # Errors
    ///
    /// As [`PacketBox::bind`].
    pub fn bind(&mut self) -> Result<BoundPacketView<Perms>, IoError> {
        self.packet.bind()
    }

    /// The result of every byte.
    pub fn report(&self) -> Report {
        self.packet.report()
    }

    /// The vector; the packet is empty afterwards. Ranges that were not done keep their content, or hold a part of the device's
    /// data; ranges of [`with_len`](VecPacket::with_len) that were not done are zero.
    ///
    /// # Errors
    ///
    /// [`IoError::IN_FLIGHT`] while views exist; nothing is taken then.
    pub fn take(&mut self) -> Result<Vec<u8>, IoError> {
        // Checked before the report is made: the packet may complete at any moment, and the report must describe the complete
        // packet.
        if !self.packet.is_complete() {
            return Err(IoError::IN_FLIGHT);
        }
        let initialised = self.packet.is_initialised();
        let report = (!initialised && !self.packet.is_done()).then(|| self.packet.report());
        let mut vector = self.take_uninit()?;
        for (range, _) in report.iter().flat_map(Report::failed_ranges) {
            vector[range].fill(MaybeUninit::zeroed());
        }
        let len = vector.len();
        // SAFETY: each byte was initialised before, is done, or was filled above; no view makes bytes uninitialised again.
        Ok(unsafe { assume_init(vector, len) })
    }

    /// Takes the vector as it is; its bytes need not be initialised. The vector is empty if it was taken before.
    fn take_uninit(&mut self) -> Result<Uninit, IoError> {
        if !self.packet.is_complete() {
            return Err(IoError::IN_FLIGHT);
        }
        let block = self.packet.block();
        // SAFETY: the packet is complete, ours, and made by `keep`.
        unsafe {
            if !block::keeps(block) {
                return Ok(Vec::new());
            }
            // The failures describe bytes that the packet does not have any more.
            block::forget_failures(block);
            Ok(block::take_kept::<Uninit>(block))
        }
    }
}

/// # Safety
///
/// The leading `len` bytes are initialised.
unsafe fn assume_init(vector: Uninit, len: usize) -> Vec<u8> {
    let mut vector = ManuallyDrop::new(vector);
    // SAFETY: the pointer and the capacity come from a vector that is not dropped, and `u8` has the layout of `MaybeUninit<u8>`;
    // the caller ensures that the leading `len` bytes are initialised.
    unsafe { Vec::from_raw_parts(vector.as_mut_ptr().cast(), len, vector.capacity()) }
}

impl VecPacket<Write> {
    /// A request for `len` bytes that need not be initialised first.
    ///
    /// # Errors
    ///
    /// [`IoError::OUT_OF_MEMORY`] if the memory cannot be allocated.
    pub fn with_len(len: usize) -> Result<Self, IoError> {
        let mut vector = Uninit::new();
        vector.try_reserve_exact(len).map_err(|_| IoError::OUT_OF_MEMORY)?;
        // SAFETY: the capacity is at least `len`, and `MaybeUninit` needs no initialisation.
        unsafe { vector.set_len(len) };
        Self::keep(vector, false)
    }

    /// The leading bytes that were done, as a vector of that length.
    ///
    /// # Errors
    ///
    /// [`IoError::IN_FLIGHT`] while views exist.
    pub fn take_done(&mut self) -> Result<Vec<u8>, IoError> {
        if !self.packet.is_complete() {
            return Err(IoError::IN_FLIGHT);
        }
        let done = self.packet.error_clamp();
        let vector = self.take_uninit()?;
        // SAFETY: the leading `done` bytes are initialised.
        Ok(unsafe { assume_init(vector, done) })
    }
}

/// Fails as [`VecPacket::new`] does: a request needs a header.
impl<Perms: PacketPerms> TryFrom<Vec<u8>> for VecPacket<Perms> {
    type Error = IoError;

    fn try_from(vector: Vec<u8>) -> Result<Self, IoError> {
        Self::new(vector)
    }
}

/// Fails as [`VecPacket::new`] does. Bytes that a device does not fill are zero when the vector is taken.
impl TryFrom<Uninit> for VecPacket<Write> {
    type Error = IoError;

    fn try_from(vector: Uninit) -> Result<Self, IoError> {
        Self::keep(vector, false)
    }
}

impl<Perms: PacketPerms> PacketStore<Perms> for VecPacket<Perms> {
    type Back = Vec<u8>;

    fn packet(&self) -> &PacketBox<Perms> {
        &self.packet
    }

    fn packet_mut(&mut self) -> PacketMut<'_, Perms> {
        PacketMut::new(&mut self.packet)
    }

    fn sync_back(mut self) -> Result<Vec<u8>, IoError> {
        self.take()
    }
}

impl<Perms: PacketPerms> Future for VecPacket<Perms> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.packet.poll_complete(cx)
    }
}

/// Owns a boxed slice, as [`VecPacket`] owns a vector.
///
/// ```
/// # use pactio_sdk::{IoError, OwnedPacket, Read};
/// let mut packet = OwnedPacket::<Read>::new(Box::new(*b"pactio"))?;
/// let mut storage = [0; 6];
/// packet.bind()?.transfer_data(&mut storage).complete();
/// assert_eq!(&packet.take()?[..], &storage);
/// # Ok::<(), IoError>(())
/// ```
#[derive(Debug)]
pub struct OwnedPacket<Perms: PacketPerms>(VecPacket<Perms>);

impl<Perms: PacketPerms> OwnedPacket<Perms> {
    /// A request over the bytes of `bytes`.
    ///
    /// # Errors
    ///
    /// [`IoError::OUT_OF_MEMORY`] if the header cannot be allocated.
    pub fn new(bytes: Box<[u8]>) -> Result<Self, IoError> {
        VecPacket::new(bytes.into_vec()).map(Self)
    }

    /// Starts a request; see [`PacketBox::bind`].
    ///
    /// # Errors
    ///
    /// As [`PacketBox::bind`].
    pub fn bind(&mut self) -> Result<BoundPacketView<Perms>, IoError> {
        self.0.bind()
    }

    /// The result of every byte.
    pub fn report(&self) -> Report {
        self.0.report()
    }

    /// The boxed slice; the packet is empty afterwards.
    ///
    /// # Errors
    ///
    /// [`IoError::IN_FLIGHT`] while views exist; nothing is taken then.
    pub fn take(&mut self) -> Result<Box<[u8]>, IoError> {
        // The capacity is the length, so nothing is moved.
        self.0.take().map(Vec::into_boxed_slice)
    }
}

/// Fails as [`OwnedPacket::new`] does: a request needs a header.
impl<Perms: PacketPerms> TryFrom<Box<[u8]>> for OwnedPacket<Perms> {
    type Error = IoError;

    fn try_from(bytes: Box<[u8]>) -> Result<Self, IoError> {
        Self::new(bytes)
    }
}

/// Fails as [`OwnedPacket::new`] does. Bytes that a device does not fill are zero when the slice is taken.
impl TryFrom<Box<[MaybeUninit<u8>]>> for OwnedPacket<Write> {
    type Error = IoError;

    fn try_from(bytes: Box<[MaybeUninit<u8>]>) -> Result<Self, IoError> {
        VecPacket::try_from(bytes.into_vec()).map(Self)
    }
}

impl<Perms: PacketPerms> PacketStore<Perms> for OwnedPacket<Perms> {
    type Back = Box<[u8]>;

    fn packet(&self) -> &PacketBox<Perms> {
        self.0.packet()
    }

    fn packet_mut(&mut self) -> PacketMut<'_, Perms> {
        self.0.packet_mut()
    }

    fn sync_back(mut self) -> Result<Box<[u8]>, IoError> {
        self.take()
    }
}

impl<Perms: PacketPerms> Future for OwnedPacket<Perms> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.0.packet.poll_complete(cx)
    }
}
