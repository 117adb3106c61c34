//! How views get from a handle to its plugin: through the host's layers; at once, in a batch, or when the device has room.

use std::sync::Arc;
use std::task::Context;

use pactio_sdk::abi::{DeviceObj, Remote, SendIo};
use pactio_sdk::ext::{Operation, publication};
use pactio_sdk::io::{Admitted, Internal, Publication, ReadNowGate, Submitted};
use pactio_sdk::{
    Batch, BlockOn, BoundPacketView, Cancellation, Capability, PacketIo, Publish, ReadNow, RequestId, Size,
    Submission, Unfilled, Write,
};

use super::current::Entered;
use super::layers::{LayeredRequest, Layers, Placed};
use super::{Device, Shared};
use crate::executor::{Call, Deferrable, Helper, block_on, local, together};

impl Shared {
    /// Has the plugin fill `into` at once. If it declines, or takes no requests, some of `into` stays unfilled.
    #[inline(always)]
    pub(super) fn read_at_once(&self, position: u64, into: &mut Unfilled<'_>) {
        let ends = position.checked_add(into.remaining() as u64).is_some();
        if into.is_full() || !ends || self.life.refusal().is_some() {
            return;
        }
        if let Some(extension) = self.remote.extension::<dyn ReadNow>() {
            {
                let _entered = Entered::new(self, Call::Request);
                extension.read_now(position, into);
            }
            // A device that has panicked has forgotten the wakers.
            if !into.is_full() {
                self.wake_waiting();
            }
        }
    }

    /// Wakes the callers that wait for room, so that they ask again.
    #[inline(always)]
    pub(super) fn wake_waiting(&self) {
        if let Some(room) = &self.room {
            room.wake_all();
        }
    }

    /// Hands views to the device. If that wakes the driver, the driver is polled on this thread.
    #[inline(always)]
    pub(super) fn helped(&self, call: Call, send: impl FnOnce(&Remote)) {
        {
            // Dropped after `_entered`: the call has ended when the helper polls the driver.
            let _helper = self.driver.as_ref().map(|driver| Helper::new(driver, self));
            let _entered = Entered::new(self, call);
            send(&self.remote);
        }
        // The callers that wait for room are woken in any case: a device that has panicked has forgotten their waker.
        self.wake_waiting();
    }

    /// Calls an operation of an extension, and polls the device's driver on this thread if that wakes it.
    pub(super) fn operate<E: Operation + ?Sized>(
        &self,
        number: u64,
        text: &[u8],
        view: BoundPacketView<Write>,
    ) {
        match self.life.refusal() {
            None => self.helped(Call::Extension, |remote| remote.operate::<E>(number, text, view)),
            Some(error) => view.error(error),
        }
    }

    /// Cancels a request: fails its views that wait in the driver's queues, and passes the cancellation to the device.
    pub(super) fn cancel(&self, request: RequestId) {
        // In a forked process, a thread that does not exist there may hold the lock of a queue.
        if let Some(driver) = &self.driver
            && !self.life.was_forked()
        {
            driver.cancel_deferred(request);
        }
        self.cancel_at_device(request);
    }

    /// Passes a cancellation to the device, unless the device is refusing requests.
    pub(super) fn cancel_at_device(&self, request: RequestId) {
        if self.life.refusal().is_some() {
            return;
        }
        let entered = Entered::new(self, Call::Cancel);
        if let Some(cancellation) = self.remote.extension::<dyn Cancellation>() {
            cancellation.cancel(request);
            // The call ends before the wakers run, which are not the plugin's code. They run in any case, as in `helped`: a
            // device that has panicked has forgotten them.
            drop(entered);
            self.wake_waiting();
        }
    }
}

impl Device {
    /// The bytes of a range, if the plugin has them at hand: see [`ReadNow`].
    #[cfg(feature = "check")]
    pub(crate) fn bytes_at_hand(&self, position: u64, len: usize) -> Option<Vec<u8>> {
        let mut bytes = Vec::with_capacity(len);
        let mut filling = pactio_sdk::Filling::new(&mut bytes.spare_capacity_mut()[..len]);
        if self.0.read_now.is_some() {
            self.0.read_at_once(position, &mut filling.unfilled());
        }
        if !filling.is_full() {
            return None;
        }
        // SAFETY: the first `len` bytes are filled.
        unsafe { bytes.set_len(len) };
        Some(bytes)
    }

    /// Asks the device for room for `bytes` bytes. Gives `None` if there is room now, and otherwise a future that waits for
    /// the request's turn and asks again.
    #[cold]
    fn queue_for_admission(&self, bytes: usize) -> Option<Admitted> {
        let shared: Arc<Shared> = self.0.clone();
        let room = self.0.room.clone()?;
        self.0.room.as_ref()?.turns.admit(move |_| room.ask(&shared, bytes))
    }
}

impl Device {
    /// Hands a view to the plugin for the task that is polled with `cx`, or queues it for the task.
    #[inline(always)]
    fn submit_to_plugin<Perms: LayeredRequest<P> + Deferrable<P>, P: Placed>(
        &self,
        param: P,
        view: BoundPacketView<Perms>,
        cx: &mut Context<'_>,
    ) -> Submitted
    where
        DeviceObj: SendIo<Perms, P>,
    {
        // Reads and writes at positions can wait in a queue of the driver, so that many cross in one call. `place` gives `None`
        // if the request is better sent at once.
        if let Some(list) = Perms::LIST
            && let Some(driver) = &self.0.driver
            && let Some(mut place) = local::place(driver, cx.waker())
        {
            Submission::push_to(list(place.views()), param, view);
            return place.leave(cx);
        }
        self.0.helped(Call::Request, |remote| remote.send(param, view));
        Submitted::Sent
    }

    /// Passes a view through the layers, and submits the requests that come out. The view comes in its parts: a pointer to the
    /// view would keep it in memory also on the path without layers, where its parts are in registers.
    #[cold]
    fn submit_in_layers<Perms: LayeredRequest<P> + Deferrable<P>, P: Placed>(
        &self,
        layers: &Layers,
        param: P,
        (packet, start, end, tag): (*const (), usize, usize, u64),
        cx: &mut Context<'_>,
    ) -> Submitted
    where
        DeviceObj: SendIo<Perms, P>,
    {
        // SAFETY: these are the parts of one view, which the caller has consumed.
        let view = unsafe { BoundPacketView::<Perms>::from_parts(packet, start, end, tag) };
        // If any request waits in a queue, the task is polled again when the queue was sent.
        let mut all = Submitted::Sent;
        layers.pass(param, view, |param, view| match self.submit_to_plugin(param, view, cx) {
            Submitted::Sent => {}
            later => all = later,
        });
        all
    }

    /// Passes a view through the layers, and sends the requests that come out; see [`submit_in_layers`](Self::submit_in_layers).
    #[cold]
    fn send_in_layers<Perms: LayeredRequest<P>, P: Placed>(
        &self,
        layers: &Layers,
        param: P,
        (packet, start, end, tag): (*const (), usize, usize, u64),
    ) where
        DeviceObj: SendIo<Perms, P>,
    {
        // SAFETY: these are the parts of one view, which the caller has consumed.
        let view = unsafe { BoundPacketView::<Perms>::from_parts(packet, start, end, tag) };
        self.0.helped(Call::Request, |remote| {
            layers.pass(param, view, |param, view| remote.send(param, view));
        });
    }

    /// Passes the views of a batch through the layers, and sends the requests that come out in one call. A view that a layer
    /// fails itself, such as a misaligned write, gives no request.
    #[cold]
    fn send_batch_in_layers<Perms: LayeredRequest<P>, P: Placed>(
        &self,
        layers: &Layers,
        batch: Batch<'_, Perms, P>,
    ) where
        DeviceObj: SendIo<Perms, P>,
    {
        let mut passed = Vec::with_capacity(batch.len());
        batch.for_each(|(param, view)| {
            layers.pass(param, view, |param, view| passed.push(Submission { param, view }));
        });
        if !passed.is_empty() {
            self.0.helped(Call::Request, |remote| remote.send_many(Batch::drain(&mut passed)));
        }
    }
}

/// The five kinds of request that a [`DeviceRequest`](pactio_sdk::abi::DeviceRequest) is: reads, writes and exchanges of a
/// position; reads and writes of a stream.
impl<Perms: LayeredRequest<P> + Deferrable<P>, P: Placed> PacketIo<Perms, P> for Device
where
    DeviceObj: SendIo<Perms, P>,
{
    #[inline]
    fn send_io(&self, param: P, view: BoundPacketView<Perms>) {
        if let Some(error) = self.0.life.refusal() {
            return view.error(error);
        }
        if let Some(layers) = &self.0.layers {
            return self.send_in_layers(layers, param, view.into_parts());
        }
        self.0.helped(Call::Request, |remote| remote.send(param, view));
    }

    fn send_batch(&self, batch: Batch<'_, Perms, P>) {
        if let Some(error) = self.0.life.refusal() {
            return batch.for_each(|(_, view)| view.error(error));
        }
        match &self.0.layers {
            None => self.0.helped(Call::Request, |remote| remote.send_many(batch)),
            Some(layers) => self.send_batch_in_layers(layers, batch),
        }
    }

    #[inline(always)]
    fn submit(&self, param: P, view: BoundPacketView<Perms>, cx: &mut Context<'_>, _: Internal) -> Submitted {
        // This check comes before any lock: in a forked process, a thread that does not exist there may hold the lock.
        if let Some(error) = self.0.life.refusal() {
            view.error(error);
            return Submitted::Sent;
        }
        if let Some(layers) = &self.0.layers {
            return self.submit_in_layers(layers, param, view.into_parts(), cx);
        }
        self.submit_to_plugin(param, view, cx)
    }

    #[inline(always)]
    fn reads_now(&self, _: Internal) -> bool {
        Perms::MAY_BE_AT_HAND && self.0.read_now.as_ref().is_some_and(ReadNowGate::is_tried)
    }

    #[inline(always)]
    fn read_now(&self, param: P, into: &mut Unfilled<'_>, _: Internal) {
        if let (Some(position), Some(gate)) = (Perms::read_position(param), &self.0.read_now) {
            self.0.read_at_once(position, into);
            gate.tried(into.is_full());
        }
    }

    #[cold]
    fn send_deferred(&self, _: Internal) {
        if let Some(driver) = &self.0.driver
            && !self.0.life.was_forked()
        {
            driver.send_all_deferred();
        }
    }

    #[inline(always)]
    fn admit(&self, bytes: usize) -> Option<Admitted> {
        if self.0.room.is_none() { None } else { self.queue_for_admission(bytes) }
    }

    fn cancel(&self, request: RequestId) {
        self.0.cancel(request);
    }

    fn publication(&self) -> Option<Publication> {
        if !self.0.remote.has(Capability::PUBLISH) {
            return None;
        }
        let device = self.clone();
        Some(publication(move |view| device.0.operate::<dyn Publish>(0, b"", view)))
    }
}

impl BlockOn for Device {
    fn block_on<F: Future>(&self, future: F) -> F::Output {
        block_on(future)
    }

    fn together<R>(&self, f: impl FnOnce(bool) -> R, _: Internal) -> R {
        together(|| f(true))
    }
}

impl Size for Device {
    fn size(&self) -> Option<u64> {
        self.size()
    }
}
