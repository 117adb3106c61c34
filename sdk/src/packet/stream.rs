//! The segments of a request as a stream.

use alloc::boxed::Box;
use alloc::sync::Arc;
use alloc::vec::Vec;
use core::fmt;
use core::ops::Range;
use core::pin::Pin;
use core::ptr;
use core::task::{Context, Poll};

use atomic_waker::AtomicWaker;
use futures_core::Stream;

use super::output::{OutputRef, PacketOutput, Segment};
use super::{BoundPacketView, PacketBox, PacketPerms};
use crate::IoError;
use crate::sync::{AtomicPtr, Ordering};

/// The segments of one request, in the order in which they come back.
///
/// It owns the packet. It ends when every byte was answered; parts without bytes are not shown.
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
    arrivals: Arc<Arrivals>,
    /// Arrived and not shown yet, the next one last.
    waiting: Vec<Arrived>,
    /// Bytes that did not arrive yet.
    missing: usize,
}

/// A segment of a [`PacketStream`]. It keeps the packet, and may outlive the stream.
pub struct StreamSegment<Perms: PacketPerms> {
    packet: Arc<PacketBox<Perms>>,
    arrived: Arrived,
}

#[derive(Clone, Debug)]
struct Arrived {
    range: Range<usize>,
    tag: u64,
    result: Result<(), IoError>,
}

/// A stack that any thread pushes to, and the stream takes as a whole.
struct Arrivals {
    newest: AtomicPtr<Entry>,
    stream: AtomicWaker,
}

struct Entry {
    arrived: Arrived,
    older: *mut Entry,
}

impl PacketOutput for Arrivals {
    fn segment(&self, segment: Segment<'_>) {
        let arrived = Arrived { range: segment.range(), tag: segment.tag(), result: segment.result() };
        let entry = Box::into_raw(Box::new(Entry { arrived, older: ptr::null_mut() }));
        // Ordering: Relaxed to look; the exchange is what publishes.
        let mut newest = self.newest.load(Ordering::Relaxed);
        loop {
            // SAFETY: `entry` is ours alone until the exchange succeeds.
            unsafe { (*entry).older = newest };
            // Ordering: Release, for the entry and the bytes of its segment, with the Acquire of `take`.
            match self.newest.compare_exchange_weak(newest, entry, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => newest = now,
            }
        }
        self.stream.wake();
    }
}

impl Arrivals {
    /// Calls `f` for each segment that arrived since the last call, the newest first.
    fn take(&self, mut f: impl FnMut(Arrived)) {
        // Ordering: Acquire, for all entries, whose pushes are one release sequence.
        let mut newest = self.newest.swap(ptr::null_mut(), Ordering::Acquire);
        while !newest.is_null() {
            // SAFETY: each entry was boxed, and whoever took the stack reaches each once.
            let entry = unsafe { Box::from_raw(newest) };
            newest = entry.older;
            f(entry.arrived);
        }
    }
}

impl Drop for Arrivals {
    fn drop(&mut self) {
        self.take(drop);
    }
}

impl<Perms: PacketPerms> PacketStream<Perms> {
    /// Starts a request and gives the view that a device is to answer.
    ///
    /// # Errors
    ///
    /// As [`PacketBox::bind`].
    pub fn new(mut packet: PacketBox<Perms>) -> Result<(Self, BoundPacketView<Perms>), IoError> {
        let arrivals =
            Arc::new(Arrivals { newest: AtomicPtr::new(ptr::null_mut()), stream: AtomicWaker::new() });
        let view = packet.bind_to(OutputRef::from(arrivals.clone()))?;
        let missing = packet.len();
        Ok((Self { packet: Arc::new(packet), arrivals, waiting: Vec::new(), missing }, view))
    }

    /// The request, such as to cancel it.
    pub fn packet(&self) -> &PacketBox<Perms> {
        &self.packet
    }

    fn next_arrived(&mut self) -> Option<Arrived> {
        if self.waiting.is_empty() {
            let waiting = &mut self.waiting;
            self.arrivals.take(|arrived| waiting.push(arrived));
        }
        let arrived = self.waiting.pop()?;
        self.missing -= arrived.range.len();
        Some(arrived)
    }
}

impl<Perms: PacketPerms> Drop for PacketStream<Perms> {
    fn drop(&mut self) {
        // The output lives as long as the packet; the task does not wait any more (rule 7).
        drop(self.arrivals.stream.take());
    }
}

impl<Perms: PacketPerms> Stream for PacketStream<Perms> {
    type Item = StreamSegment<Perms>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        if this.missing == 0 {
            return Poll::Ready(None);
        }
        let arrived = this.next_arrived().or_else(|| {
            this.arrivals.stream.register(cx.waker());
            this.next_arrived()
        });
        let Some(arrived) = arrived else { return Poll::Pending };
        // No waker is left behind once there is nothing to wait for (rule 7).
        drop(this.arrivals.stream.take());
        Poll::Ready(Some(StreamSegment { packet: this.packet.clone(), arrived }))
    }
}

impl<Perms: PacketPerms> StreamSegment<Perms> {
    /// Where it lies in its request, in bytes.
    pub fn range(&self) -> Range<usize> {
        self.arrived.range.clone()
    }

    /// The tag of the view that was answered.
    pub fn tag(&self) -> u64 {
        self.arrived.tag
    }

    /// Whether it was done.
    ///
    /// # Errors
    ///
    /// Why it was not.
    pub fn result(&self) -> Result<(), IoError> {
        self.arrived.result
    }

    /// The bytes, if it was done.
    pub fn bytes(&self) -> Option<&[u8]> {
        self.arrived.result.ok()?;
        // SAFETY: the output heard that this range was done. The packet is shared from here on, so nobody can bind it again.
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
