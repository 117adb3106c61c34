//! A request of its own memory that is made to answer a view of another request.

use core::fmt;
use core::marker::PhantomData;
use core::pin::Pin;
use core::task::{Context, Poll};

use super::block::{self, Block, complete, fail, no_alloc, no_transfer};
use super::header::PacketTable;
use super::{BoundPacketView, PacketBox, PacketPerms, Report, StableBytes, continuation, own_table};
use crate::IoError;

/// A packet over memory of its own that a layer sends to answer another view: a whole block of which the view wants a part, or an
/// encoded copy of the bytes to write.
///
/// The packet keeps the view, called its origin, until the layer takes the origin back to answer it. Views of the packet belong
/// to the origin's [request](BoundPacketView::request), and [show](BoundPacketView::is_cancelled) the cancellation of that
/// request. Permissions may differ: a write of a part of a block begins with a read of the block.
///
/// If the packet is dropped, the origin fails: at once, or when the device below is done with the memory.
///
/// ```
/// use pactio_sdk::{BoundPacketView, DerivedPacket, IoError, PacketBox, Write};
///
/// /// Reads the block of 8 bytes that has the two bytes at `offset`, and answers with them.
/// fn part_of_block(view: BoundPacketView<Write>, offset: usize, lower: impl Fn(BoundPacketView<Write>)) {
///     let Ok(mut block) = DerivedPacket::<_, Write, Write>::new(view, vec![0; 8]) else { return };
///     let Ok(whole) = block.bind() else { return };
///     lower(whole);
///     block.on_complete(move |block| {
///         let Ok((view, bytes, report)) = block.into_parts() else { return };
///         match report.min_cause() {
///             None => view.transfer_data(&bytes[offset..]).complete(),
///             Some((_, cause)) => view.fail(cause),
///         }
///     });
/// }
/// # let mut packet = PacketBox::<Write>::new_buf(2)?;
/// # part_of_block(packet.bind()?, 3, |view| view.transfer_data(b"01234567").complete());
/// # assert_eq!(packet.simple_slice()?, b"34");
/// # Ok::<(), IoError>(())
/// ```
pub struct DerivedPacket<T, Perms: PacketPerms, Origin: PacketPerms> {
    packet: PacketBox<Perms>,
    _kept: PhantomData<(T, BoundPacketView<Origin>)>,
}

/// The content of the room of a derived packet.
struct Kept<T, Origin: PacketPerms> {
    origin: BoundPacketView<Origin>,
    memory: T,
}

struct TableOf<T, Origin>(T, Origin);

impl<T: StableBytes, Origin: PacketPerms> TableOf<T, Origin> {
    const TABLE: PacketTable = PacketTable {
        size: size_of::<PacketTable>() as u32,
        complete,
        fail,
        segment: own_table::no_segment,
        alloc: no_alloc,
        transfer: no_transfer,
        origin: origin_packet::<T, Origin>,
        attribute: own_table::no_attribute,
    };
}

unsafe extern "C" fn origin_packet<T: StableBytes, Origin: PacketPerms>(packet: *const ()) -> *const () {
    // SAFETY: the caller holds a view, so the block is alive and keeps the value that `new` put there; the origin's view keeps
    // its packet.
    unsafe { block::kept::<Kept<T, Origin>>(packet.cast::<Block>()) }.origin.packet().cast()
}

impl<T: StableBytes, Perms: PacketPerms, Origin: PacketPerms> DerivedPacket<T, Perms, Origin> {
    /// A request over the bytes of `memory`, made to answer `origin`.
    ///
    /// # Errors
    ///
    /// [`IoError::OUT_OF_MEMORY`] if the header cannot be allocated; the origin fails in that case.
    pub fn new(origin: BoundPacketView<Origin>, mut memory: T) -> Result<Self, IoError> {
        let (bytes, len, initialised) = (memory.start(), memory.len(), memory.is_initialised());
        let block = block::allocate_kept(Kept { origin, memory })?;
        // SAFETY: the packet was just made and is ours. Its room keeps the origin and the memory; the bytes of the memory do not
        // move.
        unsafe {
            block::set_bytes(block, bytes.as_ptr(), len, initialised);
            block::set_derived(block, &TableOf::<T, Origin>::TABLE);
        }
        Ok(Self { packet: PacketBox::new(block), _kept: PhantomData })
    }

    /// Starts a request; see [`PacketBox::bind`]. The packet may be bound again after it was answered.
    ///
    /// # Errors
    ///
    /// As [`PacketBox::bind`].
    pub fn bind(&mut self) -> Result<BoundPacketView<Perms>, IoError> {
        self.packet.bind()
    }

    /// The account of every byte: done, or failed with a cause.
    pub fn report(&self) -> Report {
        self.packet.report()
    }

    /// The origin's result is not wanted any more.
    pub fn is_cancelled(&self) -> bool {
        // SAFETY: the block keeps the value that `new` put there until `into_parts`, which ends `self`.
        unsafe { block::kept::<Kept<T, Origin>>(self.packet.block().as_ptr()) }.origin.is_cancelled()
    }

    /// Calls `then` when the request is complete: now, or on the thread of its last answer.
    pub fn on_complete(self, then: impl FnOnce(Self) + Send + 'static) {
        // SAFETY: `self` is the owner of its block.
        unsafe { continuation::on_complete(self.packet.block(), self, then) };
    }

    /// The origin, which still owes its answer, the memory, and the report of the request.
    ///
    /// # Errors
    ///
    /// `self`, while its views are in flight.
    pub fn into_parts(self) -> Result<(BoundPacketView<Origin>, T, Report), Self> {
        if !self.packet.is_complete() {
            return Err(self);
        }
        let report = self.packet.report();
        // SAFETY: the packet is complete and ours and was made by `new`; the value is taken once, since `self` ends.
        let Kept { origin, memory } = unsafe { block::take_kept::<Kept<T, Origin>>(self.packet.block()) };
        Ok((origin, memory, report))
    }
}

impl<T, Perms: PacketPerms, Origin: PacketPerms> Drop for DerivedPacket<T, Perms, Origin> {
    /// Cancels the request: devices that still have parts of the packet see that the result is not wanted any more.
    fn drop(&mut self) {
        self.packet.cancel();
    }
}

impl<T, Perms: PacketPerms, Origin: PacketPerms> Unpin for DerivedPacket<T, Perms, Origin> {}

impl<T, Perms: PacketPerms, Origin: PacketPerms> Future for DerivedPacket<T, Perms, Origin> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.packet.poll_complete(cx)
    }
}

impl<T, Perms: PacketPerms, Origin: PacketPerms> fmt::Debug for DerivedPacket<T, Perms, Origin> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.packet.fmt(f)
    }
}
