//! Who polls a device's driver, so that it is polled by one thread at a time and never forgotten.
//!
//! | bit | true means |
//! |-----|------------|
//! | NOTIFIED | there may be work: somebody will claim the driver |
//! | RUNNING | a thread polls it; when it is through, it looks at NOTIFIED again |
//! | QUEUED | it lies in the channel of the driving thread |
//! | ENDED | it is not polled any more |
//! | PANICKED | and that is why |
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
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};
use std::sync::{Arc, Weak};
use std::task::Wake;
use std::time::Duration;

use async_channel::Sender;
use pactio_sdk::abi::DriverStatus;

use super::local;
use super::queues::Queues;

const NOTIFIED: u8 = 1;
const RUNNING: u8 = 2;
const QUEUED: u8 = 4;
const ENDED: u8 = 8;
const PANICKED: u8 = 16;

/// A driver that keeps waking itself is handed to the driving thread after so many polls in a row, so that others get their
/// turn.
const POLLS_IN_A_ROW: usize = 32;

/// What can be driven.
pub(crate) trait Drive: Send + Sync + 'static {
    /// Polls the driver once.
    ///
    /// # Safety
    ///
    /// No other poll of it is under way, on any thread.
    unsafe fn poll_driver(&self) -> DriverStatus;

    /// Hands over what was deferred.
    fn send(&self, queues: &mut Queues);

    /// The driver has ended by itself or in a panic.
    fn driver_ended(&self, status: DriverStatus);

    /// The driver has been in the poll of this number for so long.
    fn driver_hangs(&self, time: Duration, poll: u32);
}

/// The driver of one device. It does not keep the device, which keeps it, also through the waker that the device's code holds.
pub(crate) struct Driver {
    state: AtomicU8,
    /// Number of the last poll that was begun. Only whoever polls changes it.
    polls: AtomicU32,
    device: Weak<dyn Drive>,
    queue: Sender<Arc<Driver>>,
}

impl Driver {
    /// The driver of `device`, which is to be polled a first time soon.
    pub(crate) fn new(device: Weak<dyn Drive>, queue: Sender<Arc<Driver>>) -> Arc<Self> {
        Arc::new(Self { state: AtomicU8::new(0), polls: AtomicU32::new(0), device, queue })
    }

    /// The driver may have work.
    fn notify(self: &Arc<Self>) {
        // This thread is about to look after it. Nobody else needs to know.
        if HELPED.with(|helped| helped.notify(self)) {
            return;
        }
        // Ordering: Release, so that whoever claims the driver sees what led to the wake.
        let state = self.state.fetch_or(NOTIFIED, Ordering::Release);
        // Whoever runs it looks again. A thread that takes it over does so even if it was notified before: the thread
        // that was to look after it then may be busy with something else.
        if state & (RUNNING | ENDED) == 0 && !local::take_over(self) {
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
    pub(super) fn run(self: &Arc<Self>) {
        // Ordering: Relaxed. It is only a question; `claim` acquires.
        if self.state.load(Ordering::Relaxed) & NOTIFIED != 0
            && let Some(device) = self.device()
        {
            self.run_with(&*device);
        }
    }

    /// Hands over what was deferred for the device, and polls the driver if that or something else notified it.
    pub(super) fn send_and_run(self: &Arc<Self>, queues: &mut Queues) {
        queues.fail_cancelled();
        let Some(device) = self.device() else { return queues.fail() };
        let helper = Helper::new(self, &*device);
        device.send(queues);
        drop(helper);
        // Somebody else may have notified it before.
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

    /// Runs it if `notified` by this thread, or by another.
    fn run_notified(self: &Arc<Self>, device: &dyn Drive, notified: bool) {
        if notified {
            // Mostly nobody else has to do with it.
            // Ordering: Acquire, for what the last poll did.
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

    /// Polls it once; `true` if it was notified meanwhile.
    fn poll_claimed(&self, device: &dyn Drive) -> bool {
        // Ordering: Relaxed. It is only compared with itself.
        self.polls.store(self.polls.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed);
        // Plugins do not unwind; a subscriber of our records, or a waker that is dropped, might.
        let status = catch_unwind(AssertUnwindSafe(|| {
            // SAFETY: whoever polls has set RUNNING, and until it is cleared nobody else does; the device has one driver.
            let status = unsafe { device.poll_driver() };
            if status != DriverStatus::PENDING {
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
        // Ordering: Acquire, for what the last poll and the wakes did. Relaxed for a question with the answer no.
        self.state
            .fetch_update(Ordering::Acquire, Ordering::Relaxed, |state| {
                (state & (NOTIFIED | RUNNING | ENDED) == NOTIFIED).then_some(state & !NOTIFIED | RUNNING)
            })
            .is_ok()
    }

    /// The number of the poll that is under way.
    pub(crate) fn current_poll(&self) -> Option<u32> {
        // Ordering: Relaxed. A look that finds the number of a poll that has just ended finds another at the next look.
        let running = self.state.load(Ordering::Relaxed) & RUNNING != 0;
        running.then(|| self.polls.load(Ordering::Relaxed))
    }

    /// It has been in one poll for so long.
    pub(super) fn hangs(&self, time: Duration, poll: u32) {
        if let Some(device) = self.device.upgrade() {
            device.driver_hangs(time, poll);
        }
    }

    /// It has ended by a panic.
    pub(crate) fn has_panicked(&self) -> bool {
        // Ordering: Relaxed. Nothing is read because of this bit.
        self.state.load(Ordering::Relaxed) & PANICKED != 0
    }

    /// It will not be polled any more.
    pub(crate) fn is_ended(&self) -> bool {
        // Ordering: Relaxed. Nothing is read because of this bit.
        self.state.load(Ordering::Relaxed) & ENDED != 0 || self.device.strong_count() == 0
    }
}

/// What a plugin wakes.
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

/// The driver that this thread will poll when it has handed views to its device, if they notify it.
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

/// What this thread looked after before.
struct Helping {
    driver: *const Driver,
    notified: bool,
}

impl Helping {
    /// Whether the driver was notified.
    fn end(self) -> bool {
        HELPED.with(|helped| {
            helped.driver.set(self.driver);
            helped.notified.replace(self.notified)
        })
    }
}

/// While it lives, this thread looks after one driver; when it is dropped, the driver is polled if it was notified.
///
/// So a future that is polled by a foreign executor needs no second thread for a device that can answer soon.
pub(crate) struct Helper<'a> {
    driver: &'a Arc<Driver>,
    device: &'a dyn Drive,
    outer: Option<Helping>,
}

impl<'a> Helper<'a> {
    /// The driver is that of the device.
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
