//! Memory that a reader has not filled yet.

use core::fmt;
use core::marker::PhantomData;
use core::mem::MaybeUninit;

/// Memory for bytes, with the count of those that are filled. Its owner lends it as [`Unfilled`], and then asks whether it
/// [is full](Self::is_full).
///
/// ```
/// use std::mem::MaybeUninit;
/// use pactio_sdk::Filling;
///
/// let mut memory = [MaybeUninit::uninit(); 6];
/// let mut filling = Filling::new(&mut memory);
/// let mut into = filling.unfilled();
/// into.append(b"pact");
/// assert_eq!(into.remaining(), 2);
/// assert_eq!(into.append(b"iox"), 2); // as many as fit
/// assert!(filling.is_full());
/// ```
pub struct Filling<'a> {
    next: *mut u8,
    left: usize,
    _memory: PhantomData<&'a mut [MaybeUninit<u8>]>,
}

impl<'a> Filling<'a> {
    /// All of `memory`.
    #[inline(always)]
    pub fn new(memory: &'a mut [MaybeUninit<u8>]) -> Self {
        Self { next: memory.as_mut_ptr().cast(), left: memory.len(), _memory: PhantomData }
    }

    /// Memory at an address.
    ///
    /// # Safety
    ///
    /// `start` is valid for writes of `len` bytes during `'a`, and nothing else uses them meanwhile.
    #[inline(always)]
    pub unsafe fn from_raw(start: *mut u8, len: usize) -> Self {
        Self { next: start, left: len, _memory: PhantomData }
    }

    /// Every byte is filled.
    #[inline(always)]
    pub fn is_full(&self) -> bool {
        self.left == 0
    }

    /// The rest of the memory, to be filled by other code. That code may replace the value that it gets; the count stays here.
    #[inline(always)]
    pub fn unfilled(&mut self) -> Unfilled<'_> {
        Unfilled { next: &mut self.next, left: &mut self.left }
    }
}

/// The rest of some memory, which is filled from its front: see [`Filling`].
pub struct Unfilled<'a> {
    next: &'a mut *mut u8,
    left: &'a mut usize,
}

impl Unfilled<'_> {
    /// Number of bytes that are not filled yet.
    #[inline(always)]
    pub fn remaining(&self) -> usize {
        *self.left
    }

    /// Every byte is filled.
    #[inline(always)]
    pub fn is_full(&self) -> bool {
        *self.left == 0
    }

    /// Fills the next bytes with a copy of `bytes`, as far as there is room; gives the number of copied bytes.
    #[inline]
    pub fn append(&mut self, bytes: &[u8]) -> usize {
        let len = bytes.len().min(*self.left);
        // SAFETY: `len` bytes are left from `next` on, which nothing else uses, and all of them are written.
        unsafe {
            core::ptr::copy_nonoverlapping(bytes.as_ptr(), *self.next, len);
            self.advance_unchecked(len);
        }
        len
    }

    /// Address of the next byte.
    #[inline(always)]
    pub fn unfilled_ptr(&mut self) -> *mut u8 {
        *self.next
    }

    /// Counts the next `len` bytes as filled.
    ///
    /// # Safety
    ///
    /// At least `len` bytes remain, and they were written through [`unfilled_ptr`](Self::unfilled_ptr).
    #[inline(always)]
    pub unsafe fn advance_unchecked(&mut self, len: usize) {
        // SAFETY: the caller promises that `len` bytes remain.
        *self.next = unsafe { self.next.add(len) };
        *self.left -= len;
    }
}

impl fmt::Debug for Filling<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Filling").field("left", &self.left).finish_non_exhaustive()
    }
}

impl fmt::Debug for Unfilled<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Unfilled").field("remaining", &self.left).finish_non_exhaustive()
    }
}
