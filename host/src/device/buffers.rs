//! A bounded number of buffers that are used again.

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::fmt;
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_channel::{Receiver, Sender};
use pactio_sdk::{IntoPacket, KeptPacket, PacketPerms, StableBytes};

use super::{Registered, Shared};
use crate::gauges::{BUFFERS, Taken};
use crate::{Error, ErrorKind};

/// A bounded number of buffers of one size in one piece of memory.
///
/// A [`Buffer`] goes with a request and comes back with the result, without a copy, like a `Vec`. When the buffer is dropped,
/// also by an abandoned request, it is free again. The memory does not move while the pool or a buffer exists. That of
/// [`new`](Self::new) is aligned to pages, as direct I/O needs it; other memory is aligned as its owner has aligned it. Every buffer has a number. A device may be faster with memory that is
/// [registered](crate::Device::register) with it.
///
/// ```no_run
/// # async fn run(device: &pactio::Device) -> Result<(), pactio::Error> {
/// use pactio::BufferPool;
///
/// let pool = BufferPool::new(16, 64 << 10)?;
/// for block in 0..1000 {
///     let buffer = pool.get().await; // waits while all 16 are in use
///     let buffer = device.read_exact_at(block << 16, buffer).await?;
///     println!("{} bytes in buffer {}", buffer.len(), buffer.index());
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct BufferPool(Arc<Pool>);

struct Pool {
    memory: NonNull<u8>,
    /// Length of the memory in bytes.
    total: usize,
    owner: Owner,
    /// Length of each buffer in bytes; `stride` is the distance from one buffer to the next.
    size: usize,
    stride: usize,
    /// The numbers of the free buffers.
    free: Receiver<usize>,
    freed: Sender<usize>,
    /// The registrations of the memory with devices.
    registered: Mutex<Vec<Registered>>,
}

/// The side that frees the memory.
enum Owner {
    Pool(Layout, #[expect(dead_code, reason = "it counts the memory")] Taken),
    /// The value is dropped with the pool.
    Other(#[expect(dead_code, reason = "it keeps the memory")] Box<dyn Send + Sync>),
}

// SAFETY: the memory is reached only through buffers, and each buffer has one owner at a time.
unsafe impl Send for Pool {}
// SAFETY: the memory is reached only through buffers, and each buffer has one owner at a time.
unsafe impl Sync for Pool {}

/// Buffers begin at page boundaries if they are this large, and at cache lines otherwise.
const PAGE: usize = 4096;
const LINE: usize = 64;

impl BufferPool {
    /// `count` buffers of `size` bytes each, all zero at first.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Setup`] if `count` or `size` is 0, if the memory cannot be allocated, or if the pools of this process would
    /// exceed their bound: see [`Resources::limit_buffers`](crate::Resources::limit_buffers).
    pub fn new(count: usize, size: usize) -> Result<Self, Error> {
        let refused = |why: &str| {
            let message = format!("cannot make a pool of {count} buffers of {size} bytes: {why}");
            Error::new(ErrorKind::Setup, message)
        };
        if count == 0 || size == 0 {
            return Err(refused("both must be more than 0"));
        }
        let stride = size.checked_next_multiple_of(if size >= PAGE { PAGE } else { LINE });
        let layout = stride
            .and_then(|stride| stride.checked_mul(count))
            .and_then(|total| Layout::from_size_align(total, PAGE).ok())
            .ok_or_else(|| refused("that is more than there can be"))?;
        let taken = BUFFERS.take(layout.size()).ok_or_else(|| {
            refused("the pools of the process may not have that much memory: see `Resources`")
        })?;
        // SAFETY: the size is not zero.
        let memory = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or_else(|| refused("out of memory"))?;
        let (total, stride) = (layout.size(), layout.size() / count);
        Ok(Self::over(memory, total, size, stride, Owner::Pool(layout, taken)))
    }

    /// Buffers of `size` bytes each in existing memory, such as a mapped staging buffer of a graphics card. The number of buffers
    /// is the largest that fits; each buffer begins where the one before ends. The memory is dropped when the pool and all its
    /// buffers are dropped.
    ///
    /// A type that owns mapped memory can implement [`StableBytes`], which is unsafe to implement. Vectors and boxes implement it
    /// already.
    ///
    /// ```
    /// let pool = pactio::BufferPool::from_memory(vec![0u8; 1 << 20], 64 << 10)?;
    /// assert_eq!((pool.count(), pool.buffer_size()), (16, 64 << 10));
    /// # Ok::<(), pactio::Error>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Setup`] if `size` is 0, or the memory has no room for one buffer.
    pub fn from_memory(mut memory: impl StableBytes + Sync + 'static, size: usize) -> Result<Self, Error> {
        let (start, total) = (memory.start(), memory.len());
        if size == 0 || total < size {
            let message = format!("cannot make a pool of buffers of {size} bytes in {total} bytes of memory");
            return Err(Error::new(ErrorKind::Setup, message));
        }
        Ok(Self::over(start, total - total % size, size, size, Owner::Other(Box::new(memory))))
    }

    /// Makes a pool over `total` bytes of memory, which are a multiple of `stride`. All buffers are free.
    fn over(memory: NonNull<u8>, total: usize, size: usize, stride: usize, owner: Owner) -> Self {
        let count = total / stride;
        let (freed, free) = async_channel::bounded(count);
        for index in 0..count {
            // The channel has room for all numbers.
            let _ = freed.try_send(index);
        }
        Self(Arc::new(Pool { memory, total, owner, size, stride, free, freed, registered: Mutex::default() }))
    }

    fn registered(&self) -> MutexGuard<'_, Vec<Registered>> {
        self.0.registered.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The memory is already registered with a device.
    pub(crate) fn is_registered(&self, device: &Arc<Shared>) -> bool {
        self.registered().iter().any(|registered| registered.is_of(device))
    }

    /// Keeps a registration of the memory with a device.
    pub(crate) fn keep(&self, new: Registered) {
        let mut registered = self.registered();
        registered.retain(Registered::is_alive);
        registered.push(new);
    }

    /// Waits for a free buffer. The buffer holds the bytes that its last user left.
    pub async fn get(&self) -> Buffer {
        match self.0.free.recv().await {
            Ok(index) => self.buffer(index),
            Err(_) => unreachable!("the pool has both ends"),
        }
    }

    /// A free buffer, if there is one now.
    pub fn try_get(&self) -> Option<Buffer> {
        self.0.free.try_recv().ok().map(|index| self.buffer(index))
    }

    fn buffer(&self, index: usize) -> Buffer {
        Buffer { pool: self.0.clone(), index, len: self.0.size }
    }

    /// Number of buffers that are free now.
    pub fn available(&self) -> usize {
        self.0.free.len()
    }

    /// Number of buffers.
    pub fn count(&self) -> usize {
        self.0.total / self.0.stride
    }

    /// Length of each buffer in bytes.
    pub fn buffer_size(&self) -> usize {
        self.0.size
    }

    /// Start and length of the memory, and the distance from one buffer to the next in bytes, for the registration with a kernel
    /// ring. The memory is valid while the pool or a buffer exists, and its content belongs to the owners of the buffers.
    pub fn memory(&self) -> (NonNull<u8>, usize, usize) {
        (self.0.memory, self.0.total, self.0.stride)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        // The registrations are dropped first, so that no device knows the memory when it is freed.
        self.registered.get_mut().unwrap_or_else(PoisonError::into_inner).clear();
        if let Owner::Pool(layout, _) = self.owner {
            // SAFETY: the memory was allocated with this layout, and no buffer is left, since each buffer keeps the pool alive.
            unsafe { dealloc(self.memory.as_ptr(), layout) };
        }
    }
}

/// A buffer of a [`BufferPool`]. Dropping it makes it free again.
pub struct Buffer {
    pool: Arc<Pool>,
    index: usize,
    len: usize,
}

impl Buffer {
    /// Number of the buffer in the pool.
    pub fn index(&self) -> usize {
        self.index
    }

    /// Uses only the first `len` bytes, for a shorter request. Nothing is lost: the buffer can be made longer again.
    ///
    /// # Panics
    ///
    /// If `len` is larger than [`BufferPool::buffer_size`].
    pub fn set_len(&mut self, len: usize) {
        assert!(len <= self.pool.size, "a buffer of {} bytes cannot have {len}", self.pool.size);
        self.len = len;
    }

    fn pointer(&self) -> NonNull<u8> {
        // SAFETY: the pool has a buffer of this number, so the offset lies in the pool's memory.
        unsafe { self.pool.memory.add(self.index * self.pool.stride) }
    }
}

impl Deref for Buffer {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: the memory is initialised, is valid while the pool exists, which the buffer keeps alive, and belongs to this
        // buffer alone.
        unsafe { std::slice::from_raw_parts(self.pointer().as_ptr(), self.len) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: the memory is initialised, is valid while the pool exists, which the buffer keeps alive, and belongs to this
        // buffer alone, which is borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.pointer().as_ptr(), self.len) }
    }
}

// SAFETY: the memory is initialised and does not move. It is valid while the pool exists, and the buffer keeps the pool alive.
// Each buffer has its own part of the memory.
unsafe impl StableBytes for Buffer {
    fn start(&mut self) -> NonNull<u8> {
        self.pointer()
    }

    fn len(&self) -> usize {
        self.len
    }
}

impl<P: PacketPerms> IntoPacket<P> for Buffer {
    type Store = KeptPacket<Self, P>;

    fn into_packet(self) -> Result<Self::Store, pactio_sdk::IoError> {
        KeptPacket::new(self)
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        // The channel has room for every number.
        let _ = self.pool.freed.try_send(self.index);
    }
}

impl fmt::Debug for Buffer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Buffer").field("index", &self.index).field("len", &self.len).finish()
    }
}

impl fmt::Debug for BufferPool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BufferPool")
            .field("count", &self.count())
            .field("buffer_size", &self.buffer_size())
            .field("available", &self.available())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_are_bounded_aligned_and_used_again() {
        for (size, align) in [(1, 64), (100, 64), (4096, 4096), (5000, 4096)] {
            let pool = BufferPool::new(3, size).unwrap();
            let mut buffers: Vec<Buffer> = std::iter::from_fn(|| pool.try_get()).collect();
            assert_eq!((buffers.len(), pool.available(), pool.count()), (3, 0, 3));
            for (index, buffer) in buffers.iter_mut().enumerate() {
                assert_eq!((buffer.index(), buffer.len()), (index, size));
                assert!((buffer.as_ptr() as usize).is_multiple_of(align));
                buffer.fill(index as u8 + 1);
            }
            assert!(
                buffers
                    .iter()
                    .enumerate()
                    .all(|(index, buffer)| buffer.iter().all(|b| *b == index as u8 + 1))
            );
            drop(buffers.remove(1));
            let again = pool.try_get().unwrap();
            assert_eq!((again.index(), again[0]), (1, 2));
        }
    }

    #[test]
    fn a_pool_that_cannot_be_made_says_why() {
        assert_eq!(
            BufferPool::new(0, 10).unwrap_err().to_string(),
            "cannot make a pool of 0 buffers of 10 bytes: both must be more than 0"
        );
        assert!(BufferPool::new(2, usize::MAX).unwrap_err().to_string().ends_with("more than there can be"));
        assert!(
            BufferPool::new(1, isize::MAX as usize - 8191)
                .unwrap_err()
                .to_string()
                .ends_with("out of memory")
        );
    }

    #[test]
    fn whoever_waits_gets_the_next_that_is_free() {
        let pool = BufferPool::new(1, 64).unwrap();
        let mut buffer = pool.try_get().unwrap();
        buffer.set_len(10);
        let other = pool.clone();
        let waiting = std::thread::spawn(move || crate::executor::block_on(other.get()).len());
        drop(buffer);
        assert_eq!(waiting.join().unwrap(), 64);
    }
}
