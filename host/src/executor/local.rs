//! The work of a thread inside `block_on`: it sends the requests that its task has deferred, and polls the drivers that this
//! wakes.
//!
//! So a request and its completion need no second thread, and all requests that were submitted meanwhile are handled together.
//!
//! That is only correct if the thread comes back to [`Local::drive`]. It does for a request that is polled with the waker of this
//! `block_on`. A request that is polled with another waker may belong to an executor that blocks the thread further inside.

use std::cell::{Cell, RefCell, RefMut};
use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::pin::pin;
use std::ptr;
use std::sync::Arc;
use std::task::{Poll, RawWakerVTable, Waker};

use super::driver::Driver;
use super::queues::{Pace, Queues};

thread_local! {
    static THREAD: Thread = const {
        Thread {
            waker: Cell::new(NO_WAKER),
            deferred: Cell::new(false),
            driving: Cell::new(false),
            depth: Cell::new(0),
            drivers: ManuallyDrop::new(RefCell::new(Vec::new())),
        }
    };
}

struct Thread {
    /// Identity of the waker of the innermost `block_on` on this thread.
    waker: Cell<Identity>,
    /// The task of the innermost `block_on` has deferred a request since it was polled, and is to be polled again.
    deferred: Cell<bool>,
    /// Drivers that are woken now will be polled by this thread.
    driving: Cell<bool>,
    /// Number of nested calls of `block_on` that this thread is in.
    depth: Cell<usize>,
    /// The drivers that this thread uses. Idle entries are kept, so that they are found again without reference counting. Empty
    /// outside of `block_on`, so that it need not be dropped.
    drivers: ManuallyDrop<RefCell<Vec<Entry>>>,
}

/// Data and table of a waker.
type Identity = (*const (), *const RawWakerVTable);
const NO_WAKER: Identity = (ptr::null(), ptr::null());

fn identity(waker: &Waker) -> Identity {
    (waker.data(), waker.vtable())
}

struct Entry {
    driver: Arc<Driver>,
    queues: Queues,
    pace: Pace,
    woken: bool,
}

impl Entry {
    fn has_work(&self) -> bool {
        self.woken || !self.queues.is_empty()
    }
}

/// The state of this thread.
#[inline(always)]
fn this_thread() -> &'static Thread {
    // Not inside of `with`, since that is not always inlined: views would be copied on the stack.
    // SAFETY: the thread-local has no destructor, so it exists until the thread ends; the reference cannot leave the thread,
    // since `Thread` is not `Sync`, and this module does not store it.
    unsafe { &*THREAD.with(ptr::from_ref) }
}

impl Thread {
    /// The index of a driver's entry.
    #[inline(always)]
    fn find(&self, driver: &Arc<Driver>) -> Option<usize> {
        self.drivers.borrow().iter().position(|entry| Arc::ptr_eq(&entry.driver, driver))
    }

    /// The index of a driver's entry; adds an entry if there is none.
    #[inline(always)]
    fn find_or_add(&self, driver: &Arc<Driver>) -> usize {
        self.find(driver).unwrap_or_else(|| Self::add_entry(&mut self.drivers.borrow_mut(), driver))
    }

    #[cold]
    fn add_entry(drivers: &mut Vec<Entry>, driver: &Arc<Driver>) -> usize {
        // Closed devices need no entry.
        drivers.retain(|entry| entry.has_work() || !entry.driver.is_ended());
        drivers.push(Entry {
            driver: driver.clone(),
            queues: Queues::default(),
            pace: Pace::default(),
            woken: false,
        });
        drivers.len() - 1
    }

    /// Takes an entry that has work.
    fn take_entry(&self) -> Option<Entry> {
        let mut drivers = self.drivers.borrow_mut();
        let index = drivers.iter().position(Entry::has_work)?;
        Some(drivers.swap_remove(index))
    }

    /// Takes the entry of a driver, if it has requests to send.
    fn take_entry_of(&self, driver: &Arc<Driver>) -> Option<Entry> {
        let index = self.find(driver)?;
        let mut drivers = self.drivers.borrow_mut();
        if drivers[index].queues.is_empty() { None } else { Some(drivers.swap_remove(index)) }
    }

    /// Keeps an entry for the next time.
    fn keep_entry(&self, entry: Entry) {
        let mut drivers = self.drivers.borrow_mut();
        // A driver that submits to its own device has made another entry meanwhile.
        match drivers.iter_mut().find(|other| Arc::ptr_eq(&other.driver, &entry.driver)) {
            Some(other) => {
                other.queues.append(entry.queues);
                other.woken |= entry.woken;
            }
            None => drivers.push(entry),
        }
    }
}

/// Polls `future` to its end on this thread, and the drivers that it wakes.
///
/// While there is nothing to do, the thread sleeps on the descriptors of all devices and timers.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let local = Local::enter();
    async_io::block_on(poll_fn(|cx| {
        loop {
            local.polls_with(cx.waker());
            if let Poll::Ready(value) = future.as_mut().poll(cx) {
                return Poll::Ready(value);
            }
            if !local.drive() {
                return Poll::Pending;
            }
        }
    }))
}

/// This thread is inside `block_on`.
struct Local {
    outer: Identity,
    outer_deferred: bool,
    outer_driving: bool,
    /// The value belongs to its thread.
    _thread: PhantomData<*const ()>,
}

impl Local {
    fn enter() -> Self {
        let thread = this_thread();
        thread.depth.set(thread.depth.get() + 1);
        Self {
            outer: thread.waker.replace(NO_WAKER),
            outer_deferred: thread.deferred.replace(false),
            outer_driving: thread.driving.replace(false),
            _thread: PhantomData,
        }
    }

    /// The blocked future is about to be polled with this waker.
    fn polls_with(&self, waker: &Waker) {
        this_thread().waker.set(identity(waker));
    }

    /// Sends the requests that were deferred on this thread, and polls the drivers that were woken here; `false` if there was no
    /// work.
    fn drive(&self) -> bool {
        let thread = this_thread();
        // A `block_on` further inside may have sent the requests that the task has deferred: the task is polled again all the
        // same.
        let mut any = thread.deferred.replace(false);
        while let Some(mut entry) = thread.take_entry() {
            any = true;
            // Drivers that are woken by this driver are polled in this loop.
            let outer = Driving(thread.driving.replace(true));
            if entry.queues.is_empty() {
                entry.woken = false;
                entry.driver.run();
            } else {
                entry.woken = false;
                entry.pace.sent(entry.queues.len());
                entry.driver.send_and_run(&mut entry.queues);
            }
            drop(outer);
            thread.keep_entry(entry);
        }
        any
    }
}

/// Restores `driving` of this thread when it is dropped.
struct Driving(bool);

impl Drop for Driving {
    fn drop(&mut self) {
        this_thread().driving.set(self.0);
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        let thread = this_thread();
        thread.waker.set(self.outer);
        thread.deferred.set(self.outer_deferred);
        thread.driving.set(self.outer_driving);
        thread.depth.set(thread.depth.get() - 1);
        // The requests that the task has deferred are sent, though the task does not wait for them. From here on the driving
        // thread polls the drivers of its devices.
        while let Some(mut entry) = thread.take_entry() {
            entry.woken = false;
            if entry.queues.is_empty() {
                entry.driver.schedule();
            } else {
                entry.driver.send_and_run(&mut entry.queues);
            }
            thread.keep_entry(entry);
        }
        if thread.depth.get() == 0 {
            let idle = std::mem::take(&mut *thread.drivers.borrow_mut());
            drop(idle);
        }
    }
}

/// The queues of one device, to which a task adds views that this thread's `block_on` will send.
pub(crate) struct Place(RefMut<'static, Queues>);

/// The queues to which a task can add a view; `None` if this thread's `block_on` is not polling a task with this waker, or if the
/// task waits for each request before it sends the next.
#[inline(always)]
pub(crate) fn place(driver: &Arc<Driver>, waker: &Waker) -> Option<Place> {
    let thread = this_thread();
    if thread.waker.get() != identity(waker) {
        return None;
    }
    let index = thread.find_or_add(driver);
    let mut drivers = thread.drivers.borrow_mut();
    let entry = &mut drivers[index];
    if entry.queues.is_empty() && entry.pace.is_alone() {
        return None;
    }
    thread.deferred.set(true);
    Some(Place(RefMut::map(drivers, |drivers| &mut drivers[index].queues)))
}

impl Place {
    /// The queues. Views that are added are sent.
    #[inline(always)]
    pub(crate) fn queues(&mut self) -> &mut Queues {
        &mut self.0
    }
}

/// A request to this device was cancelled: if it was deferred on this thread, it is not sent.
pub(crate) fn cancelled(driver: &Arc<Driver>) {
    let thread = this_thread();
    if let Some(index) = thread.find(driver) {
        thread.drivers.borrow_mut()[index].queues.cancelled = true;
    }
}

/// Sends the requests that were deferred for a device on this thread.
#[cold]
pub(crate) fn flush(driver: &Arc<Driver>) {
    let thread = this_thread();
    let entry = thread.take_entry_of(driver);
    if let Some(mut entry) = entry {
        entry.pace.sent(entry.queues.len());
        entry.driver.send_and_run(&mut entry.queues);
        thread.keep_entry(entry);
    }
}

/// Takes over a woken driver if this thread is about to poll the drivers that it wakes.
pub(super) fn take_over(driver: &Arc<Driver>) -> bool {
    let thread = this_thread();
    let driving = thread.driving.get();
    if driving {
        let index = thread.find_or_add(driver);
        thread.drivers.borrow_mut()[index].woken = true;
    }
    driving
}
