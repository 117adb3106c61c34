//! Memory at an alignment, and a pool of such memory, for requests that layers make.

use alloc::alloc::{Layout, alloc_zeroed, dealloc};
use core::fmt;
use core::ops::{Deref, DerefMut};
use core::ptr::NonNull;

use super::StableBytes;
use crate::IoError;

/// Bytes that begin at a multiple of an alignment, all zero at first. As a [`StableBytes`] they go with a request and come back
/// with it, without a copy.
///
/// ```
/// use pactio_sdk::{AlignedBytes, IoError};
///
/// let mut page = AlignedBytes::zeroed(4096, 4096)?;
/// assert!((page.as_ptr() as usize).is_multiple_of(4096));
/// page[0] = 1;
/// # Ok::<(), IoError>(())
/// ```
pub struct AlignedBytes {
    start: NonNull<u8>,
    len: usize,
    layout: Layout,
}

// SAFETY: the value owns plain bytes.
unsafe impl Send for AlignedBytes {}
// SAFETY: a shared `AlignedBytes` only reads.
unsafe impl Sync for AlignedBytes {}

impl AlignedBytes {
    /// `len` bytes at an address that is a multiple of `align`.
    ///
    /// # Errors
    ///
    /// [`IoError::OUT_OF_MEMORY`] if the memory cannot be allocated or `align` is not a power of two.
    pub fn zeroed(len: usize, align: usize) -> Result<Self, IoError> {
        let layout = Layout::from_size_align(len.max(1), align).map_err(|_| IoError::OUT_OF_MEMORY)?;
        // SAFETY: the size is not zero.
        let start = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or(IoError::OUT_OF_MEMORY)?;
        Ok(Self { start, len, layout })
    }
}

impl Deref for AlignedBytes {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        // SAFETY: `len` bytes were allocated and zeroed, and no code makes bytes uninitialised.
        unsafe { core::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }
}

impl DerefMut for AlignedBytes {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: `len` bytes were allocated and zeroed, and no code makes bytes uninitialised; `self` owns the bytes.
        unsafe { core::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }
}

// SAFETY: the bytes are zeroed, lie on the heap, and are freed when the value is dropped; only the value gives access to them.
unsafe impl StableBytes for AlignedBytes {
    fn start(&mut self) -> NonNull<u8> {
        self.start
    }

    fn len(&self) -> usize {
        self.len
    }
}

impl Drop for AlignedBytes {
    fn drop(&mut self) {
        // SAFETY: the memory was allocated with this layout and is freed once.
        unsafe { dealloc(self.start.as_ptr(), self.layout) };
    }
}

impl fmt::Debug for AlignedBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AlignedBytes({} bytes)", self.len)
    }
}

// SAFETY: the bytes of a vector are initialised, stay in place on the heap when the vector is moved, and are freed with the
// vector.
unsafe impl StableBytes for alloc::vec::Vec<u8> {
    fn start(&mut self) -> NonNull<u8> {
        // SAFETY: the pointer of a vector is not null.
        unsafe { NonNull::new_unchecked(self.as_mut_ptr()) }
    }

    fn len(&self) -> usize {
        self.len()
    }
}

#[cfg(feature = "std")]
pub use pool::{MemoryPool, PooledBytes};

#[cfg(feature = "std")]
mod pool {
    use core::fmt;
    use core::ops::{Deref, DerefMut};
    use core::ptr::NonNull;
    use std::sync::{Arc, Mutex, PoisonError, Weak};

    use super::{AlignedBytes, StableBytes};
    use crate::IoError;

    /// Buffers of one size and alignment that are used again: for the blocks that a filter reads, encodes and writes.
    ///
    /// The pool bounds the number of free buffers that are kept, and not the number of buffers in use. A clone is cheap; all
    /// clones are one pool.
    ///
    /// ```
    /// use pactio_sdk::{IoError, MemoryPool};
    ///
    /// let pool = MemoryPool::new(4096, 512, 8);
    /// let first = pool.take()?;
    /// let address = first.as_ptr();
    /// drop(first);
    /// assert_eq!(pool.take()?.as_ptr(), address, "the free buffer is used again");
    /// # Ok::<(), IoError>(())
    /// ```
    #[derive(Clone)]
    pub struct MemoryPool(Arc<Shared>);

    struct Shared {
        free: Mutex<Vec<AlignedBytes>>,
        len: usize,
        align: usize,
        kept: usize,
    }

    /// A buffer of a [`MemoryPool`]. The buffer holds the bytes that its last user left, and goes back to the pool when it is
    /// dropped.
    pub struct PooledBytes {
        bytes: Option<AlignedBytes>,
        /// Number of bytes that are shown.
        len: usize,
        pool: Weak<Shared>,
    }

    impl MemoryPool {
        /// Buffers of `len` bytes at multiples of `align`, of which at most `kept` stay allocated while they are free.
        pub fn new(len: usize, align: usize, kept: usize) -> Self {
            Self(Arc::new(Shared { free: Mutex::default(), len, align, kept }))
        }

        /// A buffer: a free one, or a new one.
        ///
        /// # Errors
        ///
        /// [`IoError::OUT_OF_MEMORY`] if a new buffer cannot be allocated.
        pub fn take(&self) -> Result<PooledBytes, IoError> {
            let free = self.0.free.lock().unwrap_or_else(PoisonError::into_inner).pop();
            let bytes = match free {
                Some(bytes) => bytes,
                None => AlignedBytes::zeroed(self.0.len, self.0.align)?,
            };
            Ok(PooledBytes { bytes: Some(bytes), len: self.0.len, pool: Arc::downgrade(&self.0) })
        }
    }

    impl PooledBytes {
        /// Keeps the first `len` bytes, for a request that is shorter than the buffers of the pool. The call has no effect if the
        /// buffer is shorter.
        pub fn truncate(&mut self, len: usize) {
            self.len = self.len.min(len);
        }

        fn bytes(&self) -> &AlignedBytes {
            self.bytes.as_ref().expect("only the drop takes the bytes")
        }
    }

    impl Deref for PooledBytes {
        type Target = [u8];

        fn deref(&self) -> &[u8] {
            &self.bytes()[..self.len]
        }
    }

    impl DerefMut for PooledBytes {
        fn deref_mut(&mut self) -> &mut [u8] {
            let len = self.len;
            &mut self.bytes.as_mut().expect("only the drop takes the bytes")[..len]
        }
    }

    // SAFETY: the bytes belong to an `AlignedBytes`, which keeps this contract, and go to another owner only in the drop.
    unsafe impl StableBytes for PooledBytes {
        fn start(&mut self) -> NonNull<u8> {
            self.bytes.as_mut().expect("only the drop takes the bytes").start()
        }

        fn len(&self) -> usize {
            self.len
        }
    }

    impl Drop for PooledBytes {
        fn drop(&mut self) {
            if let (Some(bytes), Some(pool)) = (self.bytes.take(), self.pool.upgrade()) {
                let mut free = pool.free.lock().unwrap_or_else(PoisonError::into_inner);
                if free.len() < pool.kept {
                    free.push(bytes);
                }
            }
        }
    }

    impl fmt::Debug for MemoryPool {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.debug_struct("MemoryPool").field("len", &self.0.len).field("align", &self.0.align).finish()
        }
    }

    impl fmt::Debug for PooledBytes {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "PooledBytes({} bytes)", self.len)
        }
    }
}
