//! Selects the thread that polls a driver: one thread at a time polls it, and no wake is lost. The [word](super::driver_word) decides.
//!
//! A wake on a thread that [helps](Helper) the driver sets a flag of that thread. Any other wake notifies the word. Then one of
//! these threads polls the driver:
//!
//! - the thread that polls the driver now;
//! - the thread that woke the driver, if it is about to poll the drivers that it woke: inside a request that will [help](Helper)
//!   after its submission, or inside `block_on` where `local` allows this;
//! - otherwise the driving thread of the runtime.

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::ptr;
use std::sync::{Arc, Weak};
use std::task::Wake;
use std::time::Duration;

use async_channel::Sender;
use pactio_sdk::abi::DriverStatus;
use pactio_sdk::{IoError, RequestId};

use super::deferred::{Deferred, Looked, Queue, Views, Watch};
use super::driver_word::{Notified, Released, Word};
use super::local;
use super::posts::Call;

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

    /// Hands deferred requests to the device.
    fn send(&self, views: &mut Views);

    /// Cancels a request at the device. The cancellation came while the request was handed over.
    fn cancel_late(&self, request: RequestId);

    /// Requests are deferred: asks the watchdog to check that they are sent.
    fn watch_deferred(&self, driver: &Arc<Driver>);

    /// The driver has ended, by itself or in a panic.
    fn driver_ended(&self, status: DriverStatus);

    /// A poll of the driver has ended: waits for the descriptor again, if it was ready.
    fn watch_again(&self);

    /// A thread has been in a call of the device for `time`.
    fn hangs(&self, call: Call, time: Duration);

    /// The reported call has ended, after `time`.
    fn came_back(&self, call: Call, time: Duration);

    /// Called by the watchdog while a thread is held in a plugin. That thread may have taken over the driver's wake, and not come
    /// to poll it: a driver that was notified, and that no thread has begun to poll, is queued for the driving thread.
    fn rescue(&self);
}

/// The driver of one device. The device keeps its driver alive, also through the waker that the device's code holds. The driver
/// does not keep the device alive.
pub(crate) struct Driver {
    word: Word,
    deferred: Deferred,
    device: Weak<dyn Drive>,
    queue: Sender<Duty>,
}

/// The work of the driving thread for a driver.
pub(crate) enum Duty {
    /// Poll the driver.
    Poll(Arc<Driver>),
    /// Send the requests that were deferred, and poll the driver if that notifies it.
    Send(Arc<Driver>),
}

impl Duty {
    /// Does the work, on the driving thread.
    pub(super) fn perform(self) {
        match self {
            Self::Poll(driver) => driver.run_from_queue(),
            Self::Send(driver) => {
                // The mark is cleared first: if the device hangs in a call below, the watchdog can queue the driver again.
                driver.deferred.ends_overdue();
                driver.send_all_deferred();
            }
        }
    }
}

impl Driver {
    /// The driver of `device`. The caller starts the first poll.
    pub(crate) fn new(device: Weak<dyn Drive>, queue: Sender<Duty>) -> Arc<Self> {
        Arc::new(Self { word: Word::new(), deferred: Deferred::default(), device, queue })
    }

    /// The requests that were deferred for the device.
    #[inline(always)]
    pub(super) fn deferred(&self) -> &Deferred {
        &self.deferred
    }

    /// Records a wake, and selects the thread that polls the driver: see the [module](self).
    fn notify(self: &Arc<Self>) {
        // This thread is about to poll the driver. No other thread needs to know.
        if HELPED.with(|helped| helped.notify(self)) {
            return;
        }
        // This thread may take the driver over, even if the driver was notified before: the thread that was then to poll it may
        // be busy with other work.
        if self.word.notify() == Notified::Claims && !local::take_over(self) {
            self.schedule();
        }
    }

    /// Sends the driver to the driving thread, unless it is in the channel already.
    pub(super) fn schedule(self: &Arc<Self>) {
        if self.word.queue() {
            // The channel is closed only when the runtime is gone, and the devices with it.
            let _ = self.queue.try_send(Duty::Poll(self.clone()));
        }
    }

    /// Runs the driver, which the driving thread took out of the channel.
    fn run_from_queue(self: &Arc<Self>) {
        self.word.unqueue();
        self.run();
    }

    /// Polls the driver on this thread. If another thread polls the driver now, that thread polls it again instead.
    pub(crate) fn run_anyway(self: &Arc<Self>) {
        let _ = self.word.notify();
        self.run();
    }

    /// Polls the driver if it was notified and no other thread polls it.
    pub(super) fn run(self: &Arc<Self>) {
        if self.word.is_notified()
            && let Some(device) = self.device_or_end()
        {
            self.run_with(&*device);
        }
    }

    /// Hands the requests of a queue to the device, and polls the driver if that notifies it. If the device is closed, the
    /// requests fail.
    pub(super) fn send_deferred(self: &Arc<Self>, queue: &Queue) {
        let Some(mut taken) = queue.take() else { return };
        let Some(device) = self.device_or_end() else { return taken.views.fail(IoError::NOT_SUBMITTED) };
        // The drop of the helper polls the driver, if the requests have notified it.
        let _helper = Helper::new(self, &*device);
        device.send(&mut taken.views);
        // These requests were cancelled while they were sent: the device may not have known them at that time.
        for request in taken.end() {
            device.cancel_late(request);
        }
    }

    /// Sends all requests that were deferred.
    pub(crate) fn send_all_deferred(self: &Arc<Self>) {
        for queue in self.deferred.queues() {
            self.send_deferred(queue);
        }
    }

    /// A request was cancelled: if it was deferred, it is not sent.
    pub(crate) fn cancel_deferred(&self, request: RequestId) {
        self.deferred.cancel(request).for_each(|mut views| views.fail(IoError::CANCELLED));
    }

    /// Asks the watchdog to look at the deferred requests.
    #[cold]
    pub(super) fn watch_deferred(self: &Arc<Self>) {
        if let Some(device) = self.device_or_end() {
            device.watch_deferred(self);
        }
    }

    /// The watchdog's look at the deferred requests; the time until the next look, if there is one.
    pub(super) fn look_at_deferred(self: &Arc<Self>, watch: &mut Watch) -> Option<Duration> {
        match watch.look(&self.deferred) {
            Looked::Again(pause) => Some(pause),
            Looked::Overdue(pause) => {
                // No thread has sent the requests since the last look: the driving thread sends them.
                // The channel is closed only when the runtime is gone, and the devices with it.
                let _ = self.queue.try_send(Duty::Send(self.clone()));
                Some(pause)
            }
            Looked::Idle => None,
        }
    }

    /// The device. If it is closed, the driver ends, and is not polled any more.
    fn device_or_end(&self) -> Option<Arc<dyn Drive>> {
        let device = self.device.upgrade();
        if device.is_none() {
            self.word.end(false);
        }
        device
    }

    /// Polls the driver, for which a [helper](Helper) of this thread has kept a notification from the word.
    fn run_notified(self: &Arc<Self>, device: &dyn Drive) {
        // In most cases, no other thread notifies or polls the driver, so that the word is idle and one claim is enough.
        if self.word.claim_idle() {
            if self.poll_claimed(device) == Released::Again {
                self.run_with(device);
            }
            return;
        }
        // The word is not idle: it records the notification, so that this thread or the one that polls now polls for it.
        let _ = self.word.notify();
        self.run_with(device);
    }

    /// Polls the driver while it is notified and no other thread polls it. After [`POLLS_IN_A_ROW`] polls, the driving
    /// thread goes on, so that other drivers get their turn.
    fn run_with(self: &Arc<Self>, device: &dyn Drive) {
        for _ in 0..POLLS_IN_A_ROW {
            if !self.word.claim() || self.poll_claimed(device) == Released::Done {
                return;
            }
        }
        self.schedule();
    }

    /// Polls the driver once. This thread has claimed the driver.
    fn poll_claimed(&self, device: &dyn Drive) -> Released {
        // Plugins do not unwind; a subscriber of the host's records, or a waker that is dropped, might.
        let status = catch_unwind(AssertUnwindSafe(|| {
            // SAFETY: this thread has claimed the driver, and no other thread polls it until it is released; the device has one
            // driver.
            let status = unsafe { device.poll_driver() };
            if status == DriverStatus::PENDING {
                // A wait for the descriptor wakes the driver once: the device begins the next wait.
                device.watch_again();
            } else {
                device.driver_ended(status);
            }
            status
        }))
        .unwrap_or(DriverStatus::PANICKED);
        if status != DriverStatus::PENDING {
            // Before the release, so that no thread claims the driver again.
            self.word.end(status == DriverStatus::PANICKED);
        }
        self.word.release()
    }

    /// The descriptor of the device is ready: queues the driver, because the thread that waits for descriptors runs no code of
    /// plugins.
    pub(crate) fn notify_elsewhere(self: &Arc<Self>) {
        if self.word.notify() == Notified::Claims {
            self.schedule();
        }
    }

    /// Sends the driver to the driving thread if it was notified and no thread has begun to poll it.
    pub(crate) fn rescue(self: &Arc<Self>) {
        if self.word.is_left() {
            self.schedule();
        }
    }

    /// Whether the driver has ended by a panic.
    pub(crate) fn has_panicked(&self) -> bool {
        self.word.has_panicked()
    }

    /// Whether the driver will not be polled any more.
    pub(crate) fn is_ended(&self) -> bool {
        self.word.is_ended() || self.device.strong_count() == 0
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
            self.driver.run_notified(self.device);
        }
    }
}
