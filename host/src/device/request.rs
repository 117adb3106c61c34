//! Reading and writing with a buffer of the caller's.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

use pactio_sdk::abi::{DeviceObj, PacketIo};
use pactio_sdk::{IntoPacket, PacketBox, PacketPerms, Read, Report, Request, Write};

use super::Device;
use crate::{Error, ErrorKind};

impl Device {
    /// Reads exactly as many bytes as `buffer` has, from `position` in bytes.
    ///
    /// `buffer` is a slice, which is copied to at the end, or a `Vec`, which goes with the request and comes back
    /// (see [`IntoPacket`]).
    ///
    /// # Errors
    ///
    /// If any byte could not be read; [`Error::report`] says which. A `Vec` is gone then: to keep it, use
    /// [`read_at`](Self::read_at).
    pub fn read_exact_at<B: IntoPacket<Write>>(&self, position: u64, buffer: B) -> Exact<'_, Write, B> {
        Exact(Partial::new(self, position, buffer, "read"))
    }

    /// Reads what can be read, and says what became of every byte.
    ///
    /// # Errors
    ///
    /// If the request could not be made, for want of memory. What a device reports is not an error here.
    pub fn read_at<B: IntoPacket<Write>>(&self, position: u64, buffer: B) -> Partial<'_, Write, B> {
        Partial::new(self, position, buffer, "read")
    }

    /// Writes all bytes of `buffer` to `position` in bytes.
    ///
    /// `buffer` is a slice, which is copied at the start, or a `Vec`, which goes with the request and comes back.
    ///
    /// # Errors
    ///
    /// If any byte could not be written; [`Error::report`] says which.
    pub fn write_all_at<B: IntoPacket<Read>>(&self, position: u64, buffer: B) -> Exact<'_, Read, B> {
        Exact(Partial::new(self, position, buffer, "write"))
    }

    /// Writes what can be written, and says what became of every byte.
    ///
    /// # Errors
    ///
    /// As [`read_at`](Self::read_at).
    pub fn write_at<B: IntoPacket<Read>>(&self, position: u64, buffer: B) -> Partial<'_, Read, B> {
        Partial::new(self, position, buffer, "write")
    }

    /// Submits a packet; a range that no position can express fails at once.
    #[inline]
    pub(super) fn start<P: PacketPerms>(
        &self,
        position: u64,
        packet: &mut PacketBox<P>,
        cx: &Context<'_>,
    ) -> Result<(), pactio_sdk::Error>
    where
        DeviceObj: PacketIo<P, u64>,
    {
        let view = packet.bind()?;
        if position.checked_add(view.len() as u64).is_none() {
            view.error(pactio_sdk::Error::TOO_LARGE);
        } else if !view.is_empty() {
            self.submit(position, view, cx);
        }
        Ok(())
    }

    /// The error for a request that was not done completely.
    #[cold]
    pub(super) fn incomplete(&self, what: &str, position: u64, report: Report) -> Error {
        let code = report.min_error().map_or(pactio_sdk::Code::Failed, |(_, error)| error.code());
        let message = format!(
            "cannot {what} {} bytes at {position} of '{}' (plugin '{}'): {report}",
            report.len(),
            self.url(),
            self.plugin().info().id
        );
        Error::new(ErrorKind::Io(code), message).with_report(report)
    }

    #[cold]
    pub(super) fn not_started(&self, what: &str, error: pactio_sdk::Error) -> Error {
        Error::new(ErrorKind::Io(error.code()), format!("cannot {what} '{}': {error}", self.url()))
    }
}

/// A request that does what it can. It is submitted when it is polled first; dropping it detaches it.
#[must_use = "a request does nothing until it is polled"]
pub struct Partial<'d, P: PacketPerms, B: IntoPacket<P>> {
    device: &'d Device,
    position: u64,
    what: &'static str,
    stage: Stage<P, B>,
}

enum Stage<P: PacketPerms, B: IntoPacket<P>> {
    New(B),
    InFlight(B::Request),
    Finished,
}

impl<'d, P: PacketPerms, B: IntoPacket<P>> Partial<'d, P, B> {
    fn new(device: &'d Device, position: u64, buffer: B, what: &'static str) -> Self {
        Self { device, position, what, stage: Stage::New(buffer) }
    }

    /// Gives the request, once it is complete.
    #[inline]
    fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Result<B::Request, Error>>
    where
        DeviceObj: PacketIo<P, u64>,
    {
        if let Stage::New(_) = self.stage {
            let Stage::New(buffer) = std::mem::replace(&mut self.stage, Stage::Finished) else {
                unreachable!()
            };
            let started = buffer.into_packet().and_then(|mut request| {
                self.device.start(self.position, request.packet_mut(), cx)?;
                Ok(request)
            });
            match started {
                // Most devices in memory have answered by now.
                Ok(request) if request.packet().is_complete() => return Poll::Ready(Ok(request)),
                Ok(request) => self.stage = Stage::InFlight(request),
                Err(error) => return Poll::Ready(Err(self.device.not_started(self.what, error))),
            }
        }
        let Stage::InFlight(request) = &mut self.stage else {
            panic!("a request was polled after it had finished")
        };
        if Pin::new(request.packet_mut()).poll(cx).is_pending() {
            return Poll::Pending;
        }
        match std::mem::replace(&mut self.stage, Stage::Finished) {
            Stage::InFlight(request) => Poll::Ready(Ok(request)),
            _ => unreachable!("it was in flight just now"),
        }
    }
}

// Nothing in it is ever pinned.
impl<P: PacketPerms, B: IntoPacket<P>> Unpin for Partial<'_, P, B> {}

impl<P: PacketPerms, B: IntoPacket<P>> Future for Partial<'_, P, B>
where
    DeviceObj: PacketIo<P, u64>,
{
    /// The account, and what the buffer comes back as.
    type Output = Result<(Report, <B::Request as Request<P>>::Back), Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let request = std::task::ready!(self.poll_request(cx))?;
        let report = request.packet().report();
        let back = request.sync_back().map_err(|error| self.device.not_started(self.what, error))?;
        Poll::Ready(Ok((report, back)))
    }
}

/// A request that succeeds only if every byte was done. It is submitted when it is polled first; dropping it detaches
/// it.
#[must_use = "a request does nothing until it is polled"]
pub struct Exact<'d, P: PacketPerms, B: IntoPacket<P>>(Partial<'d, P, B>);

impl<P: PacketPerms, B: IntoPacket<P>> Future for Exact<'_, P, B>
where
    DeviceObj: PacketIo<P, u64>,
{
    /// What the buffer comes back as.
    type Output = Result<<B::Request as Request<P>>::Back, Error>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let this = &mut self.0;
        let request = std::task::ready!(this.poll_request(cx))?;
        if !request.packet().is_done() {
            let report = request.packet().report();
            if !report.is_done() {
                return Poll::Ready(Err(this.device.incomplete(this.what, this.position, report)));
            }
        }
        Poll::Ready(request.sync_back().map_err(|error| this.device.not_started(this.what, error)))
    }
}

impl<P: PacketPerms, B: IntoPacket<P>> fmt::Debug for Partial<'_, P, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match self.stage {
            Stage::New(_) => "new",
            Stage::InFlight(_) => "in flight",
            Stage::Finished => "finished",
        };
        write!(f, "{} of '{}' at {} ({stage})", self.what, self.device.url(), self.position)
    }
}

impl<P: PacketPerms, B: IntoPacket<P>> fmt::Debug for Exact<'_, P, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
