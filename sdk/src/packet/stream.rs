//! The segments of a request as a stream.

use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;
use core::pin::Pin;
use core::task::{Context, Poll, ready};

use futures_core::Stream;

use super::arrivals::Arrivals;
use super::output::{OutputRef, PacketOutput, Segment};
use super::{BoundPacketView, PacketBox, PacketPerms};
use crate::{Cause, IoError};

/// The segments of one request, in the order in which they come back.
///
/// The stream owns the packet. It ends when every byte was answered; parts without bytes are not shown.
///
/// ```
/// use pactio_sdk::{IoError, PacketBox, PacketStream, Write};
/// # fn next<S: futures_core::Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
/// #     let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
/// #     match std::pin::Pin::new(stream).poll_next(&mut cx) { std::task::Poll::Ready(item) => item, _ => panic!() }
/// # }
///
/// let (mut stream, view) = PacketStream::new(PacketBox::<Write>::new_buf(8)?)?;
/// let (front, back) = view.split_at(4);
/// back.transfer_data(b"back").complete();
///
/// let segment = next(&mut stream).unwrap(); // `stream.next().await`
/// assert_eq!((segment.range(), segment.bytes()), (4..8, Some(&b"back"[..])));
/// front.error(IoError::END);
/// assert_eq!(next(&mut stream).unwrap().result(), Err(IoError::END));
/// assert!(next(&mut stream).is_none());
/// # Ok::<(), IoError>(())
/// ```
pub struct PacketStream<Perms: PacketPerms> {
    packet: Arc<PacketBox<Perms>>,
    arrivals: Arc<Arrivals<Arrived>>,
    /// Segments that arrived and were not shown yet; the next one is last.
    waiting: Vec<Arrived>,
    /// Number of bytes that did not arrive yet.
    missing: usize,
}

/// A segment of a [`PacketStream`]. The segment keeps the packet, and may outlive the stream.
pub struct StreamSegment<Perms: PacketPerms> {
    packet: Arc<PacketBox<Perms>>,
    arrived: Arrived,
}

#[derive(Clone, Debug)]
struct Arrived {
    range: Range<usize>,
    tag: u64,
    result: Result<(), Cause>,
}

/// Pushes each segment to the stream.
struct Output(Arc<Arrivals<Arrived>>);

impl PacketOutput for Output {
    fn segment(&self, segment: Segment<'_>) {
        let result = segment.result().map_err(|error| match segment.text() {
            None => Cause::from(error),
            Some(text) => Cause::new(error, text),
        });
        self.0.push(Arrived { range: segment.range(), tag: segment.tag(), result });
    }
}

impl<Perms: PacketPerms> PacketStream<Perms> {
    /// Starts a request, and returns the stream and the view that a device must answer.
    ///
    /// # Errors
    ///
    /// As [`PacketBox::bind`].
    pub fn new(mut packet: PacketBox<Perms>) -> Result<(Self, BoundPacketView<Perms>), IoError> {
        let arrivals = Arc::new(Arrivals::new());
        let view = packet.bind_to(OutputRef::new(Output(arrivals.clone())))?;
        let missing = packet.len();
        Ok((Self { packet: Arc::new(packet), arrivals, waiting: Vec::new(), missing }, view))
    }

    /// The packet of the request, for example to cancel it.
    pub fn packet(&self) -> &PacketBox<Perms> {
        &self.packet
    }
}

impl<Perms: PacketPerms> Drop for PacketStream<Perms> {
    fn drop(&mut self) {
        // The task does not wait any more. Its waker is dropped now, since the output lives as long as the packet (rule P7).
        self.arrivals.forget_task();
    }
}

impl<Perms: PacketPerms> Stream for PacketStream<Perms> {
    type Item = StreamSegment<Perms>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.missing == 0 {
            return Poll::Ready(None);
        }
        let arrived = ready!(this.arrivals.poll(&mut this.waiting, cx));
        this.missing -= arrived.range.len();
        Poll::Ready(Some(StreamSegment { packet: this.packet.clone(), arrived }))
    }
}

impl<Perms: PacketPerms> StreamSegment<Perms> {
    /// Range of the segment in its request, in bytes.
    pub fn range(&self) -> Range<usize> {
        self.arrived.range.clone()
    }

    /// The tag of the view that was answered.
    pub fn tag(&self) -> u64 {
        self.arrived.tag
    }

    /// Whether the segment was done.
    ///
    /// # Errors
    ///
    /// The error of the segment, if it failed.
    pub fn result(&self) -> Result<(), IoError> {
        self.arrived.result.as_ref().map(|_| ()).map_err(Cause::error)
    }

    /// The cause of the failure, with the text of the side that failed the segment.
    pub fn cause(&self) -> Option<&Cause> {
        self.arrived.result.as_ref().err()
    }

    /// The bytes, if the segment was done; `None` also for a complex packet, which has none.
    pub fn bytes(&self) -> Option<&[u8]> {
        self.arrived.result.as_ref().ok()?;
        // SAFETY: this range was done and reported to the output in this request. The packet is shared through an `Arc` from here
        // on, so it cannot be bound again.
        unsafe { self.packet.segment_bytes(self.range()) }
    }
}

impl<Perms: PacketPerms> fmt::Debug for PacketStream<Perms> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PacketStream").field("packet", &self.packet).field("missing", &self.missing).finish()
    }
}

impl<Perms: PacketPerms> fmt::Debug for StreamSegment<Perms> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.arrived.fmt(f)
    }
}
