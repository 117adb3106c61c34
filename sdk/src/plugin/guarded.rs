//! The plugin's side of every call over the boundary: catches panics and turns them into errors.

use core::cell::UnsafeCell;
use core::mem::ManuallyDrop;
use core::sync::atomic::{AtomicUsize, Ordering};
use core::task::{Context, Poll};

use super::{Backend, Device, OpenError, OpenRequest, PollingHandle};
use crate::abi::{
    BackendIo, CWaker, DeviceObj, DriverStatus, IoBackend, Library, OpenFailure, PacketIo, RawDeviceInfo,
    RawOpenRequest, RawPollingHandle, device_object,
};
use crate::firewall::{self, Panicked};
use crate::{BoundPacketView, Code, Error, Location, PacketPerms, Read, State, Subject, Write};

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
    fn new(inner: T) -> Self {
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
    fn call<R>(&self, f: impl FnOnce(&T) -> R) -> Result<R, CallError> {
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
struct CallError {
    error: Error,
    /// What the panic said, if it happened in this call.
    message: Option<String>,
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
    fn device(device: D) -> Result<Self, Panicked> {
        let mut guarded = Self::new(device);
        guarded.handle =
            guarded.call(|device| device.polling_handle()).map_err(|error| Panicked(error.message))?;
        guarded.counted = guarded.handle != PollingHandle::None;
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

impl<D: Device> PacketIo<Write, u64> for Guarded<D> {
    #[inline(always)]
    fn send_io(&self, position: u64, view: BoundPacketView<Write>) {
        self.submit(view, |device, view| device.read(position, view));
    }
}

impl<D: Device> PacketIo<Read, u64> for Guarded<D> {
    #[inline(always)]
    fn send_io(&self, position: u64, view: BoundPacketView<Read>) {
        self.submit(view, |device, view| device.write(position, view));
    }
}

impl<D: Device> IoBackend for Guarded<D> {
    fn raw_info(&self) -> RawDeviceInfo {
        self.call(|device| device.info().into()).unwrap_or(RawDeviceInfo { flags: 0, size: 0 })
    }

    fn raw_polling_handle(&self) -> RawPollingHandle {
        self.handle.into()
    }

    fn poll_driver(&self, waker: &CWaker) -> DriverStatus {
        let polled = waker.with_waker(|waker| {
            self.call(|device| {
                let polled = device.poll_driver(&mut Context::from_waker(waker));
                if polled.is_ready() {
                    self.retire(ENDED);
                }
                polled
            })
        });
        match polled {
            Ok(Poll::Pending) => DriverStatus::PENDING,
            Ok(Poll::Ready(())) => DriverStatus::ENDED,
            Err(refused) if refused.error == Error::DRIVER_ENDED => DriverStatus::ENDED,
            Err(_) => DriverStatus::PANICKED,
        }
    }
}

/// A backend and the library handle that goes into each of its devices.
#[allow(missing_debug_implementations)]
pub struct GuardedBackend<B> {
    backend: Guarded<B>,
    library: Library,
}

impl<B: Backend> GuardedBackend<B> {
    pub(crate) fn new(backend: B, library: Library) -> Self {
        Self { backend: Guarded::new(backend), library }
    }

    fn open(&self, request: &RawOpenRequest<'_>) -> Result<DeviceObj, OpenError> {
        let opened = self.backend.call(|backend| {
            let request = OpenRequest::from_raw(request)
                .ok_or_else(|| OpenError::invalid_input("text is not UTF-8"))?;
            backend.open(&request)
        });
        let panicked = |message: Option<String>| {
            let mut text = "the plugin panicked while it opened the device".to_owned();
            if let Some(message) = message {
                text = format!("{text}: {message}");
            }
            OpenError::new(
                Error::new(Code::Panicked, Subject::Backend, State::Unspecified, Location::Plugin),
                text,
            )
        };
        match opened {
            Ok(device) => {
                let device = Guarded::device(device?).map_err(|Panicked(message)| panicked(message))?;
                Ok(device_object(device, self.library.clone()))
            }
            Err(CallError { error: Error::PANICKED, message }) => Err(panicked(message)),
            Err(CallError { error, .. }) => Err(OpenError::new(
                error,
                "the plugin panicked while it opened a device before, and is out of use",
            )),
        }
    }
}

impl<B: Backend> BackendIo for GuardedBackend<B> {
    fn open_device(&self, request: &RawOpenRequest<'_>) -> Result<DeviceObj, OpenFailure> {
        self.open(request).map_err(OpenFailure::from)
    }
}
