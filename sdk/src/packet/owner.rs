//! The owner's side of a packet: make it, submit it, await it, read its result, reuse it.

use core::fmt;
use core::future::Future;
use core::marker::PhantomData;
use core::ops::Range;
use core::pin::Pin;
use core::ptr::{self, NonNull};
use core::task::{Context, Poll};

use super::attributes::Attributes;
use super::block::{self, Block};
use super::header::{INITIALISED, Packet};
use super::output::OutputRef;
use super::state::{Armed, Left, Polled};
use super::{
    BoundPacketView, Filled, Filling, PacketPerms, PacketView, Report, RequestId, Unfilled, Write, mutant,
    own_table,
};
use crate::{Cause, IoError, firewall};

/// The owner of one packet.
///
/// [`bind`](Self::bind) makes the view for a device. As a future, the owner is ready when no view is in flight, also if the
/// packet was never bound. Afterwards [`report`](Self::report) gives the result of every byte, and the packet can be bound again
/// without a new allocation.
///
/// Dropping the owner while views are in flight only detaches it: the memory lives until the last of them is answered.
///
/// The owner is polled through `&mut`, and not through a shared packet: the header has one waker slot, and a second task that
/// waited for the same packet would never be woken.
///
/// ```
/// use pactio_sdk::{BoundPacketView, IoError, PacketBox, Read, Write};
///
/// let mut packet = PacketBox::<Write>::new_buf(8)?;
/// let view: BoundPacketView<Write> = packet.bind()?;
/// view.transfer_data(b"pactio").complete(); // a device that has only six bytes
///
/// let report = packet.report();
/// assert_eq!(report.done(), 6);
/// assert_eq!(report.min_error(), Some((6, IoError::END)));
/// assert_eq!(packet.simple_contiguous_slice(), Ok(&b"pactio"[..]));
/// # Ok::<(), IoError>(())
/// ```
pub struct PacketBox<Perms: PacketPerms> {
    block: NonNull<Block>,
    _perms: PhantomData<Perms>,
}

// SAFETY: the block is reached through atomics, and by the owner alone where the state rules say so.
unsafe impl<Perms: PacketPerms> Send for PacketBox<Perms> {}
// SAFETY: `&PacketBox` only uses the state word, which is atomic, and, once the packet is complete, reads bytes and failures,
// which do not change before the owner's next `&mut`.
unsafe impl<Perms: PacketPerms> Sync for PacketBox<Perms> {}

impl<Perms: PacketPerms> Unpin for PacketBox<Perms> {}

impl PacketBox<Write> {
    /// A packet on the heap with room for `len` bytes, which a device will fill.
    ///
    /// # Errors
    ///
    /// [`IoError::OUT_OF_MEMORY`] if the memory cannot be allocated.
    pub fn new_buf(len: usize) -> Result<Self, IoError> {
        Self::new_buf_aligned(len, 1)
    }

    /// A packet on the heap with room for `len` bytes, aligned to `align` bytes. The room of any packet's own block is aligned to
    /// at least 64 bytes.
    ///
    /// # Errors
    ///
    /// [`IoError::OUT_OF_MEMORY`] if the memory cannot be allocated or `align` is not a power of two.
    pub fn new_buf_aligned(len: usize, align: usize) -> Result<Self, IoError> {
        if !align.is_power_of_two() {
            return Err(IoError::OUT_OF_MEMORY);
        }
        block::allocate(len, align).map(Self::new)
    }
}

impl<Perms: Filled> PacketBox<Perms> {
    /// A packet on the heap that holds a copy of `bytes`, which a device will read, or exchange for its own.
    ///
    /// # Errors
    ///
    /// [`IoError::OUT_OF_MEMORY`] if the memory cannot be allocated.
    pub fn copy_from_slice(bytes: &[u8]) -> Result<Self, IoError> {
        let block = block::allocate(bytes.len(), 1)?;
        // SAFETY: the block is ours alone and has room for `bytes.len()` bytes.
        unsafe {
            ptr::copy_nonoverlapping(bytes.as_ptr(), (*block.as_ptr()).packet.bytes, bytes.len());
            block::set_initialised(block);
        }
        Ok(Self::new(block))
    }
}

impl<Perms: Filled> PacketBox<Perms> {
    /// The bytes, to be filled for the next request. The [report](Self::report) still describes the last request.
    ///
    /// ```
    /// # use pactio_sdk::{IoError, PacketBox, Read};
    /// let mut packet = PacketBox::<Read>::copy_from_slice(b"first")?;
    /// let mut stored = [0; 5];
    /// packet.bind()?.transfer_data(&mut stored).complete();
    /// packet.bytes_mut()?.copy_from_slice(b"other");
    /// packet.bind()?.transfer_data(&mut stored).complete();
    /// assert_eq!(&stored, b"other");
    /// # Ok::<(), IoError>(())
    /// ```
    ///
    /// # Errors
    ///
    /// [`IoError::IN_FLIGHT`] while views exist.
    pub fn bytes_mut(&mut self) -> Result<&mut [u8], IoError> {
        if !self.is_complete() {
            return Err(IoError::IN_FLIGHT);
        }
        self.packet().state.owner_touches_bytes();
        // SAFETY: no view exists and none can be made while `self` is borrowed. Every `PacketBox` with this permission that is
        // reachable as `&mut` was made by `copy_from_slice`: its bytes are its own room, and initialised. (Packets over other
        // memory are only lent as `PacketMut`.)
        Ok(unsafe { core::slice::from_raw_parts_mut(self.packet().bytes, self.len()) })
    }
}

impl Packet<Write> {
    /// The same as [`PacketBox::new_buf`].
    ///
    /// # Errors
    ///
    /// [`IoError::OUT_OF_MEMORY`] if the memory cannot be allocated.
    pub fn new_buf(len: usize) -> Result<PacketBox<Write>, IoError> {
        PacketBox::new_buf(len)
    }
}

impl<Perms: Filled> Packet<Perms> {
    /// The same as [`PacketBox::copy_from_slice`].
    ///
    /// # Errors
    ///
    /// [`IoError::OUT_OF_MEMORY`] if the memory cannot be allocated.
    pub fn copy_from_slice(bytes: &[u8]) -> Result<PacketBox<Perms>, IoError> {
        PacketBox::copy_from_slice(bytes)
    }
}

impl<Perms: PacketPerms> PacketBox<Perms> {
    pub(super) fn new(block: NonNull<Block>) -> Self {
        Self { block, _perms: PhantomData }
    }

    /// The packet and its view, for a packet that is sent at once.
    ///
    /// # Errors
    ///
    /// As [`bind`](Self::bind).
    pub fn into_bound(mut self) -> Result<(Self, BoundPacketView<Perms>), IoError> {
        let view = self.bind()?;
        Ok((self, view))
    }

    #[inline(always)]
    fn packet(&self) -> &Packet<()> {
        // SAFETY: OWNER keeps the block while `self` exists (state rule 1), and the fields other than the atomics do not change
        // while the packet is shared (state rule 5).
        unsafe { &(*self.block.as_ptr()).packet }
    }

    pub(super) fn block(&self) -> NonNull<Block> {
        self.block
    }

    pub(super) fn is_initialised(&self) -> bool {
        self.packet().flags & INITIALISED != 0
    }

    /// Sets the function table of a packet that was just made.
    pub(super) fn set_table(&mut self, table: &'static super::header::PacketTable) {
        // SAFETY: the packet was just made and is ours.
        unsafe { (*self.block.as_ptr()).packet.table = table };
    }

    /// The packet has the result of a request: it was bound, or filled without a view.
    #[inline(always)]
    fn is_submitted(&self) -> bool {
        self.packet().private.submitted
    }

    /// Length of the request in bytes.
    #[inline]
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

    /// Number of views in flight.
    pub(super) fn views(&self) -> usize {
        self.packet().state.views()
    }

    /// Identity of the request while it is in flight; a device that can cancel receives it.
    pub fn request(&self) -> RequestId {
        RequestId(self.block.as_ptr() as u64)
    }

    /// Marks the request as cancelled: its result is not wanted any more. Devices that check
    /// [`is_cancelled`](BoundPacketView::is_cancelled) may then answer early; all others answer as before. In both cases the
    /// request is complete when its future is ready, and not before.
    ///
    /// A caller that has the device also [tells the device](crate::PacketIo::cancel). Without a request in flight this does
    /// nothing.
    pub fn cancel(&self) {
        if !self.is_complete() {
            self.packet().state.cancel();
        }
    }

    /// Starts a request and returns its view over all bytes, which a device must answer.
    ///
    /// The result of an earlier request is discarded. A view that is dropped fails its range.
    ///
    /// # Errors
    ///
    /// [`IoError::IN_FLIGHT`] while views of an earlier request exist; [`IoError::OUT_OF_MEMORY`] if the old header is not free
    /// yet and a new one cannot be allocated.
    #[inline]
    pub fn bind(&mut self) -> Result<BoundPacketView<Perms>, IoError> {
        self.make_idle()?;
        Ok(self.submit(false))
    }

    /// Starts a request that reports its segments to `output`.
    ///
    /// # Errors
    ///
    /// As [`bind`](Self::bind); `output` is dropped then.
    pub fn bind_to(&mut self, output: OutputRef) -> Result<BoundPacketView<Perms>, IoError> {
        self.bind_extended(Some(output), None)
    }

    /// Starts a request with attributes, which its views show, and reports its segments to `output` if there is one. The next
    /// request of the packet has neither of them.
    ///
    /// # Errors
    ///
    /// As [`bind`](Self::bind); `output` is dropped then.
    pub fn bind_with(
        &mut self,
        attributes: Attributes,
        output: Option<OutputRef>,
    ) -> Result<BoundPacketView<Perms>, IoError> {
        self.bind_extended(output, Some(attributes))
    }

    fn bind_extended(
        &mut self,
        output: Option<OutputRef>,
        attributes: Option<Attributes>,
    ) -> Result<BoundPacketView<Perms>, IoError> {
        self.make_idle()?;
        let is_watched = output.is_some();
        // SAFETY: the packet is idle and ours.
        unsafe { own_table::start(self.block.as_ptr().cast(), output, attributes)? };
        Ok(self.submit(is_watched))
    }

    /// A view of all bytes that is not bound to a device yet; see [`PacketView`].
    ///
    /// # Errors
    ///
    /// As [`bind`](Self::bind).
    pub fn view(&mut self) -> Result<PacketView<Perms>, IoError> {
        self.bind().map(PacketView::new)
    }

    /// Prepares the packet for its next request: the result, output and attributes of the last one are gone. While the last
    /// view still leaves the block, the packet moves to another one. Fails if views are in flight.
    #[inline(always)]
    fn make_idle(&mut self) -> Result<(), IoError> {
        if !self.packet().state.is_idle() {
            self.renew()?;
        }
        // SAFETY: the packet is idle, so all parts of it are the owner's (state rules 2 to 4).
        unsafe {
            (*self.block.as_ptr()).failures.clear();
            own_table::stop(self.block.as_ptr().cast());
        }
        Ok(())
    }

    /// Makes the first view of an idle packet. `watched`: each segment that completes is reported while the packet is in flight.
    #[inline(always)]
    fn submit(&mut self, watched: bool) -> BoundPacketView<Perms> {
        // SAFETY: the packet is idle and ours, and only its owner uses this field.
        unsafe { (*self.block.as_ptr()).packet.private.submitted = true };
        let generation = self.packet().state.submit(watched);
        // SAFETY: `submit` made this view, and the block lives while the view is not finished.
        unsafe { BoundPacketView::first(self.block.cast(), generation, self.len()) }
    }

    /// Performs a read without a view: `fill` fills the packet's bytes. `false`: not all of them are filled, or the packet is in
    /// flight, has no bytes in memory, or is not for reads. The packet then has no result.
    #[inline(always)]
    pub(super) fn fill_now(&mut self, fill: impl FnOnce(&mut Unfilled<'_>)) -> bool {
        if !Perms::IS_READ || self.packet().bytes.is_null() || self.make_idle().is_err() {
            return false;
        }
        self.packet().state.owner_touches_bytes();
        // SAFETY: the packet is idle, so its bytes are the owner's (state rule 2); those of a read may be written.
        let mut filling = unsafe { Filling::from_raw(self.packet().bytes, self.len()) };
        fill(&mut filling.unfilled());
        let is_full = filling.is_full();
        // SAFETY: the packet is idle and ours, and only its owner uses this field.
        unsafe { (*self.block.as_ptr()).packet.private.submitted = is_full };
        // Also without a result: the next generation begins, and the splits of the last request are gone.
        self.packet().state.done_at_once();
        is_full
    }

    /// Moves the packet to a fresh block while the last view is about to leave the old one; fails if views are still in flight.
    #[cold]
    fn renew(&mut self) -> Result<(), IoError> {
        if !self.is_complete() {
            return Err(IoError::IN_FLIGHT);
        }
        self.packet().state.owner_touches_bytes();
        // SAFETY: the packet is complete and ours; the owner leaves the old block right away.
        *self = Self::new(unsafe { block::renew(self.block)? });
        Ok(())
    }

    /// Every byte was done.
    ///
    /// `false` also while views are in flight, and if the packet was never bound.
    #[inline]
    pub fn is_done(&self) -> bool {
        // SAFETY: OWNER keeps the block.
        self.is_complete() && self.is_submitted() && unsafe { (*self.block.as_ptr()).failures.is_empty() }
    }

    /// The result of every byte.
    ///
    /// While views are in flight, all bytes count as failed with [`IoError::IN_FLIGHT`]; before the first
    /// [`bind`](Self::bind) with [`IoError::NOT_SUBMITTED`].
    pub fn report(&self) -> Report {
        let segments = usize::from(self.is_submitted()) + self.packet().state.splits();
        let mut report = Report::all_done(self.len()).with_segments(segments);
        if !self.is_complete() {
            report.fail(0..self.len(), IoError::IN_FLIGHT);
        } else if !self.is_submitted() {
            report.fail(0..self.len(), IoError::NOT_SUBMITTED);
        } else {
            // SAFETY: the packet is complete and ours (state rule 4).
            unsafe {
                (*self.block.as_ptr()).failures.for_each(|failure| {
                    let cause = match &failure.text {
                        None => Cause::from(failure.error),
                        Some(text) => Cause::new(failure.error, &**text),
                    };
                    report.fail(failure.start..failure.end.min(self.len()), cause);
                });
            }
        }
        report
    }

    /// The first `len` bytes. A complex packet has no bytes.
    ///
    /// # Safety
    ///
    /// The packet is complete, and its first `len` bytes exist and are initialised.
    #[inline]
    unsafe fn initialised_front(&self, len: usize) -> Result<&[u8], IoError> {
        debug_assert!(self.is_complete() && len <= self.len());
        self.packet().state.owner_touches_bytes();
        let bytes = self.packet().bytes;
        if bytes.is_null() {
            return Err(IoError::NO_BYTES);
        }
        // SAFETY: the caller promises that the packet is complete, so that the bytes are the owner's until the next `&mut` (state
        // rule 2), and that `len` bytes are initialised.
        Ok(unsafe { core::slice::from_raw_parts(bytes, len) })
    }

    /// All bytes, if all were done.
    ///
    /// # Errors
    ///
    /// The error at the lowest offset that was not done; [`IoError::NO_BYTES`] for a complex packet.
    #[inline]
    pub fn simple_slice(&self) -> Result<&[u8], IoError> {
        match self.is_done() {
            // SAFETY: each byte was done, so the packet is complete, and each byte was written.
            true => unsafe { self.initialised_front(self.len()) },
            false => self.slice_or_error(),
        }
    }

    /// Does the work of [`simple_slice`](Self::simple_slice) where the request did not seem to be done.
    #[cold]
    fn slice_or_error(&self) -> Result<&[u8], IoError> {
        match self.report().min_error() {
            Some((_, error)) => Err(error),
            // No byte of an empty packet can fail.
            None if !self.is_complete() => Err(IoError::IN_FLIGHT),
            // The packet completed between the two checks, or has no bytes.
            // SAFETY: the packet is complete; each byte that was done was written.
            None => unsafe { self.initialised_front(if self.is_done() { self.len() } else { 0 }) },
        }
    }

    /// The leading bytes that were done.
    ///
    /// # Errors
    ///
    /// The error of the first byte, if that was not done; [`IoError::NO_BYTES`] for a complex packet.
    pub fn simple_contiguous_slice(&self) -> Result<&[u8], IoError> {
        let done = self.report().err_on_zero()?;
        if !self.is_complete() {
            // The packet is empty, and no byte of it can fail.
            return Err(IoError::IN_FLIGHT);
        }
        // SAFETY: the packet is complete, and each byte that was done was written.
        unsafe { self.initialised_front(done) }
    }

    /// The bytes of a range, if all of it was done.
    ///
    /// # Errors
    ///
    /// The error at the lowest offset of the range that was not done; [`IoError::NO_BYTES`] for a complex packet.
    ///
    /// # Panics
    ///
    /// If the range is not within the packet.
    pub fn done_slice(&self, range: Range<usize>) -> Result<&[u8], IoError> {
        assert!(
            range.start <= range.end && range.end <= self.len(),
            "{range:?} is not in {} bytes",
            self.len()
        );
        if !self.is_done() {
            let report = self.report();
            let failed = report
                .failed_ranges()
                .find(|(failed, _)| failed.start < range.end && failed.end > range.start);
            if let Some((_, error)) = failed {
                return Err(error);
            }
        }
        let bytes = self.packet().bytes;
        if bytes.is_null() {
            return Err(IoError::NO_BYTES);
        }
        self.packet().state.owner_touches_bytes();
        // SAFETY: the range was done, so it is initialised, and the packet is complete, since no byte counts as done before that.
        // Or the range is empty.
        Ok(unsafe { core::slice::from_raw_parts(bytes.add(range.start), range.len()) })
    }

    /// Answers a view with the bytes of this packet from `start` on: see [`Report::answer`].
    pub fn answer(&self, start: usize, view: BoundPacketView<Write>) {
        if self.is_done()
            && let Some(end) = start.checked_add(view.len()).filter(|&end| end <= self.len())
            && let Ok(bytes) = self.done_slice(start..end)
        {
            return view.transfer_data(bytes).complete();
        }
        self.report().answer_with(start, view, |range| self.done_slice(range));
    }

    /// Length of the leading part that was done; see [`Report::error_clamp`].
    pub fn error_clamp(&self) -> usize {
        if self.is_done() { self.len() } else { self.report().error_clamp() }
    }

    /// The lowest offset that failed, and its error; see [`Report::min_error`].
    pub fn min_error(&self) -> Option<(usize, IoError)> {
        if self.is_done() { None } else { self.report().min_error() }
    }

    /// The lowest offset that failed, and the whole cause; see [`Report::min_cause`].
    pub fn min_cause(&self) -> Option<(usize, Cause)> {
        if self.is_done() {
            return None;
        }
        self.report().min_cause().map(|(offset, cause)| (offset, cause.clone()))
    }

    /// Length of the leading part that was done; see [`Report::err_on_zero`].
    ///
    /// # Errors
    ///
    /// The error of the first byte, if that failed.
    pub fn err_on_zero(&self) -> Result<usize, IoError> {
        if self.is_done() { Ok(self.len()) } else { self.report().err_on_zero() }
    }

    /// Succeeds if every byte was done; see [`Report::err_any`].
    ///
    /// # Errors
    ///
    /// The error at the lowest offset that failed.
    #[inline]
    pub fn err_any(&self) -> Result<(), IoError> {
        if self.is_done() { Ok(()) } else { self.report().err_any() }
    }

    /// Copies every byte that was done to its place in `buffer`; other places are not changed. A complex packet has no bytes to
    /// copy.
    ///
    /// # Panics
    ///
    /// If `buffer` is shorter than the packet.
    #[inline]
    pub fn copy_done_to(&self, buffer: &mut [u8]) {
        let buffer = &mut buffer[..self.len()];
        let whole = 0..buffer.len();
        if self.is_done() {
            self.copy_range(whole, buffer);
        } else {
            self.report().done_ranges().for_each(|range| self.copy_range(range.clone(), &mut buffer[range]));
        }
    }

    /// Copies every byte that was done to its place in `buffers`, which hold consecutive ranges of the packet; other places are
    /// not changed.
    pub(crate) fn copy_done_apart<'b>(&self, buffers: impl Iterator<Item = &'b mut [u8]>) {
        let report = self.report();
        let mut all_done = report.done_ranges().peekable();
        let mut start = 0;
        for buffer in buffers {
            let end = start + buffer.len();
            while let Some(done) = all_done.peek() {
                let (from, to) = (done.start.max(start), done.end.min(end));
                if from < to {
                    self.copy_range(from..to, &mut buffer[from - start..to - start]);
                }
                if done.end > end {
                    // The range reaches into the next buffer, so it stays at the front of `all_done`.
                    break;
                }
                all_done.next();
            }
            start = end;
        }
    }

    /// Copies a range that was done. Does nothing for a complex packet, which has no bytes.
    #[inline(always)]
    fn copy_range(&self, range: Range<usize>, buffer: &mut [u8]) {
        self.packet().state.owner_touches_bytes();
        let bytes = self.packet().bytes;
        if !bytes.is_null() {
            // SAFETY: the range was done, so it is initialised, and the packet is complete, since no byte counts as done before
            // that.
            let bytes = unsafe { core::slice::from_raw_parts(bytes.add(range.start), range.len()) };
            buffer.copy_from_slice(bytes);
        }
    }

    /// Bytes of a segment that was done and reported to its output, while other segments may be in flight.
    ///
    /// # Safety
    ///
    /// The segment was done and reported in this request, and the packet is not bound again during the borrow.
    pub(super) unsafe fn segment_bytes(&self, range: Range<usize>) -> Option<&[u8]> {
        let bytes = self.packet().bytes;
        // SAFETY: the range was done in this request, so its bytes are initialised; no view writes to a range that was answered,
        // and the packet is not bound again during the borrow.
        (!bytes.is_null())
            .then(|| unsafe { core::slice::from_raw_parts(bytes.add(range.start), range.len()) })
    }

    #[inline]
    pub(crate) fn poll_complete(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        // SAFETY: `self` is the owner, borrowed for the call.
        unsafe { poll_block(self.block, cx) }
    }
}

/// Polls on behalf of the owner. When it returns `Pending`, the waker may have been called already.
///
/// # Safety
///
/// The owner of the block is alive when the call begins, and no other call polls on its behalf. The waker may drop the owner when
/// it is called.
#[inline]
pub(super) unsafe fn poll_block(block: NonNull<Block>, cx: &mut Context<'_>) -> Poll<()> {
    // SAFETY: the owner is alive when the call begins, so OWNER keeps the block.
    let state = unsafe { &raw const (*block.as_ptr()).packet.state };
    // SAFETY: OWNER keeps the block, so its state word is alive.
    let polled = match unsafe { (*state).poll() } {
        Polled::Ready => Poll::Ready(()),
        // SAFETY: the owner is alive, no other call polls on its behalf, and `poll` gave the waker slot to the owner.
        Polled::Fill => unsafe { fill_slot(block, cx) },
    };
    if polled.is_ready() {
        // The owner may read the bytes from here on: the models check that no view still does.
        // SAFETY: a complete packet calls no waker that could drop the owner, so the owner is alive.
        unsafe { (*state).owner_touches_bytes() };
    }
    polled
}

/// Puts the task's waker into the slot and arms it. `Ready` if the last view finished meanwhile: then the waker is taken out
/// again.
///
/// # Safety
///
/// As for [`poll_block`], and the waker slot is the owner's (state rule 3).
unsafe fn fill_slot(block: NonNull<Block>, cx: &mut Context<'_>) -> Poll<()> {
    // SAFETY: the slot is the owner's; the block is not touched after `arm` reported that the last view will wake.
    unsafe {
        let slot = &raw const (*block.as_ptr()).waker;
        let stale = (*slot).with_mut(|slot| match &mut *slot {
            Some(waker) if waker.will_wake(cx.waker()) => None,
            slot => slot.replace(cx.waker().clone()),
        });
        let armed = (*block.as_ptr()).packet.state.arm();
        // Only now, since the drop runs foreign code, which must not run while the slot is in use. It may panic: that is a
        // fault of the task, and does not affect this packet.
        let _ = firewall::contain(|| drop(stale));
        match armed {
            Armed::Pending => Poll::Pending,
            Armed::TooLate => {
                // The last view finished first: the slot is still the owner's.
                let late = mutant!("too_late_keeps_waker", None, (*slot).with_mut(|slot| (*slot).take()));
                let _ = firewall::contain(|| drop(late));
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
                let waker = (*self.block.as_ptr()).waker.with_mut(|slot| (*slot).take());
                let _ = firewall::contain(|| drop(waker));
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
