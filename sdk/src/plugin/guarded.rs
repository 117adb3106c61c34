//! The plugin's side of every call over the boundary: catches panics and turns them into errors.

use core::mem::ManuallyDrop;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll};

use super::{Backend, Device, OpenError, OpenRequest};
use crate::abi::{
    BackendIo, CWaker, DeviceObj, DriverStatus, IoBackend, Library, OpenFailure, PacketIo, RawDeviceInfo,
    RawOpenRequest, RawPollingHandle, device_object,
};
use crate::firewall::{self, Panicked};
use crate::{BoundPacketView, Code, Error, Location, Read, State, Subject, Write};

/// An object of a plugin behind its firewall.
///
/// After the first panic the object is poisoned: its code is not called again, since its state is unknown.
#[derive(Debug)]
pub struct Guarded<T> {
    inner: ManuallyDrop<T>,
    poisoned: AtomicBool,
}

impl<T> Guarded<T> {
    pub(crate) fn new(inner: T) -> Self {
        Self { inner: ManuallyDrop::new(inner), poisoned: AtomicBool::new(false) }
    }

    /// It panicked before.
    #[inline(always)]
    fn is_poisoned(&self) -> bool {
        // Ordering: Relaxed. The flag guards no data: a call that misses it finds the state that the panic left, which
        // safe code of the plugin has to bear.
        self.poisoned.load(Ordering::Relaxed)
    }

    #[inline(always)]
    fn call<R>(&self, f: impl FnOnce(&T) -> R) -> Result<R, Panicked> {
        firewall::contain(|| f(&self.inner)).inspect_err(|_| self.poison())
    }

    #[cold]
    fn poison(&self) {
        // Ordering: Relaxed, as above.
        self.poisoned.store(true, Ordering::Relaxed);
    }
}

impl<T> Drop for Guarded<T> {
    fn drop(&mut self) {
        // SAFETY: `inner` is dropped here and nowhere else.
        let _ = firewall::contain(|| unsafe { ManuallyDrop::drop(&mut self.inner) });
    }
}

impl<D: Device> PacketIo<Write, u64> for Guarded<D> {
    #[inline(always)]
    fn send_io(&self, position: u64, view: BoundPacketView<Write>) {
        if self.is_poisoned() {
            return view.error(Error::POISONED);
        }
        // A view that the unwinding drops is failed by its own drop.
        let _ = self.call(|device| device.read(position, view));
    }
}

impl<D: Device> PacketIo<Read, u64> for Guarded<D> {
    #[inline(always)]
    fn send_io(&self, position: u64, view: BoundPacketView<Read>) {
        if self.is_poisoned() {
            return view.error(Error::POISONED);
        }
        let _ = self.call(|device| device.write(position, view));
    }
}

impl<D: Device> IoBackend for Guarded<D> {
    fn raw_info(&self) -> RawDeviceInfo {
        let unknown = RawDeviceInfo { flags: 0, size: 0 };
        if self.is_poisoned() { unknown } else { self.call(|device| device.info().into()).unwrap_or(unknown) }
    }

    fn raw_polling_handle(&self) -> RawPollingHandle {
        self.call(|device| device.polling_handle())
            .unwrap_or(super::PollingHandle::None)
            .into()
    }

    fn poll_driver(&self, waker: &CWaker) -> DriverStatus {
        if self.is_poisoned() {
            return DriverStatus::PANICKED;
        }
        waker.with_waker(|waker| {
            match self.call(|device| device.poll_driver(&mut Context::from_waker(waker))) {
                Ok(Poll::Pending) => DriverStatus::PENDING,
                Ok(Poll::Ready(())) => DriverStatus::ENDED,
                Err(_) => DriverStatus::PANICKED,
            }
        })
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
        if self.backend.is_poisoned() {
            return Err(OpenError::new(
                Error::POISONED,
                "the plugin panicked while it opened a device before, and is out of use",
            ));
        }
        let opened = self.backend.call(|backend| {
            let request = OpenRequest::from_raw(request).ok_or_else(|| OpenError::invalid_input("text is not UTF-8"))?;
            backend.open(&request)
        });
        match opened {
            Ok(device) => Ok(device_object(Guarded::new(device?), self.library.clone())),
            Err(Panicked(message)) => Err(OpenError::new(
                Error::new(Code::Panicked, Subject::Backend, State::Unspecified, Location::Plugin),
                match message {
                    Some(message) => format!("the plugin panicked while it opened the device: {message}"),
                    None => "the plugin panicked while it opened the device".to_owned(),
                },
            )),
        }
    }
}

impl<B: Backend> BackendIo for GuardedBackend<B> {
    fn open_device(&self, request: &RawOpenRequest<'_>) -> Result<DeviceObj, OpenFailure> {
        self.open(request).map_err(OpenFailure::from)
    }
}
