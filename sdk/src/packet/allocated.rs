//! Views as direct bytes, for devices that need a buffer: a system call, DMA, a decoder's output.

use core::mem::{ManuallyDrop, MaybeUninit};

use super::{BoundPacketView, Errorable, PacketPerms, Read, ReadWrite, Splittable, Write};
use crate::{Cause, IoError};

/// Direct bytes of any permission, for code that is generic over it: a queue of system calls, a DMA engine.
///
/// ```
/// use pactio_sdk::{AllocatedPacket, BoundPacketView, Errorable, IoError, PacketPerms, Splittable};
///
/// /// Has a system call move the bytes of a request in either direction.
/// fn perform<Perms: PacketPerms>(view: BoundPacketView<Perms>, call: impl Fn(*mut u8, usize) -> Result<usize, IoError>) {
///     let Ok(mut bytes) = view.try_alloc(1) else { return };
///     match call(bytes.start(), bytes.len()) {
///         // SAFETY: the call moved this number of bytes, from the first one on.
///         Ok(done) => unsafe { bytes.complete_moved(done, IoError::END) },
///         Err(error) => bytes.error(error),
///     }
/// }
/// # let mut packet = pactio_sdk::PacketBox::<pactio_sdk::Write>::new_buf(4)?;
/// # perform(packet.bind()?, |start, _| { unsafe { start.write_bytes(7, 3) }; Ok(3) });
/// # assert_eq!(packet.simple_contiguous_slice()?, [7; 3]);
/// # Ok::<(), IoError>(())
/// ```
pub trait AllocatedPacket: Splittable + Errorable + Send + Sync {
    /// The address of the first byte of the range, valid for the length of the range until the packet is answered. A device may
    /// only use the bytes as the permission states: those of a write request are read, those of a read request need not be
    /// initialised.
    fn start(&mut self) -> *mut u8;

    /// The tag of the view.
    fn tag(&self) -> u64;

    /// The result is not wanted any more; see [`BoundPacketView::is_cancelled`].
    fn is_cancelled(&self) -> bool;

    /// The first `done` bytes were moved; the rest failed with `error`.
    ///
    /// # Safety
    ///
    /// The range has at least `done` bytes, and those of a read request or an exchange are initialised.
    unsafe fn complete_moved(self, done: usize, error: IoError);
}

/// A view as direct bytes: the common part of all three forms.
#[derive(Debug)]
struct Direct<Perms: PacketPerms> {
    view: BoundPacketView<Perms>,
    /// The first byte of the view's range; valid until the view is answered.
    bytes: *mut u8,
}

// SAFETY: the bytes are the view's own range, and a view may be moved to any thread.
unsafe impl<Perms: PacketPerms> Send for Direct<Perms> {}
// SAFETY: a shared `Direct` only reads, as a shared slice does.
unsafe impl<Perms: PacketPerms> Sync for Direct<Perms> {}

impl<Perms: PacketPerms> Direct<Perms> {
    #[inline(always)]
    fn len(&self) -> usize {
        self.view.len()
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        let bytes = self.bytes;
        let (front, back) = self.view.split_at(at);
        // SAFETY: the front's length is at most the length of the range.
        let behind = unsafe { bytes.add(front.len()) };
        (Self { view: front, bytes }, Self { view: back, bytes: behind })
    }

    #[inline(always)]
    fn settle(self, done: usize, rest: IoError) {
        let view = ManuallyDrop::new(self.view);
        // SAFETY: the view is not used afterwards.
        unsafe { view.settle(done, rest) };
    }
}

/// The methods that the three forms share.
macro_rules! direct {
    ($name:ident, $perms:ident) => {
        impl $name {
            /// Length in bytes.
            pub fn len(&self) -> usize {
                self.direct.len()
            }

            /// There are no bytes.
            pub fn is_empty(&self) -> bool {
                self.len() == 0
            }

            /// The tag of the view.
            pub fn tag(&self) -> u64 {
                self.direct.view.tag()
            }

            /// The view of the range, for a look at its request.
            pub fn as_view(&self) -> &BoundPacketView<$perms> {
                &self.direct.view
            }

            /// The requester has given up the request; see [`BoundPacketView::is_cancelled`].
            pub fn is_cancelled(&self) -> bool {
                self.direct.view.is_cancelled()
            }

            /// The view again, to hand it to another device. Bytes that were filled do not count as done.
            pub fn into_view(self) -> BoundPacketView<$perms> {
                self.direct.view
            }

            /// Fails the whole range.
            pub fn error(self, error: IoError) {
                self.direct.settle(0, error);
            }

            /// Fails the whole range, with the cause's text for people, if it has one.
            pub fn fail(self, cause: &Cause) {
                self.direct.view.fail(cause);
            }
        }

        impl AllocatedPacket for $name {
            fn start(&mut self) -> *mut u8 {
                self.direct.view.touch();
                self.direct.bytes
            }

            fn tag(&self) -> u64 {
                self.tag()
            }

            fn is_cancelled(&self) -> bool {
                self.is_cancelled()
            }

            unsafe fn complete_moved(self, done: usize, error: IoError) {
                debug_assert!(done <= self.direct.len());
                self.direct.settle(done, error);
            }
        }

        impl Splittable for $name {
            fn len(&self) -> usize {
                self.len()
            }

            fn split_at(self, at: usize) -> (Self, Self) {
                self.split_at(at)
            }
        }

        impl Errorable for $name {
            fn error(self, error: IoError) {
                self.error(error);
            }

            fn fail(self, cause: &Cause) {
                self.fail(cause);
            }
        }
    };
}

/// The methods that the two forms with initialised bytes share.
macro_rules! initialised {
    ($name:ident, $perms:ident, $done:literal) => {
        direct!($name, $perms);

        impl $name {
            #[inline(always)]
            pub(super) fn new(view: BoundPacketView<$perms>, bytes: *mut u8) -> Self {
                Self { direct: Direct { view, bytes } }
            }

            /// Splits into the first `at` bytes and the rest, as [`BoundPacketView::split_at`] does.
            pub fn split_at(self, at: usize) -> (Self, Self) {
                let (front, back) = self.direct.split_at(at);
                (Self { direct: front }, Self { direct: back })
            }

            #[doc = concat!("The whole range was ", $done, ".")]
            pub fn complete(self) {
                let len = self.len();
                self.direct.settle(len, IoError::SHORT);
            }

            #[doc = concat!("The first `done` bytes were ", $done, ", the rest failed with `error`.")]
            ///
            /// # Panics
            ///
            /// If there are fewer than `done` bytes. The whole range fails in that case.
            pub fn complete_with(self, done: usize, error: IoError) {
                assert!(done <= self.len(), "{done} bytes of {} cannot be {}", self.len(), $done);
                self.direct.settle(done, error);
            }
        }

        impl core::ops::Deref for $name {
            type Target = [u8];

            fn deref(&self) -> &[u8] {
                self.direct.view.touch();
                // SAFETY: the bytes of a packet with this permission are initialised; the range is this view's until it is
                // answered, and is written only through `self`.
                unsafe { core::slice::from_raw_parts(self.direct.bytes, self.direct.len()) }
            }
        }
    };
}

/// The bytes of a write request, to be read by the device.
///
/// Dropping it without [`complete`](Self::complete) fails the range.
#[derive(Debug)]
#[must_use = "a view that is dropped fails its range"]
pub struct ReadPacketObj {
    direct: Direct<Read>,
}

initialised!(ReadPacketObj, Read, "taken");

/// The bytes of an exchange, to be read and replaced by the device.
///
/// Dropping it without [`complete`](Self::complete) fails the range.
#[derive(Debug)]
#[must_use = "a view that is dropped fails its range"]
pub struct ReadWritePacketObj {
    direct: Direct<ReadWrite>,
}

initialised!(ReadWritePacketObj, ReadWrite, "exchanged");

impl core::ops::DerefMut for ReadWritePacketObj {
    fn deref_mut(&mut self) -> &mut [u8] {
        self.direct.view.touch();
        // SAFETY: the bytes of a `ReadWrite` packet are initialised, and the range is this view's alone.
        unsafe { core::slice::from_raw_parts_mut(self.direct.bytes, self.direct.len()) }
    }
}

/// The bytes of a read request, to be filled by the device from the front.
///
/// ```text
///   0 ........ filled ........ initialised ........ len
///   └─ done ──┘ └── may be shown ──┘ └── may not ───┘
/// ```
///
/// Only bytes that were reported as filled count as done. Dropping it without [`complete`](Self::complete) fails the range.
#[derive(Debug)]
#[must_use = "a view that is dropped fails its range"]
pub struct WritePacketObj {
    direct: Direct<Write>,
    filled: usize,
    initialised: usize,
}

direct!(WritePacketObj, Write);

impl WritePacketObj {
    #[inline(always)]
    pub(super) fn new(view: BoundPacketView<Write>, bytes: *mut u8) -> Self {
        let initialised = if view.is_initialised() { view.len() } else { 0 };
        Self { direct: Direct { view, bytes }, filled: 0, initialised }
    }

    /// Number of leading bytes that were filled.
    pub fn filled(&self) -> usize {
        self.filled
    }

    /// Splits into the first `at` bytes and the rest, as [`BoundPacketView::split_at`] does.
    pub fn split_at(self, at: usize) -> (Self, Self) {
        let (filled, initialised) = (self.filled, self.initialised);
        let (front, back) = self.direct.split_at(at);
        // Less than `at` if `at` is past the end.
        let middle = front.len();
        (
            Self { direct: front, filled: filled.min(middle), initialised: initialised.min(middle) },
            Self {
                direct: back,
                filled: filled.saturating_sub(middle),
                initialised: initialised.saturating_sub(middle),
            },
        )
    }

    /// The part that is not filled, as a pointer for system calls.
    ///
    /// Writing there is not enough: report the number of bytes with [`advance_unchecked`](Self::advance_unchecked).
    #[inline(always)]
    pub fn unfilled_ptr(&mut self) -> *mut u8 {
        self.direct.view.touch();
        // SAFETY: `filled` is at most the length.
        unsafe { self.direct.bytes.add(self.filled) }
    }

    /// The part that is not filled.
    ///
    /// # Safety
    ///
    /// Initialised bytes must stay initialised: `MaybeUninit::uninit()` may not be written there, since the requester may have
    /// lent memory that it continues to read as plain bytes.
    pub unsafe fn unfilled_uninit(&mut self) -> &mut [MaybeUninit<u8>] {
        let len = self.len() - self.filled;
        // SAFETY: the range is this view's alone; `MaybeUninit` needs no other guarantee.
        unsafe { core::slice::from_raw_parts_mut(self.unfilled_ptr().cast(), len) }
    }

    /// The part that is not filled, as plain bytes: bytes that are not initialised are set to zero.
    pub fn unfilled_mut(&mut self) -> &mut [u8] {
        let len = self.len();
        let missing = len - self.initialised.max(self.filled);
        let pointer = self.unfilled_ptr();
        // SAFETY: the range is this view's alone, and all of it is initialised after the zeros are written.
        unsafe {
            // Only the last `missing` bytes: the bytes before them are filled or initialised, and keep their values.
            core::ptr::write_bytes(pointer.add(len - self.filled - missing), 0, missing);
            self.initialised = len;
            core::slice::from_raw_parts_mut(pointer, len - self.filled)
        }
    }

    /// Records that `count` more bytes of the slice of [`unfilled_mut`](Self::unfilled_mut) were filled.
    ///
    /// # Panics
    ///
    /// If fewer than `count` bytes that are not filled were initialised.
    pub fn advance(&mut self, count: usize) {
        let filled = self.filled.checked_add(count).filter(|&filled| filled <= self.initialised);
        self.filled = filled.expect("bytes cannot be filled that were never initialised");
    }

    /// Records that `count` more bytes were filled.
    ///
    /// # Safety
    ///
    /// The first `count` bytes of the part that was not filled are initialised now.
    #[inline(always)]
    pub unsafe fn advance_unchecked(&mut self, count: usize) {
        debug_assert!(count <= self.len() - self.filled);
        self.filled += count;
        self.initialised = self.initialised.max(self.filled);
    }

    /// Copies as much of `data` as fits behind the filled bytes, and gives the number of bytes.
    pub fn put_slice(&mut self, data: &[u8]) -> usize {
        let count = data.len().min(self.len() - self.filled);
        // SAFETY: `count` bytes fit, the range is this view's alone, and all `count` bytes are written.
        unsafe {
            core::ptr::copy_nonoverlapping(data.as_ptr(), self.unfilled_ptr(), count);
            self.advance_unchecked(count);
        }
        count
    }

    /// The filled bytes are done; if bytes remain, these fail with [`IoError::SHORT`].
    #[inline(always)]
    pub fn complete(self) {
        self.complete_with(IoError::SHORT);
    }

    /// The filled bytes are done; the rest fails with `error`.
    #[inline(always)]
    pub fn complete_with(self, error: IoError) {
        self.direct.settle(self.filled, error);
    }
}
