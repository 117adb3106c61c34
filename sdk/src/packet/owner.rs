//! The owner's side of a packet: make it, submit it, await it, read its result, reuse it.

use core::fmt;
use core::future::Future;
use core::marker::PhantomData;
use core::pin::Pin;
use core::ptr::{self, NonNull};
use core::task::{Context, Poll};

use super::block::{self, Block};
use super::header::Packet;
use super::state::{Armed, Left, Polled};
use super::{BoundPacketView, PacketPerms, Read, Report, Write};
use crate::Error;

/// The owner of one packet.
///
/// [`bind`](Self::bind) makes the view that a device gets. As a future, it is ready when no view is in flight, also if
/// none ever was. Afterwards [`report`](Self::report) says what happened to every byte, and the packet can be bound
/// again without a new allocation.
///
/// Dropping the owner while views are in flight only detaches it: the memory lives until the last of them is answered.
///
/// It is polled through `&mut`, and not through a shared packet: the header has one waker slot, and a second task that
/// waited for the same packet would never be woken.
///
/// ```
/// use pactio_sdk::{BoundPacketView, Error, PacketBox, Read, Write};
///
/// let mut packet = PacketBox::<Write>::new_buf(8)?;
/// let view: BoundPacketView<Write> = packet.bind()?;
/// view.transfer_data(b"pactio").complete(); // a device that has only six bytes
///
/// let report = packet.report();
/// assert_eq!(report.done(), 6);
/// assert_eq!(report.min_error(), Some((6, Error::END)));
/// assert_eq!(packet.simple_contiguous_slice(), Ok(&b"pactio"[..]));
/// # Ok::<(), Error>(())
/// ```
pub struct PacketBox<Perms: PacketPerms> {
    block: NonNull<Block>,
    /// It was bound at least once since it was made.
    submitted: bool,
    _perms: PhantomData<Perms>,
}

// SAFETY: the block is reached through atomics, and by the owner alone where the state rules say so.
unsafe impl<Perms: PacketPerms> Send for PacketBox<Perms> {}
// SAFETY: `&PacketBox` only looks at the word and, once the packet is complete, at bytes and failures, which nobody
// changes before the owner's next `&mut`.
unsafe impl<Perms: PacketPerms> Sync for PacketBox<Perms> {}

impl<Perms: PacketPerms> Unpin for PacketBox<Perms> {}

impl PacketBox<Write> {
    /// A packet on the heap with room for `len` bytes, which a device will fill.
    ///
    /// # Errors
    ///
    /// [`Error::OUT_OF_MEMORY`] if the memory cannot be had.
    pub fn new_buf(len: usize) -> Result<Self, Error> {
        Self::new_buf_aligned(len, 1)
    }

    /// The same, with bytes aligned to `align`. Any packet's own room is aligned to 64 at least.
    ///
    /// # Errors
    ///
    /// [`Error::OUT_OF_MEMORY`] if the memory cannot be had or `align` is not a power of two.
    pub fn new_buf_aligned(len: usize, align: usize) -> Result<Self, Error> {
        if !align.is_power_of_two() {
            return Err(Error::OUT_OF_MEMORY);
        }
        block::allocate(len, align).map(Self::new)
    }
}

impl PacketBox<Read> {
    /// A packet on the heap that holds a copy of `bytes`, which a device will read.
    ///
    /// # Errors
    ///
    /// [`Error::OUT_OF_MEMORY`] if the memory cannot be had.
    pub fn copy_from_slice(bytes: &[u8]) -> Result<Self, Error> {
        let block = block::allocate(bytes.len(), 1)?;
        // SAFETY: the block is ours alone and has room for as many bytes.
        unsafe {
            ptr::copy_nonoverlapping(bytes.as_ptr(), (*block.as_ptr()).packet.bytes, bytes.len());
            block::set_initialised(block);
        }
        Ok(Self::new(block))
    }
}

impl<Perms: PacketPerms> PacketBox<Perms> {
    pub(super) fn new(block: NonNull<Block>) -> Self {
        Self { block, submitted: false, _perms: PhantomData }
    }

    /// A packet over memory of the caller's.
    ///
    /// # Errors
    ///
    /// [`Error::OUT_OF_MEMORY`] if the header cannot be allocated.
    ///
    /// # Safety
    ///
    /// The `len` bytes at `bytes` stay valid, and are touched by nobody else, until the packet is complete, whatever
    /// happens: the caller must not return or unwind before. For [`Read`] they are initialised; `initialised` says it
    /// for [`Write`]. A [`Write`] packet writes to them.
    pub unsafe fn from_raw_parts(bytes: NonNull<u8>, len: usize, initialised: bool) -> Result<Self, Error> {
        block::allocate_borrowed(bytes, len, initialised).map(Self::new)
    }

    #[inline(always)]
    fn packet(&self) -> &Packet<()> {
        // SAFETY: OWNER keeps the block while `self` exists (state rule 1), and the fields other than the atomics do not
        // change while it is shared (state rule 5).
        unsafe { &(*self.block.as_ptr()).packet }
    }

    pub(super) fn block(&self) -> NonNull<Block> {
        self.block
    }

    /// Length of the request in bytes.
    pub fn len(&self) -> usize {
        self.packet().len
    }

    /// The request has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// No view is in flight.
    #[inline]
    pub fn is_complete(&self) -> bool {
        self.packet().state.is_complete()
    }

    /// Starts a request: the view over all bytes that a device is to answer.
    ///
    /// The result of an earlier request is forgotten. A view that is dropped fails its range.
    ///
    /// # Errors
    ///
    /// [`Error::IN_FLIGHT`] while views of an earlier request exist; [`Error::OUT_OF_MEMORY`] if the old header is not
    /// free yet and a new one cannot be had.
    #[inline]
    pub fn bind(&mut self) -> Result<BoundPacketView<Perms>, Error> {
        if !self.packet().state.is_idle() {
            self.bind_slow()?;
        }
        // SAFETY: the packet is idle, so everything is the owner's (state rules 2 to 4).
        unsafe { (*self.block.as_ptr()).failures.clear() };
        self.submitted = true;
        self.packet().state.submit();
        // SAFETY: `submit` made this view, and the block lives while it is not finished.
        Ok(unsafe { BoundPacketView::new(self.block.cast(), 0, self.len(), 0) })
    }

    /// The last view is about to leave the header, or is still in flight.
    #[cold]
    fn bind_slow(&mut self) -> Result<(), Error> {
        if !self.is_complete() {
            return Err(Error::IN_FLIGHT);
        }
        self.packet().state.owner_touches_bytes();
        // SAFETY: the packet is complete and ours; the old block is left right away.
        let fresh = unsafe { block::renew(self.block)? };
        let submitted = self.submitted;
        *self = Self::new(fresh);
        self.submitted = submitted;
        Ok(())
    }

    /// Every byte was done.
    ///
    /// `false` also while views are in flight, and if the packet was never bound.
    #[inline]
    pub fn is_done(&self) -> bool {
        // SAFETY: OWNER keeps the block.
        self.is_complete() && self.submitted && unsafe { (*self.block.as_ptr()).failures.is_empty() }
    }

    /// What happened to every byte.
    ///
    /// While views are in flight, all bytes count as failed with [`Error::IN_FLIGHT`]; before the first
    /// [`bind`](Self::bind) with [`Error::NOT_SUBMITTED`].
    pub fn report(&self) -> Report {
        let segments = usize::from(self.submitted) + self.packet().state.splits();
        let mut report = Report::all_done(self.len()).with_segments(segments);
        if !self.is_complete() {
            report.fail(0..self.len(), Error::IN_FLIGHT);
        } else if !self.submitted {
            report.fail(0..self.len(), Error::NOT_SUBMITTED);
        } else {
            // SAFETY: the packet is complete and ours (state rule 4).
            unsafe {
                (*self.block.as_ptr())
                    .failures
                    .for_each(|failure| report.fail(failure.start..failure.end, failure.error));
            }
        }
        report
    }

    /// The bytes may be looked at, and the first `len` of them are initialised.
    fn checked_slice(&self, len: usize) -> &[u8] {
        debug_assert!(self.is_complete() && len <= self.len());
        self.packet().state.owner_touches_bytes();
        // SAFETY: the packet is complete, so the bytes are the owner's until the next `&mut` (state rule 2); the caller
        // says that so many are initialised.
        unsafe { core::slice::from_raw_parts(self.packet().bytes, len) }
    }

    /// All bytes, if all were done.
    ///
    /// # Errors
    ///
    /// The error at the lowest offset that was not done.
    #[inline]
    pub fn simple_slice(&self) -> Result<&[u8], Error> {
        if self.is_done() {
            return Ok(self.checked_slice(self.len()));
        }
        match self.report().min_error() {
            Some((_, error)) => Err(error),
            // Only an empty packet that is not done fails nowhere.
            None => Ok(&[]),
        }
    }

    /// The leading bytes that were done.
    ///
    /// # Errors
    ///
    /// The error of the first byte, if that was not done.
    pub fn simple_contiguous_slice(&self) -> Result<&[u8], Error> {
        self.report().err_on_zero().map(|len| self.checked_slice(len))
    }

    /// Copies every byte that was done to its place in `buffer`; the other places keep what they held.
    ///
    /// # Panics
    ///
    /// If `buffer` is shorter than the packet.
    pub fn copy_done_to(&self, buffer: &mut [u8]) {
        let buffer = &mut buffer[..self.len()];
        if self.is_done() {
            buffer.copy_from_slice(self.checked_slice(self.len()));
            return;
        }
        let report = self.report();
        self.packet().state.owner_touches_bytes();
        for range in report.done_ranges() {
            // SAFETY: the range was done, so it is initialised, and since something was done the packet is complete.
            let bytes =
                unsafe { core::slice::from_raw_parts(self.packet().bytes.add(range.start), range.len()) };
            buffer[range].copy_from_slice(bytes);
        }
    }

    #[inline]
    pub(super) fn poll_complete(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let polled = match self.packet().state.poll() {
            Polled::Ready => Poll::Ready(()),
            Polled::Fill => self.fill_slot(cx),
        };
        if polled.is_ready() {
            self.packet().state.owner_touches_bytes();
        }
        polled
    }

    fn fill_slot(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // SAFETY: state rule 3: `poll` said that the slot is the owner's.
        let slot = unsafe { &(*self.block.as_ptr()).waker };
        let stale = slot.with_mut(|slot| {
            // SAFETY: as above.
            let slot = unsafe { &mut *slot };
            match slot {
                Some(waker) if waker.will_wake(cx.waker()) => None,
                _ => slot.replace(cx.waker().clone()),
            }
        });
        let armed = self.packet().state.arm();
        drop(stale);
        match armed {
            Armed::Pending => Poll::Pending,
            Armed::TooLate => {
                // SAFETY: `arm` came too late for the last view, so the slot is still the owner's.
                drop(slot.with_mut(|slot| unsafe { (*slot).take() }));
                Poll::Ready(())
            }
        }
    }
}

impl<Perms: PacketPerms> Future for PacketBox<Perms> {
    type Output = ();

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_complete(cx)
    }
}

impl<Perms: PacketPerms> Drop for PacketBox<Perms> {
    #[inline]
    fn drop(&mut self) {
        let state = &raw const self.packet().state;
        // SAFETY: OWNER keeps the block up to `leave_owner`.
        unsafe {
            if (*state).disarm() {
                // State rule 3: the slot is the owner's now.
                drop((*self.block.as_ptr()).waker.with_mut(|slot| (*slot).take()));
            }
            if (*state).leave_owner() == Left::Free {
                block::free(self.block);
            }
        }
    }
}

impl<Perms: PacketPerms> fmt::Debug for PacketBox<Perms> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PacketBox").field("len", &self.len()).field("state", &self.packet().state).finish()
    }
}
