//! Packets without memory: functions produce or consume their bytes.

use alloc::boxed::Box;
use alloc::vec;
use core::fmt;
use core::marker::PhantomData;
use core::ops::Range;
use core::pin::Pin;
use core::ptr::{self, NonNull};
use core::task::{Context, Poll};

use super::block::{self, Block, complete, fail, no_origin};
use super::header::PacketTable;
use super::{
    BoundPacketView, PacketBox, PacketMut, PacketPerms, PacketStore, Read, Report, Write, own_table,
};
use crate::sync::{AtomicPtr, Ordering};
use crate::{IoError, firewall};

/// Produces or consumes the bytes of a [`ComplexPacket`].
///
/// Any thread may call the functions, and several threads at once, for ranges that do not overlap. A panic while bytes are
/// transferred is caught and fails the range; after a panic in `alloc` the bytes are transferred. A panic in `len` reaches the
/// caller that makes the packet.
pub trait PacketBytes<Perms: PacketPerms>: Send + Sync + 'static {
    /// Number of bytes. The function is called once.
    fn len(&self) -> usize;

    /// There are no bytes.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Moves all of the device's `data` to or from `offset`: fills it for [`Read`], takes it for [`Write`], exchanges it for
    /// [`ReadWrite`](super::ReadWrite).
    ///
    /// # Errors
    ///
    /// The error that the range fails with.
    fn transfer(&self, offset: usize, data: Perms::Data<'_>) -> Result<(), IoError>;

    /// Direct access to a range, if there is memory behind it. This function is tried before [`transfer`](Self::transfer).
    ///
    /// # Safety
    ///
    /// The caller alone uses the range until it is answered: it holds the view of the range.
    unsafe fn alloc(&self, range: Range<usize>) -> Option<DirectMemory> {
        let _ = range;
        None
    }
}

/// Memory behind a range of a complex packet.
#[derive(Debug)]
pub struct DirectMemory(NonNull<u8>);

impl DirectMemory {
    /// # Safety
    ///
    /// The memory is as long as the requested range, valid while the packet exists, used by no other code before the range is
    /// answered, and initialised unless the packet is for [`Write`]. For [`Write`] and for [`ReadWrite`](super::ReadWrite) the
    /// device may write to it.
    pub unsafe fn new(start: NonNull<u8>) -> Self {
        Self(start)
    }
}

/// A request with functions in place of bytes, for input that is made on demand, output that is passed on, memory that is
/// allocated when it is needed, or shared memory.
///
/// ```
/// use pactio_sdk::{ComplexPacket, IoError, PacketBytes, Read};
///
/// /// A write request of a million counting bytes that are nowhere in memory.
/// struct Counting;
///
/// impl PacketBytes<Read> for Counting {
///     fn len(&self) -> usize {
///         1_000_000
///     }
///
///     fn transfer(&self, offset: usize, data: &mut [u8]) -> Result<(), IoError> {
///         for (index, byte) in data.iter_mut().enumerate() {
///             *byte = (offset + index) as u8;
///         }
///         Ok(())
///     }
/// }
///
/// let mut packet = ComplexPacket::<Counting, Read>::new(Counting)?;
/// let (front, back) = packet.bind()?.split_at(10);
/// let mut storage = [0; 4];
/// front.transfer_data(&mut [0; 10]).complete();
/// back.split_at(4).0.transfer_data(&mut storage).complete();
/// assert_eq!(storage, [10, 11, 12, 13]);
/// # Ok::<(), IoError>(())
/// ```
pub struct ComplexPacket<T, Perms: PacketPerms> {
    packet: PacketBox<Perms>,
    _bytes: PhantomData<T>,
}

struct TableOf<T, Perms>(T, Perms);

impl<T: PacketBytes<Perms>, Perms: PacketPerms> TableOf<T, Perms> {
    const TABLE: PacketTable = PacketTable {
        size: size_of::<PacketTable>() as u32,
        complete,
        fail,
        segment: own_table::no_segment,
        alloc: alloc::<T, Perms>,
        transfer: transfer::<T, Perms>,
        origin: no_origin,
        attribute: own_table::no_attribute,
    };
}

/// Calls [`PacketBytes::alloc`] for a view, which checks the alignment of the result. A panic counts as no memory.
unsafe extern "C" fn alloc<T: PacketBytes<Perms>, Perms: PacketPerms>(
    packet: *const (),
    start: usize,
    end: usize,
    _align: usize,
) -> *mut u8 {
    // SAFETY: the caller holds a view of the range, so the block is alive, and it keeps a `T` by `ComplexPacket::new`.
    let bytes = unsafe { block::kept::<T>(packet.cast::<Block>()) };
    // SAFETY: the caller holds the view of the range.
    match firewall::contain(|| unsafe { bytes.alloc(start..end) }) {
        Ok(Some(DirectMemory(start))) => start.as_ptr(),
        _ => ptr::null_mut(),
    }
}

/// Calls [`PacketBytes::transfer`] for a view, with the device's memory as `data`; gives 0 or the error.
unsafe extern "C" fn transfer<T: PacketBytes<Perms>, Perms: PacketPerms>(
    packet: *const (),
    start: usize,
    device: *mut u8,
    len: usize,
) -> u32 {
    // SAFETY: the caller holds a view of the range, so the block is alive, and it keeps a `T` by `ComplexPacket::new`; the caller
    // borrows the device's memory for the call.
    let (bytes, data) = unsafe { (block::kept::<T>(packet.cast::<Block>()), Perms::data(device, len)) };
    match firewall::contain(|| bytes.transfer(start, data)) {
        Ok(Ok(())) => 0,
        Ok(Err(error)) => error.to_raw(),
        Err(_) => IoError::PANICKED.to_raw(),
    }
}

impl<T: PacketBytes<Perms>, Perms: PacketPerms> ComplexPacket<T, Perms> {
    /// A request with bytes that `bytes` produces or consumes.
    ///
    /// # Errors
    ///
    /// [`IoError::OUT_OF_MEMORY`] if the header cannot be allocated.
    pub fn new(bytes: T) -> Result<Self, IoError> {
        let len = bytes.len();
        let block = block::allocate_kept(bytes)?;
        // SAFETY: the packet was just made and is ours. Null means that functions produce or consume the bytes.
        unsafe { block::set_bytes(block, ptr::null_mut(), len, false) };
        let mut packet = PacketBox::new(block);
        packet.set_table(&TableOf::<T, Perms>::TABLE);
        Ok(Self { packet, _bytes: PhantomData })
    }

    /// Starts a request; see [`PacketBox::bind`].
    ///
    /// # Errors
    ///
    /// As [`PacketBox::bind`].
    pub fn bind(&mut self) -> Result<BoundPacketView<Perms>, IoError> {
        self.packet.bind()
    }

    /// The account of every byte: done, or failed with a cause.
    pub fn report(&self) -> Report {
        self.packet.report()
    }

    /// The value that produces or consumes the bytes.
    pub fn bytes(&self) -> &T {
        // SAFETY: the block keeps a `T`, is ours, and the value is only taken by `sync_back`, which ends `self`.
        unsafe { block::kept::<T>(self.packet.block().as_ptr()) }
    }
}

impl<T: PacketBytes<Perms>, Perms: PacketPerms> PacketStore<Perms> for ComplexPacket<T, Perms> {
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

impl<T, Perms: PacketPerms> Unpin for ComplexPacket<T, Perms> {}

impl<T, Perms: PacketPerms> Future for ComplexPacket<T, Perms> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.packet.poll_complete(cx)
    }
}

impl<T, Perms: PacketPerms> fmt::Debug for ComplexPacket<T, Perms> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.packet.fmt(f)
    }
}

/// Input that a function makes when a device asks for it: `f(offset, buffer)` fills the buffer.
///
/// ```
/// use pactio_sdk::{ComplexPacket, IoError, Generated, Read};
///
/// let zeros = Generated::new(1 << 40, |_, buffer| { buffer.fill(0); Ok(()) });
/// let packet = ComplexPacket::<_, Read>::new(zeros)?;
/// # Ok::<(), IoError>(())
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Generated<F> {
    len: usize,
    fill: F,
}

impl<F: Fn(usize, &mut [u8]) -> Result<(), IoError> + Send + Sync + 'static> Generated<F> {
    /// Input of `len` bytes.
    pub fn new(len: usize, fill: F) -> Self {
        Self { len, fill }
    }
}

impl<F: Fn(usize, &mut [u8]) -> Result<(), IoError> + Send + Sync + 'static> PacketBytes<Read>
    for Generated<F>
{
    fn len(&self) -> usize {
        self.len
    }

    fn transfer(&self, offset: usize, data: &mut [u8]) -> Result<(), IoError> {
        (self.fill)(offset, data)
    }
}

/// Output with memory that is allocated when the first byte arrives: a request that fails, or is never answered, costs none.
///
/// ```
/// use pactio_sdk::{ComplexPacket, IoError, Lazy, PacketStore, Write};
///
/// let mut packet = ComplexPacket::<Lazy, Write>::new(Lazy::new(6))?;
/// packet.bind()?.transfer_data(b"pactio").complete();
/// assert_eq!(packet.sync_back()?.into_bytes().as_deref(), Some(&b"pactio"[..]));
/// # Ok::<(), IoError>(())
/// ```
pub struct Lazy {
    len: usize,
    /// Null, or zeroed memory of `len` bytes.
    memory: AtomicPtr<u8>,
}

impl Lazy {
    /// Output of `len` bytes.
    pub fn new(len: usize) -> Self {
        Self { len, memory: AtomicPtr::new(ptr::null_mut()) }
    }

    /// The memory, if a byte ever arrived; bytes that did not arrive are zero.
    pub fn into_bytes(self) -> Option<Box<[u8]>> {
        // Ordering: Acquire, with the Release of `memory`, for the case that another thread has allocated.
        let memory = self.memory.swap(ptr::null_mut(), Ordering::Acquire);
        // SAFETY: the pointer came from `into_raw` in `memory` and is taken once.
        (!memory.is_null()).then(|| unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(memory, self.len)) })
    }

    /// Gives the memory, which the first call allocates. Several threads may call at once: all get the same memory.
    fn memory(&self) -> Option<NonNull<u8>> {
        // Ordering: Acquire, so that a thread that did not write the zeros sees them.
        if let Some(memory) = NonNull::new(self.memory.load(Ordering::Acquire)) {
            return Some(memory);
        }
        let mut zeros = vec![];
        zeros.try_reserve_exact(self.len).ok()?;
        zeros.resize(self.len, 0u8);
        let fresh = Box::into_raw(zeros.into_boxed_slice());
        // Ordering: Release for the zeros, Acquire for the zeros of a thread that was faster.
        match self.memory.compare_exchange(ptr::null_mut(), fresh.cast(), Ordering::AcqRel, Ordering::Acquire)
        {
            Ok(_) => NonNull::new(fresh.cast()),
            Err(faster) => {
                // SAFETY: our allocation was not published.
                drop(unsafe { Box::from_raw(fresh) });
                NonNull::new(faster)
            }
        }
    }
}

impl PacketBytes<Write> for Lazy {
    fn len(&self) -> usize {
        self.len
    }

    /// Called only if there is no memory.
    fn transfer(&self, _: usize, _: &[u8]) -> Result<(), IoError> {
        Err(IoError::OUT_OF_MEMORY)
    }

    unsafe fn alloc(&self, range: Range<usize>) -> Option<DirectMemory> {
        let memory = self.memory()?;
        assert!(range.start <= range.end && range.end <= self.len);
        // SAFETY: the range was checked and is the caller's alone; the memory is zeroed and lives as long as `self`, which
        // the packet keeps.
        Some(unsafe { DirectMemory::new(memory.add(range.start)) })
    }
}

impl Drop for Lazy {
    fn drop(&mut self) {
        let memory = self.memory.swap(ptr::null_mut(), Ordering::Acquire);
        if !memory.is_null() {
            // SAFETY: the pointer came from `into_raw` in `memory` and is taken once.
            drop(unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(memory, self.len)) });
        }
    }
}

impl fmt::Debug for Lazy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lazy").field("len", &self.len).finish_non_exhaustive()
    }
}
