//! Views as direct bytes, for devices that need a buffer: a system call, DMA, a decoder's output.

use core::mem::{ManuallyDrop, MaybeUninit};

use super::{BoundPacketView, Read, Write};
use crate::Error;

/// The bytes of a write request, to be read by the device.
///
/// Dropping it without [`complete`](Self::complete) fails the range.
#[derive(Debug)]
#[must_use = "a view that is dropped fails its range"]
pub struct ReadPacketObj {
    view: BoundPacketView<Read>,
}

impl ReadPacketObj {
    pub(super) fn new(view: BoundPacketView<Read>) -> Self {
        Self { view }
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.view.len()
    }

    /// There are no bytes.
    pub fn is_empty(&self) -> bool {
        self.view.is_empty()
    }

    /// Splits into the first `at` bytes and the rest, as [`BoundPacketView::split_at`] does.
    pub fn split_at(self, at: usize) -> (Self, Self) {
        let (front, back) = self.view.split_at(at);
        (Self { view: front }, Self { view: back })
    }

    /// The whole range was taken.
    pub fn complete(self) {
        let len = self.len();
        self.complete_with(len, Error::SHORT);
    }

    /// The first `taken` bytes were taken, the rest failed with `error`.
    ///
    /// # Panics
    ///
    /// If there are fewer than `taken` bytes.
    pub fn complete_with(self, taken: usize, error: Error) {
        assert!(taken <= self.len(), "{taken} bytes of {} cannot have been taken", self.len());
        let view = ManuallyDrop::new(self.view);
        view.fail_from(taken, error);
        // SAFETY: the view is not used afterwards.
        unsafe { view.finish() };
    }

    /// Fails the whole range.
    pub fn error(self, error: Error) {
        self.view.error(error);
    }
}

impl core::ops::Deref for ReadPacketObj {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.view.touch();
        // SAFETY: the bytes of a `Read` packet are initialised and not written while views exist.
        unsafe { core::slice::from_raw_parts(self.view.bytes(), self.view.len()) }
    }
}

/// The bytes of a read request, to be filled by the device from the front.
///
/// ```text
///   0 ........ filled ........ initialised ........ len
///   └─ done ──┘ └── may be shown ──┘ └── may not ───┘
/// ```
///
/// Only what was said to be filled counts as done. Dropping it without [`complete`](Self::complete) fails the range.
#[derive(Debug)]
#[must_use = "a view that is dropped fails its range"]
pub struct WritePacketObj {
    view: BoundPacketView<Write>,
    filled: usize,
    initialised: usize,
}

impl WritePacketObj {
    pub(super) fn new(view: BoundPacketView<Write>) -> Self {
        let initialised = if view.is_initialised() { view.len() } else { 0 };
        Self { view, filled: 0, initialised }
    }

    /// Length in bytes.
    pub fn len(&self) -> usize {
        self.view.len()
    }

    /// There are no bytes.
    pub fn is_empty(&self) -> bool {
        self.view.is_empty()
    }

    /// Number of leading bytes that were filled.
    pub fn filled(&self) -> usize {
        self.filled
    }

    /// Splits into the first `at` bytes and the rest, as [`BoundPacketView::split_at`] does.
    pub fn split_at(self, at: usize) -> (Self, Self) {
        let (filled, initialised) = (self.filled, self.initialised);
        let (front, back) = self.view.split_at(at);
        let at = front.len();
        (
            Self { view: front, filled: filled.min(at), initialised: initialised.min(at) },
            Self {
                view: back,
                filled: filled.saturating_sub(at),
                initialised: initialised.saturating_sub(at),
            },
        )
    }

    /// The part that is not filled, as a pointer for system calls.
    ///
    /// Writing there is not enough: say how much with [`advance_unchecked`](Self::advance_unchecked).
    pub fn unfilled_ptr(&mut self) -> *mut u8 {
        self.view.touch();
        // SAFETY: `filled` is at most the length.
        unsafe { self.view.bytes().add(self.filled) }
    }

    /// The part that is not filled.
    ///
    /// # Safety
    ///
    /// Bytes that were initialised must stay so: nobody may write `MaybeUninit::uninit()` there, since the requester
    /// may have lent memory that it goes on reading as plain bytes.
    pub unsafe fn unfilled_uninit(&mut self) -> &mut [MaybeUninit<u8>] {
        let len = self.len() - self.filled;
        // SAFETY: the range is this view's alone; `MaybeUninit` asks for nothing else.
        unsafe { core::slice::from_raw_parts_mut(self.unfilled_ptr().cast(), len) }
    }

    /// The part that is not filled, as plain bytes: zeros are written where nothing was initialised.
    pub fn unfilled_mut(&mut self) -> &mut [u8] {
        let len = self.len();
        let missing = len - self.initialised.max(self.filled);
        let pointer = self.unfilled_ptr();
        // SAFETY: the range is this view's alone, and after the zeroing all of it is initialised.
        unsafe {
            core::ptr::write_bytes(pointer.add(len - self.filled - missing), 0, missing);
            self.initialised = len;
            core::slice::from_raw_parts_mut(pointer, len - self.filled)
        }
    }

    /// `count` more bytes were filled, in what [`unfilled_mut`](Self::unfilled_mut) gave.
    ///
    /// # Panics
    ///
    /// If so many bytes were not initialised.
    pub fn advance(&mut self, count: usize) {
        let filled = self.filled.checked_add(count).filter(|&filled| filled <= self.initialised);
        self.filled = filled.expect("bytes cannot be filled that were never initialised");
    }

    /// `count` more bytes were filled.
    ///
    /// # Safety
    ///
    /// They were: the first `count` bytes of the part that was not filled are initialised now.
    pub unsafe fn advance_unchecked(&mut self, count: usize) {
        debug_assert!(count <= self.len() - self.filled);
        self.filled += count;
        self.initialised = self.initialised.max(self.filled);
    }

    /// Copies as much of `data` as fits behind what is filled, and says how much that was.
    pub fn put_slice(&mut self, data: &[u8]) -> usize {
        let count = data.len().min(self.len() - self.filled);
        // SAFETY: so many bytes fit, the range is this view's alone, and all of them are written.
        unsafe {
            core::ptr::copy_nonoverlapping(data.as_ptr(), self.unfilled_ptr(), count);
            self.advance_unchecked(count);
        }
        count
    }

    /// What was filled is done; if that is not all, the rest fails with [`Error::SHORT`].
    pub fn complete(self) {
        self.complete_with(Error::SHORT);
    }

    /// What was filled is done; the rest fails with `error`.
    pub fn complete_with(self, error: Error) {
        let filled = self.filled;
        let view = ManuallyDrop::new(self.view);
        view.fail_from(filled, error);
        // SAFETY: the view is not used afterwards.
        unsafe { view.finish() };
    }

    /// Fails the whole range, also what was filled.
    pub fn error(self, error: Error) {
        self.view.error(error);
    }
}
