//! Interception: a layer between requester and device that gets the result of each range before the requester does.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::mem::ManuallyDrop;
use core::ops::Range;
use core::pin::Pin;
use core::ptr;
use core::task::{Context, Poll, ready};

use futures_core::Stream;
use rangemap::RangeMap;

use super::arrivals::Arrivals;
use super::block::{self, Block, complete, fail};
use super::header::PacketTable;
use super::output::{OutputRef, PacketOutput, Segment};
use super::returned::{ReturnedPart, ReturnedParts};
use super::{BoundPacketView, PacketBox, PacketPerms, Report, continuation, own_table};
use crate::{Cause, IoError};

/// A bound view that was taken over, and a packet over the same bytes that is sent on in its place.
///
/// ```text
///   requester ◄── origin view ── ReboundPacket ── fresh view ──► device
///                     │               ▲                │
///                     └── answer ─────┴── result ──────┘        the same bytes, no copy
/// ```
///
/// The layer selects when it gets the device's answers:
///
/// | call | the layer gets |
/// |------|----------------|
/// | [`bind`](Self::bind), then [`settle`](Self::settle) or [`into_parts`](Self::into_parts) | all parts, when all of them came back |
/// | [`bind_each`](Self::bind_each) | each part as it comes back, on the thread that answers it |
/// | [`bind_stream`](Self::bind_stream) | each part as it comes back, in a task |
///
/// Each part is answered exactly once, in any split. Until then the layer may read its bytes, and change those of a read request
/// ([`ReturnedPart`]). Views of other packets cannot be mixed in: the result of each range comes from the packet itself. Dropping
/// the rebound packet, or a part, fails its unanswered range of the origin.
///
/// The fresh view belongs to the origin's [request](BoundPacketView::request), and [shows](BoundPacketView::is_cancelled) the
/// cancellation of that request, at any depth.
///
/// ```
/// use pactio_sdk::{BoundPacketView, IoError, ReboundPacket, Write};
///
/// /// Reads from the first copy, and failed parts from the second.
/// fn mirrored(
///     view: BoundPacketView<Write>,
///     first: impl FnOnce(BoundPacketView<Write>),
///     second: impl Fn(BoundPacketView<Write>) + Send + 'static,
/// ) -> Result<(), IoError> {
///     let mut rebound = ReboundPacket::new(view)?;
///     first(rebound.bind()?);
///     rebound.on_complete(move |rebound| {
///         let _ = rebound.settle(|part| second(part.into_view()));
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

/// The functions of a packet that keeps an origin with the same bytes.
struct Forwarded<Perms>(Perms);

impl<Perms: PacketPerms> Forwarded<Perms> {
    const TABLE: PacketTable = PacketTable {
        size: size_of::<PacketTable>() as u32,
        complete,
        fail,
        segment: own_table::no_segment,
        alloc: alloc::<Perms>,
        transfer: transfer::<Perms>,
        origin: origin_packet::<Perms>,
        attribute: own_table::no_attribute,
    };
}

/// The origin that a rebound packet keeps: the view that was taken over, or its empty rest.
///
/// # Safety
///
/// `packet` is a rebound packet, alive, and its origin was not taken out.
unsafe fn origin<'a, Perms: PacketPerms>(packet: *const ()) -> &'a BoundPacketView<Perms> {
    // SAFETY: `packet` is an alive rebound packet, which keeps a view with its own permission, and this view was not taken out.
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
    // SAFETY: the caller holds a view, so the packet keeps its origin; the device's memory is borrowed for the call.
    unsafe { origin::<Perms>(packet).transfer_range(start, device, len) }
}

unsafe extern "C" fn origin_packet<Perms: PacketPerms>(packet: *const ()) -> *const () {
    // SAFETY: the caller holds a view, so the packet keeps its origin, and the origin's view keeps its packet.
    unsafe { origin::<Perms>(packet) }.packet().cast()
}

impl<Perms: PacketPerms> ReboundPacket<Perms> {
    /// Takes over a view.
    ///
    /// # Errors
    ///
    /// [`IoError::OUT_OF_MEMORY`] if the header cannot be allocated; the view fails then.
    pub fn new(view: BoundPacketView<Perms>) -> Result<Self, IoError> {
        let (bytes, len, tag) = (view.bytes(), view.len(), view.tag());
        let initialised = view.is_initialised();
        let block = block::allocate_kept(view)?;
        // SAFETY: the packet was just made and is ours. Its bytes are the range of the origin's view, which the packet's room
        // keeps. A byte of the origin is answered only when no view of this packet has the byte. The table gives that origin.
        unsafe {
            block::set_bytes(block, bytes.unwrap_or(ptr::null_mut()), len, initialised);
            block::set_derived(block, &Forwarded::<Perms>::TABLE);
        }
        Ok(Self { packet: PacketBox::new(block), tag })
    }

    /// Length of the origin in bytes.
    pub fn len(&self) -> usize {
        self.packet.len()
    }

    /// The origin has no bytes.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The fresh view, with the origin's tag. The packet may be bound again after the view was answered, for a retry.
    ///
    /// # Errors
    ///
    /// As [`PacketBox::bind`].
    pub fn bind(&mut self) -> Result<BoundPacketView<Perms>, IoError> {
        let mut view = self.packet.bind()?;
        view.set_tag(self.tag);
        Ok(view)
    }

    /// The fresh view. `each` gets every part of the view that comes back, on the thread that answers the part, while other parts
    /// may be in flight. `each` must not block. A panic in it fails the part.
    ///
    /// # Errors
    ///
    /// As [`PacketBox::bind`]; the origin fails then.
    pub fn bind_each(
        self,
        each: impl Fn(ReturnedPart<Perms>) + Send + Sync + 'static,
    ) -> Result<BoundPacketView<Perms>, IoError> {
        let (owner, view) = self.bind_parts(each)?;
        // The origin, and not this packet's owner, determines whether the result is wanted.
        drop(owner);
        Ok(view)
    }

    /// The fresh view, and a stream of its parts in the order in which they come back.
    ///
    /// # Errors
    ///
    /// As [`PacketBox::bind`]; the origin fails then.
    pub fn bind_stream(self) -> Result<(ReboundStream<Perms>, BoundPacketView<Perms>), IoError> {
        let arrivals = Arc::new(Arrivals::new());
        let mut ranges = RangeMap::new();
        if !self.is_empty() {
            ranges.insert(0..self.len(), ());
        }
        let output = arrivals.clone();
        let (packet, view) = self.bind_parts(move |part| output.push(part))?;
        Ok((ReboundStream { packet, arrivals, waiting: Vec::new(), ranges }, view))
    }

    /// Binds the packet so that each part that comes back is given to `each` as a view of the origin. Gives the packet, and the
    /// fresh view for the device below.
    fn bind_parts(
        self,
        each: impl Fn(ReturnedPart<Perms>) + Send + Sync + 'static,
    ) -> Result<(PacketBox<Perms>, BoundPacketView<Perms>), IoError> {
        let tag = self.tag;
        let mut packet = self.into_packet();
        if !packet.is_complete() {
            // As the drop of a rebound packet: its views in flight are not wanted any more.
            packet.cancel();
            return Err(IoError::IN_FLIGHT);
        }
        // SAFETY: the packet is complete and ours, was made by `new`, and keeps its origin: each function that takes the origin
        // out consumes the rebound packet.
        let origin = unsafe { block::kept_mut::<BoundPacketView<Perms>>(packet.block()) };
        // From here on the kept view is only the stem from which parts are made.
        let range = origin.take_range();
        let mut stem = origin.stem();
        stem.set_tag(tag);
        let bound = packet.bind_to(OutputRef::new(Parts { stem, each }));
        match bound {
            Ok(mut view) => {
                view.set_tag(tag);
                Ok((packet, view))
            }
            Err(error) => {
                // SAFETY: the packet was not bound, so no part was made, and the whole range may become one part. `packet` keeps
                // the stem.
                let whole =
                    unsafe { block::kept::<BoundPacketView<Perms>>(packet.block().as_ptr()).part(range) };
                // If `part` cannot make the view, it has failed the range itself.
                if let Ok(whole) = whole {
                    whole.error(error);
                }
                Err(error)
            }
        }
    }

    /// The result of each byte of the fresh view.
    pub fn report(&self) -> Report {
        self.packet.report()
    }

    /// Number of views of the fresh packet that were not answered yet.
    pub fn in_flight(&self) -> usize {
        self.packet.views()
    }

    /// The origin's result is not wanted any more.
    pub fn is_cancelled(&self) -> bool {
        // SAFETY: the origin is kept until `into_parts` or `bind_parts`, which end `self`.
        unsafe { origin::<Perms>(self.packet.block().as_ptr().cast_const().cast()) }.is_cancelled()
    }

    /// Calls `then` when the fresh view was answered completely: now, or on the thread of its last answer.
    pub fn on_complete(self, then: impl FnOnce(Self) + Send + 'static) {
        let block = self.packet.block();
        // SAFETY: `self` is the owner of this block.
        unsafe { continuation::on_complete(block, self, then) };
    }

    /// All parts of the origin, when the whole fresh view came back.
    ///
    /// # Errors
    ///
    /// `self`, while parts of the fresh view are in flight.
    pub fn into_parts(self) -> Result<ReturnedParts<Perms>, Self> {
        if !self.packet.is_complete() {
            return Err(self);
        }
        let packet = self.into_packet();
        let report = packet.report();
        // SAFETY: the packet is complete, ours and made by `new`; the origin is taken once, since the rebound packet has ended.
        let origin = unsafe { block::take_kept::<BoundPacketView<Perms>>(packet.block()) };
        Ok(ReturnedParts::new(report, origin))
    }

    /// Answers the origin: completes each part that was done, and gives each part that failed to `failed`.
    ///
    /// # Errors
    ///
    /// `self`, while parts of the fresh view are in flight.
    pub fn settle(self, mut failed: impl FnMut(ReturnedPart<Perms>)) -> Result<(), Self> {
        for part in self.into_parts()? {
            if part.result().is_ok() { part.complete() } else { failed(part) }
        }
        Ok(())
    }

    /// Answers the origin as the fresh view was answered.
    ///
    /// # Errors
    ///
    /// As [`settle`](Self::settle).
    pub fn forward(self) -> Result<(), Self> {
        self.settle(ReturnedPart::complete)
    }

    /// The packet alone; the drop code of the rebound packet does not run.
    fn into_packet(self) -> PacketBox<Perms> {
        let this = ManuallyDrop::new(self);
        // SAFETY: `this` is neither used nor dropped afterwards.
        unsafe { ptr::read(&raw const this.packet) }
    }
}

impl<Perms: PacketPerms> Drop for ReboundPacket<Perms> {
    /// Cancels the fresh request: devices that still have parts of its view see that their results are not wanted.
    fn drop(&mut self) {
        self.packet.cancel();
    }
}

/// Gives each segment of a fresh view to `each`, as a part of the origin.
struct Parts<F, Perms: PacketPerms> {
    /// The source of the parts: the empty rest of the view that the rebound packet keeps for as long as views of the packet
    /// exist.
    stem: ManuallyDrop<BoundPacketView<Perms>>,
    each: F,
}

impl<F, Perms> PacketOutput for Parts<F, Perms>
where
    F: Fn(ReturnedPart<Perms>) + Send + Sync + 'static,
    Perms: PacketPerms,
{
    fn segment(&self, segment: Segment<'_>) {
        let (range, start) = (segment.range(), self.stem.offset());
        // SAFETY: a view of the rebound packet that has not finished reports the segment, so that packet is alive and keeps the
        // origin's view, whose empty rest the stem is. Each byte is reported once, so the part is in no other view; the device is
        // done with the part.
        let part = unsafe { self.stem.part(start + range.start..start + range.end) };
        // If `part` cannot make the view, it has failed the range itself.
        let Ok(view) = part else { return };
        let result = segment.result().map_err(|error| match segment.text() {
            None => Cause::from(error),
            Some(text) => Cause::new(error, text),
        });
        (self.each)(ReturnedPart::new(view, range.start, result));
    }
}

/// The parts of a fresh view as a stream: see [`ReboundPacket::bind_stream`]. The stream ends when every byte was given out.
///
/// Dropping the stream fails the parts that were not given out, each when the device below is done with it; parts in flight show
/// as cancelled.
pub struct ReboundStream<Perms: PacketPerms> {
    packet: PacketBox<Perms>,
    arrivals: Arc<Arrivals<ReturnedPart<Perms>>>,
    /// Parts that arrived and were not given out yet; the next one is last.
    waiting: Vec<ReturnedPart<Perms>>,
    /// The ranges that were not given out.
    ranges: RangeMap<usize, ()>,
}

impl<Perms: PacketPerms> ReboundStream<Perms> {
    /// The ranges of the origin that were not given out yet, in order.
    pub fn ranges(&self) -> impl Iterator<Item = Range<usize>> + '_ {
        self.ranges.iter().map(|(range, ())| range.clone())
    }

    /// Number of views of the fresh packet that were not answered yet.
    pub fn in_flight(&self) -> usize {
        self.packet.views()
    }
}

impl<Perms: PacketPerms> Unpin for ReboundStream<Perms> {}

impl<Perms: PacketPerms> Stream for ReboundStream<Perms> {
    type Item = ReturnedPart<Perms>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.ranges.is_empty() {
            return Poll::Ready(None);
        }
        let part = ready!(this.arrivals.poll(&mut this.waiting, cx));
        this.ranges.remove(part.range());
        Poll::Ready(Some(part))
    }
}

impl<Perms: PacketPerms> Drop for ReboundStream<Perms> {
    fn drop(&mut self) {
        self.packet.cancel();
        // The task does not wait any more. Its waker is dropped now, since the output lives as long as the packet (rule P7).
        self.arrivals.forget_task();
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

impl<Perms: PacketPerms> fmt::Debug for ReboundStream<Perms> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReboundStream").field("packet", &self.packet).field("ranges", &self.ranges).finish()
    }
}
