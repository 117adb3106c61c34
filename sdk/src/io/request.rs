//! One request as a future.

use alloc::boxed::Box;
use core::fmt;
use core::mem;
use core::pin::Pin;
use core::task::{Context, Poll, ready};

use super::{Admitted, PacketIo, Param, Submitted, admit, poll_admitted, send};
use crate::{IntoPacket, IoError, OutputRef, PacketPerms, PacketStore, Report};

/// The form in which a buffer comes back.
type Back<Perms, B> = <<B as IntoPacket<Perms>>::Store as PacketStore<Perms>>::Back;

/// A request that may be done in part: gives the report and the buffer, in the form in which the buffer comes back.
///
/// The first poll submits the request. Dropping it detaches the request and asks for cancellation.
#[must_use = "a request does nothing until it is polled"]
pub struct Io<D: PacketIo<Perms, P>, Perms: PacketPerms, P, B: IntoPacket<Perms>> {
    // The stage is not next to the device, since compilers would load both at once just after the stage was stored, which is
    // slow: see `poll_then`.
    stage: Stage<B, B::Store>,
    param: P,
    device: D,
    rare: Option<Box<Rare>>,
}

/// The progress of a request.
enum Stage<B, S> {
    New(B),
    /// The device is full: the request is not submitted yet.
    Waiting(S),
    /// The view may still be on its way to the device.
    Deferred(S),
    Sent(S),
    Finished,
}

/// Fields that few requests need.
#[derive(Default)]
struct Rare {
    /// Set until the request is submitted.
    output: Option<OutputRef>,
    /// Set while the device is full.
    admission: Option<Admitted>,
    /// The error of a request that was cancelled before its first poll, and whose packet could not be made.
    failed: Option<IoError>,
}

impl<D: PacketIo<Perms, P>, Perms: PacketPerms, P: Param, B: IntoPacket<Perms>> Io<D, Perms, P, B> {
    /// A request of `buffer` to `param` of `device`.
    #[inline(always)]
    pub fn new(device: D, param: P, buffer: B) -> Self {
        Self { device, param, stage: Stage::New(buffer), rare: None }
    }

    /// The same, with an output that receives each segment.
    pub fn with_output(device: D, param: P, buffer: B, output: OutputRef) -> Self {
        let rare = Rare { output: Some(output), ..Rare::default() };
        Self { device, param, stage: Stage::New(buffer), rare: Some(Box::new(rare)) }
    }

    /// The device that the request is sent to.
    pub fn device(&self) -> &D {
        &self.device
    }

    /// The parameter of the request, such as a position.
    pub fn param(&self) -> &P {
        &self.param
    }

    /// Asks the device to give up the request, and waits for its end, after which the buffer can be used again (rule 21). Bytes
    /// that the device moved before count as done. A request that was not submitted is not submitted any more.
    ///
    /// ```
    /// # use pactio_sdk::{BoundPacketView, IoError, PacketIo, PacketIoExt, Write};
    /// # struct Slow;
    /// # impl PacketIo<Write, u64> for Slow {
    /// #     fn send_io(&self, _: u64, view: BoundPacketView<Write>) { view.error(IoError::CANCELLED) }
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
    /// assert_eq!((report.err_any(), buffer.len()), (Err(IoError::NOT_SUBMITTED), 4096));
    /// # Ok::<(), IoError>(())
    /// # })?;
    /// # Ok::<(), IoError>(())
    /// ```
    pub fn cancel(mut self) -> Self {
        self.stage = match mem::replace(&mut self.stage, Stage::Finished) {
            // The request completes as never submitted.
            Stage::New(buffer) => match buffer.into_packet() {
                Ok(store) => Stage::Sent(store),
                Err(error) => {
                    self.rare.get_or_insert_default().failed = Some(error);
                    Stage::Finished
                }
            },
            Stage::Waiting(store) => {
                self.rare = None;
                Stage::Sent(store)
            }
            stage => {
                if let Stage::Deferred(store) | Stage::Sent(store) = &stage {
                    ask(&self.device, store);
                }
                stage
            }
        };
        self
    }

    /// Gives the store to `then`, once the request is complete.
    ///
    /// The store is not returned, since a return copies the store with loads that are wider than the stores just before them. A
    /// processor has to wait at such loads.
    #[inline(always)]
    pub(super) fn poll_then<R>(
        &mut self,
        cx: &mut Context<'_>,
        then: impl FnOnce(Result<B::Store, IoError>) -> R,
    ) -> Poll<R> {
        match &self.stage {
            Stage::New(_) => {}
            Stage::Deferred(store) if store.packet().is_complete() => {
                return Poll::Ready(then(Ok(self.take_store())));
            }
            _ => return self.poll_later(cx).map(then),
        }
        let Stage::New(buffer) = mem::replace(&mut self.stage, Stage::Finished) else { finished_before() };
        let mut store = match buffer.into_packet() {
            Ok(store) => store,
            Err(error) => return Poll::Ready(then(Err(error))),
        };
        if let Some(admission) = admit(&self.device, &self.param, store.packet().len()) {
            self.stage = Stage::Waiting(store);
            self.rare.get_or_insert_default().admission = Some(admission);
            return self.poll_later(cx).map(then);
        }
        let submitted = match self.start(&mut store, cx) {
            Ok(submitted) => submitted,
            Err(error) => return Poll::Ready(then(Err(error))),
        };
        // Most devices in memory have answered by now.
        if store.packet().is_complete() {
            #[cfg(feature = "std")]
            if super::budget::gives_way(cx) {
                self.stage = Stage::Sent(store);
                return Poll::Pending;
            }
            return Poll::Ready(then(Ok(store)));
        }
        self.poll_submitted(submitted, store, cx).map(then)
    }

    #[inline]
    fn poll_later(&mut self, cx: &mut Context<'_>) -> Poll<Result<B::Store, IoError>> {
        if let Stage::Deferred(_) = self.stage {
            // The view may still be in a queue, perhaps in that of another thread.
            self.device.send_deferred(super::Internal(()));
            let store = self.take_store();
            self.stage = Stage::Sent(store);
        }
        let Stage::Sent(store) = &mut self.stage else { return self.poll_seldom(cx) };
        ready!(store.packet_mut().poll_complete(cx));
        Poll::Ready(Ok(self.take_store()))
    }

    /// Registers the task. The view may have been sent by another thread meanwhile.
    fn poll_queued(&mut self, cx: &mut Context<'_>) -> Poll<Result<B::Store, IoError>> {
        if let Stage::Deferred(store) = &mut self.stage {
            ready!(store.packet_mut().poll_complete(cx));
        }
        Poll::Ready(Ok(self.take_store()))
    }

    /// Takes the store of a request that was submitted.
    #[inline(always)]
    fn take_store(&mut self) -> B::Store {
        match mem::replace(&mut self.stage, Stage::Finished) {
            Stage::Deferred(store) | Stage::Sent(store) => store,
            _ => finished_before(),
        }
    }

    #[cold]
    fn poll_seldom(&mut self, cx: &mut Context<'_>) -> Poll<Result<B::Store, IoError>> {
        if let Stage::Waiting(_) = self.stage
            && let Some(rare) = &mut self.rare
        {
            ready!(poll_admitted(&mut rare.admission, cx));
        }
        match mem::replace(&mut self.stage, Stage::Finished) {
            Stage::Waiting(mut store) => {
                let submitted = self.start(&mut store, cx)?;
                self.poll_submitted(submitted, store, cx)
            }
            _ => match self.rare.as_mut().and_then(|rare| rare.failed.take()) {
                Some(error) => Poll::Ready(Err(error)),
                None => finished_before(),
            },
        }
    }

    #[inline]
    fn poll_submitted(
        &mut self,
        submitted: Submitted,
        store: B::Store,
        cx: &mut Context<'_>,
    ) -> Poll<Result<B::Store, IoError>> {
        let stage = match submitted {
            Submitted::Deferred | Submitted::Queued => Stage::Deferred(store),
            Submitted::Sent => Stage::Sent(store),
        };
        // The old stage is `Finished`, so there is nothing to drop.
        mem::forget(mem::replace(&mut self.stage, stage));
        match submitted {
            Submitted::Deferred => Poll::Pending,
            Submitted::Sent => self.poll_later(cx),
            Submitted::Queued => self.poll_queued(cx),
        }
    }

    /// Binds and sends the packet.
    #[inline(always)]
    fn start(&mut self, store: &mut B::Store, cx: &mut Context<'_>) -> Result<Submitted, IoError> {
        if self.rare.is_some() {
            return self.start_rare(store, cx);
        }
        let view = store.packet_mut().bind()?;
        Ok(send(&self.device, self.param.clone(), view, cx))
    }

    #[cold]
    fn start_rare(&mut self, store: &mut B::Store, cx: &mut Context<'_>) -> Result<Submitted, IoError> {
        let output = self.rare.as_mut().and_then(|rare| rare.output.take());
        let mut packet = store.packet_mut();
        let view = match output {
            None => packet.bind()?,
            Some(output) => packet.bind_to(output)?,
        };
        Ok(send(&self.device, self.param.clone(), view, cx))
    }
}

#[cold]
fn finished_before() -> ! {
    panic!("a request was polled after it had finished")
}

/// Asks for cancellation of a request in flight.
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
        if let Stage::Deferred(store) | Stage::Sent(store) = &self.stage {
            ask(&self.device, store);
        }
    }
}

// No field is ever pinned.
impl<D: PacketIo<Perms, P>, Perms: PacketPerms, P, B: IntoPacket<Perms>> Unpin for Io<D, Perms, P, B> {}

impl<D: PacketIo<Perms, P>, Perms: PacketPerms, P: Param, B: IntoPacket<Perms>> Future
    for Io<D, Perms, P, B>
{
    type Output = Result<(Report, Back<Perms, B>), IoError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_then(cx, |store| {
            let store = store?;
            let report = store.packet().report();
            store.sync_back().map(|back| (report, back))
        })
    }
}

/// A request that succeeds only if every byte was done: gives the buffer, in the form in which the buffer comes back.
///
/// The first poll submits the request. Dropping it detaches the request and asks for cancellation.
#[must_use = "a request does nothing until it is polled"]
pub struct Exact<D: PacketIo<Perms, P>, Perms: PacketPerms, P, B: IntoPacket<Perms>>(Io<D, Perms, P, B>);

impl<D: PacketIo<Perms, P>, Perms: PacketPerms, P: Param, B: IntoPacket<Perms>> Exact<D, Perms, P, B> {
    /// A request of `buffer` to `param` of `device`.
    #[inline]
    pub fn new(device: D, param: P, buffer: B) -> Self {
        Self(Io::new(device, param, buffer))
    }

    /// The request that reports the result of every byte.
    pub fn into_inner(self) -> Io<D, Perms, P, B> {
        self.0
    }

    /// The request that reports the result of every byte.
    pub fn get_ref(&self) -> &Io<D, Perms, P, B> {
        &self.0
    }

    /// The same as the future, with an error that `fail` makes of the reason why the request is incomplete.
    #[inline(always)]
    pub fn poll_exact<E>(
        &mut self,
        cx: &mut Context<'_>,
        fail: impl FnOnce(Incomplete) -> E,
    ) -> Poll<Result<Back<Perms, B>, E>> {
        self.poll_done(cx, PacketStore::sync_back, fail)
    }

    /// Gives the value that `give` makes of the store, once every byte is done.
    #[inline(always)]
    pub(super) fn poll_done<R, E>(
        &mut self,
        cx: &mut Context<'_>,
        give: impl FnOnce(B::Store) -> Result<R, IoError>,
        fail: impl FnOnce(Incomplete) -> E,
    ) -> Poll<Result<R, E>> {
        self.0.poll_then(cx, |store| {
            let error = match store {
                Ok(store) => match done(&store) {
                    Ok(()) => match give(store) {
                        Ok(given) => return Ok(given),
                        Err(error) => Incomplete::NotStarted(error),
                    },
                    Err(report) => Incomplete::Partly(report),
                },
                Err(error) => Incomplete::NotStarted(error),
            };
            Err(fail(error))
        })
    }
}

/// Succeeds if every byte was done; otherwise gives the report.
#[inline(always)]
fn done<Perms: PacketPerms>(store: &impl PacketStore<Perms>) -> Result<(), Report> {
    if store.packet().is_done() {
        return Ok(());
    }
    let report = store.packet().report();
    if report.is_done() { Ok(()) } else { Err(report) }
}

/// The reason why a request was not done completely.
#[derive(Clone, Debug)]
pub enum Incomplete {
    /// The request was not submitted, or its buffer cannot be given back: memory cannot be allocated, or the packet is in flight.
    NotStarted(IoError),
    /// Some bytes of the request failed.
    Partly(Report),
}

impl From<Incomplete> for IoError {
    fn from(incomplete: Incomplete) -> Self {
        match incomplete {
            Incomplete::NotStarted(error) => error,
            Incomplete::Partly(report) => report.min_error().map_or(IoError::SHORT, |(_, error)| error),
        }
    }
}

impl<D: PacketIo<Perms, P>, Perms: PacketPerms, P: Param, B: IntoPacket<Perms>> Future
    for Exact<D, Perms, P, B>
{
    type Output = Result<Back<Perms, B>, IoError>;

    #[inline]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.poll_exact(cx, IoError::from)
    }
}

impl<D: PacketIo<Perms, P>, Perms: PacketPerms, P: fmt::Debug, B: IntoPacket<Perms>> fmt::Debug
    for Io<D, Perms, P, B>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match self.stage {
            Stage::New(_) => "new",
            Stage::Waiting(_) => "waiting for the device",
            Stage::Deferred(_) | Stage::Sent(_) => "in flight",
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
