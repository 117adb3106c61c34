//! The device's side of a packet: a range that owes an answer.

use core::fmt;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ptr::{self, NonNull};

use abi_stable::StableAbi;

use super::header::Packet;
use super::state::Finished;
use super::{PacketPerms, Read, TransferredPacket, Write};
use crate::Error;

/// What a device receives: a range of a packet that it must answer.
///
/// It can be split, moved to another thread, kept for later, or given to another device. Each part is answered once:
///
/// | answer | call |
/// |--------|------|
/// | the bytes are at hand | [`transfer_data`](Self::transfer_data) |
/// | a buffer is needed (a system call, DMA) | [`try_alloc`](Self::try_alloc) |
/// | failure | [`error`](Self::error), or dropping the view |
///
/// ```
/// # use pactio_sdk::{BoundPacketView, Error, PacketBox, Write};
/// fn answer(view: BoundPacketView<Write>) {
///     let (front, back) = view.split_at(4);
///     front.transfer_data(b"data").complete();
///     back.error(Error::END);
/// }
/// # let mut packet = PacketBox::<Write>::new_buf(10)?;
/// # answer(packet.bind()?);
/// # assert_eq!(packet.report().error_clamp(), 4);
/// # Ok::<(), Error>(())
/// ```
///
/// An answered view is gone; using it again does not compile:
///
/// ```compile_fail,E0382
/// # use pactio_sdk::{BoundPacketView, Error, Write};
/// fn answer_twice(view: BoundPacketView<Write>) {
///     view.error(Error::END);
///     view.error(Error::END);
/// }
/// ```
#[repr(C)]
#[derive(StableAbi)]
#[must_use = "a view that is dropped fails its range"]
pub struct BoundPacketView<Perms: PacketPerms> {
    #[sabi(unsafe_opaque_field)]
    packet: NonNull<()>,
    start: usize,
    end: usize,
    tag: u64,
    #[sabi(unsafe_opaque_field)]
    _perms: PhantomData<Perms>,
}

// SAFETY: a view may be moved to any thread: its range is its own, and all it shares is atomic (state rules 1, 2, 4).
unsafe impl<Perms: PacketPerms> Send for BoundPacketView<Perms> {}
// SAFETY: `&BoundPacketView` only reads its own plain fields.
unsafe impl<Perms: PacketPerms> Sync for BoundPacketView<Perms> {}

impl<Perms: PacketPerms> BoundPacketView<Perms> {
    /// # Safety
    ///
    /// COUNT of the packet at `packet` includes this view, and no other view's range overlaps `start..end`.
    #[inline(always)]
    pub(super) unsafe fn new(packet: NonNull<()>, start: usize, end: usize, tag: u64) -> Self {
        Self { packet, start, end, tag, _perms: PhantomData }
    }

    #[inline(always)]
    fn packet(&self) -> *const Packet<Perms> {
        self.packet.as_ptr().cast_const().cast()
    }

    /// Length of the range in bytes.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// The range is empty. It owes an answer all the same.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Where the range begins in its packet, in bytes.
    pub fn offset(&self) -> usize {
        self.start
    }

    /// The tag that the requester gave; 63 bits. Both parts of a split carry it.
    pub fn tag(&self) -> u64 {
        self.tag
    }

    /// Sets the tag.
    ///
    /// # Panics
    ///
    /// If it does not fit 63 bits.
    pub fn set_tag(&mut self, tag: u64) {
        assert!(tag >> 63 == 0, "a tag has 63 bits, {tag:#x} has more");
        self.tag = tag;
    }

    /// Splits into the first `at` bytes and the rest. Positions past the end count as the end; parts may be empty.
    ///
    /// # Panics
    ///
    /// If the packet has 2³¹ views already. The whole range fails then.
    #[inline]
    pub fn split_at(self, at: usize) -> (Self, Self) {
        match self.try_split_at(at) {
            Ok(parts) => parts,
            Err(view) => {
                view.error(Error::new(
                    crate::Code::TooMany,
                    crate::Subject::View,
                    crate::State::Full,
                    crate::Location::Sdk,
                ));
                panic!("a packet cannot have more than 2^31 views");
            }
        }
    }

    /// Like [`split_at`](Self::split_at), giving the view back where that panics.
    ///
    /// # Errors
    ///
    /// The view, if the packet has 2³¹ views already.
    #[inline]
    pub fn try_split_at(self, at: usize) -> Result<(Self, Self), Self> {
        // SAFETY: this view keeps the packet alive (state rule 1).
        if unsafe { (*self.packet()).state.split() }.is_err() {
            return Err(self);
        }
        let middle = self.start + at.min(self.len());
        // SAFETY: `split` counted one more view, and the two ranges share no byte.
        let back = unsafe { Self::new(self.packet, middle, self.end, self.tag) };
        let mut front = self;
        front.end = middle;
        Ok((front, back))
    }

    /// Fails the whole range.
    #[inline]
    pub fn error(self, error: Error) {
        let view = ManuallyDrop::new(self);
        view.fail_from(0, error);
        // SAFETY: the view is not used afterwards.
        unsafe { view.finish() };
    }

    /// The packet's own bytes, if they can be had at this alignment; otherwise the view comes back and the device uses
    /// a buffer of its own and [`transfer_data`](Self::transfer_data).
    ///
    /// # Errors
    ///
    /// The view, if the bytes are not aligned to `align`.
    #[inline]
    pub fn try_alloc(self, align: usize) -> Result<Perms::Allocated, Self> {
        if align > 1 && !(self.bytes() as usize).is_multiple_of(align) {
            return Err(self);
        }
        Ok(Perms::allocated(self))
    }

    /// The first byte of the range.
    #[inline(always)]
    pub(super) fn bytes(&self) -> *mut u8 {
        // SAFETY: the packet is alive and `bytes` constant (state rules 1 and 5); `start` is at most the packet's
        // length, so the sum stays inside or one past its allocation.
        unsafe { (*self.packet()).bytes.add(self.start) }
    }

    pub(super) fn is_initialised(&self) -> bool {
        // SAFETY: as above.
        unsafe { (*self.packet()).initialised != 0 }
    }

    /// A copy from or to the bytes is about to happen.
    #[inline(always)]
    pub(super) fn touch(&self) {
        // SAFETY: as above.
        unsafe { (*self.packet()).state.view_touches_bytes() };
    }

    /// Records that all bytes from `from` on failed. The view still has to finish.
    pub(super) fn fail_from(&self, from: usize, error: Error) {
        let start = self.start + from;
        if start < self.end {
            // SAFETY: this view keeps the packet alive and covers the range.
            unsafe { ((*self.packet()).table.fail)(self.packet().cast(), start, self.end, error) };
        }
    }

    /// Takes this view out of the count.
    ///
    /// # Safety
    ///
    /// The view is not used afterwards, not even dropped.
    #[inline(always)]
    pub(super) unsafe fn finish(&self) {
        let packet = self.packet();
        // SAFETY: the view keeps the packet alive up to `finish`; if this was the last one, the group keeps it until
        // `complete` (state rule 1).
        unsafe {
            if let Finished::Last { waker } = (*packet).state.finish() {
                ((*packet).table.complete)(packet.cast(), waker);
            }
        }
    }
}

impl BoundPacketView<Write> {
    /// Copies from the start of the device's `data` into the range, and answers it when the result is dropped.
    ///
    /// If `data` is shorter than the range, the rest fails with [`Error::END`]; if it is longer, the rest of it is not
    /// used. So a device can pass everything it has from the position on.
    #[inline]
    pub fn transfer_data(self, data: &[u8]) -> TransferredPacket<Write> {
        let len = self.len().min(data.len());
        self.touch();
        // SAFETY: both have at least `len` bytes; the range is this view's alone, so `data` cannot overlap it.
        unsafe { ptr::copy_nonoverlapping(data.as_ptr(), self.bytes(), len) };
        TransferredPacket::new(self, len)
    }
}

impl BoundPacketView<Read> {
    /// Copies the range to the start of the device's `data`, and answers it when the result is dropped.
    ///
    /// If `data` is shorter than the range, the rest fails with [`Error::END`].
    #[inline]
    pub fn transfer_data(self, data: &mut [u8]) -> TransferredPacket<Read> {
        let len = self.len().min(data.len());
        self.touch();
        // SAFETY: both have at least `len` bytes; nobody writes to a `Read` packet in flight, so `data` cannot overlap.
        unsafe { ptr::copy_nonoverlapping(self.bytes(), data.as_mut_ptr(), len) };
        TransferredPacket::new(self, len)
    }

    /// Answers the range with success without looking at the bytes, as a device that discards what is written does.
    #[inline]
    pub fn accept(self) -> TransferredPacket<Read> {
        let len = self.len();
        TransferredPacket::new(self, len)
    }
}

impl<Perms: PacketPerms> Drop for BoundPacketView<Perms> {
    #[cold]
    fn drop(&mut self) {
        self.fail_from(0, Error::UNANSWERED);
        // SAFETY: the view ends here.
        unsafe { self.finish() };
    }
}

impl<Perms: PacketPerms> fmt::Debug for BoundPacketView<Perms> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BoundPacketView")
            .field("range", &(self.start..self.end))
            .field("tag", &self.tag)
            .finish()
    }
}

/// What the ABI's fingerprint says of views.
pub(super) mod boundary {
    use super::BoundPacketView;
    use crate::abi::{Fingerprint, fingerprint_struct};

    pub(in crate::packet) const fn describe(print: Fingerprint) -> Fingerprint {
        fingerprint_struct!(print, BoundPacketView<super::Read>, "BoundPacketView" { packet, start, end, tag })
    }
}
