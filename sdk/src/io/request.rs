//! One request as a future.

use alloc::boxed::Box;
use core::fmt;
use core::pin::Pin;
use core::task::{Context, Poll, ready};

use super::{Admitted, PacketIo, Param, Submitted, admit, poll_admitted, send};
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
    /// Until the request is polled first.
    buffer: Option<B>,
    /// From then on, until it is complete.
    store: Option<B::Store>,
    rare: Option<Box<Rare>>,
    /// Its view may still be on its way.
    deferred: bool,
}

/// What few requests have.
#[derive(Default)]
struct Rare {
    /// Until the request is submitted.
    output: Option<OutputRef>,
    /// The device is full: the request is not submitted yet.
    admission: Option<Admitted>,
    /// It was cancelled before it could be made.
    failed: Option<Error>,
}

impl<D: PacketIo<Perms, P>, Perms: PacketPerms, P: Param, B: IntoPacket<Perms>> Io<D, Perms, P, B> {
    /// A request of `buffer` to `param` of `device`.
    #[inline(always)]
    pub fn new(device: D, param: P, buffer: B) -> Self {
        Self { device, param, buffer: Some(buffer), store: None, rare: None, deferred: false }
    }

    /// The same, with an output that hears of each segment.
    pub fn with_output(device: D, param: P, buffer: B, output: OutputRef) -> Self {
        let rare = Rare { output: Some(output), ..Rare::default() };
        Self { device, param, buffer: Some(buffer), store: None, rare: Some(Box::new(rare)), deferred: false }
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
        match (self.buffer.take(), &self.store) {
            // It completes as never submitted.
            (Some(buffer), _) => match buffer.into_packet() {
                Ok(store) => self.store = Some(store),
                Err(error) => self.rare.get_or_insert_default().failed = Some(error),
            },
            (None, Some(store)) if !self.is_waiting() => ask(&self.device, store),
            _ => self.rare = None,
        }
        self
    }

    fn is_waiting(&self) -> bool {
        self.rare.as_ref().is_some_and(|rare| rare.admission.is_some())
    }

    /// Gives the store, once the request is complete.
    #[inline(always)]
    pub(super) fn poll_store(&mut self, cx: &mut Context<'_>) -> Poll<Result<B::Store, Error>> {
        let Some(buffer) = self.buffer.take() else { return self.poll_later(cx) };
        let mut store = buffer.into_packet()?;
        if let Some(admission) = admit(&self.device, &self.param, store.packet().len()) {
            self.store = Some(store);
            self.rare.get_or_insert_default().admission = Some(admission);
            return self.poll_later(cx);
        }
        let submitted = self.start(&mut store, cx)?;
        // Most devices in memory have answered by now.
        if store.packet().is_complete() {
            return Poll::Ready(Ok(store));
        }
        self.store = Some(store);
        self.deferred = submitted == Submitted::Deferred;
        if self.deferred { Poll::Pending } else { self.poll_later(cx) }
    }

    fn poll_later(&mut self, cx: &mut Context<'_>) -> Poll<Result<B::Store, Error>> {
        if let Some(error) = self.rare.as_mut().and_then(|rare| rare.failed.take()) {
            return Poll::Ready(Err(error));
        }
        if self.is_waiting() {
            if let Some(rare) = &mut self.rare {
                ready!(poll_admitted(&mut rare.admission, cx));
            }
            if let Some(mut store) = self.store.take() {
                let submitted = self.start(&mut store, cx)?;
                self.store = Some(store);
                self.deferred = submitted == Submitted::Deferred;
                if self.deferred {
                    return Poll::Pending;
                }
            }
        }
        if core::mem::take(&mut self.deferred)
            && self.store.as_ref().is_some_and(|store| !store.packet().is_complete())
        {
            // Mostly it is sent already; but the task may wait for it in a way that never goes back to whoever deferred it.
            self.device.flush();
        }
        match &mut self.store {
            Some(store) => ready!(store.packet_mut().poll_complete(cx)),
            None => finished_before(),
        }
        match self.store.take() {
            Some(store) => Poll::Ready(Ok(store)),
            None => finished_before(),
        }
    }

    /// Binds and sends the packet.
    #[inline(always)]
    fn start(&mut self, store: &mut B::Store, cx: &mut Context<'_>) -> Result<Submitted, Error> {
        let output = match &mut self.rare {
            None => None,
            Some(rare) => rare.output.take(),
        };
        let view = match output {
            None => store.packet_mut().bind()?,
            Some(output) => store.packet_mut().bind_to(output)?,
        };
        Ok(send(&self.device, self.param.clone(), view, cx))
    }
}

#[cold]
fn finished_before() -> ! {
    panic!("a request was polled after it had finished")
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
    #[inline(always)]
    fn drop(&mut self) {
        if let Some(store) = &self.store {
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
    #[inline(always)]
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
        let waiting = self.rare.as_ref().is_some_and(|rare| rare.admission.is_some());
        let stage = match (&self.buffer, &self.store) {
            (Some(_), _) => "new",
            (None, Some(_)) if waiting => "waiting for the device",
            (None, Some(_)) => "in flight",
            (None, None) => "finished",
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
