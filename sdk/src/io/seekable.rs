//! A device as a file: `std::io` and `futures::io` with a position.

use core::fmt;
use core::future::poll_fn;
use core::pin::Pin;
use core::task::{Context, Poll, ready};
use std::io::{self, SeekFrom};
use std::sync::{Mutex, PoisonError};

use futures_io::{AsyncRead, AsyncSeek, AsyncWrite};

use super::{Admitted, BlockOn, BlockingIo, Io, PacketIo, Publication, admit, poll_admitted, send_now};
use crate::{Code, IoError, PacketBox, Read, Write};

/// A value that may know its size in bytes.
pub trait Size {
    /// Number of bytes now, if it is known.
    fn size(&self) -> Option<u64>;
}

impl<T: Size + ?Sized> Size for &T {
    fn size(&self) -> Option<u64> {
        (**self).size()
    }
}

/// A device with a position, for code that reads and writes files.
///
/// `std::io` blocks, and works on the caller's memory. `futures::io` copies once.
///
/// Reads in a row read ahead: each request is up to four times as large as the one before, up to 1 MiB, so that a device with a
/// latency is asked a few times and not once per buffer of the caller. The bytes are as old as the request: a seek to another
/// position, or a write, discards those that were read ahead.
///
/// Asynchronous writes are gathered while a write is in flight, up to 1 MiB, and sent together. So a write is accepted before it
/// is sent, and its error comes with a later write, the flush or the close. Bytes that are still gathered when the `Seekable` is
/// dropped are sent then, and no error is reported.
///
/// End a series of writes with `close` (`futures::io`), `shutdown` (`tokio::io`, through `tokio_util::compat`) or
/// [`finish`](Self::finish) (`std::io`). That publishes the bytes on devices that show them only as a whole, as a store does with
/// an object. On such a device the `flush` of `futures::io` only waits for accepted writes, and the `flush` of `std::io` fails
/// after writes, since no later call of that trait could report the result of `finish`. A `Seekable` that is dropped instead
/// leaves the previous content as it is; the device then writes a record of level warn.
///
/// ```
/// # use pactio_sdk::{BlockOn, BoundPacketView, IoError, PacketIo, Seekable, Write};
/// # #[derive(Clone)]
/// # struct Text;
/// # impl PacketIo<Write, u64> for Text {
/// #     fn send_io(&self, position: u64, view: BoundPacketView<Write>) {
/// #         view.transfer_data(b"one\ntwo\n".get(position as usize..).unwrap_or(&[])).complete();
/// #     }
/// # }
/// # impl BlockOn for Text {
/// #     fn block_on<F: Future>(&self, future: F) -> F::Output {
/// #         let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
/// #         match std::pin::pin!(future).poll(&mut cx) { std::task::Poll::Ready(value) => value, _ => panic!() }
/// #     }
/// # }
/// # let device = Text;
/// use std::io::{BufRead, BufReader};
/// let lines: Vec<String> = BufReader::new(Seekable::new(device)).lines().collect::<Result<_, _>>()?;
/// assert_eq!(lines, ["one", "two"]);
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Seekable<D> {
    device: D,
    position: u64,
    reading: Unshared<InFlight<PacketBox<Write>>>,
    /// A packet with bytes that were read, and the number of them that were given out.
    left_over: Option<(PacketBox<Write>, usize)>,
    /// The same of a blocking read.
    ahead: (Vec<u8>, usize),
    /// The end of the last request to read, and its length.
    last_read: (u64, usize),
    writes: Writes,
    /// Publishes the written bytes, once that has begun.
    publishing: Unshared<Publication>,
    /// The bytes that were written.
    written: Written,
}

/// The bytes that were written through a [`Seekable`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Written {
    /// No bytes were written since the beginning or the last publication.
    Nothing,
    /// Some bytes were written. If the device publishes, other readers do not see these bytes yet.
    Some,
    /// A write has failed: the written bytes are a fragment, which is not published.
    NotAll,
}

type InFlight<T> = Pin<Box<dyn Future<Output = Result<T, IoError>> + Send>>;

/// An optional value that is reached only through `&mut`, which makes it `Sync`.
struct Unshared<T>(Mutex<Option<T>>);

impl<T> Unshared<T> {
    fn get(&mut self) -> &mut Option<T> {
        self.0.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Default for Unshared<T> {
    fn default() -> Self {
        Self(Mutex::new(None))
    }
}

/// Most bytes of one request.
const LARGEST: usize = 1 << 20;

/// Each read in a row is up to this number of times as long as the one before.
const GROWTH: usize = 4;

/// The asynchronous writes that are not complete: one in flight, and the bytes that wait for its end.
#[derive(Default)]
struct Writes {
    in_flight: Unshared<PacketBox<Read>>,
    gathered: Gathered,
    /// The admission of the gathered bytes, which wait for room in the device.
    admission: Unshared<Admitted>,
}

impl Writes {
    /// Waits for the write in flight, and sends the gathered bytes.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), IoError>> {
        if let Some(packet) = self.in_flight.get() {
            ready!(Pin::new(&mut &mut *packet).poll(cx));
            let written = packet.err_any();
            *self.in_flight.get() = None;
            written?;
        }
        let Gathered { bytes, position, device } = &mut self.gathered;
        let Some(device) = device.as_ref().filter(|_| !bytes.is_empty()) else { return Poll::Ready(Ok(())) };
        if self.admission.get().is_none() {
            *self.admission.get() = device.admit(*position, bytes.len());
        }
        ready!(poll_admitted(self.admission.get(), cx));
        let sent = device.send(*position, bytes);
        bytes.clear();
        let mut packet = sent?;
        // If the request is complete already, its error is returned now.
        match Pin::new(&mut &mut packet).poll(cx) {
            Poll::Ready(_) => packet.err_any()?,
            Poll::Pending => *self.in_flight.get() = Some(packet),
        }
        Poll::Ready(Ok(()))
    }

    /// Waits for all accepted writes.
    fn poll_all(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), IoError>> {
        while !self.is_empty() {
            ready!(self.poll_send(cx))?;
        }
        Poll::Ready(Ok(()))
    }

    fn is_empty(&mut self) -> bool {
        self.in_flight.get().is_none() && self.gathered.bytes.is_empty()
    }
}

/// Written bytes that were accepted and not sent. They lie before the position of the [`Seekable`].
#[derive(Default)]
struct Gathered {
    bytes: Vec<u8>,
    position: u64,
    /// `None` before the first write.
    device: Option<Box<dyn Writable>>,
}

/// A device that is written.
trait Writable: Send + Sync {
    fn admit(&self, position: u64, len: usize) -> Option<Admitted>;

    /// Sends a write.
    fn send(&self, position: u64, bytes: &[u8]) -> Result<PacketBox<Read>, IoError>;
}

impl<D: PacketIo<Read, u64> + Send + Sync> Writable for D {
    fn admit(&self, position: u64, len: usize) -> Option<Admitted> {
        admit(self, &position, len)
    }

    fn send(&self, position: u64, bytes: &[u8]) -> Result<PacketBox<Read>, IoError> {
        let mut packet = PacketBox::<Read>::copy_from_slice(bytes)?;
        send_now(self, position, packet.bind()?);
        Ok(packet)
    }
}

/// The bytes were accepted, so they are written. A packet without an owner would count as cancelled.
impl Drop for Writes {
    fn drop(&mut self) {
        let in_flight = self.in_flight.get().take();
        let Gathered { bytes, position, device } = &self.gathered;
        let last = device
            .as_ref()
            .filter(|_| !bytes.is_empty())
            .and_then(|device| device.send(*position, bytes).ok());
        in_flight.into_iter().chain(last).for_each(|packet| packet.on_complete(drop));
    }
}

impl<D> Seekable<D> {
    /// Begins at position 0.
    pub fn new(device: D) -> Self {
        Self {
            device,
            position: 0,
            reading: Unshared::default(),
            left_over: None,
            ahead: (Vec::new(), 0),
            last_read: (u64::MAX, 0),
            writes: Writes::default(),
            publishing: Unshared::default(),
            written: Written::Nothing,
        }
    }

    /// The position of the next byte.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The device.
    pub fn into_inner(self) -> D {
        self.device
    }

    /// Discards the bytes that were read ahead of the position.
    fn forget_reads(&mut self) {
        *self.reading.get() = None;
        self.left_over = None;
        self.ahead.1 = self.ahead.0.len();
    }

    /// The length of the next request for a reader with a buffer of `len` bytes: longer, if it continues the last one.
    fn read_len(&mut self, len: usize) -> usize {
        let (end, last) = self.last_read;
        let len = if end == self.position { len.max(last.saturating_mul(GROWTH)) } else { len };
        let len = len.min(LARGEST);
        self.last_read = (self.position.saturating_add(len as u64), len);
        len
    }

    fn seek_to(&mut self, target: SeekFrom) -> io::Result<u64>
    where
        D: Size,
    {
        let (base, offset) = match target {
            SeekFrom::Start(position) => (position, 0),
            SeekFrom::Current(offset) => (self.position, offset),
            SeekFrom::End(offset) => {
                let size = self.device.size().ok_or_else(|| {
                    io::Error::new(io::ErrorKind::Unsupported, "the device does not know its size")
                })?;
                (size, offset)
            }
        };
        let position = base.checked_add_signed(offset).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "the position would be before the start or too large")
        })?;
        if position != self.position {
            self.forget_reads();
            self.position = position;
        }
        Ok(position)
    }
}

impl<D: BlockOn> Seekable<D> {
    /// Waits for the writes that were accepted asynchronously.
    fn wait_for_writes(&mut self) -> io::Result<()> {
        if self.writes.is_empty() {
            return Ok(());
        }
        let Self { device, writes, .. } = self;
        let written = device.block_on(poll_fn(|cx| writes.poll_all(cx)));
        self.is_written(written)
    }
}

impl<D: PacketIo<Read, u64> + BlockOn> Seekable<D> {
    /// Ends the writes: waits for them, publishes the bytes on a device that shows them only as a whole, and gives the device
    /// back. For `std::io`; asynchronous writers close instead.
    ///
    /// ```no_run
    /// # use std::io::{BufWriter, Write};
    /// # fn write(device: impl pactio_sdk::PacketIo<pactio_sdk::Read, u64> + pactio_sdk::BlockOn) -> std::io::Result<()> {
    /// let mut file = BufWriter::new(pactio_sdk::Seekable::new(device));
    /// writeln!(file, "all of it")?;
    /// file.into_inner()?.finish()?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// If a write has failed, now or before, or the bytes cannot be published. The previous content of a device that publishes
    /// stays as it was.
    pub fn finish(mut self) -> io::Result<D> {
        self.wait_for_writes()?;
        self.refuse_fragment()?;
        if let Some(publication) = self.device.publication() {
            self.device.block_on(publication)?;
        }
        Ok(self.device)
    }
}

impl<D: PacketIo<Write, u64> + BlockOn> io::Read for Seekable<D> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.wait_for_writes()?;
        *self.reading.get() = None;
        self.left_over = None;
        if self.ahead.1 == self.ahead.0.len() {
            let len = self.read_len(buffer.len());
            if len <= buffer.len() {
                let done = self.read_now(buffer)?;
                self.position += done as u64;
                return Ok(done);
            }
            let mut bytes = std::mem::take(&mut self.ahead.0);
            bytes.resize(len, 0);
            let read = self.read_now(&mut bytes);
            bytes.truncate(*read.as_ref().unwrap_or(&0));
            self.ahead = (bytes, 0);
            read?;
        }
        let (bytes, given) = &mut self.ahead;
        let count = buffer.len().min(bytes.len() - *given);
        buffer[..count].copy_from_slice(&bytes[*given..*given + count]);
        *given += count;
        self.position += count as u64;
        Ok(count)
    }
}

impl<D: PacketIo<Write, u64> + BlockOn> Seekable<D> {
    /// Reads at the position, and gives the number of bytes before the first failure.
    fn read_now(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.device.blocking_read_raw(self.position, buffer)?.err_on_zero() {
            Ok(done) => Ok(done),
            Err(error) if error.code() == Code::END => Ok(0),
            Err(error) => Err(error.into()),
        }
    }
}

impl<D: PacketIo<Read, u64> + BlockOn> io::Write for Seekable<D> {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.wait_for_writes()?;
        self.forget_reads();
        if !buffer.is_empty() {
            self.written = self.written.and_more();
        }
        let done =
            self.device.blocking_write_raw(self.position, buffer).and_then(|report| report.err_on_zero());
        let done = self.is_written(done)?;
        self.position += done as u64;
        Ok(done)
    }

    /// Waits for a write that was accepted asynchronously. Bytes that the device itself holds back are not made durable.
    ///
    /// Fails after writes to a device that shows its bytes only as a whole: [`finish`](Self::finish) publishes them, and a flush
    /// in the middle would replace the previous content by a fragment.
    fn flush(&mut self) -> io::Result<()> {
        self.wait_for_writes()?;
        if self.written != Written::Nothing && self.device.publication().is_some() {
            let text = "the device shows written bytes only as a whole, when it is published: call `Seekable::finish`";
            return Err(io::Error::new(io::ErrorKind::Unsupported, text));
        }
        Ok(())
    }
}

impl Written {
    /// The state after a further write.
    fn and_more(self) -> Self {
        if self == Self::NotAll { self } else { Self::Some }
    }
}

impl<D> Seekable<D> {
    /// The result of a write.
    fn is_written<T>(&mut self, result: Result<T, IoError>) -> io::Result<T> {
        if result.is_err() {
            self.written = Written::NotAll;
        }
        result.map_err(of_write)
    }

    /// Fails if bytes are missing: a fragment is not published.
    fn refuse_fragment(&self) -> io::Result<()> {
        match self.written {
            Written::NotAll => {
                Err(io::Error::other("an earlier write has failed, so not all bytes are there"))
            }
            Written::Nothing | Written::Some => Ok(()),
        }
    }
}

/// A device that does not grow has no room past its end: the error is `WriteZero`.
fn of_write(error: IoError) -> io::Error {
    match error.code() {
        Code::END => io::Error::new(io::ErrorKind::WriteZero, error),
        _ => error.into(),
    }
}

impl<D: Size> io::Seek for Seekable<D> {
    fn seek(&mut self, target: SeekFrom) -> io::Result<u64> {
        self.seek_to(target)
    }
}

impl<D> AsyncRead for Seekable<D>
where
    D: PacketIo<Write, u64> + Clone + Send + Sync + Unpin + 'static,
{
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if buffer.is_empty() {
            return Poll::Ready(Ok(0));
        }
        // Accepted bytes have to be in the device before the read.
        ready!(this.poll_written(cx))?;
        this.ahead.1 = this.ahead.0.len();
        if this.left_over.is_none() {
            if this.reading.get().is_none() {
                let packet = PacketBox::new_buf(this.read_len(buffer.len()))?;
                let (device, position) = (this.device.clone(), this.position);
                *this.reading.get() = Some(Box::pin(async move {
                    Io::new(device, position, packet).await.map(|(_, packet)| packet)
                }));
            }
            if let Some(reading) = this.reading.get() {
                let read = ready!(reading.as_mut().poll(cx));
                *this.reading.get() = None;
                this.left_over = Some((read?, 0));
            }
        }
        let Some((packet, given)) = &mut this.left_over else { return Poll::Ready(Ok(0)) };
        let read = match packet.simple_contiguous_slice() {
            Ok(bytes) => {
                let bytes = &bytes[*given..];
                let count = bytes.len().min(buffer.len());
                buffer[..count].copy_from_slice(&bytes[..count]);
                *given += count;
                this.position += count as u64;
                if count == bytes.len() {
                    this.left_over = None;
                }
                Ok(count)
            }
            Err(error) => {
                this.left_over = None;
                if error.code() == Code::END { Ok(0) } else { Err(error.into()) }
            }
        };
        Poll::Ready(read)
    }
}

impl<D> Seekable<D> {
    /// Waits for all accepted writes.
    fn poll_written(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let written = ready!(self.writes.poll_all(cx));
        Poll::Ready(self.is_written(written))
    }
}

impl<D> AsyncWrite for Seekable<D>
where
    D: PacketIo<Read, u64> + Clone + Send + Sync + Unpin + 'static,
{
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &[u8]) -> Poll<io::Result<usize>> {
        let this = &mut *self;
        if buffer.is_empty() {
            return Poll::Ready(Ok(0));
        }
        this.forget_reads();
        // The error of an earlier write comes before more bytes are accepted.
        match this.writes.poll_send(cx) {
            Poll::Ready(sent) => this.is_written(sent)?,
            Poll::Pending if this.writes.gathered.bytes.len() >= LARGEST => return Poll::Pending,
            Poll::Pending => {}
        }
        let gathered = &this.writes.gathered;
        if !gathered.bytes.is_empty() && gathered.position + gathered.bytes.len() as u64 != this.position {
            // The position was moved: the bytes before are sent first.
            ready!(this.poll_written(cx))?;
        }
        let gathered = &mut this.writes.gathered;
        if gathered.bytes.is_empty() {
            gathered.position = this.position;
        }
        if gathered.device.is_none() {
            gathered.device = Some(Box::new(this.device.clone()));
        }
        let count = buffer.len().min(LARGEST - gathered.bytes.len());
        gathered.bytes.try_reserve(count).map_err(|_| io::ErrorKind::OutOfMemory)?;
        gathered.bytes.extend_from_slice(&buffer[..count]);
        // An admission is for a number of bytes.
        *this.writes.admission.get() = None;
        this.written = this.written.and_more();
        this.position += count as u64;
        // With nothing in flight, the bytes are sent at once, since the next poll of this value may be the flush.
        if let Poll::Ready(Err(error)) = this.writes.poll_send(cx) {
            this.position -= count as u64;
            this.is_written(Err(error))?;
        }
        Poll::Ready(Ok(count))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.poll_written(cx)
    }

    /// Waits for accepted writes, and publishes the bytes on a device that shows them only as a whole.
    fn poll_close(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        ready!(this.poll_written(cx))?;
        this.refuse_fragment()?;
        if this.publishing.get().is_none() {
            *this.publishing.get() = this.device.publication();
        }
        if let Some(publishing) = this.publishing.get() {
            let published = ready!(publishing.as_mut().poll(cx));
            *this.publishing.get() = None;
            published?;
        }
        this.written = Written::Nothing;
        Poll::Ready(Ok(()))
    }
}

impl<D: Size + Unpin> AsyncSeek for Seekable<D> {
    fn poll_seek(mut self: Pin<&mut Self>, cx: &mut Context<'_>, target: SeekFrom) -> Poll<io::Result<u64>> {
        // The size may depend on the bytes that were accepted.
        ready!(self.poll_written(cx))?;
        Poll::Ready(self.seek_to(target))
    }
}

impl<D: fmt::Debug> fmt::Debug for Seekable<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Seekable")
            .field("device", &self.device)
            .field("position", &self.position)
            .finish_non_exhaustive()
    }
}
