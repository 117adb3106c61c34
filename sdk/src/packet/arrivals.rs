//! Values that arrive on any thread, for one task that takes them.

use alloc::boxed::Box;
use alloc::vec::Vec;
use core::ptr;
use core::task::{Context, Poll};

use atomic_waker::AtomicWaker;

use crate::sync::{AtomicPtr, Ordering};

/// A stack that any thread pushes to, and one task takes as a whole.
pub(super) struct Arrivals<T> {
    newest: AtomicPtr<Node<T>>,
    task: AtomicWaker,
}

struct Node<T> {
    value: T,
    older: *mut Node<T>,
}

impl<T> Arrivals<T> {
    pub(super) fn new() -> Self {
        Self { newest: AtomicPtr::new(ptr::null_mut()), task: AtomicWaker::new() }
    }

    /// Pushes a value and wakes the task.
    pub(super) fn push(&self, value: T) {
        let entry = Box::into_raw(Box::new(Node { value, older: ptr::null_mut() }));
        // Ordering: Relaxed, since this load only looks; the exchange publishes.
        let mut newest = self.newest.load(Ordering::Relaxed);
        loop {
            // SAFETY: `entry` is this call's alone until the exchange succeeds.
            unsafe { (*entry).older = newest };
            // Ordering: Release, for the entry and the writes before it; pairs with the Acquire of `take`.
            match self.newest.compare_exchange_weak(newest, entry, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => break,
                Err(now) => newest = now,
            }
        }
        self.task.wake();
    }

    /// Calls `f` for each value that arrived since the last call, the newest first.
    fn take(&self, mut f: impl FnMut(T)) {
        // Ordering: Acquire, for all entries: their pushes are one release sequence.
        let mut newest = self.newest.swap(ptr::null_mut(), Ordering::Acquire);
        while !newest.is_null() {
            // SAFETY: each entry was boxed, and the thread that takes the stack reaches each entry once.
            let entry = unsafe { Box::from_raw(newest) };
            newest = entry.older;
            f(entry.value);
        }
    }

    /// The oldest value that was not given out. `waiting` keeps the values that were taken with it, the oldest last.
    pub(super) fn poll(&self, waiting: &mut Vec<T>, cx: &mut Context<'_>) -> Poll<T> {
        if waiting.is_empty() {
            self.take(|value| waiting.push(value));
        }
        if waiting.is_empty() {
            self.task.register(cx.waker());
            // Once more: a push before the waker was registered woke no task.
            self.take(|value| waiting.push(value));
        }
        match waiting.pop() {
            Some(value) => {
                // No waker stays registered while there is a value to give out (rule P7).
                self.forget_task();
                Poll::Ready(value)
            }
            None => Poll::Pending,
        }
    }

    /// The task does not wait any more.
    pub(super) fn forget_task(&self) {
        drop(self.task.take());
    }
}

impl<T> Drop for Arrivals<T> {
    fn drop(&mut self) {
        self.take(drop);
    }
}

// SAFETY: values are moved from the thread that pushes to the thread that takes; no shared reference to a value is given out.
unsafe impl<T: Send> Send for Arrivals<T> {}
// SAFETY: a shared `Arrivals` only moves values in and out; no shared reference to a value is given out.
unsafe impl<T: Send> Sync for Arrivals<T> {}
