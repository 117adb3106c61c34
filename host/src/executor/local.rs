//! The drivers that a blocked thread polls by itself.
//!
//! A driver that is woken on a thread inside [`block_on`](super::runtime::block_on) is not handed to a worker: the
//! thread polls it as soon as its own future is pending. So a request and its completion need no second thread, and
//! everything that was submitted meanwhile is handled in one go.

use std::cell::{Cell, RefCell};
use std::sync::Arc;

use super::driver::Driver;

thread_local! {
    static THREAD: Thread = const { Thread { depth: Cell::new(0), drivers: RefCell::new(Vec::new()) } };
}

struct Thread {
    /// How many nested calls of `block_on` this thread is in.
    depth: Cell<usize>,
    /// The drivers that were woken here; kept after they ran, to be found again without counting.
    drivers: RefCell<Vec<Entry>>,
}

struct Entry {
    driver: Arc<Driver>,
    woken: Cell<bool>,
}

/// This thread is inside `block_on`.
pub(super) struct Local {
    /// It belongs to its thread.
    _thread: std::marker::PhantomData<*const ()>,
}

impl Local {
    pub(super) fn enter() -> Self {
        THREAD.with(|thread| thread.depth.set(thread.depth.get() + 1));
        Self { _thread: std::marker::PhantomData }
    }

    /// Polls the drivers that were woken on this thread; `false` if there was none.
    pub(super) fn drive(&self) -> bool {
        let mut any = false;
        while let Some(driver) = next_woken() {
            any = true;
            driver.run();
        }
        any
    }
}

impl Drop for Local {
    fn drop(&mut self) {
        let left = THREAD.with(|thread| {
            let depth = thread.depth.get() - 1;
            thread.depth.set(depth);
            if depth == 0 { std::mem::take(&mut *thread.drivers.borrow_mut()) } else { Vec::new() }
        });
        // What was woken and not yet polled goes to the workers.
        for entry in left.into_iter().filter(|entry| entry.woken.get()) {
            entry.driver.schedule();
        }
    }
}

fn next_woken() -> Option<Arc<Driver>> {
    THREAD.with(|thread| {
        let drivers = thread.drivers.borrow();
        let entry = drivers.iter().find(|entry| entry.woken.take())?;
        Some(entry.driver.clone())
    })
}

/// This thread is inside `block_on`.
pub(super) fn is_entered() -> bool {
    THREAD.try_with(|thread| thread.depth.get() > 0).unwrap_or(false)
}

/// Takes a woken driver if this thread is inside `block_on`.
pub(super) fn take_over(driver: &Arc<Driver>) -> bool {
    THREAD
        .try_with(|thread| {
            if thread.depth.get() == 0 {
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
