//! Who polls a device's driver, so that it is polled by one thread at a time and never forgotten.
//!
//! | bit | true means |
//! |-----|------------|
//! | NOTIFIED | there may be work: somebody will claim the driver |
//! | RUNNING | a thread polls it; when it is through, it looks at NOTIFIED again |
//! | QUEUED | it lies in the channel of the driving thread |
//! | ENDED | it is not polled any more |
//!
//! A wake sets NOTIFIED. Then one of these looks after it:
//!
//! - the thread that polls it now (RUNNING);
//! - the thread that woke it, if that is about to drive what it woke: inside a request that will [help](Helper) when it
//!   has been submitted, or inside `block_on` where `local` allows it;
//! - otherwise the driving thread of the runtime (QUEUED).

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Weak};
use std::task::{Wake, Waker};

use async_channel::Sender;
use pactio_sdk::abi::{CWaker, DriverStatus};

use super::local;

const NOTIFIED: u8 = 1;
const RUNNING: u8 = 2;
const QUEUED: u8 = 4;
const ENDED: u8 = 8;

/// A driver that keeps waking itself is handed to a worker after so many polls in a row, so that others get their turn.
const POLLS_IN_A_ROW: usize = 32;

/// What can be driven.
pub(crate) trait Drive: Send + Sync + 'static {
    /// Polls the driver once.
    fn poll_driver(&self, waker: &CWaker) -> DriverStatus;

    /// The driver has ended by itself or in a panic.
    fn driver_ended(&self, status: DriverStatus);
}

/// The driver of one device. It does not keep the device: a driver's waker is kept by the device itself.
pub(crate) struct Driver {
    state: AtomicU8,
    device: Weak<dyn Drive>,
    queue: Sender<Arc<Driver>>,
    /// Made once, so that `will_wake` holds for the life of the device.
    waker: CWaker,
}

impl Driver {
    /// The driver of `device`, which is to be polled a first time soon.
    pub(crate) fn new(device: Weak<dyn Drive>, queue: Sender<Arc<Driver>>) -> Arc<Self> {
        Arc::new_cyclic(|this: &Weak<Self>| Self {
            state: AtomicU8::new(0),
            device,
            queue,
            waker: Waker::from(Arc::new(WakeDriver(this.clone()))).into(),
        })
    }

    /// The driver may have work.
    pub(crate) fn notify(self: &Arc<Self>) {
        // Ordering: Release, so that whoever claims the driver sees what led to the wake.
        let state = self.state.fetch_or(NOTIFIED, Ordering::Release);
        // Whoever runs it looks again. A thread that takes it over does so even if it was notified before: the thread
        // that was to look after it then may be busy with something else.
        let helped = ptr::eq(HELPED.get(), Arc::as_ptr(self));
        if state & (RUNNING | ENDED) == 0 && !helped && !local::take_over(self) {
            self.schedule();
        }
    }

    /// Sends it to the driving thread, unless it is on its way there.
    pub(super) fn schedule(self: &Arc<Self>) {
        // Ordering: Relaxed. The channel orders what follows.
        let state = self.state.fetch_or(QUEUED, Ordering::Relaxed);
        if state & (QUEUED | ENDED) == 0 {
            // The channel is closed only when the runtime is gone, and with it the devices.
            let _ = self.queue.try_send(self.clone());
        }
    }

    /// The driving thread took it out of the channel.
    pub(super) fn run_from_queue(self: &Arc<Self>) {
        // Ordering: Relaxed. QUEUED says nothing but that it lies in the channel; it is cleared before the driver is
        // claimed, so that a notification that comes later is queued again.
        self.state.fetch_and(!QUEUED, Ordering::Relaxed);
        self.run();
    }

    /// Polls it on this thread, or has it polled again by whoever does now.
    pub(crate) fn run_anyway(self: &Arc<Self>) {
        // Ordering: Release, as in `notify`.
        self.state.fetch_or(NOTIFIED, Ordering::Release);
        self.run();
    }

    /// Polls it if it was notified and nobody else does.
    pub(crate) fn run(self: &Arc<Self>) {
        for _ in 0..POLLS_IN_A_ROW {
            if !self.claim() {
                return;
            }
            // Plugins do not unwind; a subscriber of our records, or a waker that is dropped, might.
            let status = catch_unwind(AssertUnwindSafe(|| self.poll())).unwrap_or(DriverStatus::PANICKED);
            if status != DriverStatus::PENDING {
                // Ordering: Relaxed. Nothing is read because of this bit.
                self.state.fetch_or(ENDED, Ordering::Relaxed);
            }
            // Ordering: Release, for the thread that claims it next.
            let state = self.state.fetch_and(!RUNNING, Ordering::Release);
            if state & NOTIFIED == 0 || state & ENDED != 0 {
                return;
            }
        }
        self.schedule();
    }

    fn poll(&self) -> DriverStatus {
        let Some(device) = self.device.upgrade() else { return DriverStatus::ENDED };
        let status = device.poll_driver(&self.waker);
        if status != DriverStatus::PENDING {
            device.driver_ended(status);
        }
        status
    }

    fn claim(&self) -> bool {
        // Ordering: Acquire, for what the last poll and the wakes did.
        self.state
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, |state| {
                (state & (NOTIFIED | RUNNING | ENDED) == NOTIFIED).then_some(state & !NOTIFIED | RUNNING)
            })
            .is_ok()
    }

    /// It will not be polled any more.
    pub(crate) fn is_ended(&self) -> bool {
        // Ordering: Relaxed. Nothing is read because of this bit.
        self.state.load(Ordering::Relaxed) & ENDED != 0 || self.device.strong_count() == 0
    }
}

/// What a plugin wakes.
struct WakeDriver(Weak<Driver>);

impl Wake for WakeDriver {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if let Some(driver) = self.0.upgrade() {
            driver.notify();
        }
    }
}

thread_local! {
    /// The driver that this thread will run when it has submitted a request.
    static HELPED: Cell<*const Driver> = const { Cell::new(ptr::null()) };
}

/// While it lives, this thread looks after one driver; when it is dropped, the driver is polled if it was notified.
///
/// So a future that is polled by a foreign executor needs no second thread for a device that can answer soon.
pub(crate) struct Helper<'a> {
    driver: &'a Arc<Driver>,
    outer: *const Driver,
}

impl<'a> Helper<'a> {
    pub(crate) fn new(driver: &'a Arc<Driver>) -> Self {
        Self { driver, outer: HELPED.replace(Arc::as_ptr(driver)) }
    }
}

impl Drop for Helper<'_> {
    fn drop(&mut self) {
        HELPED.set(self.outer);
        self.driver.run();
    }
}
