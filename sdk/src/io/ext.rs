//! Any request to any value that answers views.

use core::pin::Pin;
use core::task::{Context, Poll, ready};

use futures_core::Stream;

use super::{Admitted, Io, NoPos, PacketIo, Param, admit, poll_admitted, send_now};
use crate::{
    IntoPacket, IoError, OutputFunction, OutputRef, PacketBox, PacketPerms, PacketStream, Read, Segment,
    StreamSegment, Write,
};

/// Requests as futures and streams. They are submitted at their first poll.
pub trait PacketIoExt<Perms: PacketPerms, P: Param>: PacketIo<Perms, P> {
    /// Sends `buffer` to `param`; gives the report and the buffer.
    #[inline]
    fn io<B: IntoPacket<Perms>>(&self, param: P, buffer: B) -> Io<&Self, Perms, P, B>
    where
        Self: Sized,
    {
        Io::new(self, param, buffer)
    }

    /// The same as [`io`](Self::io), with an output that receives each segment.
    fn io_to<B: IntoPacket<Perms>>(&self, param: P, buffer: B, output: OutputRef) -> Io<&Self, Perms, P, B>
    where
        Self: Sized,
    {
        Io::with_output(self, param, buffer, output)
    }

    /// The same as [`io`](Self::io), with a closure that receives each segment, on the thread that answers it.
    fn io_to_fn<B: IntoPacket<Perms>>(
        &self,
        param: P,
        buffer: B,
        f: impl Fn(Segment<'_>) + Send + Sync + 'static,
    ) -> Io<&Self, Perms, P, B>
    where
        Self: Sized,
    {
        self.io_to(param, buffer, OutputRef::new(OutputFunction(f)))
    }

    /// The segments of a request as a stream.
    fn io_to_stream(&self, param: P, packet: PacketBox<Perms>) -> IoStream<&Self, Perms, P>
    where
        Self: Sized,
    {
        IoStream { device: self, stage: Stage::New(param, packet) }
    }
}

impl<D: PacketIo<Perms, P>, Perms: PacketPerms, P: Param> PacketIoExt<Perms, P> for D {}

/// Reading from a stream, which has no positions.
pub trait StreamRead: PacketIo<Write, NoPos> {
    /// Reads the next bytes into `buffer`; gives the report and the buffer.
    fn read_next<B: IntoPacket<Write>>(&self, buffer: B) -> Io<&Self, Write, NoPos, B>
    where
        Self: Sized,
    {
        self.io(NoPos, buffer)
    }
}

impl<D: PacketIo<Write, NoPos>> StreamRead for D {}

/// Writing to a stream, which has no positions.
pub trait StreamWrite: PacketIo<Read, NoPos> {
    /// Writes `buffer` behind the bytes that were written before; gives the report and the buffer.
    fn write_next<B: IntoPacket<Read>>(&self, buffer: B) -> Io<&Self, Read, NoPos, B>
    where
        Self: Sized,
    {
        self.io(NoPos, buffer)
    }
}

impl<D: PacketIo<Read, NoPos>> StreamWrite for D {}

/// The methods of [`PacketIoExt`] for streams, in code that is generic over the permission. Elsewhere, [`StreamRead`] and
/// [`StreamWrite`] need no annotation of types.
pub trait StreamIoExt<Perms: PacketPerms>: PacketIo<Perms, NoPos> {
    /// Sends `buffer` to the stream; gives the report and the buffer.
    fn stream_io<B: IntoPacket<Perms>>(&self, buffer: B) -> Io<&Self, Perms, NoPos, B>
    where
        Self: Sized,
    {
        self.io(NoPos, buffer)
    }

    /// The same as [`stream_io`](Self::stream_io), with an output that receives each segment.
    fn stream_io_to<B: IntoPacket<Perms>>(&self, buffer: B, output: OutputRef) -> Io<&Self, Perms, NoPos, B>
    where
        Self: Sized,
    {
        self.io_to(NoPos, buffer, output)
    }

    /// The same as [`stream_io`](Self::stream_io), with a closure that receives each segment.
    fn stream_io_to_fn<B: IntoPacket<Perms>>(
        &self,
        buffer: B,
        f: impl Fn(Segment<'_>) + Send + Sync + 'static,
    ) -> Io<&Self, Perms, NoPos, B>
    where
        Self: Sized,
    {
        self.io_to_fn(NoPos, buffer, f)
    }

    /// The segments of a request as a stream.
    fn stream_io_to_stream(&self, packet: PacketBox<Perms>) -> IoStream<&Self, Perms, NoPos>
    where
        Self: Sized,
    {
        self.io_to_stream(NoPos, packet)
    }
}

impl<D: PacketIo<Perms, NoPos>, Perms: PacketPerms> StreamIoExt<Perms> for D {}

/// The segments of a request, in the order in which they come back; an error if the request could not be submitted.
#[must_use = "a request does nothing until it is polled"]
#[derive(Debug)]
pub struct IoStream<D: PacketIo<Perms, P>, Perms: PacketPerms, P: Param> {
    device: D,
    stage: Stage<Perms, P>,
}

enum Stage<Perms: PacketPerms, P> {
    New(P, PacketBox<Perms>),
    /// The device is full.
    Waiting(P, PacketBox<Perms>, Option<Admitted>),
    InFlight(PacketStream<Perms>),
    Finished,
}

impl<Perms: PacketPerms, P> core::fmt::Debug for Stage<Perms, P> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.write_str(match self {
            Self::New(..) => "new",
            Self::Waiting(..) => "waiting for the device",
            Self::InFlight(_) => "in flight",
            Self::Finished => "finished",
        })
    }
}

impl<D: PacketIo<Perms, P>, Perms: PacketPerms, P: Param> Unpin for IoStream<D, Perms, P> {}

impl<D: PacketIo<Perms, P>, Perms: PacketPerms, P: Param> Stream for IoStream<D, Perms, P> {
    type Item = Result<StreamSegment<Perms>, IoError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = &mut *self;
        loop {
            match core::mem::replace(&mut this.stage, Stage::Finished) {
                Stage::New(param, packet) => {
                    let admission = admit(&this.device, &param, packet.len());
                    this.stage = Stage::Waiting(param, packet, admission);
                }
                Stage::Waiting(param, packet, mut admission) => {
                    if poll_admitted(&mut admission, cx).is_pending() {
                        this.stage = Stage::Waiting(param, packet, admission);
                        return Poll::Pending;
                    }
                    let (stream, view) = PacketStream::new(packet)?;
                    this.stage = Stage::InFlight(stream);
                    send_now(&this.device, param, view);
                }
                Stage::InFlight(mut stream) => {
                    let polled = Pin::new(&mut stream).poll_next(cx);
                    this.stage = Stage::InFlight(stream);
                    return Poll::Ready(ready!(polled).map(Ok));
                }
                Stage::Finished => return Poll::Ready(None),
            }
        }
    }
}

impl<D: PacketIo<Perms, P>, Perms: PacketPerms, P: Param> Drop for IoStream<D, Perms, P> {
    fn drop(&mut self) {
        if let Stage::InFlight(stream) = &self.stage
            && !stream.packet().is_complete()
        {
            stream.packet().cancel();
            self.device.cancel(stream.packet().request());
        }
    }
}
