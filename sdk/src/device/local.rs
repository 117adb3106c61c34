//! A device that is used without a host: by the program that defines it, in tests, below another device.

use core::fmt;
use core::pin::pin;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll, Waker};
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::Wake;
use std::thread::{self, Thread};
use std::time::Duration;

use super::drivers::Drivers;
use crate::abi::{BackendDevice, DeviceInfo, DeviceParam, DeviceRequest, DriverPoll, Guarded, PollingHandle};
use crate::ext::{Admission, Answer, Cancellation, Publish, ReadNow, publication};
use crate::io::{AdmissionQueue, Admitted, BlockOn, Internal, PacketIo, Publication, Size};
use crate::{Batch, BoundPacketView, Filling, IoError, RequestId, Unfilled};

/// An open device without a host. Cheap to clone; all clones are one device.
///
/// A device with a driver makes progress only while a task or a thread polls the driver: spawn the [`driver`](Self::driver) once
/// on any executor, or [block on](BlockOn::block_on) the device's futures. Any number of tasks and threads may do so at once.
///
/// ```
/// use pactio_sdk::{BlockOn, BoundPacketView, BackendDevice, DeviceInfo, IoError, IoRead, LocalDevice, Write};
///
/// struct Text(&'static str);
///
/// impl BackendDevice for Text {
///     fn info(&self) -> DeviceInfo {
///         DeviceInfo::with_size(self.0.len() as u64).read_only()
///     }
///
///     fn read(&self, position: u64, view: BoundPacketView<Write>) {
///         let position = usize::try_from(position).unwrap_or(usize::MAX);
///         view.transfer_data(self.0.as_bytes().get(position..).unwrap_or(&[])).complete();
///     }
/// }
///
/// let device = LocalDevice::new(Text("some text"))?;
/// let mut all = Vec::new();
/// device.block_on(device.read_to_end(5, &mut all))?;
/// assert_eq!(all, b"text");
/// # Ok::<(), IoError>(())
/// ```
pub struct LocalDevice<D: BackendDevice>(Arc<Shared<D>>);

struct Shared<D: BackendDevice> {
    device: Guarded<D>,
    drivers: Arc<Drivers>,
    /// The requests that wait for room in the device, if the device can be full.
    turns: Option<AdmissionQueue>,
    cancels: bool,
    reads_now: bool,
}

impl<D: BackendDevice> LocalDevice<D> {
    /// Opens a device.
    ///
    /// # Errors
    ///
    /// [`IoError::PANICKED`] if the device panics in [`BackendDevice::polling_handle`].
    pub fn new(device: D) -> Result<Self, IoError> {
        let device = Guarded::device(device).map_err(|_| IoError::PANICKED)?;
        let turns = device.has::<dyn Admission>().then(AdmissionQueue::default);
        let cancels = device.has::<dyn Cancellation>();
        let reads_now = device.has::<dyn ReadNow>();
        let has_driver = device.polling_handle() != PollingHandle::None;
        let drivers = if has_driver { Arc::default() } else { Drivers::none() };
        let shared = Shared { device, drivers, turns, cancels, reads_now };
        if has_driver {
            // The first poll gives the driver its waker.
            shared.drivers.notify();
            shared.drive();
        }
        Ok(Self(Arc::new(shared)))
    }

    /// The current info of the device.
    pub fn info(&self) -> DeviceInfo {
        let info = self.0.device.info();
        self.0.wake_waiting();
        info
    }

    /// How the device is polled, and the descriptor that a waiter may sleep on.
    pub fn polling_handle(&self) -> PollingHandle {
        self.0.device.polling_handle()
    }

    /// The device's driver, to be spawned on any executor. The driver ends when the device is closed, or by itself.
    ///
    /// A device that waits for a descriptor also needs to be [notified](Self::notify) when the descriptor is ready;
    /// `tokio_driver` and `smol_driver`, of the features of these names, do so.
    pub fn driver(&self) -> LocalDriver<D> {
        LocalDriver {
            device: Arc::downgrade(&self.0),
            id: self.0.drivers.join(),
            drivers: self.0.drivers.clone(),
        }
    }

    /// Reports that the device's descriptor is ready: the tasks that drive the device poll its driver.
    pub fn notify(&self) {
        self.0.drivers.wake_by_ref();
    }
}

/// The driver of a [`LocalDevice`] as a future.
#[must_use = "a driver does nothing until it is polled"]
pub struct LocalDriver<D: BackendDevice> {
    device: Weak<Shared<D>>,
    drivers: Arc<Drivers>,
    id: u64,
}

impl<D: BackendDevice> LocalDriver<D> {
    /// Marks the driver as due for a poll, because the descriptor is ready.
    #[cfg(any(feature = "tokio", feature = "smol"))]
    pub(super) fn notify(&self) {
        self.drivers.notify();
    }
}

impl<D: BackendDevice> Future for LocalDriver<D> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.drivers.set_waker(self.id, cx.waker());
        match self.device.upgrade() {
            Some(device) => {
                if device.drive() {
                    device.wake_waiting();
                }
            }
            None => return Poll::Ready(()),
        }
        if self.drivers.is_ended() || self.device.strong_count() == 0 {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}

impl<D: BackendDevice> Drop for LocalDriver<D> {
    fn drop(&mut self) {
        self.drivers.leave(self.id);
    }
}

impl<D: BackendDevice> Shared<D> {
    /// Polls the driver while it is notified; `true` if it ended in this call.
    fn drive(&self) -> bool {
        self.drivers.drive(|cx| {
            // SAFETY: no two calls of this closure overlap, by the contract of `Drivers::drive`, and it is the only one that
            // polls this device.
            let polled = unsafe { self.device.poll_driver(cx) };
            polled != DriverPoll::Pending
        })
    }

    /// Wakes the requests that wait for room, so that they ask again: a device that has panicked or ended does not wake them any
    /// more.
    fn wake_waiting(&self) {
        if let Some(turns) = &self.turns {
            turns.wake_all();
        }
    }
}

impl<D: BackendDevice> Drop for Shared<D> {
    fn drop(&mut self) {
        // The driver tasks find the device gone, and end.
        self.drivers.wake_all();
    }
}

/// The interval at which a blocked thread checks the descriptor of a device.
const LOOK: Duration = Duration::from_millis(10);

/// Wakes a blocked thread. Other code on the thread parks and unparks it, too, so that the token alone proves no wake.
struct Unpark {
    thread: Thread,
    woken: AtomicBool,
}

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        // Ordering: Release, with the Acquire in `is_woken`, for the writes that led to the wake.
        self.woken.store(true, Ordering::Release);
        self.thread.unpark();
    }
}

impl Unpark {
    /// `true` if the thread was woken since the last call.
    fn is_woken(&self) -> bool {
        // Ordering: Acquire, with the Release in `wake`.
        self.woken.swap(false, Ordering::Acquire)
    }
}

impl<D: BackendDevice> BlockOn for LocalDevice<D> {
    /// Polls `future` and the device's driver. A descriptor is checked every 10 ms, unless its driver is spawned elsewhere.
    fn block_on<F: Future>(&self, future: F) -> F::Output {
        let mut future = pin!(future);
        let unpark = Arc::new(Unpark { thread: thread::current(), woken: AtomicBool::new(false) });
        let waker = Waker::from(unpark.clone());
        let mut cx = Context::from_waker(&waker);
        let mut driver = pin!(self.driver());
        let descriptor = matches!(self.polling_handle(), PollingHandle::Descriptor { .. });
        loop {
            if let Poll::Ready(value) = future.as_mut().poll(&mut cx) {
                return value;
            }
            let _ = driver.as_mut().poll(&mut cx);
            if let Poll::Ready(value) = future.as_mut().poll(&mut cx) {
                return value;
            }
            if descriptor {
                if !unpark.is_woken() {
                    thread::park_timeout(LOOK);
                }
                // Wakes no task: only this thread polls the driver, in its next round.
                self.0.drivers.notify();
            } else {
                while !unpark.is_woken() {
                    thread::park();
                }
            }
        }
    }
}

impl<D: BackendDevice, Perms: DeviceRequest<P>, P: DeviceParam> PacketIo<Perms, P> for LocalDevice<D> {
    fn send_io(&self, param: P, view: BoundPacketView<Perms>) {
        self.0.device.send(param, view);
        self.0.wake_waiting();
    }

    fn send_batch(&self, batch: Batch<'_, Perms, P>) {
        self.0.device.send_batch(batch);
        self.0.wake_waiting();
    }

    fn reads_now(&self, _: Internal) -> bool {
        Perms::MAY_BE_AT_HAND && self.0.reads_now
    }

    fn read_now(&self, param: P, into: &mut Unfilled<'_>, _: Internal) {
        let Some(position) = Perms::read_position(param) else { return };
        let (memory, len) = (into.unfilled_ptr(), into.remaining());
        // SAFETY: the rest of `into` is borrowed for this call.
        let mut filling = unsafe { Filling::from_raw(memory, len) };
        let read = self
            .0
            .device
            .with::<dyn ReadNow, _>(|extension| extension.read_now(position, &mut filling.unfilled()));
        if read.is_ok() && filling.is_full() {
            // SAFETY: all of it was filled.
            unsafe { into.advance_unchecked(len) };
        } else {
            // A device that has panicked has forgotten the wakers. The request that follows states the reason.
            self.0.wake_waiting();
        }
    }

    fn admit(&self, bytes: usize) -> Option<Admitted> {
        let shared = self.0.clone();
        self.0.turns.as_ref()?.admit(move |cx| shared.device.poll_admit(bytes, cx))
    }

    fn cancel(&self, request: RequestId) {
        if self.0.cancels {
            // A device that is out of use has failed all of its views.
            let _ = self.0.device.with::<dyn Cancellation, _>(|extension| extension.cancel(request));
            self.0.wake_waiting();
        }
    }

    fn publication(&self) -> Option<Publication> {
        if !self.0.device.has::<dyn Publish>() {
            return None;
        }
        let shared = self.0.clone();
        Some(publication(move |view| {
            // A device that is out of use drops the view, and so fails it.
            let _ = shared.device.with::<dyn Publish, _>(|publish| publish.publish(Answer::new(view)));
            shared.wake_waiting();
        }))
    }
}

impl<D: BackendDevice> Size for LocalDevice<D> {
    fn size(&self) -> Option<u64> {
        self.info().size()
    }
}

impl<D: BackendDevice> Clone for LocalDevice<D> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<D: BackendDevice> fmt::Debug for LocalDevice<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalDevice").field("polling_handle", &self.polling_handle()).finish_non_exhaustive()
    }
}

impl<D: BackendDevice> fmt::Debug for LocalDriver<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalDriver").finish_non_exhaustive()
    }
}
