//! The tasks that drive a [`LocalDevice`](super::LocalDevice): one task at a time polls the driver, and no wake is lost.

use core::task::{Context, Waker};
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, TryLockError};
use std::task::Wake;

use crate::packet::mutant;
use crate::sync::{AtomicBool, Mutex, MutexGuard, Ordering};

/// The tasks that drive a device, and whether the driver has to be polled.
#[derive(Default)]
pub(super) struct Drivers {
    notified: AtomicBool,
    ended: AtomicBool,
    /// Held by the thread that polls the driver now.
    polling: Mutex<()>,
    /// The wakers of all tasks that drive the device.
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    next: u64,
    /// Reference-counted, so that no foreign code runs under the lock (rule P4).
    wakers: HashMap<u64, Arc<Waker>>,
}

/// The number of polls after which a driver that keeps waking itself gives its thread back.
const POLLS_IN_A_ROW: usize = if cfg!(pactio_loom) { 1 } else { 32 };

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The waker of the device's driver: wakes all tasks that drive the device.
impl Wake for Drivers {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        mutant!("tasks_are_woken_before_the_notification", self.wake_all(), ());
        self.notify();
        mutant!("tasks_are_woken_before_the_notification", (), self.wake_all());
    }
}

impl Drivers {
    /// Records that the driver has to be polled.
    pub(super) fn notify(&self) {
        // Ordering: Release, for the writes that led to the wake. Acquire, and a read-modify-write, with the read-modify-write of
        // `is_notified` in `drive`: if `is_notified` ran first and saw no notification, a task that is woken now finds the lock
        // free.
        self.notified.swap(true, Ordering::AcqRel);
    }

    /// `true` if a notification came after the last poll.
    fn is_notified(&self) -> bool {
        // Ordering: AcqRel, and a read-modify-write: see `notify`.
        let plain = || self.notified.load(Ordering::Relaxed);
        mutant!("a_notification_is_only_loaded", plain(), self.notified.fetch_or(false, Ordering::AcqRel))
    }

    /// Wakes all tasks that drive the device.
    pub(super) fn wake_all(&self) {
        // Woken outside of the lock (rule P4).
        let wakers: Vec<Arc<Waker>> = lock(&self.waiting).wakers.values().cloned().collect();
        wakers.iter().for_each(|waker| waker.wake_by_ref());
    }

    /// Polls the driver while it is notified, unless another thread does; `true` if the driver ended in this call. No two calls
    /// of `poll` overlap; `poll` returns `true` if the driver has ended.
    pub(super) fn drive(self: &Arc<Self>, mut poll: impl FnMut(&mut Context<'_>) -> bool) -> bool {
        let waker = Waker::from(self.clone());
        let mut polls = 0;
        loop {
            let ended = match self.polling.try_lock() {
                Ok(_polling) => self.poll_while_notified(&mut poll, &waker, &mut polls),
                Err(TryLockError::Poisoned(_polling)) => {
                    self.poll_while_notified(&mut poll, &waker, &mut polls)
                }
                // The thread that polls checks for a notification again after it has released the lock.
                Err(TryLockError::WouldBlock) => return false,
            };
            if ended {
                // Other tasks may have tried to drive the device while the lock was taken.
                self.wake_all();
                return true;
            }
            if !self.is_notified() || self.is_ended() {
                return false;
            }
            if polls >= POLLS_IN_A_ROW {
                // A woken task continues, after other tasks have had their turn.
                self.wake_all();
                return false;
            }
        }
    }

    /// `true` if the driver ended. The caller holds `polling`.
    fn poll_while_notified(
        &self,
        poll: &mut impl FnMut(&mut Context<'_>) -> bool,
        waker: &Waker,
        polls: &mut usize,
    ) -> bool {
        // Ordering: Acquire, with the Release in `notify`.
        while *polls < POLLS_IN_A_ROW && !self.is_ended() && self.notified.swap(false, Ordering::Acquire) {
            *polls += 1;
            if poll(&mut Context::from_waker(waker)) {
                // Ordering: Relaxed. The flag guards no data.
                self.ended.store(true, Ordering::Relaxed);
                return true;
            }
        }
        false
    }

    /// The state of a device without a driver.
    pub(super) fn none() -> Arc<Self> {
        Arc::new(Self { ended: AtomicBool::new(true), ..Self::default() })
    }

    /// The driver has ended and is not polled any more.
    pub(super) fn is_ended(&self) -> bool {
        // Ordering: Relaxed. The flag guards no data.
        self.ended.load(Ordering::Relaxed)
    }

    /// Adds a task; returns its number.
    pub(super) fn join(&self) -> u64 {
        let mut waiting = lock(&self.waiting);
        waiting.next += 1;
        waiting.next
    }

    /// Stores the waker of a task.
    pub(super) fn set_waker(&self, id: u64, waker: &Waker) {
        if lock(&self.waiting).wakers.get(&id).is_some_and(|known| known.will_wake(waker)) {
            return;
        }
        let waker = Arc::new(waker.clone());
        let stale = lock(&self.waiting).wakers.insert(id, waker);
        drop(stale);
    }

    /// Removes a task.
    pub(super) fn leave(&self, id: u64) {
        let stale = lock(&self.waiting).wakers.remove(&id);
        drop(stale);
    }
}

#[cfg(all(test, pactio_loom))]
mod models {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use loom::cell::UnsafeCell;
    use loom::thread;

    use super::*;
    use crate::packet::models::model;

    /// A device whose driver does all pending work in each poll. Only one thread at a time may poll.
    struct Device {
        drivers: Arc<Drivers>,
        polls: UnsafeCell<usize>,
        work: crate::sync::AtomicU64,
        done: AtomicUsize,
    }

    /// A task that drives the device.
    struct Task {
        number: u64,
        woken: Arc<Woken>,
    }

    #[derive(Default)]
    struct Woken(AtomicUsize);

    impl Wake for Woken {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    impl Device {
        fn new() -> Arc<Self> {
            Arc::new(Self {
                drivers: Arc::default(),
                polls: UnsafeCell::new(0),
                work: crate::sync::AtomicU64::new(0),
                done: AtomicUsize::new(0),
            })
        }

        /// Adds work, and wakes the driver's waker.
        fn work(&self) {
            self.work.fetch_add(1, crate::sync::Ordering::Relaxed);
            Waker::from(self.drivers.clone()).wake();
        }

        fn poll(&self) -> bool {
            self.polls.with_mut(|polls| unsafe { *polls += 1 });
            let work = self.work.load(crate::sync::Ordering::Relaxed);
            self.done.store(work as usize, Ordering::SeqCst);
            // Lets loom switch threads here: loom has no other such point before the lock is released.
            self.work.load(crate::sync::Ordering::Relaxed);
            false
        }

        /// Polls a task if it was woken.
        fn poll_task(&self, task: &Task) {
            if task.woken.0.swap(0, Ordering::SeqCst) > 0 {
                self.drivers.set_waker(task.number, &Waker::from(task.woken.clone()));
                self.drivers.drive(|_| self.poll());
            }
        }

        /// A task before its first poll.
        fn task(&self) -> Task {
            let woken = Arc::new(Woken(AtomicUsize::new(1)));
            Task { number: self.drivers.join(), woken }
        }
    }

    #[test]
    fn a_wake_is_lost_by_no_task() {
        model(Some(3), || {
            let device = Device::new();
            let tasks = [device.task(), device.task()];
            let threads = tasks.map(|task| {
                let device = device.clone();
                thread::spawn(move || {
                    device.poll_task(&task);
                    device.poll_task(&task);
                    task
                })
            });
            device.work();
            let tasks = threads.map(|thread| thread.join().unwrap());
            // Tasks that were woken are polled.
            for _ in 0..3 {
                tasks.iter().for_each(|task| device.poll_task(task));
            }
            assert_eq!(device.done.load(Ordering::SeqCst), 1, "a wake was lost");
        });
    }

    #[test]
    fn a_task_that_leaves_takes_no_wake_along() {
        model(Some(3), || {
            let device = Device::new();
            let [stays, leaves] = [device.task(), device.task()];
            device.poll_task(&stays);
            // The other task polls the driver for this.
            device.drivers.notify();
            let other = {
                let device = device.clone();
                thread::spawn(move || {
                    device.poll_task(&leaves);
                    device.drivers.leave(leaves.number);
                })
            };
            device.work();
            device.poll_task(&stays);
            other.join().unwrap();
            for _ in 0..2 {
                device.poll_task(&stays);
            }
            assert_eq!(device.done.load(Ordering::SeqCst), 1, "a wake was lost");
        });
    }
}
