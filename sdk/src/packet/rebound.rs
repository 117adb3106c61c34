//! Interception: a layer between requester and device that learns what became of each range before the requester does.

use core::fmt;
use core::ops::Range;
use core::pin::Pin;
use core::ptr;
use core::task::{Context, Poll};

use super::block::{self, Block, complete, fail};
use super::header::PacketTable;
use super::{BoundPacketView, PacketBox, PacketPerms, Report, continuation, watch};
use crate::IoError;

/// A bound view that was taken over, and a packet over the same bytes that is sent on in its place.
///
/// ```text
///   requester ◄── origin view ── ReboundPacket ── fresh view ──► device
///                     │               ▲                │
///                     └── settle ─────┴── report ──────┘        the same bytes, no copy
/// ```
///
/// [`bind`](Self::bind) gives the fresh view. When all of it was answered, [`settle`](Self::settle) answers each range of the
/// origin exactly once: done where it was done, and otherwise as the layer decides, which gets the failed part of the origin
/// as a bound view and may send it elsewhere. Views of other packets cannot get in: what became of each range is
/// learnt from the packet itself. If it is dropped before, what is left of the origin fails.
///
/// ```
/// use pactio_sdk::{BoundPacketView, IoError, ReboundPacket, Write};
///
/// /// Reads from the first copy, and what cannot be read there from the second.
/// fn mirrored(
///     view: BoundPacketView<Write>,
///     first: impl FnOnce(BoundPacketView<Write>),
///     second: impl Fn(BoundPacketView<Write>) + Send + 'static,
/// ) -> Result<(), IoError> {
///     let mut rebound = ReboundPacket::new(view)?;
///     first(rebound.bind()?);
///     rebound.on_complete(move |rebound| {
///         let _ = rebound.settle(|_range, failed, _error| second(failed));
///     });
///     Ok(())
/// }
/// # let mut packet = pactio_sdk::PacketBox::<Write>::new_buf(8)?;
/// # let half = |view: BoundPacketView<Write>| view.transfer_data(b"half").complete();
/// # mirrored(packet.bind()?, half, |view| view.transfer_data(b"HALF").complete())?;
/// # assert_eq!(packet.simple_slice(), Ok(&b"halfHALF"[..]));
/// # Ok::<(), IoError>(())
/// ```
pub struct ReboundPacket<Perms: PacketPerms> {
    packet: PacketBox<Perms>,
    tag: u64,
}

/// The origin's bytes for a packet whose own origin is complex.
struct Forwarded<Perms>(Perms);

impl<Perms: PacketPerms> Forwarded<Perms> {
    const TABLE: PacketTable = PacketTable {
        size: size_of::<PacketTable>() as u32,
        complete,
        fail,
        segment: watch::unwatched,
        alloc: alloc::<Perms>,
        transfer: transfer::<Perms>,
    };
}

/// The origin that a rebound packet keeps.
///
/// # Safety
///
/// It is one, alive, and not settled.
unsafe fn origin<'a, Perms: PacketPerms>(packet: *const ()) -> &'a BoundPacketView<Perms> {
    // SAFETY: as required.
    unsafe { block::kept::<BoundPacketView<Perms>>(packet.cast::<Block>()) }
}

unsafe extern "C" fn alloc<Perms: PacketPerms>(
    packet: *const (),
    start: usize,
    end: usize,
    align: usize,
) -> *mut u8 {
    // SAFETY: the caller holds a view, so the packet keeps its origin; the range lies within the origin's.
    unsafe { origin::<Perms>(packet).alloc_range(start..end, align) }
}

unsafe extern "C" fn transfer<Perms: PacketPerms>(
    packet: *const (),
    start: usize,
    device: *mut u8,
    len: usize,
) -> u32 {
    // SAFETY: as in `alloc`; the device's memory is borrowed for the call.
    unsafe { origin::<Perms>(packet).transfer_range(start, device, len) }
}

impl<Perms: PacketPerms> ReboundPacket<Perms> {
    /// Takes a view over.
    ///
    /// # Errors
    ///
    /// [`IoError::OUT_OF_MEMORY`] if the header cannot be allocated; the view fails with it.
    pub fn new(view: BoundPacketView<Perms>) -> Result<Self, IoError> {
        let (bytes, len, tag) = (view.bytes(), view.len(), view.tag());
        let initialised = view.is_initialised();
        let block = block::allocate_kept(view)?;
        // SAFETY: the packet is ours. Its bytes are the origin's range, which belongs to the view that its room keeps, and is
        // answered only when no view of this packet is left.
        unsafe { block::set_bytes(block, bytes.unwrap_or(ptr::null_mut()), len, initialised) };
        let mut packet = PacketBox::new(block);
        if bytes.is_none() {
            packet.set_table(&Forwarded::<Perms>::TABLE);
        }
        Ok(Self { packet, tag })
    }

    /// The fresh view, with the origin's tag. It may be bound again after it was answered, to try anew.
    ///
    /// # Errors
    ///
    /// As [`PacketBox::bind`].
    pub fn bind(&mut self) -> Result<BoundPacketView<Perms>, IoError> {
        let mut view = self.packet.bind()?;
        view.set_tag(self.tag);
        Ok(view)
    }

    /// What became of each byte of the fresh view.
    pub fn report(&self) -> Report {
        self.packet.report()
    }

    /// Nobody wants the origin's result any more.
    pub fn is_cancelled(&self) -> bool {
        // SAFETY: the origin is kept until `settle`, which ends `self`.
        unsafe { origin::<Perms>(self.packet.block().as_ptr().cast_const().cast()) }.is_cancelled()
    }

    /// Calls `then` when the fresh view was answered completely: now, or on the thread of its last answer.
    pub fn on_complete(self, then: impl FnOnce(Self) + Send + 'static) {
        let block = self.packet.block();
        // SAFETY: `self` is the owner of this block.
        unsafe { continuation::on_complete(block, self, then) };
    }

    /// Answers the origin: what was done is done, and each range that failed is given to `failed`, with its place in the
    /// origin, as a bound view, and with its error.
    ///
    /// # Errors
    ///
    /// `self`, while parts of the fresh view are in flight.
    pub fn settle(
        self,
        mut failed: impl FnMut(Range<usize>, BoundPacketView<Perms>, IoError),
    ) -> Result<(), Self> {
        if !self.packet.is_complete() {
            return Err(self);
        }
        let report = self.packet.report();
        // SAFETY: complete, ours, made by `new`, and taken once, since `self` ends.
        let mut rest = unsafe { block::take_kept::<BoundPacketView<Perms>>(self.packet.block()) };
        for (range, result) in report.ranges() {
            let (part, behind) = rest.split_at(range.len());
            rest = behind;
            match result {
                Ok(()) => part.complete_in_place(),
                Err(error) => failed(range, part, error),
            }
        }
        // What is left has no bytes.
        rest.complete_in_place();
        Ok(())
    }

    /// Answers the origin as the fresh view was answered.
    ///
    /// # Errors
    ///
    /// As [`settle`](Self::settle).
    pub fn forward(self) -> Result<(), Self> {
        self.settle(|_, part, error| part.error(error))
    }
}

impl<Perms: PacketPerms> Future for ReboundPacket<Perms> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.packet.poll_complete(cx)
    }
}

impl<Perms: PacketPerms> fmt::Debug for ReboundPacket<Perms> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.packet.fmt(f)
    }
}
