//! The plugin's side of every call over the boundary: catches panics and turns them into errors.

use core::cell::UnsafeCell;
use core::mem::ManuallyDrop;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::task::{Context, Poll};

#[cfg(feature = "plugin")]
use super::{Answer, Limits, Records};
use super::{Device, DeviceInfo, PollingHandle};
#[cfg(feature = "plugin")]
use crate::abi::Operation;
use crate::firewall::{self, Panicked};
use crate::{Batch, BoundPacketView, Error, PacketPerms, Read, ReadWrite, RequestId, Write};

/// An object of a plugin behind its firewall.
///
/// After the first panic its code is not called again, since its state is unknown. An object with a driver is then
/// dropped as soon as the last call has left it, so that the views it keeps fail instead of waiting for ever; the same
/// happens when its driver ends. Calls of such an object are counted for that:
///
/// ```text
///  state: │ calls under way × 8 │ DROPPED │ ENDED │ PANICKED │
/// ```
#[derive(Debug)]
pub struct Guarded<T> {
    inner: UnsafeCell<ManuallyDrop<T>>,
    state: AtomicUsize,
    counted: bool,
    /// What a device said when it was opened.
    handle: PollingHandle,
}

const PANICKED: usize = 1;
const ENDED: usize = 2;
const DROPPED: usize = 4;
const CALL: usize = 8;
const OUT_OF_USE: usize = PANICKED | ENDED;

// SAFETY: `inner` is only shared, until one thread that has won DROPPED drops it; the bounds are those of a shared `T`.
unsafe impl<T: Send + Sync> Sync for Guarded<T> {}

impl<T> Guarded<T> {
    pub(crate) fn new(inner: T) -> Self {
        Self {
            inner: UnsafeCell::new(ManuallyDrop::new(inner)),
            state: AtomicUsize::new(0),
            counted: false,
            handle: PollingHandle::None,
        }
    }

    /// Begins a call; the error is what whoever asked should be told. Either way, [`leave`](Self::leave) ends it.
    #[inline(always)]
    fn enter(&self) -> Result<&T, Error> {
        let state = if self.counted {
            // Ordering: Acquire, with the Release of `retire` and of earlier calls that changed what this one will see.
            self.state.fetch_add(CALL, Ordering::Acquire)
        } else {
            // Ordering: Relaxed. The flag guards no data: a call that misses it finds the state that the panic left,
            // which safe code of the plugin has to bear.
            self.state.load(Ordering::Relaxed)
        };
        if state & OUT_OF_USE != 0 {
            return Err(out_of_use(state));
        }
        // SAFETY: the object is not dropped: if it is counted, this call was counted before OUT_OF_USE was set, and it is
        // only dropped at a count of zero; if not, it is dropped with `self`.
        Ok(unsafe { &*self.inner.get() })
    }

    #[inline(always)]
    fn leave(&self) {
        if self.counted {
            // Ordering: Release, so that whoever drops the object sees what this call did; Acquire, for the dropper.
            let state = self.state.fetch_sub(CALL, Ordering::AcqRel);
            if state & OUT_OF_USE != 0 {
                self.drop_if_last();
            }
        }
    }

    /// Calls `f` unless the object is out of use; a panic puts it out of use.
    pub(crate) fn call<R>(&self, f: impl FnOnce(&T) -> R) -> Result<R, CallError> {
        let result = match self.enter() {
            Ok(inner) => firewall::contain(|| f(inner)).map_err(|Panicked(message)| {
                self.retire(PANICKED);
                CallError { error: Error::PANICKED, message }
            }),
            Err(error) => Err(CallError { error, message: None }),
        };
        self.leave();
        result
    }

    /// No later call reaches the object. The caller is in a call.
    #[cold]
    fn retire(&self, why: usize) {
        // Ordering: Release, with the Acquire of `call`.
        self.state.fetch_or(why, Ordering::Release);
    }

    #[cold]
    fn drop_if_last(&self) {
        // Ordering: Acquire, for what the other calls did before they left; their Release is in `call`.
        let dropped = self.state.fetch_update(Ordering::Acquire, Ordering::Relaxed, |state| {
            (state < CALL && state & DROPPED == 0).then_some(state | DROPPED)
        });
        if dropped.is_ok() {
            // SAFETY: no call is under way, none will begin, and DROPPED is won once.
            let _ = firewall::contain(|| unsafe { ManuallyDrop::drop(&mut *self.inner.get()) });
        }
    }
}

/// Why a call came to nothing.
pub(crate) struct CallError {
    pub(crate) error: Error,
    /// What the panic said, if it happened in this call.
    pub(crate) message: Option<String>,
}

#[cold]
fn out_of_use(state: usize) -> Error {
    if state & PANICKED != 0 { Error::POISONED } else { Error::DRIVER_ENDED }
}

impl<T> Drop for Guarded<T> {
    fn drop(&mut self) {
        if *self.state.get_mut() & DROPPED == 0 {
            // SAFETY: it was not dropped before, and `self` ends.
            let _ = firewall::contain(|| unsafe { ManuallyDrop::drop(self.inner.get_mut()) });
        }
    }
}

impl<D: Device> Guarded<D> {
    /// A device that was just opened.
    pub(crate) fn device(device: D) -> Result<Self, Panicked> {
        let mut guarded = Self::new(device);
        guarded.handle =
            guarded.call(|device| device.polling_handle()).map_err(|error| Panicked(error.message))?;
        guarded.counted = guarded.handle != PollingHandle::None || guarded.admits() || guarded.cancels();
        Ok(guarded)
    }

    /// Hands a view to the device, or fails it if the device is out of use. A view that a panic drops is failed by its
    /// own drop.
    #[inline(always)]
    fn submit<P: PacketPerms>(&self, view: BoundPacketView<P>, f: impl FnOnce(&D, BoundPacketView<P>)) {
        match self.enter() {
            Ok(device) => {
                if firewall::contain(|| f(device, view)).is_err() {
                    self.retire(PANICKED);
                }
            }
            Err(error) => view.error(error),
        }
        self.leave();
    }
}

/// What a driver said when it was polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DriverPoll {
    Pending,
    Ended,
    Panicked,
}

impl<D: Device> Guarded<D> {
    #[inline(always)]
    pub(crate) fn read(&self, position: u64, view: BoundPacketView<Write>) {
        self.submit(view, |device, view| device.read(position, view));
    }

    #[inline(always)]
    pub(crate) fn write(&self, position: u64, view: BoundPacketView<Read>) {
        self.submit(view, |device, view| device.write(position, view));
    }

    pub(crate) fn exchange(&self, position: u64, view: BoundPacketView<ReadWrite>) {
        self.submit(view, |device, view| device.exchange(position, view));
    }

    pub(crate) fn read_next(&self, view: BoundPacketView<Write>) {
        self.submit(view, |device, view| device.read_next(view));
    }

    pub(crate) fn write_next(&self, view: BoundPacketView<Read>) {
        self.submit(view, |device, view| device.write_next(view));
    }

    /// Hands a batch to the device, or fails its views if the device is out of use.
    fn submit_batch<P: PacketPerms, Q>(&self, batch: Batch<'_, P, Q>, f: impl FnOnce(&D, Batch<'_, P, Q>)) {
        match self.enter() {
            Ok(device) => {
                if firewall::contain(|| f(device, batch)).is_err() {
                    self.retire(PANICKED);
                }
            }
            Err(error) => batch.for_each(|(_, view)| view.error(error)),
        }
        self.leave();
    }

    pub(crate) fn read_batch(&self, batch: Batch<'_, Write, u64>) {
        self.submit_batch(batch, |device, batch| device.read_batch(batch));
    }

    pub(crate) fn write_batch(&self, batch: Batch<'_, Read, u64>) {
        self.submit_batch(batch, |device, batch| device.write_batch(batch));
    }

    pub(crate) fn exchange_batch(&self, batch: Batch<'_, ReadWrite, u64>) {
        self.submit_batch(batch, |device, batch| {
            batch.for_each(|(position, view)| device.exchange(position, view));
        });
    }

    /// What the device says of itself; nothing, if it is out of use.
    pub(crate) fn info(&self) -> DeviceInfo {
        let nothing = DeviceInfo { size: None, readable: false, writable: false, stream: false };
        self.call(|device| device.info()).unwrap_or(nothing)
    }

    /// Which requests the device takes; all, if it is out of use.
    #[cfg(feature = "plugin")]
    pub(crate) fn limits(&self) -> Limits {
        self.call(|device| device.limits()).unwrap_or_default()
    }

    /// The device can do operations of the kind of this one.
    #[cfg(feature = "plugin")]
    pub(crate) fn does(&self, operation: &Operation<'_>) -> bool {
        let does = |device: &D| match operation {
            Operation::Flush(_) => device.flush().is_some(),
            Operation::Resize(_) => device.resize().is_some(),
            Operation::List(..) => device.listing().is_some(),
            Operation::Map(_) => device.mapping().is_some(),
            Operation::Statistics(_) => device.statistics().is_some(),
        };
        self.call(does).unwrap_or(false)
    }

    /// Has the device do something, or fails the view if it cannot or is out of use.
    #[cfg(feature = "plugin")]
    pub(crate) fn operate(&self, operation: Operation<'_>, view: BoundPacketView<Write>) {
        self.submit(view, |device, view| {
            match operation {
                Operation::Flush(scope) => {
                    if let Some(device) = device.flush() {
                        return device.flush(scope, Answer::new(view));
                    }
                }
                Operation::Resize(size) => {
                    if let Some(device) = device.resize() {
                        return device.resize(size, Answer::new(view));
                    }
                }
                Operation::List(folder, from) => {
                    if let Some(device) = device.listing() {
                        return device.list(folder, from, Records::new(view));
                    }
                }
                Operation::Map(from) => {
                    if let Some(device) = device.mapping() {
                        return device.map(from, Records::new(view));
                    }
                }
                Operation::Statistics(from) => {
                    if let Some(device) = device.statistics() {
                        return device.statistics(from, Records::new(view));
                    }
                }
            }
            view.error(Error::UNSUPPORTED);
        });
    }

    pub(crate) fn polling_handle(&self) -> PollingHandle {
        self.handle
    }

    pub(crate) fn poll_driver(&self, cx: &mut Context<'_>) -> DriverPoll {
        let polled = self.call(|device| {
            let polled = device.poll_driver(cx);
            if polled.is_ready() {
                self.retire(ENDED);
            }
            polled
        });
        match polled {
            Ok(Poll::Pending) => DriverPoll::Pending,
            Ok(Poll::Ready(())) => DriverPoll::Ended,
            Err(refused) if refused.error == Error::DRIVER_ENDED => DriverPoll::Ended,
            Err(_) => DriverPoll::Panicked,
        }
    }

    pub(crate) fn cancels(&self) -> bool {
        self.call(|device| device.cancellation().is_some()).unwrap_or(false)
    }

    pub(crate) fn cancel(&self, request: RequestId) {
        // A device that is out of use has failed everything.
        let _ = self.call(|device| device.cancellation().map(|extension| extension.cancel(request)));
    }

    pub(crate) fn admits(&self) -> bool {
        self.call(|device| device.admission().is_some()).unwrap_or(false)
    }

    /// A device that is out of use admits everything, and fails it.
    pub(crate) fn poll_admit(&self, bytes: usize, cx: &mut Context<'_>) -> Poll<()> {
        self.call(|device| {
            device.admission().map_or(Poll::Ready(()), |extension| extension.poll_admit(bytes, cx))
        })
        .unwrap_or(Poll::Ready(()))
    }
}
