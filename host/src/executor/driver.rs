//! Decides which thread polls a device's driver, so that one thread at a time polls it and no wake is lost.
//!
//! | bit | true means |
//! |-----|------------|
//! | NOTIFIED | there may be work: a thread will claim the driver |
//! | RUNNING | a thread polls the driver; after the poll it looks at NOTIFIED again |
//! | QUEUED | the driver is in the channel of the driving thread |
//! | ENDED | the driver is not polled any more |
//! | PANICKED | the driver ended by a panic |
//!
//! A wake sets NOTIFIED; on a thread that [helps](Helper) the driver, it sets a flag of that thread. Then one of these threads polls the
//! driver:
//!
//! - the thread that polls the driver now (RUNNING);
//! - the thread that woke the driver, if it is about to poll the drivers that it woke: inside a request that will [help](Helper)
//!   when it has been submitted, or inside `block_on` where `local` allows it;
//! - otherwise the driving thread of the runtime (QUEUED).

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Weak};
use std::task::Wake;
use std::time::Duration;

use async_channel::Sender;
use pactio_sdk::IoError;
use pactio_sdk::abi::DriverStatus;

use super::local;
use super::posts::Call;
use super::queues::Queues;

const NOTIFIED: u8 = 1;
const RUNNING: u8 = 2;
const QUEUED: u8 = 4;
const ENDED: u8 = 8;
const PANICKED: u8 = 16;

/// A driver that keeps waking itself is handed to the driving thread after this number of polls in a row, so that other drivers
/// get their turn.
const POLLS_IN_A_ROW: usize = 32;

/// A device with a driver.
pub(crate) trait Drive: Send + Sync + 'static {
    /// Polls the driver once.
    ///
    /// # Safety
    ///
    /// No other poll of the driver is under way, on any thread.
    unsafe fn poll_driver(&self) -> DriverStatus;

    /// Hands the deferred requests to the device.
    fn send(&self, queues: &mut Queues);

    /// The driver has ended, by itself or in a panic.
    fn driver_ended(&self, status: DriverStatus);

    /// A poll of the driver has ended: the descriptor is waited for again, if it was ready.
    fn watch_again(&self);

    /// A thread has been in a call of the device for `time`.
    fn hangs(&self, call: Call, time: Duration);

    /// That call has ended, after `time`.
    fn came_back(&self, call: Call, time: Duration);

    /// Has the driver polled if it was notified and the thread that was to poll it may not come back.
    fn rescue(&self);
}

/// The driver of one device. The device keeps its driver alive, also through the waker that the device's code holds. The driver
/// does not keep the device alive.
pub(crate) struct Driver {
    state: AtomicU8,
    device: Weak<dyn Drive>,
    queue: Sender<Arc<Driver>>,
}

impl Driver {
    /// The driver of `device`, which is to be polled a first time soon.
    pub(crate) fn new(device: Weak<dyn Drive>, queue: Sender<Arc<Driver>>) -> Arc<Self> {
        Arc::new(Self { state: AtomicU8::new(0), device, queue })
    }

    /// The driver may have work.
    fn notify(self: &Arc<Self>) {
        // This thread is about to poll the driver. No other thread needs to know.
        if HELPED.with(|helped| helped.notify(self)) {
            return;
        }
        // Ordering: Release, so that the thread that claims the driver sees the writes that led to the wake.
        let state = self.state.fetch_or(NOTIFIED, Ordering::Release);
        // A thread that runs the driver looks at NOTIFIED again. Otherwise this thread may take the driver over, even if it was
        // notified before: the thread that was to poll it then may be busy with something else.
        if state & (RUNNING | ENDED) == 0 && !local::take_over(self) {
            self.schedule();
        }
    }

    /// Sends the driver to the driving thread, unless it is in the channel already.
    pub(super) fn schedule(self: &Arc<Self>) {
        // Ordering: Relaxed. The channel orders the accesses that follow.
        let state = self.state.fetch_or(QUEUED, Ordering::Relaxed);
        if state & (QUEUED | ENDED) == 0 {
            // The channel is closed only when the runtime is gone, and the devices with it.
            let _ = self.queue.try_send(self.clone());
        }
    }

    /// Runs the driver, which the driving thread took out of the channel.
    pub(super) fn run_from_queue(self: &Arc<Self>) {
        // Ordering: Relaxed. QUEUED says only that the driver is in the channel. The bit is cleared before the driver is claimed,
        // so that a later notification queues the driver again.
        self.state.fetch_and(!QUEUED, Ordering::Relaxed);
        self.run();
    }

    /// Polls the driver on this thread, or has the thread that polls it now poll it again.
    pub(crate) fn run_anyway(self: &Arc<Self>) {
        // Ordering: Release, as in `notify`.
        self.state.fetch_or(NOTIFIED, Ordering::Release);
        self.run();
    }

    /// Polls the driver if it was notified and no other thread polls it.
    pub(super) fn run(self: &Arc<Self>) {
        // Ordering: Relaxed. The load is only a check; `claim` acquires.
        if self.state.load(Ordering::Relaxed) & NOTIFIED != 0
            && let Some(device) = self.device()
        {
            self.run_with(&*device);
        }
    }

    /// Hands the deferred requests to the device, and polls the driver if that or another event notified it.
    pub(super) fn send_and_run(self: &Arc<Self>, queues: &mut Queues) {
        queues.fail_cancelled();
        let Some(device) = self.device() else { return queues.fail(IoError::NOT_SUBMITTED) };
        let helper = Helper::new(self, &*device);
        device.send(queues);
        drop(helper);
        // Another thread may have notified the driver before.
        self.run_with(&*device);
    }

    /// The device, unless it is closed.
    fn device(&self) -> Option<Arc<dyn Drive>> {
        let device = self.device.upgrade();
        if device.is_none() {
            // Ordering: Relaxed. Nothing is read because of this bit.
            self.state.fetch_or(ENDED, Ordering::Relaxed);
        }
        device
    }

    /// Runs the driver if it was `notified` by this thread, or was notified by another.
    fn run_notified(self: &Arc<Self>, device: &dyn Drive, notified: bool) {
        if notified {
            // Mostly no other thread notifies or polls the driver.
            // Ordering: Acquire, to see the writes of the last poll.
            let claimed =
                self.state.compare_exchange(0, RUNNING, Ordering::Acquire, Ordering::Relaxed).is_ok();
            if claimed {
                if self.poll_claimed(device) {
                    self.run_with(device);
                }
                return;
            }
            // Ordering: Release, as in `notify`.
            self.state.fetch_or(NOTIFIED, Ordering::Release);
        }
        self.run_with(device);
    }

    fn run_with(self: &Arc<Self>, device: &dyn Drive) {
        for _ in 0..POLLS_IN_A_ROW {
            if !self.claim() || !self.poll_claimed(device) {
                return;
            }
        }
        self.schedule();
    }

    /// Polls the driver once; `true` if it was notified meanwhile and has not ended.
    fn poll_claimed(&self, device: &dyn Drive) -> bool {
        // Plugins do not unwind; a subscriber of the host's records, or a waker that is dropped, might.
        let status = catch_unwind(AssertUnwindSafe(|| {
            // SAFETY: this thread has set RUNNING, and no other thread polls the driver until the bit is cleared; the device has
            // one driver.
            let status = unsafe { device.poll_driver() };
            if status == DriverStatus::PENDING {
                device.watch_again();
            } else {
                device.driver_ended(status);
            }
            status
        }))
        .unwrap_or(DriverStatus::PANICKED);
        if status != DriverStatus::PENDING {
            let panicked = if status == DriverStatus::PANICKED { PANICKED } else { 0 };
            // Ordering: Relaxed. Nothing is read because of these bits.
            self.state.fetch_or(ENDED | panicked, Ordering::Relaxed);
        }
        // Ordering: Release, for the thread that claims it next.
        let state = self.state.fetch_and(!RUNNING, Ordering::Release);
        state & NOTIFIED != 0 && state & ENDED == 0
    }

    fn claim(&self) -> bool {
        // Ordering: Acquire, to see the writes of the last poll and of the wakes. Relaxed if the driver is not claimed.
        self.state
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, |state| {
                (state & (NOTIFIED | RUNNING | ENDED) == NOTIFIED).then_some(state & !NOTIFIED | RUNNING)
            })
            .is_ok()
    }

    /// The descriptor of the device is ready. The thread that waits for descriptors runs no code of plugins.
    pub(crate) fn notify_elsewhere(self: &Arc<Self>) {
        // Ordering: Release, as in `notify`.
        let state = self.state.fetch_or(NOTIFIED, Ordering::Release);
        if state & (RUNNING | ENDED) == 0 {
            self.schedule();
        }
    }

    /// Sends the driver to the driving thread if it was notified and no thread has begun to poll it.
    pub(crate) fn rescue(self: &Arc<Self>) {
        // Ordering: Relaxed. The thread that polls the driver acquires.
        let state = self.state.load(Ordering::Relaxed);
        if state & (NOTIFIED | RUNNING | QUEUED | ENDED) == NOTIFIED {
            self.schedule();
        }
    }

    /// Whether the driver has ended by a panic.
    pub(crate) fn has_panicked(&self) -> bool {
        // Ordering: Relaxed. Nothing is read because of this bit.
        self.state.load(Ordering::Relaxed) & PANICKED != 0
    }

    /// Whether the driver will not be polled any more.
    pub(crate) fn is_ended(&self) -> bool {
        // Ordering: Relaxed. Nothing is read because of this bit.
        self.state.load(Ordering::Relaxed) & ENDED != 0 || self.device.strong_count() == 0
    }
}

/// The waker that a plugin gets.
impl Wake for Driver {
    fn wake(self: Arc<Self>) {
        self.notify();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.notify();
    }
}

thread_local! {
    static HELPED: Helped = const { Helped { driver: Cell::new(ptr::null()), notified: Cell::new(false) } };
}

/// The driver that this thread will poll when it has handed views to the device, if the views notify the driver.
struct Helped {
    driver: Cell<*const Driver>,
    notified: Cell<bool>,
}

impl Helped {
    fn begin(driver: &Arc<Driver>) -> Helping {
        HELPED.with(|helped| Helping {
            driver: helped.driver.replace(Arc::as_ptr(driver)),
            notified: helped.notified.replace(false),
        })
    }

    /// Takes a notification; `false` if it is for another driver.
    fn notify(&self, driver: &Arc<Driver>) -> bool {
        let helped = ptr::eq(self.driver.get(), Arc::as_ptr(driver));
        if helped {
            self.notified.set(true);
        }
        helped
    }
}

/// The driver that this thread helped before, and its notification.
struct Helping {
    driver: *const Driver,
    notified: bool,
}

impl Helping {
    /// Ends the help; gives whether the driver was notified.
    fn end(self) -> bool {
        HELPED.with(|helped| {
            helped.driver.set(self.driver);
            helped.notified.replace(self.notified)
        })
    }
}

/// While a helper lives, this thread takes the notifications of one driver; when the helper is dropped, the driver is polled if
/// it was notified.
///
/// So a future that is polled by a foreign executor needs no second thread for a device that can answer soon.
pub(crate) struct Helper<'a> {
    driver: &'a Arc<Driver>,
    device: &'a dyn Drive,
    outer: Option<Helping>,
}

impl<'a> Helper<'a> {
    /// A helper for `driver`, which is the driver of `device`.
    pub(crate) fn new(driver: &'a Arc<Driver>, device: &'a dyn Drive) -> Self {
        Self { driver, device, outer: Some(Helped::begin(driver)) }
    }
}

impl Drop for Helper<'_> {
    fn drop(&mut self) {
        if self.outer.take().is_some_and(Helping::end) {
            self.driver.run_notified(self.device, true);
        }
    }
}
