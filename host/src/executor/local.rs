//! The work of a thread inside `block_on`: the thread sends the requests that were [deferred](super::deferred) on it, and polls
//! the drivers that these requests wake.
//!
//! So a request and its completion need no second thread, and all requests that were submitted meanwhile are handled together.
//!
//! A request that is polled with the waker of this `block_on` is polled again by [`block_on`], after the requests were sent. A
//! request that is polled with another waker may belong to an inner executor that blocks the thread: such a request registers its
//! waker, and wakes its task.

use std::cell::{Cell, RefCell};
use std::future::{Future, poll_fn};
use std::marker::PhantomData;
use std::mem::ManuallyDrop;
use std::pin::{Pin, pin};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, RawWakerVTable, Waker};

use pactio_sdk::io::Submitted;

use super::deferred::{End, Left, Views};
use super::driver::Driver;

thread_local! {
    static THREAD: Thread = const {
        Thread {
            waker: Cell::new(NO_WAKER),
            deferred: Cell::new(false),
            number: Cell::new(NO_NUMBER),
            driving: Cell::new(false),
            has_work: Cell::new(false),
            marked: Cell::new(ptr::null()),
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
    /// Chooses the queues that this thread defers requests in.
    number: Cell<usize>,
    /// Drivers that are woken now will be polled by this thread.
    driving: Cell<bool>,
    /// An entry may have work.
    has_work: Cell<bool>,
    /// A driver for which a request was deferred, both since the innermost `block_on` began and since the last entry was taken.
    /// The next request for this driver need not look for the entry.
    marked: Cell<*const Driver>,
    /// Number of nested calls of `block_on` that this thread is in.
    depth: Cell<usize>,
    /// The drivers that this thread uses. Idle entries are kept, so that they are found again without reference counting. The
    /// list is empty outside of `block_on`, so it need not be dropped.
    drivers: ManuallyDrop<RefCell<Vec<InUse>>>,
}

/// Data and table of a waker.
type Identity = (*const (), *const RawWakerVTable);
const NO_WAKER: Identity = (ptr::null(), ptr::null());

fn identity(waker: &Waker) -> Identity {
    (waker.data(), waker.vtable())
}

struct InUse {
    driver: Arc<Driver>,
    /// Requests were deferred on this thread.
    deferred: bool,
    /// The driver was woken on this thread.
    woken: bool,
}

impl InUse {
    fn has_work(&self) -> bool {
        self.woken || self.deferred
    }
}

const NO_NUMBER: usize = usize::MAX;

/// The number of the next thread that defers a request.
static NEXT: AtomicUsize = AtomicUsize::new(0);

/// The state of this thread.
#[inline(always)]
fn this_thread() -> &'static Thread {
    // The callers do not work inside of `with`, which is not always inlined: views would be copied on the stack.
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
    fn add_entry(drivers: &mut Vec<InUse>, driver: &Arc<Driver>) -> usize {
        // Closed devices need no entry.
        drivers.retain(|entry| entry.has_work() || !entry.driver.is_ended());
        drivers.push(InUse { driver: driver.clone(), deferred: false, woken: false });
        drivers.len() - 1
    }

    /// Takes an entry that has work out of the list; `None` if there is none.
    #[inline]
    fn take_entry(&self) -> Option<InUse> {
        if !self.has_work.get() {
            return None;
        }
        let mut drivers = self.drivers.borrow_mut();
        let Some(index) = drivers.iter().position(InUse::has_work) else {
            self.has_work.set(false);
            return None;
        };
        // The entry may be that of the marked driver, whose next request then needs a new entry.
        self.marked.set(ptr::null());
        Some(drivers.swap_remove(index))
    }

    /// Requests are deferred for a driver.
    fn mark(&self, driver: &Arc<Driver>) {
        let index = self.find_or_add(driver);
        self.drivers.borrow_mut()[index].deferred = true;
        self.has_work.set(true);
        self.deferred.set(true);
        self.marked.set(Arc::as_ptr(driver));
    }

    /// The number of this thread.
    #[inline(always)]
    fn number(&self) -> usize {
        if self.number.get() == NO_NUMBER {
            self.number.set(NEXT.fetch_add(1, Ordering::Relaxed));
        }
        self.number.get()
    }

    /// Sends the requests that were deferred on this thread, and polls the driver if it is woken.
    fn work(&self, entry: &mut InUse) {
        entry.woken = false;
        if std::mem::take(&mut entry.deferred) {
            let queue = entry.driver.deferred().of_thread(self.number());
            entry.driver.send_deferred(queue);
        }
        entry.driver.run();
    }

    /// Keeps an entry, whose work is done, so that it is found again.
    fn keep_entry(&self, entry: InUse) {
        let mut drivers = self.drivers.borrow_mut();
        // A driver that submits to its own device has made another entry meanwhile.
        if !drivers.iter().any(|other| Arc::ptr_eq(&other.driver, &entry.driver)) {
            drivers.push(entry);
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
            // After work, the future is polled again: requests that were deferred with this waker do not wake it.
            if !local.drive() {
                return Poll::Pending;
            }
        }
    }))
}

/// Calls `f`. The next [`block_on`] of this thread sends the requests that `f` defers. When `f` returns, this function sends the
/// remaining ones.
pub(crate) fn together<T>(f: impl FnOnce() -> T) -> T {
    let _local = Local::enter();
    f()
}

/// Polls a task of a worker thread, and the drivers that it wakes.
pub(super) fn poll_task<F: Future>(mut future: Pin<&mut F>, cx: &mut Context<'_>) -> Poll<F::Output> {
    /// Polls in a row, before the other tasks of the thread get their turn.
    const IN_A_ROW: usize = 8;
    let local = Local::enter();
    for _ in 0..IN_A_ROW {
        local.polls_with(cx.waker());
        if let Poll::Ready(value) = future.as_mut().poll(cx) {
            return Poll::Ready(value);
        }
        // After work, the task is polled again: requests that were deferred with this waker do not wake it.
        if !local.drive() {
            return Poll::Pending;
        }
    }
    // The other tasks get their turn before this one goes on.
    cx.waker().wake_by_ref();
    Poll::Pending
}

/// This thread is inside `block_on`, or one of the other functions above.
struct Local {
    outer: Identity,
    outer_deferred: bool,
    outer_driving: bool,
    /// The value belongs to its thread.
    _thread: PhantomData<*const ()>,
}

impl Local {
    /// Begins a level: no waker is known, no request is deferred, and woken drivers go to the driving thread. The drop
    /// restores the state of the outer level.
    fn enter() -> Self {
        let thread = this_thread();
        thread.depth.set(thread.depth.get() + 1);
        // Without a marked driver, the first request of each level marks its driver, which sets `deferred`.
        thread.marked.set(ptr::null());
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
        // The task is polled again even if another thread, or an inner `block_on`, has sent the requests that the task has
        // deferred.
        let mut any = thread.deferred.replace(false);
        while let Some(mut entry) = thread.take_entry() {
            any = true;
            // Drivers that are woken by this driver are polled in this loop.
            let outer = Driving(thread.driving.replace(true));
            thread.work(&mut entry);
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
        // The outer level marks its own drivers.
        thread.marked.set(ptr::null());
        // Requests that are still deferred are sent here, although the task does not wait for them, and their driver is polled
        // once. A driver that was only woken goes to the driving thread, as do all later wakes.
        while let Some(mut entry) = thread.take_entry() {
            if entry.deferred {
                thread.work(&mut entry);
            } else {
                entry.woken = false;
                entry.driver.schedule();
            }
            thread.keep_entry(entry);
        }
        if thread.depth.get() == 0 {
            // The list is empty outside of `block_on`: the end of the thread does not drop it. The borrow ends before the
            // drivers are dropped.
            let idle = std::mem::take(&mut *thread.drivers.borrow_mut());
            drop(idle);
        }
    }
}

/// The end of a queue, to which a task adds a view that is sent later.
pub(crate) struct Place<'a> {
    end: End<'a>,
    driver: &'a Arc<Driver>,
    /// The task is polled again by this thread's `block_on`.
    returns: bool,
}

/// The place for a view of the task with this waker; `None` if the view is better sent at once.
#[inline(always)]
pub(crate) fn place<'a>(driver: &'a Arc<Driver>, waker: &Waker) -> Option<Place<'a>> {
    let thread = this_thread();
    let deferred = driver.deferred();
    let queue = deferred.of_thread(thread.number());
    if queue.sends_at_once() {
        return None;
    }
    // This waker is that of the innermost `block_on`, which polls the task again without a wake.
    let returns = thread.waker.get() == identity(waker);
    // Inside of `block_on`, this thread sends the requests of the drivers that it marks. The last one needs no new mark.
    if thread.depth.get() > 0 && thread.marked.get() != Arc::as_ptr(driver) {
        thread.mark(driver);
    }
    Some(Place { end: queue.end(deferred), driver, returns })
}

impl Place<'_> {
    /// The queue, to which the caller adds one view.
    #[inline(always)]
    pub(crate) fn views(&mut self) -> &mut Views {
        self.end.views()
    }

    /// Releases the queue after the caller has added its view. The view is sent later.
    #[inline(always)]
    pub(crate) fn leave(self, cx: &Context<'_>) -> Submitted {
        let Left { watch, wake } = self.end.leave(self.returns);
        // The watchdog does not look at the queues of this device yet.
        if watch {
            self.driver.watch_deferred();
        }
        if self.returns {
            return Submitted::Deferred;
        }
        // The task's next poll empties the queue. One woken task is enough for a queue.
        if wake {
            cx.waker().wake_by_ref();
        }
        Submitted::Queued
    }
}

/// Takes over a woken driver if this thread is about to poll the drivers that it wakes; `true` if so.
pub(super) fn take_over(driver: &Arc<Driver>) -> bool {
    let thread = this_thread();
    let driving = thread.driving.get();
    if driving {
        let index = thread.find_or_add(driver);
        thread.drivers.borrow_mut()[index].woken = true;
        thread.has_work.set(true);
    }
    driving
}
