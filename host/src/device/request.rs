//! Reads and writes with a buffer of the caller.

use std::marker::PhantomData;

use pactio_sdk::io::{Finish, Incomplete, Partial, Request, Value, Whole, whole};
use pactio_sdk::{Code, IntoPacket, IoError, PacketPerms, PacketStore, Read, Report, Unfilled, Write};

use super::{Device, Health};
use crate::{Error, ErrorKind};

impl Device {
    /// Reads exactly as many bytes as `buffer` has, from `position` in bytes.
    ///
    /// `buffer` is a slice, which is copied to at the end, or a `Vec`, which goes with the request and comes back
    /// (see [`IntoPacket`]).
    ///
    /// # Errors
    ///
    /// If any byte could not be read; [`Error::report`] says which. A slice then keeps its old content. A `Vec` is lost: to keep
    /// it, use [`read_at`](Self::read_at).
    #[inline]
    pub fn read_exact_at<B: IntoPacket<Write>>(
        &self,
        position: u64,
        buffer: B,
    ) -> ExactRequest<'_, Write, B> {
        ExactRequest::new(self, position, buffer)
    }

    /// Reads as many bytes as possible, and reports the result of every byte.
    ///
    /// The length of `buffer` is the number of bytes: an empty buffer reads nothing and succeeds. `Vec::with_capacity(n)` is
    /// empty; use [`read_range`](Self::read_range) for a new vector, or `vec![0; n]`.
    ///
    /// # Errors
    ///
    /// If there is no memory for the request. A failure that the device reports is not an error here: it is in the report.
    pub fn read_at<B: IntoPacket<Write>>(&self, position: u64, buffer: B) -> PartialRequest<'_, Write, B> {
        PartialRequest::new(self, position, buffer)
    }

    /// Writes all bytes of `buffer` to `position` in bytes.
    ///
    /// `buffer` is a slice, which is copied at the start, or a `Vec`, which goes with the request and comes back.
    ///
    /// # Errors
    ///
    /// If any byte could not be written; [`Error::report`] says which.
    #[inline]
    pub fn write_all_at<B: IntoPacket<Read>>(&self, position: u64, buffer: B) -> ExactRequest<'_, Read, B> {
        ExactRequest::new(self, position, buffer)
    }

    /// Writes as many bytes as possible, and reports the result of every byte.
    ///
    /// # Errors
    ///
    /// As [`read_at`](Self::read_at).
    pub fn write_at<B: IntoPacket<Read>>(&self, position: u64, buffer: B) -> PartialRequest<'_, Read, B> {
        PartialRequest::new(self, position, buffer)
    }

    /// The error for a request that was not done.
    #[cold]
    pub(crate) fn failed(&self, what: &str, position: u64, incomplete: Incomplete) -> Error {
        let url = self.url();
        match incomplete {
            Incomplete::NotStarted(error) => {
                Error::new(ErrorKind::Io(error.code()), format!("cannot {what} '{url}': {error}"))
                    .with_cause(error)
            }
            Incomplete::Partly(report) => {
                let code = report.min_error().map_or(Code::FAILED, |(_, error)| error.code());
                let (len, plugin) = (report.len(), &self.plugin().manifest().id);
                let message = format!(
                    "cannot {what} {len} bytes at {position:#x} of '{url}' (plugin '{plugin}'): {report}"
                );
                let error = Error::new(ErrorKind::Io(code), message).with_report(report);
                match self.hint(what, code) {
                    Some(hint) => error.with_hint(hint),
                    None => error,
                }
            }
        }
    }
}

impl Device {
    /// A hint for a request that failed with `code`.
    fn hint(&self, what: &str, code: Code) -> Option<String> {
        if self.0.life.was_forked() {
            return Some(
                "this process was forked off from the one that opened the device: open it in a new host"
                    .to_owned(),
            );
        }
        let hint = match code {
            Code::PANICKED | Code::POISONED => PANICKED.to_owned(),
            Code::DRIVER_ENDED => "the device is out of use: open it again".to_owned(),
            // Views that are dropped by a panic fail with this code.
            Code::UNANSWERED if self.health() == Health::Panicked => PANICKED.to_owned(),
            Code::UNANSWERED => {
                "the plugin dropped the request without an answer: `pactio check` examines it".to_owned()
            }
            Code::TIMED_OUT if matches!(self.health(), Health::Hangs { .. }) => {
                let Health::Hangs { call, time } = self.health() else { return None };
                format!(
                    "the plugin has not come back from {call} for {time:.1?}: the device takes no requests until it does"
                )
            }
            Code::MISALIGNED => {
                let unit = self.0.limits.alignment();
                format!("positions and lengths of writes here are multiples of {unit} bytes")
            }
            // The information of a device that is not alive would not explain the failure.
            _ if self.health() != Health::Alive => return None,
            Code::UNSUPPORTED if self.info().is_stream() => {
                "it is a stream, which has no positions: see `Device::read_next` and `Device::write_next`"
                    .to_owned()
            }
            _ if what == "write" && !self.info().writable() => {
                "it can only be read, or was opened so: see `OpenOptions::write`".to_owned()
            }
            _ => return None,
        };
        Some(hint)
    }
}

const PANICKED: &str = "the plugin panicked, and the device is out of use: open it again";

/// A request that may succeed in part: gives the report, and the buffer in the form in which it comes back. It is submitted at
/// its first poll; dropping it detaches it and asks for cancellation.
///
/// [`cancel`](Request::cancel) asks the device to give the request up, and waits for its end; then the buffer can be used again.
/// Bytes that the device moved before count as done.
///
/// ```no_run
/// # use std::time::Duration;
/// # async fn run(device: &pactio::Device, timer: impl Future<Output = ()> + Unpin) -> Result<(), pactio::Error> {
/// use futures_lite::future::or;
///
/// let mut request = device.read_at(0, vec![0; 1 << 20]);
/// let (report, buffer) = match or(async { Some((&mut request).await) }, async { timer.await; None }).await {
///     Some(result) => result?,
///     None => request.cancel().await?, // took too long
/// };
/// # Ok(())
/// # }
/// ```
pub type PartialRequest<'d, P, B> = Request<&'d Device, P, u64, B, Named<Partial>>;

/// A request that succeeds only if every byte was done: gives the buffer in the form in which it comes back. It is submitted at
/// its first poll; dropping it detaches it and asks for cancellation.
pub type ExactRequest<'d, P, B> = Request<&'d Device, P, u64, B, Named<Whole>>;

/// The future of [`Device::read`].
pub type ReadValue<'d, T> = pactio_sdk::io::ReadValue<&'d Device, u64, T, Named<Whole>>;

/// The future of [`Device::write`].
pub type WriteValue<'d, T> = ExactRequest<'d, Read, Value<T>>;

/// The result `F` of a request, with an error that names the device and the request.
#[derive(Debug)]
pub struct Named<F>(PhantomData<F>);

/// The type in which a buffer comes back.
pub(super) type Back<P, B> = <<B as IntoPacket<P>>::Store as PacketStore<P>>::Back;

impl<P: PacketPerms, S: PacketStore<P>> Finish<&Device, P, u64, S> for Named<Partial> {
    type Output = Result<(Report, S::Back), Error>;

    fn finish(device: &&Device, position: &u64, store: Result<S, IoError>) -> Self::Output {
        Partial::finish(device, position, store)
            .map_err(|error| device.failed(P::REQUEST, *position, Incomplete::NotStarted(error)))
    }
}

impl<P: PacketPerms, S: PacketStore<P>> Finish<&Device, P, u64, S> for Named<Whole> {
    type Output = Result<S::Back, Error>;

    const IS_WHOLE: bool = true;

    #[inline(always)]
    fn finish(device: &&Device, position: &u64, store: Result<S, IoError>) -> Self::Output {
        whole(store).map_err(|incomplete| device.failed(P::REQUEST, *position, incomplete))
    }

    #[inline(always)]
    fn fill_now<B: IntoPacket<P, Store = S>>(
        buffer: B,
        fill: impl FnOnce(&mut Unfilled<'_>),
    ) -> Result<Self::Output, B> {
        buffer.fill_now(fill).map(Ok)
    }
}
