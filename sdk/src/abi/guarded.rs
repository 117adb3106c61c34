//! The plugin's side of every call over the boundary: catches panics and turns them into errors.

use core::cell::UnsafeCell;
use core::mem::ManuallyDrop;
use core::task::{Context, Poll, Waker};
use std::sync::OnceLock;

use super::calls::{Calls, ENDED, Left, PANICKED};
use super::ext::{Admission, Extension, extension_of};
#[cfg(feature = "plugin")]
use super::ext::{Opening, Operation};
use super::{BackendDevice, DeviceInfo, DeviceParam, DeviceRequest, PollingHandle};
#[cfg(feature = "plugin")]
use super::{DeviceObj, Library};
use crate::firewall::{self, Panicked};
use crate::{Batch, BoundPacketView, IoError, PacketPerms};
#[cfg(feature = "plugin")]
use crate::{OpenError, OpenMode};

/// An object of a plugin behind its firewall.
///
/// After the first panic its code is not called again, since its state is unknown. A device is then dropped as soon as the last
/// [call](Calls) has left it, so that the views that it keeps fail instead of waiting for ever. The same happens when its driver
/// ends.
#[allow(missing_debug_implementations)]
pub struct Guarded<T> {
    inner: UnsafeCell<ManuallyDrop<T>>,
    calls: Calls,
    /// The polling handle that a device gave when it was opened.
    handle: PollingHandle,
    /// The waker that causes a poll of the driver.
    waker: OnceLock<Waker>,
    /// The library of the devices that this device opens.
    #[cfg(feature = "plugin")]
    library: Option<Library>,
}

// SAFETY: threads only share `&T`, until the one thread that gets `Left::Drop` drops the object. `T: Sync` allows the sharing,
// and `T: Send` the drop on any thread.
unsafe impl<T: Send + Sync> Sync for Guarded<T> {}

impl<T> Guarded<T> {
    /// An object whose calls are not counted, such as a backend: it is dropped with this value.
    pub(crate) fn uncounted(inner: T) -> Self {
        Self {
            inner: UnsafeCell::new(ManuallyDrop::new(inner)),
            calls: Calls::uncounted(),
            handle: PollingHandle::None,
            waker: OnceLock::new(),
            #[cfg(feature = "plugin")]
            library: None,
        }
    }

    /// Begins a call; the error is the answer for the caller. Either way, [`leave`](Self::leave) ends the call.
    #[inline(always)]
    fn enter(&self) -> Result<&T, IoError> {
        self.calls.enter()?;
        // SAFETY: the object is not dropped yet. A device counts its calls: this call was counted before the device was out of
        // use, and a thread gets `Left::Drop` only if no call is counted. A backend is dropped with `self`.
        Ok(unsafe { &*self.inner.get() })
    }

    #[inline(always)]
    fn leave(&self) {
        match self.calls.leave() {
            Left::Done => {}
            left => self.end(left),
        }
    }

    /// Performs the duty that remains when a call or a poll has left the object. A panic of the waker or of the drop is
    /// ignored: the object is out of use in any case.
    #[cold]
    fn end(&self, left: Left) {
        match left {
            Left::Done => {}
            // If the driver was never polled yet, its first poll is still to come.
            Left::WakeDriver => {
                if let Some(waker) = self.waker.get() {
                    let _ = firewall::contain(|| waker.wake_by_ref());
                }
            }
            Left::Drop => {
                // SAFETY: no thread is in the object or will enter it, and `Left::Drop` is given once.
                let _ = firewall::contain(|| unsafe { ManuallyDrop::drop(&mut *self.inner.get()) });
            }
        }
    }

    /// Calls `f` unless the object is out of use; a panic puts it out of use.
    pub(crate) fn call<R>(&self, f: impl FnOnce(&T) -> R) -> Result<R, CallError> {
        let result = match self.enter() {
            Ok(inner) => firewall::contain(|| f(inner)).map_err(|Panicked(message)| {
                self.calls.retire(PANICKED);
                CallError { error: IoError::PANICKED, message }
            }),
            Err(error) => Err(CallError { error, message: None }),
        };
        self.leave();
        result
    }
}

/// The reason why a call failed.
pub(crate) struct CallError {
    pub(crate) error: IoError,
    /// The message of the panic, if it happened in this call.
    pub(crate) message: Option<String>,
}

impl<T> Drop for Guarded<T> {
    fn drop(&mut self) {
        if !self.calls.is_dropped() {
            // SAFETY: the object was not dropped before, and `self` is being dropped.
            let _ = firewall::contain(|| unsafe { ManuallyDrop::drop(self.inner.get_mut()) });
        }
    }
}

impl<D: BackendDevice> Guarded<D> {
    /// A device that was just opened.
    pub(crate) fn device(device: D) -> Result<Self, Panicked> {
        let mut guarded = Self::uncounted(device);
        guarded.handle =
            guarded.call(|device| device.polling_handle()).map_err(|error| Panicked(error.message))?;
        let driven = guarded.handle != PollingHandle::None;
        guarded.calls = Calls::counted(driven);
        Ok(guarded)
    }

    #[cfg(feature = "plugin")]
    pub(crate) fn of_library(mut self, library: Library) -> Self {
        self.library = Some(library);
        self
    }

    /// Drops the device, unless that was done when it was put out of use. No other call or poll is under way, and none will come.
    ///
    /// # Errors
    ///
    /// If the device's code panicked.
    #[cfg(feature = "plugin")]
    pub(crate) fn close(&self) -> Result<(), Panicked> {
        self.calls.retire(ENDED);
        match self.calls.end_polls() {
            // SAFETY: no thread is in the object or will enter it, and `Left::Drop` is given once.
            Left::Drop => firewall::contain(|| unsafe { ManuallyDrop::drop(&mut *self.inner.get()) }),
            _ => Ok(()),
        }
    }

    /// Hands a view to the device, or fails the view if the device is out of use. A view that a panic drops is failed by its own
    /// drop.
    #[inline(always)]
    fn submit<P: PacketPerms>(&self, view: BoundPacketView<P>, f: impl FnOnce(&D, BoundPacketView<P>)) {
        match self.enter() {
            Ok(device) => {
                if firewall::contain(|| f(device, view)).is_err() {
                    self.calls.retire(PANICKED);
                }
            }
            Err(error) => view.error(error),
        }
        self.leave();
    }
}

/// The result of a poll of a driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum DriverPoll {
    Pending,
    Ended,
    Panicked,
}

impl<D: BackendDevice> Guarded<D> {
    /// Hands a view to the device's method for this kind of request.
    #[inline(always)]
    pub(crate) fn send<Perms: DeviceRequest<P>, P: DeviceParam>(
        &self,
        param: P,
        view: BoundPacketView<Perms>,
    ) {
        self.submit(view, |device, view| Perms::send(device, param, view));
    }

    /// Hands a batch to the device, or fails its views if the device is out of use.
    pub(crate) fn send_batch<Perms: DeviceRequest<P>, P: DeviceParam>(&self, batch: Batch<'_, Perms, P>) {
        match self.enter() {
            Ok(device) => {
                if firewall::contain(|| Perms::send_batch(device, batch)).is_err() {
                    self.calls.retire(PANICKED);
                }
            }
            Err(error) => batch.for_each(|(_, view)| view.error(error)),
        }
        self.leave();
    }

    /// The info of the device. A device that is out of use has no size, and can be neither read nor written.
    pub(crate) fn info(&self) -> DeviceInfo {
        let nothing = DeviceInfo { size: None, readable: false, writable: false, stream: false };
        self.call(|device| device.info()).unwrap_or(nothing)
    }

    /// The reason why the device is out of use, if it is: [`IoError::POISONED`] after a panic, [`IoError::DRIVER_ENDED`] after
    /// the end of its driver.
    #[cfg(feature = "plugin")]
    pub(crate) fn out_of_use(&self) -> Option<IoError> {
        self.calls.out_of_use()
    }

    /// `true` if the device has the extension.
    pub(crate) fn has<E: Extension + ?Sized>(&self) -> bool {
        self.call(|device| extension_of::<E>(device).is_some()).unwrap_or(false)
    }

    /// Calls an extension of the device.
    ///
    /// # Errors
    ///
    /// [`IoError::UNSUPPORTED`] if the device does not have the extension; else the reason why the device is out of use.
    pub(crate) fn with<E: Extension + ?Sized, R>(&self, f: impl FnOnce(&E) -> R) -> Result<R, IoError> {
        let called = self.call(|device| extension_of::<E>(device).map(f));
        called.map_err(|failed| failed.error)?.ok_or(IoError::UNSUPPORTED)
    }

    /// Calls an operation of the device, or fails the view if the device does not have the extension or is out of use.
    #[cfg(feature = "plugin")]
    pub(crate) fn operate<E: Operation + ?Sized>(
        &self,
        number: u64,
        text: &[u8],
        view: BoundPacketView<crate::Write>,
    ) {
        self.submit(view, |device, view| match extension_of::<E>(device) {
            Some(extension) => extension.operate(number, text, view),
            None => view.error(IoError::UNSUPPORTED),
        });
    }

    /// Opens a name in the device.
    #[cfg(feature = "plugin")]
    pub(crate) fn open(&self, name: &[u8], mode: OpenMode) -> Result<DeviceObj, OpenError> {
        let opened = self.call(|device| match (extension_of::<dyn Opening>(device), &self.library) {
            (Some(tree), Some(library)) => tree.open(name, mode)?.into_object(library.clone()),
            _ => Err(IoError::UNSUPPORTED.into()),
        });
        opened.unwrap_or_else(|CallError { error, message }| {
            Err(if error == IoError::PANICKED { OpenError::panicked(message) } else { error.into() })
        })
    }

    /// How the device is polled. A device with a descriptor is asked each time, since its interest may change.
    pub(crate) fn polling_handle(&self) -> PollingHandle {
        match self.handle {
            PollingHandle::Descriptor { .. } => {
                self.call(|device| device.polling_handle()).unwrap_or(self.handle)
            }
            handle => handle,
        }
    }

    /// Polls the driver.
    ///
    /// # Safety
    ///
    /// No other poll of the driver is under way.
    pub(crate) unsafe fn poll_driver(&self, cx: &mut Context<'_>) -> DriverPoll {
        // Kept for `Left::WakeDriver`. The first waker serves for good: every poll of a device brings one that queues the same
        // driver.
        self.waker.get_or_init(|| cx.waker().clone());
        let polled = self.calls.check_poll().and_then(|()| {
            // SAFETY: the object is not dropped: `check_poll` found the object in use, and before `end_polls` only a poll can
            // cause the drop.
            let device = unsafe { &*self.inner.get() };
            firewall::contain(|| device.poll_driver(cx)).map_err(|Panicked(_)| {
                self.calls.retire(PANICKED);
                IoError::PANICKED
            })
        });
        let ended = match polled {
            Ok(Poll::Pending) => return DriverPoll::Pending,
            Ok(Poll::Ready(())) => {
                self.calls.retire(ENDED);
                DriverPoll::Ended
            }
            Err(IoError::DRIVER_ENDED) => DriverPoll::Ended,
            Err(_) => DriverPoll::Panicked,
        };
        self.end(self.calls.end_polls());
        ended
    }

    /// Asks the device for room. A device that is out of use admits every request, and then fails the request.
    pub(crate) fn poll_admit(&self, bytes: usize, cx: &mut Context<'_>) -> Poll<()> {
        self.with::<dyn Admission, _>(|extension| extension.poll_admit(bytes, cx)).unwrap_or(Poll::Ready(()))
    }
}
