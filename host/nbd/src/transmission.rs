//! The transmission of one connection: requests come in, any number of them are in flight, and replies go out as they are done.
//!
//! ```text
//!  socket ──► header ──► bytes of a write ──► Device ──► in flight ──► replies ──► socket
//!     └ paused while too much is in flight, or too many bytes wait for the socket
//! ```
//!
//! One task does all of it, so that the requests that arrive together reach the device together, and their replies leave in one
//! call.

use std::collections::VecDeque;
use std::future::Future;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_io::Timer;
use futures_lite::future::or;
use futures_lite::{AsyncReadExt, AsyncWriteExt};
use futures_util::stream::{FuturesUnordered, StreamExt};
use pactio::{Code, Device, Error, Report, ZeroMode};

use crate::export::{Export, Extent, MAX_REQUEST_BYTES, errno_of};
use crate::stream::Stream;
use crate::wire::{self, REQUEST_LEN, Request, chunk, command, errno, flag};

/// Most requests of a connection in flight.
const MAX_IN_FLIGHT: usize = 128;

/// The longest time for which the end of a client is waited for after the last reply.
const LINGER: Duration = Duration::from_secs(1);

/// Most bytes of requests in flight and of replies that wait.
const MAX_BYTES: usize = 64 << 20;

/// Bytes of a write that are received in their place. Fewer come with the requests behind them.
const LARGE: usize = 32 << 10;

/// Requests that are begun before the replies to earlier ones are sent, and the size of these replies.
const MAX_GATHERED: usize = 64;
const MAX_GATHERED_BYTES: usize = 256 << 10;

/// Most bytes of a text for people.
const MAX_TEXT_BYTES: usize = 4000;

/// A part of a larger piece of zeros that is written.
const ZEROS: usize = 1 << 20;

/// What a client has negotiated.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Agreed {
    pub(crate) is_structured: bool,
    pub(crate) has_allocation: bool,
}

/// The number of the context `base:allocation`.
pub(crate) const ALLOCATION_ID: u32 = 1;

type InFlight = Pin<Box<dyn Future<Output = Done> + Send>>;

/// A request that is done.
struct Done {
    request: Request,
    result: Outcome,
}

enum Outcome {
    /// Bytes, and which of them were read.
    Read(Report, Vec<u8>),
    Extents(Vec<Extent>),
    Nothing,
    Failed(u32, String),
}

/// The request that is being received.
enum Receiving {
    Header([u8; REQUEST_LEN], usize),
    Payload(Request, Vec<u8>, usize),
}

const START: Receiving = Receiving::Header([0; REQUEST_LEN], 0);

pub(crate) struct Transmission<S, F> {
    stream: S,
    export: Arc<Export>,
    agreed: Agreed,
    /// Resolves when the server ends: no further request is taken.
    stop: F,
    /// No further request comes: the client has disconnected, or the server ends.
    is_ending: bool,
    receiving: Receiving,
    /// Bytes that were received and are not parsed yet.
    buffer: Vec<u8>,
    parsed: usize,
    filled: usize,
    in_flight: FuturesUnordered<InFlight>,
    bytes_in_flight: usize,
    replies: VecDeque<Vec<u8>>,
    /// Bytes of the first reply that were sent.
    sent: usize,
    waiting_bytes: usize,
    needs_flush: bool,
}

impl<S: Stream, F: Future<Output = ()> + Unpin> Transmission<S, F> {
    pub(crate) fn new(stream: S, export: Arc<Export>, agreed: Agreed, stop: F) -> Self {
        Self {
            stream,
            export,
            agreed,
            stop,
            is_ending: false,
            receiving: START,
            buffer: vec![0; 64 << 10],
            parsed: 0,
            filled: 0,
            in_flight: FuturesUnordered::new(),
            bytes_in_flight: 0,
            replies: VecDeque::new(),
            sent: 0,
            waiting_bytes: 0,
            needs_flush: false,
        }
    }

    /// Serves until the client disconnects or the server ends, and all requests are answered.
    pub(crate) async fn run(mut self) -> io::Result<()> {
        std::future::poll_fn(|cx| self.poll(cx)).await?;
        self.stream.close().await?;
        // If requests that were not received are left when the socket is closed, TCP discards replies on their way.
        let rest = async {
            while self.stream.read(&mut self.buffer).await? > 0 {}
            Ok(())
        };
        let late = async {
            Timer::after(LINGER).await;
            Ok(())
        };
        or(rest, late).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Requests that were begun since replies were last sent.
        let mut begun = 0;
        loop {
            if !self.is_ending && Pin::new(&mut self.stop).poll(cx).is_ready() {
                self.is_ending = true;
            }
            let mut has_progress = false;
            while let Poll::Ready(Some(done)) = self.in_flight.poll_next_unpin(cx) {
                self.bytes_in_flight -= cost(&done.request);
                self.reply(done);
                has_progress = true;
            }
            // Replies are gathered while requests are at hand, up to a number and a size.
            let has_room =
                self.in_flight.len() < MAX_IN_FLIGHT && self.bytes_in_flight + self.waiting_bytes < MAX_BYTES;
            if !self.is_ending && has_room {
                match self.poll_request(cx)? {
                    Poll::Ready(true) if begun < MAX_GATHERED && self.waiting_bytes < MAX_GATHERED_BYTES => {
                        begun += 1;
                        continue;
                    }
                    Poll::Ready(true) => has_progress = true,
                    Poll::Ready(false) => self.is_ending = true,
                    Poll::Pending => {}
                }
            }
            begun = 0;
            has_progress |= self.poll_send(cx)?;
            if self.is_ending && self.in_flight.is_empty() && self.replies.is_empty() && !self.needs_flush {
                return Poll::Ready(Ok(()));
            }
            if !has_progress {
                return Poll::Pending;
            }
        }
    }

    /// Receives a request and begins it; `false` if there will be none.
    fn poll_request(&mut self, cx: &mut Context<'_>) -> io::Result<Poll<bool>> {
        loop {
            if let Receiving::Payload(_, bytes, filled) = &mut self.receiving
                && self.parsed == self.filled
                && bytes.len() - *filled >= LARGE
            {
                // Large payloads go to their place without another copy.
                match Pin::new(&mut self.stream).poll_read(cx, &mut bytes[*filled..])? {
                    Poll::Ready(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    Poll::Ready(count) => *filled += count,
                    Poll::Pending => return Ok(Poll::Pending),
                }
            } else if self.parsed == self.filled {
                match Pin::new(&mut self.stream).poll_read(cx, &mut self.buffer)? {
                    Poll::Ready(0) if matches!(self.receiving, Receiving::Header(_, 0)) => {
                        return Ok(Poll::Ready(false));
                    }
                    Poll::Ready(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                    Poll::Ready(count) => (self.parsed, self.filled) = (0, count),
                    Poll::Pending => return Ok(Poll::Pending),
                }
            }
            let at_hand = &self.buffer[self.parsed..self.filled];
            match &mut self.receiving {
                Receiving::Header(header, filled) => {
                    let count = at_hand.len().min(REQUEST_LEN - *filled);
                    header[*filled..*filled + count].copy_from_slice(&at_hand[..count]);
                    (self.parsed, *filled) = (self.parsed + count, *filled + count);
                    if *filled < REQUEST_LEN {
                        continue;
                    }
                    let request = Request::parse(header).ok_or_else(|| {
                        io::Error::new(io::ErrorKind::InvalidData, "a request has another magic number")
                    })?;
                    match request.command {
                        command::DISCONNECT => return Ok(Poll::Ready(false)),
                        command::WRITE if request.len > MAX_REQUEST_BYTES => {
                            return Err(io::Error::new(
                                io::ErrorKind::InvalidData,
                                "a write is larger than 32 MiB",
                            ));
                        }
                        command::WRITE => {
                            self.receiving = Receiving::Payload(request, vec![0; request.len as usize], 0);
                        }
                        _ => {
                            self.receiving = START;
                            self.begin(request, Vec::new());
                            return Ok(Poll::Ready(true));
                        }
                    }
                }
                Receiving::Payload(request, bytes, filled) => {
                    let count = at_hand.len().min(bytes.len() - *filled);
                    bytes[*filled..*filled + count].copy_from_slice(&at_hand[..count]);
                    (self.parsed, *filled) = (self.parsed + count, *filled + count);
                    if *filled == bytes.len() {
                        let (request, bytes) = (*request, std::mem::take(bytes));
                        self.receiving = START;
                        self.begin(request, bytes);
                        return Ok(Poll::Ready(true));
                    }
                }
            }
        }
    }

    /// Begins a request, or replies that it is refused.
    fn begin(&mut self, request: Request, bytes: Vec<u8>) {
        if let Err((error, text)) = self.check(&request) {
            return self.reply(Done { request, result: Outcome::Failed(error, text.to_owned()) });
        }
        let export = self.export.clone();
        self.bytes_in_flight += cost(&request);
        self.in_flight
            .push(Box::pin(async move { Done { request, result: perform(&export, request, bytes).await } }));
    }

    fn check(&self, request: &Request) -> Result<(), (u32, &'static str)> {
        let end = request.offset.checked_add(request.len.into()).filter(|end| *end <= self.export.size);
        let fills = matches!(request.command, command::WRITE | command::WRITE_ZEROES);
        let is_write = fills || request.command == command::TRIM;
        let known = match request.command {
            command::READ => flag::DONT_FRAGMENT | flag::FUA,
            command::WRITE | command::TRIM => flag::FUA,
            command::WRITE_ZEROES => flag::FUA | flag::NO_HOLE | flag::FAST_ZERO,
            command::BLOCK_STATUS => flag::REQUEST_ONE | flag::FUA,
            command::FLUSH => flag::FUA,
            _ => return Err((errno::EINVAL, "the command is unknown")),
        };
        if request.flags & !known != 0 {
            return Err((errno::EINVAL, "a flag of the command is unknown"));
        }
        if is_write && self.export.is_read_only {
            return Err((errno::EPERM, "the export can only be read"));
        }
        if request.command == command::FLUSH {
            return Ok(());
        }
        if end.is_none() {
            let error = if fills { errno::ENOSPC } else { errno::EINVAL };
            return Err((error, "the range lies past the end of the export"));
        }
        if request.command == command::READ && request.len > MAX_REQUEST_BYTES {
            return Err((errno::EINVAL, "a read has at most 32 MiB"));
        }
        if request.command == command::BLOCK_STATUS && (!self.agreed.has_allocation || request.len == 0) {
            return Err((errno::EINVAL, "no context was negotiated, or the range is empty"));
        }
        Ok(())
    }

    /// Puts the reply to a request behind the others.
    fn reply(&mut self, done: Done) {
        let Done { request, result } = done;
        let cookie = request.cookie;
        let is_structured = self.agreed.is_structured;
        match result {
            Outcome::Read(report, bytes) if is_structured => self.reply_with_ranges(&request, &report, bytes),
            Outcome::Read(report, bytes) => match report.min_error() {
                None => {
                    self.put(|out| wire::simple_reply(out, cookie, 0));
                    self.put_bytes(bytes);
                }
                Some((_, error)) => self.put(|out| wire::simple_reply(out, cookie, errno_of(error.code()))),
            },
            Outcome::Extents(extents) => self.put(|out| {
                wire::chunk_header(out, cookie, true, chunk::BLOCK_STATUS, 4 + 8 * extents.len());
                out.extend(ALLOCATION_ID.to_be_bytes());
                for extent in extents {
                    out.extend(extent.len.to_be_bytes());
                    out.extend(extent.state.to_be_bytes());
                }
            }),
            Outcome::Nothing => self.put(|out| wire::simple_reply(out, cookie, 0)),
            Outcome::Failed(error, text) if is_structured => self.put(|out| {
                let text = cut(&text);
                wire::chunk_header(out, cookie, true, chunk::ERROR, 6 + text.len());
                out.extend(error.to_be_bytes());
                out.extend((text.len() as u16).to_be_bytes());
                out.extend(text.as_bytes());
            }),
            Outcome::Failed(error, _) => self.put(|out| wire::simple_reply(out, cookie, error)),
        }
    }

    /// Replies to a read with one chunk for each range: its bytes, or its error at its offset.
    fn reply_with_ranges(&mut self, request: &Request, report: &Report, bytes: Vec<u8>) {
        let (cookie, offset) = (request.cookie, request.offset);
        if report.is_done() && !bytes.is_empty() {
            self.put(|out| {
                wire::chunk_header(out, cookie, true, chunk::DATA, 8 + bytes.len());
                out.extend(offset.to_be_bytes());
            });
            return self.put_bytes(bytes);
        }
        for (range, outcome) in report.outcomes().filter(|(range, _)| !range.is_empty()) {
            let at = offset + range.start as u64;
            match outcome {
                Ok(()) if request.flags & flag::DONT_FRAGMENT != 0 => {}
                Ok(()) => {
                    self.put(|out| {
                        wire::chunk_header(out, cookie, false, chunk::DATA, 8 + range.len());
                        out.extend(at.to_be_bytes());
                        out.extend(&bytes[range]);
                    });
                }
                Err(cause) => {
                    let text = format!("{} bytes: {cause}", range.len());
                    let text = cut(&text);
                    self.put(|out| {
                        wire::chunk_header(out, cookie, false, chunk::ERROR_AT, 14 + text.len());
                        out.extend(errno_of(cause.error().code()).to_be_bytes());
                        out.extend((text.len() as u16).to_be_bytes());
                        out.extend(text.as_bytes());
                        out.extend(at.to_be_bytes());
                    });
                }
            }
        }
        self.put(|out| wire::chunk_header(out, cookie, true, chunk::NONE, 0));
    }

    /// Appends to the last reply, or begins another one.
    fn put(&mut self, write: impl FnOnce(&mut Vec<u8>)) {
        if self.replies.back().is_none_or(|last| last.len() >= 16 << 10)
            || self.replies.len() == 1 && self.sent > 0
        {
            self.replies.push_back(Vec::with_capacity(1 << 10));
        }
        if let Some(last) = self.replies.back_mut() {
            let before = last.len();
            write(last);
            self.waiting_bytes += last.len() - before;
        }
    }

    /// Appends bytes, without a copy if there are many.
    fn put_bytes(&mut self, bytes: Vec<u8>) {
        if bytes.len() < 8 << 10 {
            return self.put(|out| out.extend(bytes));
        }
        self.waiting_bytes += bytes.len();
        self.replies.push_back(bytes);
    }

    /// Sends replies; `true` if bytes were sent.
    fn poll_send(&mut self, cx: &mut Context<'_>) -> io::Result<bool> {
        let mut has_progress = false;
        while !self.replies.is_empty() {
            let mut slices = [IoSlice::new(&[]); 32];
            let mut count = 0;
            for (slice, reply) in slices.iter_mut().zip(&self.replies) {
                let skip = if count == 0 { self.sent } else { 0 };
                *slice = IoSlice::new(&reply[skip..]);
                count += 1;
            }
            let Poll::Ready(sent) = Pin::new(&mut self.stream).poll_write_vectored(cx, &slices[..count])?
            else {
                break;
            };
            if sent == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            has_progress = true;
            self.waiting_bytes -= sent;
            self.sent += sent;
            while let Some(first) = self.replies.front().filter(|first| first.len() <= self.sent) {
                self.sent -= first.len();
                self.replies.pop_front();
            }
        }
        self.needs_flush |= has_progress;
        // A stream with a buffer of its own, such as TLS, is emptied.
        if self.needs_flush && Pin::new(&mut self.stream).poll_flush(cx)?.is_ready() {
            self.needs_flush = false;
        }
        Ok(has_progress)
    }
}

/// The memory that a request takes while it is in flight.
fn cost(request: &Request) -> usize {
    match request.command {
        command::READ | command::WRITE => request.len as usize,
        command::WRITE_ZEROES => (request.len as usize).min(ZEROS),
        _ => 0,
    }
}

/// The front of a text that clients take.
pub(crate) fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_TEXT_BYTES)]
}

/// Has the device perform a request that was checked.
async fn perform(export: &Export, request: Request, bytes: Vec<u8>) -> Outcome {
    let device = &export.device;
    let failed =
        |error: &Error| Outcome::Failed(errno_of(error.code().unwrap_or(Code::IO)), error.to_string());
    let result = match request.command {
        command::READ => {
            return match device.read_at(request.offset, vec![0; request.len as usize]).await {
                Ok((report, bytes)) => Outcome::Read(report, bytes),
                Err(error) => failed(&error),
            };
        }
        command::BLOCK_STATUS => {
            let only_one = request.flags & flag::REQUEST_ONE != 0;
            return match export.extents(request.offset, request.len, only_one).await {
                Ok(extents) => Outcome::Extents(extents),
                Err(error) => failed(&error),
            };
        }
        command::WRITE => device.write_all_at(request.offset, bytes).await.map(drop),
        command::WRITE_ZEROES => zero(device, request).await,
        command::TRIM => trim(device, request).await,
        _ => device.flush_data().await,
    };
    if matches!(request.command, command::WRITE | command::WRITE_ZEROES | command::TRIM) {
        export.changed();
    }
    let result = match result {
        Ok(()) if request.flags & flag::FUA != 0 && request.command != command::FLUSH => {
            device.flush_data().await
        }
        result => result,
    };
    result.map_or_else(|error| failed(&error), |()| Outcome::Nothing)
}

/// Makes a range read as zeros.
async fn zero(device: &Device, request: Request) -> Result<(), Error> {
    let range = request.offset..request.offset + u64::from(request.len);
    let mode = if request.flags & flag::NO_HOLE != 0 { ZeroMode::Keep } else { ZeroMode::Release };
    match request.flags & flag::FAST_ZERO {
        0 => device.zero(range, mode).await,
        _ => device.zero_fast(range, mode).await,
    }
}

/// Gives the storage of a range back. A device that cannot do it keeps the storage, and the bytes.
async fn trim(device: &Device, request: Request) -> Result<(), Error> {
    let range = request.offset..request.offset + u64::from(request.len);
    match device.zero_fast(range, ZeroMode::Release).await {
        Err(error) if error.code() == Some(Code::UNSUPPORTED) => Ok(()),
        trimmed => trimmed,
    }
}
