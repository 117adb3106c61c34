//! One request as a future.

use core::fmt;
use core::mem;
use core::pin::Pin;
use core::task::{Context, Poll, ready};

use super::{Admitted, PacketIo, Param, Submitted, poll_admitted, send};
use crate::{Error, IntoPacket, OutputRef, PacketPerms, PacketStore, Report};

/// What a buffer comes back as.
type Back<Perms, B> = <<B as IntoPacket<Perms>>::Store as PacketStore<Perms>>::Back;

/// A request that does what it can: gives the report and what the buffer comes back as.
///
/// It is submitted when it is polled first. Dropping it detaches it and asks for cancellation.
#[must_use = "a request does nothing until it is polled"]
pub struct Io<D: PacketIo<Perms, P>, Perms: PacketPerms, P, B: IntoPacket<Perms>> {
    device: D,
    param: P,
    output: Option<OutputRef>,
    stage: Stage<Perms, B>,
}

enum Stage<Perms: PacketPerms, B: IntoPacket<Perms>> {
    New(B),
    /// The device is full.
    Waiting(B::Store, Option<Admitted>),
    InFlight(B::Store),
    Finished,
}

impl<D: PacketIo<Perms, P>, Perms: PacketPerms, P: Param, B: IntoPacket<Perms>> Io<D, Perms, P, B> {
    /// A request of `buffer` to `param` of `device`.
    #[inline]
    pub fn new(device: D, param: P, buffer: B) -> Self {
        Self { device, param, output: None, stage: Stage::New(buffer) }
    }

    /// The same, with an output that hears of each segment.
    pub fn with_output(device: D, param: P, buffer: B, output: OutputRef) -> Self {
        Self { device, param, output: Some(output), stage: Stage::New(buffer) }
    }

    /// What it is sent to.
    pub fn device(&self) -> &D {
        &self.device
    }

    /// Where it goes.
    pub fn param(&self) -> &P {
        &self.param
    }

    /// Asks the device to give the request up, and waits for its end, which is when the buffer can be used again
    /// (rule 21). What the device did before counts as done. A request that was not submitted is not submitted any more.
    ///
    /// ```
    /// # use pactio_sdk::{BoundPacketView, Error, PacketIo, PacketIoExt, Write};
    /// # struct Slow;
    /// # impl PacketIo<Write, u64> for Slow {
    /// #     fn send_io(&self, _: u64, view: BoundPacketView<Write>) { view.error(Error::CANCELLED) }
    /// # }
    /// # fn block_on<F: Future>(future: F) -> F::Output {
    /// #     let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    /// #     match std::pin::pin!(future).poll(&mut cx) { std::task::Poll::Ready(value) => value, _ => panic!() }
    /// # }
    /// # let device = Slow;
    /// # block_on(async {
    /// let mut request = device.io(0, vec![0; 4096]);
    /// // ... polled for a while, such as in a race against a timer ...
    /// let (report, buffer) = request.cancel().await?;
    /// assert_eq!((report.err_any(), buffer.len()), (Err(Error::NOT_SUBMITTED), 4096));
    /// # Ok::<(), Error>(())
    /// # })?;
    /// # Ok::<(), Error>(())
    /// ```
    pub fn cancel(mut self) -> Self {
        match &self.stage {
            Stage::New(_) => {
                if let Stage::New(buffer) = mem::replace(&mut self.stage, Stage::Finished)
                    && let Ok(store) = buffer.into_packet()
                {
                    self.stage = Stage::InFlight(store);
                }
            }
            Stage::Waiting(..) => {
                if let Stage::Waiting(store, _) = mem::replace(&mut self.stage, Stage::Finished) {
                    self.stage = Stage::InFlight(store);
                }
            }
            Stage::InFlight(store) => ask(&self.device, store),
            Stage::Finished => {}
        }
        self
    }

    /// Gives the store, once the request is complete.
    #[inline]
    pub(super) fn poll_store(&mut self, cx: &mut Context<'_>) -> Poll<Result<B::Store, Error>> {
        if let Stage::New(_) = self.stage
            && let Stage::New(buffer) = mem::replace(&mut self.stage, Stage::Finished)
        {
            let mut store = buffer.into_packet()?;
            let admission = self.device.admit(store.packet().len());
            if admission.is_some() {
                self.stage = Stage::Waiting(store, admission);
            } else {
                let submitted = start(&self.device, &self.param, &mut self.output, &mut store, cx)?;
                // Most devices in memory have answered by now.
                if store.packet().is_complete() {
                    return Poll::Ready(Ok(store));
                }
                self.stage = Stage::InFlight(store);
                if submitted == Submitted::Deferred {
                    return Poll::Pending;
                }
            }
        }
        self.poll_later(cx)
    }

    fn poll_later(&mut self, cx: &mut Context<'_>) -> Poll<Result<B::Store, Error>> {
        if let Stage::Waiting(_, admission) = &mut self.stage {
            ready!(poll_admitted(admission, cx));
            if let Stage::Waiting(mut store, _) = mem::replace(&mut self.stage, Stage::Finished) {
                let submitted = start(&self.device, &self.param, &mut self.output, &mut store, cx)?;
                self.stage = Stage::InFlight(store);
                if submitted == Submitted::Deferred {
                    return Poll::Pending;
                }
            }
        }
        let Stage::InFlight(store) = &mut self.stage else {
            panic!("a request was polled after it had finished")
        };
        ready!(store.packet_mut().poll_complete(cx));
        match mem::replace(&mut self.stage, Stage::Finished) {
            Stage::InFlight(store) => Poll::Ready(Ok(store)),
            _ => unreachable!("it was in flight just now"),
        }
    }
}

/// Binds and sends a packet.
#[inline]
fn start<D: PacketIo<Perms, P>, Perms: PacketPerms, P: Param>(
    device: &D,
    param: &P,
    output: &mut Option<OutputRef>,
    store: &mut impl PacketStore<Perms>,
    cx: &mut Context<'_>,
) -> Result<Submitted, Error> {
    let view = match output.take() {
        None => store.packet_mut().bind()?,
        Some(output) => store.packet_mut().bind_to(output)?,
    };
    Ok(send(device, param.clone(), view, cx))
}

/// Asks for cancellation of what is in flight.
#[cold]
pub(super) fn ask<D: PacketIo<Perms, P>, Perms: PacketPerms, P>(device: &D, store: &impl PacketStore<Perms>) {
    let packet = store.packet();
    if !packet.is_complete() {
        packet.cancel();
        device.cancel(packet.request());
    }
}

impl<D: PacketIo<Perms, P>, Perms: PacketPerms, P, B: IntoPacket<Perms>> Drop for Io<D, Perms, P, B> {
    #[inline]
    fn drop(&mut self) {
        if let Stage::InFlight(store) = &self.stage {
            ask(&self.device, store);
        }
    }
}

// Nothing in it is ever pinned.
impl<D: PacketIo<Perms, P>, Perms: PacketPerms, P, B: IntoPacket<Perms>> Unpin for Io<D, Perms, P, B> {}

impl<D: PacketIo<Perms, P>, Perms: PacketPerms, P: Param, B: IntoPacket<Perms>> Future
    for Io<D, Perms, P, B>
{
    type Output = Result<(Report, Back<Perms, B>), Error>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let store = ready!(self.poll_store(cx))?;
        let report = store.packet().report();
        Poll::Ready(store.sync_back().map(|back| (report, back)))
    }
}

/// A request that succeeds only if every byte was done: gives what the buffer comes back as.
///
/// It is submitted when it is polled first. Dropping it detaches it and asks for cancellation.
#[must_use = "a request does nothing until it is polled"]
pub struct Exact<D: PacketIo<Perms, P>, Perms: PacketPerms, P, B: IntoPacket<Perms>>(Io<D, Perms, P, B>);

impl<D: PacketIo<Perms, P>, Perms: PacketPerms, P: Param, B: IntoPacket<Perms>> Exact<D, Perms, P, B> {
    /// A request of `buffer` to `param` of `device`.
    #[inline]
    pub fn new(device: D, param: P, buffer: B) -> Self {
        Self(Io::new(device, param, buffer))
    }

    /// The request that says what became of every byte.
    pub fn into_inner(self) -> Io<D, Perms, P, B> {
        self.0
    }

    /// The request that says what became of every byte.
    pub fn get_ref(&self) -> &Io<D, Perms, P, B> {
        &self.0
    }

    /// The same as the future, with the account where not every byte was done.
    #[inline]
    pub fn poll_exact(&mut self, cx: &mut Context<'_>) -> Poll<Result<Back<Perms, B>, Incomplete>> {
        let store = match ready!(self.0.poll_store(cx)) {
            Ok(store) => store,
            Err(error) => return Poll::Ready(Err(Incomplete::NotStarted(error))),
        };
        if !store.packet().is_done() {
            let report = store.packet().report();
            if !report.is_done() {
                return Poll::Ready(Err(Incomplete::Partly(report)));
            }
        }
        Poll::Ready(store.sync_back().map_err(Incomplete::NotStarted))
    }
}

/// Why a request was not done completely.
#[derive(Clone, Debug)]
pub enum Incomplete {
    /// It was not submitted, for want of memory.
    NotStarted(Error),
    /// Some of its bytes failed.
    Partly(Report),
}

impl From<Incomplete> for Error {
    fn from(incomplete: Incomplete) -> Self {
        match incomplete {
            Incomplete::NotStarted(error) => error,
            Incomplete::Partly(report) => report.min_error().map_or(Error::SHORT, |(_, error)| error),
        }
    }
}

impl<D: PacketIo<Perms, P>, Perms: PacketPerms, P: Param, B: IntoPacket<Perms>> Future
    for Exact<D, Perms, P, B>
{
    type Output = Result<Back<Perms, B>, Error>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_exact(cx).map_err(Error::from)
    }
}

impl<D: PacketIo<Perms, P>, Perms: PacketPerms, P: fmt::Debug, B: IntoPacket<Perms>> fmt::Debug
    for Io<D, Perms, P, B>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match self.stage {
            Stage::New(_) => "new",
            Stage::Waiting(..) => "waiting for the device",
            Stage::InFlight(_) => "in flight",
            Stage::Finished => "finished",
        };
        write!(f, "request at {:?} ({stage})", self.param)
    }
}

impl<D: PacketIo<Perms, P>, Perms: PacketPerms, P: fmt::Debug, B: IntoPacket<Perms>> fmt::Debug
    for Exact<D, Perms, P, B>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
