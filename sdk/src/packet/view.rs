//! The device's side of a packet: a range that owes an answer. `mutant!` gives its last argument; the models can plant the
//! mistake before it.

use core::fmt;
use core::marker::PhantomData;
use core::mem::ManuallyDrop;
use core::ops::Range;
use core::ptr::{self, NonNull};

use super::header::{DERIVED, INITIALISED, Packet};
use super::state::{Finished, Generation};
use super::{Errorable, PacketPerms, Read, Splittable, TransferredPacket, mutant};
use crate::{Cause, IoError};

/// A range of a packet that a device must answer.
///
/// A view can be split, moved to another thread, kept for later, or given to another device. Each part is answered once:
///
/// | answer | call |
/// |--------|------|
/// | the bytes are in memory | [`transfer_data`](Self::transfer_data) |
/// | a buffer is needed (a system call, DMA) | [`try_alloc`](Self::try_alloc) |
/// | failure | [`error`](Self::error), or dropping the view |
///
/// ```
/// # use pactio_sdk::{BoundPacketView, IoError, PacketBox, Write};
/// fn answer(view: BoundPacketView<Write>) {
///     let (front, back) = view.split_at(4);
///     front.transfer_data(b"data").complete();
///     back.error(IoError::END);
/// }
/// # let mut packet = PacketBox::<Write>::new_buf(10)?;
/// # answer(packet.bind()?);
/// # assert_eq!(packet.report().error_clamp(), 4);
/// # Ok::<(), IoError>(())
/// ```
///
/// An answered view is gone; using it again does not compile:
///
/// ```compile_fail,E0382
/// # use pactio_sdk::{BoundPacketView, IoError, Write};
/// fn answer_twice(view: BoundPacketView<Write>) {
///     view.error(IoError::END);
///     view.error(IoError::END);
/// }
/// ```
#[repr(C)]
#[cfg_attr(feature = "layout-check", derive(abi_stable::StableAbi))]
#[must_use = "a view that is dropped fails its range"]
pub struct BoundPacketView<Perms: PacketPerms> {
    #[cfg_attr(feature = "layout-check", sabi(unsafe_opaque_field))]
    /// The packet, and in the lowest bits, which the alignment of packets leaves free, the generation of the request.
    packet: NonNull<()>,
    start: usize,
    end: usize,
    tag: u64,
    #[cfg_attr(feature = "layout-check", sabi(unsafe_opaque_field))]
    _perms: PhantomData<Perms>,
}

// SAFETY: a view may be moved to any thread: its range is its own, and all it shares is atomic (state rules 1, 2, 4).
unsafe impl<Perms: PacketPerms> Send for BoundPacketView<Perms> {}
// SAFETY: `&BoundPacketView` only reads its own plain fields.
unsafe impl<Perms: PacketPerms> Sync for BoundPacketView<Perms> {}

impl<Perms: PacketPerms> BoundPacketView<Perms> {
    /// The first view of a request.
    ///
    /// # Safety
    ///
    /// The packet was submitted with this generation, COUNT includes this view and no other, and the packet has `len` bytes.
    #[inline(always)]
    pub(super) unsafe fn first(packet: NonNull<Packet<Perms>>, generation: Generation, len: usize) -> Self {
        let packet = packet.cast().map_addr(|address| address | generation.to_number());
        Self { packet, start: 0, end: len, tag: 0, _perms: PhantomData }
    }

    /// # Safety
    ///
    /// `packet` comes from another view, COUNT of that packet includes this view, and no other view's range overlaps
    /// `start..end`.
    #[inline(always)]
    unsafe fn new(packet: NonNull<()>, start: usize, end: usize, tag: u64) -> Self {
        Self { packet, start, end, tag, _perms: PhantomData }
    }

    /// Takes the view apart; its receiver puts the parts together again.
    #[inline(always)]
    #[doc(hidden)]
    pub fn into_parts(self) -> (*const (), usize, usize, u64) {
        let parts = (self.packet.as_ptr().cast_const(), self.start, self.end, self.tag);
        core::mem::forget(self);
        parts
    }

    /// Moves the view field by field.
    ///
    /// A move of a whole view loads several fields at once. A processor cannot forward fields that were just stored one by one to
    /// such a load, and waits until the stores are complete. The compiler does not merge the volatile stores of this function.
    ///
    /// # Safety
    ///
    /// `slot` is valid for writes.
    #[inline(always)]
    pub(crate) unsafe fn write_to(self, slot: *mut Self) {
        let (packet, start, end, tag) = self.into_parts();
        // SAFETY: `slot` is valid for writes. The block writes each of the view's fields once, so the whole view is moved.
        unsafe {
            (&raw mut (*slot).packet).cast::<*const ()>().write_volatile(packet);
            (&raw mut (*slot).start).write_volatile(start);
            (&raw mut (*slot).end).write_volatile(end);
            (&raw mut (*slot).tag).write_volatile(tag);
        }
    }

    /// # Safety
    ///
    /// The arguments are the parts of a view with this permission, which come from [`into_parts`](Self::into_parts) once.
    #[cfg(feature = "plugin")]
    #[inline(always)]
    #[doc(hidden)]
    pub unsafe fn from_parts(packet: *const (), start: usize, end: usize, tag: u64) -> Self {
        // SAFETY: the arguments are the parts of one view with this permission, used once; a view's packet is never null.
        unsafe { Self::new(NonNull::new_unchecked(packet.cast_mut()), start, end, tag) }
    }

    /// The empty view at the start of this view's range, for as long as this view exists. The empty view is neither dropped nor
    /// counted.
    pub(super) fn stem(&self) -> ManuallyDrop<Self> {
        // SAFETY: an empty range overlaps no other, and a view that is not dropped finishes nothing.
        ManuallyDrop::new(unsafe { Self::new(self.packet, self.start, self.start, self.tag) })
    }

    /// The view's packet.
    #[inline(always)]
    pub(super) fn packet(&self) -> *const Packet<Perms> {
        self.packet.as_ptr().map_addr(|address| address & !(Generation::COUNT - 1)).cast_const().cast()
    }

    /// The generation of the view's request.
    #[inline(always)]
    fn generation(&self) -> Generation {
        Generation::from_number(self.packet.addr().get())
    }

    /// Length of the range in bytes.
    #[inline(always)]
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// The range is empty. An empty view also owes an answer.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Offset of the range in its packet, in bytes.
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
    /// If `tag` does not fit 63 bits.
    pub fn set_tag(&mut self, tag: u64) {
        assert!(tag >> 63 == 0, "a tag has 63 bits, {tag:#x} has more");
        self.tag = tag;
    }

    /// The request that the view belongs to. No other request has the same identity while it is in flight.
    ///
    /// A view of a packet that was made to answer another view, as [`ReboundPacket`](super::ReboundPacket) and
    /// [`DerivedPacket`](super::DerivedPacket) do, belongs to the request of that view.
    #[inline]
    pub fn request(&self) -> RequestId {
        // SAFETY: this view keeps its packet alive (state rule 1), which keeps its origin.
        RequestId(unsafe { root(self.packet().cast()) } as u64)
    }

    /// The result is not wanted any more: the request, or a request that it was made to answer, was cancelled, or its owner is
    /// gone. The view owes an answer all the same; [`IoError::CANCELLED`] is a suitable error.
    #[inline]
    pub fn is_cancelled(&self) -> bool {
        // SAFETY: this view keeps its packet alive (state rule 1), which keeps its origin.
        unsafe { is_cancelled(self.packet().cast()) }
    }

    /// The packet has its bytes in memory, so a layer may read them: see [`ReturnedPart::bytes`](super::ReturnedPart::bytes). A
    /// complex packet has no bytes in memory.
    #[inline]
    pub fn has_bytes(&self) -> bool {
        self.bytes().is_some()
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
                view.error(TOO_MANY_VIEWS);
                panic!("a packet cannot have more than 2^31 views");
            }
        }
    }

    /// Like [`split_at`](Self::split_at), but gives the view back instead of a panic.
    ///
    /// # Errors
    ///
    /// The view, if the packet has 2³¹ views already.
    #[inline]
    pub fn try_split_at(self, at: usize) -> Result<(Self, Self), Self> {
        // SAFETY: this view keeps the packet alive (state rule 1).
        if unsafe { (*self.packet()).state.split(self.generation()) }.is_err() {
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
    pub fn error(self, error: IoError) {
        // SAFETY: the view is not used afterwards.
        unsafe { ManuallyDrop::new(self).settle(0, error) };
    }

    /// Fails the whole range, with a text for people where the cause has one.
    #[cold]
    pub fn fail(self, cause: &Cause) {
        // SAFETY: the view is not used afterwards.
        unsafe { ManuallyDrop::new(self).settle_with_text(0, cause) };
    }

    /// A view of a part of another range of the packet, which exists beside this view and owes an answer of its own.
    ///
    /// # Errors
    ///
    /// If the packet has 2³¹ views already. The part is failed then.
    ///
    /// # Safety
    ///
    /// This view is the empty rest of a range that was given up for such parts; the part lies in that range, at these offsets of
    /// the packet, and no other view has a byte of it.
    pub(super) unsafe fn part(&self, range: Range<usize>) -> Result<Self, IoError> {
        let packet = self.packet();
        // SAFETY: this view keeps the packet and its table alive (state rule 1).
        unsafe {
            if mutant!("part_uncounted", Ok(()), (*packet).state.split(self.generation())).is_err() {
                let error = TOO_MANY_VIEWS.to_raw();
                ((*(*packet).table).fail)(packet.cast(), range.start, range.end, error, ptr::null(), 0);
                return Err(TOO_MANY_VIEWS);
            }
            // `split` counted one more view; no other view has a byte of the range.
            Ok(Self::new(self.packet, range.start, range.end, self.tag))
        }
    }

    /// Empties the view, which still owes its answer, and returns its former range as offsets of the packet, for
    /// [parts](Self::part) of it.
    pub(super) fn take_range(&mut self) -> Range<usize> {
        let range = self.start..self.end;
        self.end = mutant!("stem_keeps_range", self.end, self.start);
        range
    }

    /// Direct access to the packet's bytes, if they are available at this alignment; otherwise the view comes back, and the
    /// device uses a buffer of its own and [`transfer_data`](Self::transfer_data).
    ///
    /// # Errors
    ///
    /// The view, if the bytes are not aligned to `align`, or if the packet gives no direct access to its bytes.
    #[inline(always)]
    pub fn try_alloc(self, align: usize) -> Result<Perms::Allocated, Self> {
        let bytes = match self.bytes() {
            Some(bytes) => bytes,
            None => self.alloc(align),
        };
        if bytes.is_null() || (align > 1 && !(bytes as usize).is_multiple_of(align)) {
            return Err(self);
        }
        Ok(Perms::allocated(self, bytes))
    }

    #[cold]
    fn alloc(&self, align: usize) -> *mut u8 {
        // SAFETY: the whole range is this view's.
        unsafe { self.alloc_range(0..self.len(), align) }
    }

    /// Memory for a part of the range of a complex packet, or null.
    ///
    /// # Safety
    ///
    /// The part lies within the range, and no other code uses it until it is answered.
    pub(super) unsafe fn alloc_range(&self, part: Range<usize>, align: usize) -> *mut u8 {
        let (packet, start, end) = (self.packet(), self.start + part.start, self.start + part.end);
        // SAFETY: this view keeps the packet and its table alive; the part lies within its range, and no other code uses it.
        unsafe { ((*(*packet).table).alloc)(packet.cast(), start, end, align) }
    }

    /// Moves bytes of a complex packet; gives 0 or the error.
    ///
    /// # Safety
    ///
    /// As for [`alloc_range`](Self::alloc_range), for `len` bytes from `start`; the memory at `device` has `len` bytes.
    pub(super) unsafe fn transfer_range(&self, start: usize, device: *mut u8, len: usize) -> u32 {
        let packet = self.packet();
        // SAFETY: this view keeps the packet and its table alive; the `len` bytes from `start` lie within its range, no other
        // code uses them, and the memory at `device` has `len` bytes.
        unsafe { ((*(*packet).table).transfer)(packet.cast(), self.start + start, device, len) }
    }

    /// Answers the range with success: its bytes are in place already.
    pub(super) fn complete_in_place(self) {
        let view = ManuallyDrop::new(self);
        // SAFETY: the view is not used afterwards.
        unsafe { view.settle(view.len(), IoError::SHORT) };
    }

    /// Moves bytes between the start of the device's `data` and the range: out of `data` for a read request, into it for a write
    /// request, both for an exchange. The result owes the answer: [`complete`](TransferredPacket::complete) sends the answer,
    /// dropping the result fails the range.
    ///
    /// If `data` is shorter than the range, the rest of the range fails with [`IoError::END`]; if `data` is longer, its rest is
    /// not used. So a device can pass all its data from the position on.
    #[inline(always)]
    pub fn transfer_data(self, data: Perms::Data<'_>) -> TransferredPacket<Perms> {
        let (device, available) = Perms::memory(data);
        let len = self.len().min(available);
        self.touch();
        match self.bytes() {
            Some(bytes) => {
                // SAFETY: both have at least `len` bytes. The range is this view's alone, or only read, so the device's memory,
                // to which the device holds a reference, cannot overlap it.
                unsafe { Perms::transfer(bytes, device, len) };
                TransferredPacket::new(self, len, IoError::END)
            }
            None => self.transfer_complex(device, len),
        }
    }

    /// Does the work of [`transfer_data`](Self::transfer_data) for a complex packet; a failed move fails the whole range.
    #[cold]
    fn transfer_complex(self, device: *mut u8, len: usize) -> TransferredPacket<Perms> {
        // SAFETY: the device's memory has `len` bytes, which are not more than the range has, and is borrowed by the caller.
        match unsafe { self.move_complex(device, len) } {
            Ok(()) => TransferredPacket::new(self, len, IoError::END),
            Err(error) => TransferredPacket::new(self, 0, error),
        }
    }

    /// Moves the first `len` bytes of a complex packet's range.
    ///
    /// # Safety
    ///
    /// The range has at least `len` bytes, and the memory at `device` has `len` bytes.
    unsafe fn move_complex(&self, device: *mut u8, len: usize) -> Result<(), IoError> {
        // Memory behind the range comes first; only a packet without such memory is asked to transfer.
        let bytes = self.alloc(1);
        if !bytes.is_null() {
            // SAFETY: the memory stands for this view's range until the range is answered, and has its length.
            unsafe { Perms::transfer(bytes, device, len) };
            return Ok(());
        }
        // SAFETY: the range is this view's and has at least `len` bytes, and the memory at `device` has `len` bytes.
        IoError::from_raw(unsafe { self.transfer_range(0, device, len) }).map_or(Ok(()), Err)
    }

    /// The first byte of the range; `None` in a complex packet.
    #[inline(always)]
    pub(super) fn bytes(&self) -> Option<*mut u8> {
        // SAFETY: the packet is alive and `bytes` constant (state rules 1 and 5); `start` is at most the packet's
        // length, so the sum stays inside or one past its allocation.
        unsafe {
            let bytes = (*self.packet()).bytes;
            if bytes.is_null() { None } else { Some(bytes.add(self.start)) }
        }
    }

    #[inline(always)]
    pub(super) fn is_initialised(&self) -> bool {
        // SAFETY: the packet is alive and `flags` constant while this view exists (state rules 1 and 5).
        unsafe { (*self.packet()).flags & INITIALISED != 0 }
    }

    /// A copy from or to the bytes is about to happen.
    #[inline(always)]
    pub(super) fn touch(&self) {
        // SAFETY: this view keeps the packet alive (state rule 1).
        unsafe { (*self.packet()).state.view_touches_bytes() };
    }

    /// Answers the range: the first `done` bytes are done, the rest failed with `rest` and its text.
    ///
    /// # Safety
    ///
    /// The view is not used afterwards, not even dropped.
    #[cold]
    pub(super) unsafe fn settle_with_text(&self, done: usize, rest: &Cause) {
        // SAFETY: the view is not used afterwards, and these are its parts.
        unsafe {
            Self::settle_in_steps(
                self.packet,
                self.start,
                self.end,
                self.tag,
                done,
                rest.error(),
                rest.text().unwrap_or_default(),
            );
        }
    }

    /// Answers the range: the first `done` bytes are done, the rest failed with `rest`.
    ///
    /// # Safety
    ///
    /// The view is not used afterwards, not even dropped.
    #[inline(always)]
    pub(super) unsafe fn settle(&self, done: usize, rest: IoError) {
        // SAFETY: the view keeps the packet alive up to here (state rule 1).
        let settled = done >= self.len() && unsafe { (*self.packet()).state.finish_only(self.generation()) };
        if !settled {
            // SAFETY: the view is not used afterwards, and these are its parts. The parts are passed one by one, so that the view
            // need not lie in memory.
            unsafe { Self::settle_in_steps(self.packet, self.start, self.end, self.tag, done, rest, "") };
        }
    }

    /// Settles in this order (rule P3): the bytes are in place; then the result, the output, the count, the wake.
    ///
    /// # Safety
    ///
    /// As for [`settle`](Self::settle); these are the view's parts.
    #[inline(never)]
    unsafe fn settle_in_steps(
        packet: NonNull<()>,
        start: usize,
        end: usize,
        tag: u64,
        done: usize,
        rest: IoError,
        text: &str,
    ) {
        // SAFETY: a view that is not dropped finishes nothing, and these are the parts of one.
        let view = ManuallyDrop::new(unsafe { Self::new(packet, start, end, tag) });
        let (packet, generation) = (view.packet(), view.generation());
        let middle = start + done.min(end - start);
        // SAFETY: the view keeps packet and table alive up to `finish`; if this was the last view, the group keeps them
        // until `complete` (state rule 1). All ranges are this view's.
        unsafe {
            // Ends the process if this view was answered before: its answer must not reach another request.
            (*packet).state.expect_view(generation);
            if middle < end {
                let rest = rest.to_raw();
                ((*(*packet).table).fail)(packet.cast(), middle, end, rest, text.as_ptr(), text.len());
            }
            if mutant!("segment_after_count", false, (*packet).state.is_watched()) {
                let segment = (*(*packet).table).segment;
                if start < middle {
                    segment(packet.cast(), start, middle, tag, 0, ptr::null(), 0);
                }
                if middle < end {
                    let rest = rest.to_raw();
                    segment(packet.cast(), middle, end, tag, rest, text.as_ptr(), text.len());
                }
            }
            // `late` is false in each real build: a mistake that is planted to test the models.
            let late = mutant!("segment_after_count", (*packet).state.is_watched(), false);
            let table = (*packet).table;
            let finished = (*packet).state.finish(generation);
            if late {
                ((*table).segment)(packet.cast(), start, end, tag, 0, ptr::null(), 0);
            }
            if let Finished::Last { waker } = finished {
                ((*(*packet).table).complete)(packet.cast(), waker.into());
            }
        }
    }
}

/// The packet at the end of the chain that begins with `packet`. Each packet of the chain but the last was made to answer a view
/// of the next one.
///
/// # Safety
///
/// The caller holds a view of `packet`.
#[inline]
pub(super) unsafe fn root(packet: *const ()) -> *const () {
    // SAFETY: a view of a derived packet keeps that packet, and the packet keeps the view of its origin that it was made to
    // answer (the contract of `origin`), so each packet of the chain is alive. Permissions do not change the offsets of the
    // fields.
    unsafe {
        let mut packet = packet.cast::<Packet<()>>();
        while (*packet).flags & DERIVED != 0 {
            packet = ((*(*packet).table).origin)(packet.cast()).cast();
        }
        packet.cast()
    }
}

/// `true` if the result of a packet, or of a packet that it was made to answer, is not wanted any more.
///
/// # Safety
///
/// The caller holds a view of `packet`.
#[inline]
unsafe fn is_cancelled(packet: *const ()) -> bool {
    // SAFETY: a view of a derived packet keeps that packet, and the packet keeps the view of its origin that it was made to
    // answer (the contract of `origin`), so each packet of the chain is alive. Permissions do not change the offsets of the
    // fields.
    unsafe {
        let mut packet = packet.cast::<Packet<()>>();
        // The owner of a derived packet may be gone while the origin is still wanted: only its CANCELLED bit counts.
        while (*packet).flags & DERIVED != 0 {
            if (*packet).state.is_marked_cancelled() {
                return true;
            }
            packet = ((*(*packet).table).origin)(packet.cast()).cast();
        }
        (*packet).state.is_cancelled()
    }
}

const TOO_MANY_VIEWS: IoError =
    IoError::new(crate::Code::TOO_MANY, crate::Subject::VIEW, crate::State::FULL, crate::Location::SDK);

impl BoundPacketView<Read> {
    /// Takes the range without reading the bytes, as a device that discards writes does. The result owes the answer.
    #[inline]
    pub fn accept(self) -> TransferredPacket<Read> {
        let len = self.len();
        TransferredPacket::new(self, len, IoError::END)
    }

    /// Copies the first `data.len()` bytes of the range and leaves the view as it is, for a layer that writes an encoded copy
    /// ([`DerivedPacket`](super::DerivedPacket)) before it answers.
    ///
    /// # Errors
    ///
    /// The error of the function that produces the bytes, in a complex packet. The view still owes its answer.
    ///
    /// # Panics
    ///
    /// If `data` is longer than the range.
    pub fn copy_to(&self, data: &mut [u8]) -> Result<(), IoError> {
        assert!(data.len() <= self.len(), "{} bytes of {} cannot be copied", data.len(), self.len());
        let (device, len) = (data.as_mut_ptr(), data.len());
        self.touch();
        match self.bytes() {
            Some(bytes) => {
                // SAFETY: both have at least `len` bytes. The bytes of a write request are only read, and the caller's memory,
                // which is borrowed mutably, cannot overlap them.
                unsafe { Read::transfer(bytes, device, len) };
                Ok(())
            }
            // SAFETY: `len` is at most the length of the range, and `data` has `len` bytes.
            None => unsafe { self.move_complex(device, len) },
        }
    }
}

impl<Perms: PacketPerms> Splittable for BoundPacketView<Perms> {
    fn len(&self) -> usize {
        self.len()
    }

    fn split_at(self, at: usize) -> (Self, Self) {
        self.split_at(at)
    }
}

impl<Perms: PacketPerms> Errorable for BoundPacketView<Perms> {
    fn error(self, error: IoError) {
        self.error(error);
    }

    fn fail(self, cause: &Cause) {
        self.fail(cause);
    }
}

/// Identity of a request while it is in flight; a device that is asked to cancel looks for this identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub(crate) u64);

impl RequestId {
    /// The number that crosses the boundary.
    pub fn to_raw(self) -> u64 {
        self.0
    }

    /// The identity for a number that crossed the boundary.
    pub fn from_raw(raw: u64) -> Self {
        Self(raw)
    }
}

impl<Perms: PacketPerms> Drop for BoundPacketView<Perms> {
    #[cold]
    fn drop(&mut self) {
        // SAFETY: the view ends here.
        unsafe { self.settle(0, IoError::UNANSWERED) };
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

/// The part of the ABI's fingerprint that describes views.
#[cfg(feature = "plugin")]
pub(super) mod boundary {
    use super::BoundPacketView;
    use crate::fingerprint::{Fingerprint, fingerprint_struct};

    pub(in crate::packet) const fn describe(print: Fingerprint) -> Fingerprint {
        fingerprint_struct!(print, BoundPacketView<super::Read>, "BoundPacketView" { packet, start, end, tag })
    }
}
