//! One request as a future.

use alloc::boxed::Box;
use core::fmt;
use core::marker::PhantomData;
use core::mem::{self, ManuallyDrop};
use core::pin::Pin;
use core::task::{Context, Poll, ready};

use super::{Admitted, Internal, PacketIo, Param, Submitted, admit, poll_admitted, send};
use crate::{Attributes, IntoPacket, IoError, OutputRef, PacketPerms, PacketStore, Report, Unfilled};

/// A request of a buffer as a future. `F` selects the result:
///
/// | `F` | result |
/// |-----|--------|
/// | [`Partial`] | the report of every byte, and the buffer in the form in which the buffer comes back: see [`Io`] |
/// | [`Whole`] | the buffer, if every byte was done: see [`Exact`] |
///
/// The first poll submits the request. Dropping it detaches the request and asks for cancellation.
#[must_use = "a request does nothing until it is polled"]
pub struct Request<D: PacketIo<Perms, P>, Perms: PacketPerms, P, B: IntoPacket<Perms>, F> {
    // The stage is not next to the device, since compilers would load both at once just after the stage was stored, which is
    // slow: see `Finish::finish`.
    stage: Stage<B, B::Store>,
    param: P,
    device: D,
    /// Dropped by [`drop_rare`], and by no code of compilers, which would call a function for each request to find it empty.
    rare: ManuallyDrop<Option<Box<Rare>>>,
    _result: PhantomData<fn() -> F>,
}

/// A request that may be done in part: gives the report, and the buffer in the form in which the buffer comes back.
pub type Io<D, Perms, P, B> = Request<D, Perms, P, B, Partial>;

/// A request that succeeds only if every byte was done: gives the buffer, in the form in which the buffer comes back. Otherwise
/// gives the error at the lowest offset that was not done.
pub type Exact<D, Perms, P, B> = Request<D, Perms, P, B, Whole>;

/// Makes the result of a request, when the request is complete.
pub trait Finish<D, Perms: PacketPerms, P, S: PacketStore<Perms>> {
    /// The result.
    type Output;

    /// The result needs no report of parts: a device that has the bytes at hand may give them without a packet.
    const IS_WHOLE: bool = false;

    /// Makes the result of the store; the error says why the request was not submitted. The store is passed on and not returned:
    /// a return copies it with loads that are wider than the stores just before them, and a processor has to wait at such loads.
    fn finish(device: &D, param: &P, store: Result<S, IoError>) -> Self::Output;

    /// Performs a read without a packet, if the result needs none; see [`IntoPacket::fill_now`].
    #[doc(hidden)]
    #[inline(always)]
    fn fill_now<B: IntoPacket<Perms, Store = S>>(
        buffer: B,
        fill: impl FnOnce(&mut Unfilled<'_>),
    ) -> Result<Self::Output, B> {
        let _ = fill;
        Err(buffer)
    }
}

/// The result is a report, and the buffer in the form in which it comes back.
#[derive(Debug)]
pub enum Partial {}

/// The result is the buffer, if every byte was done.
#[derive(Debug)]
pub enum Whole {}

/// The result is the store.
#[derive(Debug)]
pub(super) enum Stored {}

impl<D, Perms: PacketPerms, P, S: PacketStore<Perms>> Finish<D, Perms, P, S> for Partial {
    type Output = Result<(Report, S::Back), IoError>;

    fn finish(_: &D, _: &P, store: Result<S, IoError>) -> Self::Output {
        let store = store?;
        let report = store.packet().report();
        store.sync_back().map(|back| (report, back))
    }
}

impl<D, Perms: PacketPerms, P, S: PacketStore<Perms>> Finish<D, Perms, P, S> for Whole {
    type Output = Result<S::Back, IoError>;

    const IS_WHOLE: bool = true;

    #[inline(always)]
    fn finish(_: &D, _: &P, store: Result<S, IoError>) -> Self::Output {
        Ok(whole(store)?)
    }

    #[inline(always)]
    fn fill_now<B: IntoPacket<Perms, Store = S>>(
        buffer: B,
        fill: impl FnOnce(&mut Unfilled<'_>),
    ) -> Result<Self::Output, B> {
        buffer.fill_now(fill).map(Ok)
    }
}

impl<D, Perms: PacketPerms, P, S: PacketStore<Perms>> Finish<D, Perms, P, S> for Stored {
    type Output = Result<S, IoError>;

    fn finish(_: &D, _: &P, store: Result<S, IoError>) -> Self::Output {
        store
    }
}

/// The buffer of a request whose every byte was done.
///
/// # Errors
///
/// The reason why the request is incomplete.
#[inline(always)]
pub fn whole<Perms: PacketPerms, S: PacketStore<Perms>>(
    store: Result<S, IoError>,
) -> Result<S::Back, Incomplete> {
    let store = store?;
    if !store.packet().is_done() {
        let report = store.packet().report();
        if !report.is_done() {
            return Err(Incomplete::Partly(report));
        }
    }
    Ok(store.sync_back()?)
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
    attributes: Option<Attributes>,
    /// Set while the device is full.
    admission: Option<Admitted>,
    /// The error of a request that was cancelled before its first poll, and whose packet could not be made.
    failed: Option<IoError>,
}

impl<D: PacketIo<Perms, P>, Perms: PacketPerms, P: Param, B: IntoPacket<Perms>, F>
    Request<D, Perms, P, B, F>
{
    /// A request of `buffer` to `param` of `device`.
    #[inline(always)]
    pub fn new(device: D, param: P, buffer: B) -> Self {
        Self { device, param, stage: Stage::New(buffer), rare: ManuallyDrop::new(None), _result: PhantomData }
    }

    /// The same, with an output that receives each segment.
    pub fn with_output(device: D, param: P, buffer: B, output: OutputRef) -> Self {
        let rare = Rare { output: Some(output), ..Rare::default() };
        let mut request = Self::new(device, param, buffer);
        *request.rare = Some(Box::new(rare));
        request
    }

    /// Tells the devices that serve the request its urgency, its deadline, and the span that it belongs to.
    ///
    /// ```
    /// # use pactio_sdk::{Attributes, BoundPacketView, IoRead, PacketIo, Write};
    /// # struct Device;
    /// # impl PacketIo<Write, u64> for Device {
    /// #     fn send_io(&self, _: u64, view: BoundPacketView<Write>) {
    /// #         let urgency = view.urgency();
    /// #         view.transfer_data(&urgency.to_ne_bytes()).complete();
    /// #     }
    /// # }
    /// # fn block_on<F: Future>(future: F) -> F::Output {
    /// #     let mut cx = std::task::Context::from_waker(std::task::Waker::noop());
    /// #     match std::pin::pin!(future).poll(&mut cx) { std::task::Poll::Ready(value) => value, _ => panic!() }
    /// # }
    /// # let device = Device;
    /// # block_on(async {
    /// let attributes = Attributes::new().with_urgency(3);
    /// let value = device.read::<i8>(0).with_attributes(&attributes).await?;
    /// # assert_eq!(value, 3);
    /// // Meanwhile, in another task:
    /// attributes.set_urgency(5);
    /// # Ok::<(), pactio_sdk::IoError>(())
    /// # })?;
    /// # Ok::<(), pactio_sdk::IoError>(())
    /// ```
    ///
    /// # Panics
    ///
    /// If the request was polled before.
    pub fn with_attributes(mut self, attributes: &Attributes) -> Self {
        assert!(matches!(self.stage, Stage::New(_)), "attributes belong to a request from its first poll on");
        self.rare.get_or_insert_default().attributes = Some(attributes.clone());
        self
    }

    /// The device that the request is sent to.
    pub fn device(&self) -> &D {
        &self.device
    }

    /// The parameter of the request, such as a position.
    pub fn param(&self) -> &P {
        &self.param
    }

    /// Asks the device to give up the request, and waits for its end, after which the buffer can be used again (rule P21). Bytes
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
                drop(self.rare.take());
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

    /// Reads from a device that has the bytes at hand, unless the range is empty or cannot be expressed.
    #[inline(always)]
    fn read_now(&self, into: &mut Unfilled<'_>) {
        if !into.is_full() && self.param.reaches(into.remaining()) {
            self.device.read_now(self.param.clone(), into, Internal(()));
        }
    }

    #[inline]
    fn poll_later(&mut self, cx: &mut Context<'_>) -> Poll<Result<B::Store, IoError>> {
        if let Stage::Deferred(_) = self.stage {
            // The view may still be in a queue, perhaps in that of another thread.
            self.device.send_deferred(Internal(()));
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
            && let Some(rare) = &mut *self.rare
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
        let rare = self.rare.as_deref_mut().map(|rare| (rare.output.take(), rare.attributes.take()));
        let mut packet = store.packet_mut();
        let view = match rare.unwrap_or_default() {
            (None, None) => packet.bind()?,
            (Some(output), None) => packet.bind_to(output)?,
            (output, Some(attributes)) => packet.bind_with(attributes, output)?,
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

impl<D: PacketIo<Perms, P>, Perms: PacketPerms, P, B: IntoPacket<Perms>, F> Drop
    for Request<D, Perms, P, B, F>
{
    #[inline(always)]
    fn drop(&mut self) {
        if let Stage::Deferred(store) | Stage::Sent(store) = &self.stage {
            ask(&self.device, store);
        }
        if self.rare.is_some() {
            drop_rare(&mut self.rare);
        }
    }
}

#[cold]
fn drop_rare(rare: &mut Option<Box<Rare>>) {
    *rare = None;
}

// No field is ever pinned.
impl<D: PacketIo<Perms, P>, Perms: PacketPerms, P, B: IntoPacket<Perms>, F> Unpin
    for Request<D, Perms, P, B, F>
{
}

impl<D, Perms, P, B, F> Future for Request<D, Perms, P, B, F>
where
    D: PacketIo<Perms, P>,
    Perms: PacketPerms,
    P: Param,
    B: IntoPacket<Perms>,
    F: Finish<D, Perms, P, B::Store>,
{
    type Output = F::Output;

    #[inline(always)]
    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let this = &mut *self;
        let may_be_now = Perms::IS_READ && F::IS_WHOLE && matches!(this.stage, Stage::New(_));
        if may_be_now && this.device.reads_now(Internal(())) {
            return this.poll_now(cx);
        }
        this.poll_packet(cx)
    }
}

impl<D, Perms, P, B, F> Request<D, Perms, P, B, F>
where
    D: PacketIo<Perms, P>,
    Perms: PacketPerms,
    P: Param,
    B: IntoPacket<Perms>,
    F: Finish<D, Perms, P, B::Store>,
{
    /// The first poll of a read from a device that may have the bytes at hand.
    #[inline(always)]
    fn poll_now(&mut self, cx: &mut Context<'_>) -> Poll<F::Output> {
        // A request that gives way keeps its result in a packet.
        #[cfg(feature = "std")]
        if super::budget::next_gives_way() {
            return self.poll_packet(cx);
        }
        if self.rare.as_ref().is_some_and(|rare| rare.output.is_some()) {
            return self.poll_packet(cx);
        }
        let Stage::New(buffer) = mem::replace(&mut self.stage, Stage::Finished) else { finished_before() };
        let mut is_tried = false;
        let filled = F::fill_now(buffer, |into| {
            is_tried = true;
            self.read_now(into);
        });
        let buffer = match filled {
            Ok(result) => {
                #[cfg(feature = "std")]
                super::budget::count();
                return Poll::Ready(result);
            }
            Err(buffer) => buffer,
        };
        match buffer.into_packet() {
            Ok(mut store) => {
                if !is_tried && store.packet_mut().fill_now(|into| self.read_now(into)) {
                    #[cfg(feature = "std")]
                    super::budget::count();
                    return Poll::Ready(F::finish(&self.device, &self.param, Ok(store)));
                }
                self.poll_declined(store, cx)
            }
            Err(error) => Poll::Ready(F::finish(&self.device, &self.param, Err(error))),
        }
    }

    /// Continues with the packet of a read that the device has declined to do at once.
    #[cold]
    fn poll_declined(&mut self, store: B::Store, cx: &mut Context<'_>) -> Poll<F::Output> {
        self.poll_new(store, cx)
    }

    /// A poll of a request that needs a packet.
    #[inline(always)]
    fn poll_packet(&mut self, cx: &mut Context<'_>) -> Poll<F::Output> {
        match &self.stage {
            Stage::New(_) => {}
            Stage::Deferred(store) if store.packet().is_complete() => {
                let store = self.take_store();
                return Poll::Ready(F::finish(&self.device, &self.param, Ok(store)));
            }
            _ => {
                let polled = self.poll_later(cx);
                return self.finish(polled);
            }
        }
        let Stage::New(buffer) = mem::replace(&mut self.stage, Stage::Finished) else { finished_before() };
        match buffer.into_packet() {
            Ok(store) => self.poll_new(store, cx),
            Err(error) => Poll::Ready(F::finish(&self.device, &self.param, Err(error))),
        }
    }

    /// Submits a new packet, or waits until the device admits it.
    #[inline(always)]
    fn poll_new(&mut self, mut store: B::Store, cx: &mut Context<'_>) -> Poll<F::Output> {
        if let Some(admission) = admit(&self.device, &self.param, store.packet().len()) {
            self.stage = Stage::Waiting(store);
            self.rare.get_or_insert_default().admission = Some(admission);
            let polled = self.poll_later(cx);
            return self.finish(polled);
        }
        let submitted = match self.start(&mut store, cx) {
            Ok(submitted) => submitted,
            Err(error) => return Poll::Ready(F::finish(&self.device, &self.param, Err(error))),
        };
        // Most devices in memory have answered by now.
        if store.packet().is_complete() {
            #[cfg(feature = "std")]
            if super::budget::gives_way(cx) {
                self.stage = Stage::Sent(store);
                return Poll::Pending;
            }
            return Poll::Ready(F::finish(&self.device, &self.param, Ok(store)));
        }
        let polled = self.poll_submitted(submitted, store, cx);
        self.finish(polled)
    }

    #[inline(always)]
    fn finish(&self, polled: Poll<Result<B::Store, IoError>>) -> Poll<F::Output> {
        polled.map(|store| F::finish(&self.device, &self.param, store))
    }
}

/// The reason why a request was not done completely.
#[derive(Clone, Debug)]
pub enum Incomplete {
    /// The request was not submitted, or its buffer cannot be given back: memory cannot be allocated, or the packet is in flight.
    NotStarted(IoError),
    /// Some bytes of the request failed.
    Partly(Report),
}

impl From<IoError> for Incomplete {
    fn from(error: IoError) -> Self {
        Self::NotStarted(error)
    }
}

impl From<Incomplete> for IoError {
    fn from(incomplete: Incomplete) -> Self {
        match incomplete {
            Incomplete::NotStarted(error) => error,
            Incomplete::Partly(report) => report.min_error().map_or(IoError::SHORT, |(_, error)| error),
        }
    }
}

impl<D, Perms: PacketPerms, P: fmt::Debug, B: IntoPacket<Perms>, F> fmt::Debug for Request<D, Perms, P, B, F>
where
    D: PacketIo<Perms, P> + fmt::Debug,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stage = match self.stage {
            Stage::New(_) => "new",
            Stage::Waiting(_) => "waiting for the device",
            Stage::Deferred(_) | Stage::Sent(_) => "in flight",
            Stage::Finished => "finished",
        };
        write!(f, "{} of {:?} at {:?} ({stage})", Perms::REQUEST, self.device, self.param)
    }
}
