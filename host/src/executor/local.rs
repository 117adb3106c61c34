//! The drivers that a thread inside `block_on` polls by itself.
//!
//! A driver that is woken by a request of the blocked future is not handed to the driving thread: this thread polls it as
//! soon as its own future is pending. So a request and its completion need no second thread, and everything that was
//! submitted meanwhile is handled in one go.
//!
//! That is only right if the thread does come back to [`Local::drive`]. A request can tell: it is polled with the waker of
//! this `block_on`. One that is polled with another waker may belong to an executor that blocks the thread further inside.

use std::cell::{Cell, RefCell};
use std::ptr;
use std::sync::Arc;
use std::task::{RawWakerVTable, Waker};

use super::driver::Driver;

thread_local! {
    static THREAD: Thread = const {
        Thread {
            waker: Cell::new(NO_WAKER),
            deferring: Cell::new(false),
            depth: Cell::new(0),
            drivers: RefCell::new(Vec::new()),
        }
    };
}

struct Thread {
    /// Identity of the waker of the innermost `block_on` on this thread.
    waker: Cell<Identity>,
    /// What is woken now will be driven by this thread.
    deferring: Cell<bool>,
    /// How many nested calls of `block_on` this thread is in.
    depth: Cell<usize>,
    /// The drivers that were woken here; kept after they ran, to be found again without counting.
    drivers: RefCell<Vec<Entry>>,
}

/// Data and table of a waker.
type Identity = (*const (), *const RawWakerVTable);
const NO_WAKER: Identity = (ptr::null(), ptr::null());

fn identity(waker: &Waker) -> Identity {
    (waker.data(), waker.vtable())
}

struct Entry {
    driver: Arc<Driver>,
    woken: Cell<bool>,
}

/// This thread is inside `block_on`.
pub(super) struct Local {
    outer: Identity,
    /// It belongs to its thread.
    _thread: std::marker::PhantomData<*const ()>,
}

impl Local {
    pub(super) fn enter() -> Self {
        let outer = THREAD.with(|thread| {
            thread.depth.set(thread.depth.get() + 1);
            thread.waker.replace(NO_WAKER)
        });
        Self { outer, _thread: std::marker::PhantomData }
    }

    /// The blocked future is about to be polled with this waker.
    pub(super) fn polls_with(&self, waker: &Waker) {
        THREAD.with(|thread| thread.waker.set(identity(waker)));
    }

    /// Polls the drivers that were woken on this thread; `false` if there was none.
    pub(super) fn drive(&self) -> bool {
        let mut any = false;
        while let Some(driver) = next_woken() {
            any = true;
            // What a driver wakes on its way is driven in this loop.
            let _deferring = Deferring::begin();
            driver.run();
        }
        any
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        THREAD.with(|thread| {
            thread.waker.set(self.outer);
            thread.depth.set(thread.depth.get() - 1);
        });
        // What was woken and not yet polled goes to the driving thread.
        while let Some(driver) = next_woken() {
            driver.schedule();
        }
        THREAD.with(|thread| {
            if thread.depth.get() == 0 {
                drop(std::mem::take(&mut *thread.drivers.borrow_mut()));
            }
        });
    }
}

fn next_woken() -> Option<Arc<Driver>> {
    THREAD.with(|thread| {
        let drivers = thread.drivers.borrow();
        let entry = drivers.iter().find(|entry| entry.woken.take())?;
        Some(entry.driver.clone())
    })
}

/// While it lives, drivers that are woken on this thread are left to its `block_on`.
pub(crate) struct Deferring {
    outer: bool,
}

impl Deferring {
    fn begin() -> Self {
        Self { outer: THREAD.with(|thread| thread.deferring.replace(true)) }
    }

    /// `None` unless a future polled with this waker hands control back to the `block_on` of this thread.
    pub(crate) fn for_waker(waker: &Waker) -> Option<Self> {
        THREAD.try_with(|thread| (thread.waker.get() == identity(waker)).then(Self::begin)).ok().flatten()
    }
}

impl Drop for Deferring {
    fn drop(&mut self) {
        THREAD.with(|thread| thread.deferring.set(self.outer));
    }
}

/// Takes a woken driver if this thread is about to drive what it wakes.
pub(super) fn take_over(driver: &Arc<Driver>) -> bool {
    THREAD
        .try_with(|thread| {
            if !thread.deferring.get() {
                return false;
            }
            let mut drivers = thread.drivers.borrow_mut();
            match drivers.iter().find(|entry| Arc::ptr_eq(&entry.driver, driver)) {
                Some(entry) => entry.woken.set(true),
                None => {
                    // Devices that are gone need no place.
                    drivers.retain(|entry| entry.woken.get() || !entry.driver.is_ended());
                    drivers.push(Entry { driver: driver.clone(), woken: Cell::new(true) });
                }
            }
            true
        })
        .unwrap_or(false)
}
