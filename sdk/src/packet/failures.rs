//! The record of what failed: a list that views push to and the owner reads when the packet is complete.
//!
//! Each entry holds a range and its error as one value (rule 10: offset and error belong together). A request that
//! succeeds never allocates here.

use alloc::boxed::Box;
use core::ptr;

use crate::Error;
use crate::sync::{AtomicPtr, Ordering};

/// One failed range.
pub(super) struct Failure {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) error: Error,
    next: *mut Failure,
}

/// A stack of [`Failure`]s; many push, and once no one can push any more, the owner reads.
pub(super) struct Failures(AtomicPtr<Failure>);

impl Failures {
    pub(super) fn new() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    /// Records that `start..end` failed. The caller holds a view that has not finished.
    #[cold]
    pub(super) fn push(&self, start: usize, end: usize, error: Error) {
        let entry = Box::into_raw(Box::new(Failure { start, end, error, next: ptr::null_mut() }));
        // Ordering: Relaxed throughout. A pusher never looks into another entry, and the owner looks only after the
        // Release of each pusher's `finish` (state rule 4).
        let mut head = self.0.load(Ordering::Relaxed);
        loop {
            // SAFETY: `entry` is ours alone until the exchange succeeds.
            unsafe { (*entry).next = head };
            match self.0.compare_exchange_weak(head, entry, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Nothing failed. The packet is complete.
    #[inline(always)]
    pub(super) fn is_empty(&self) -> bool {
        // Ordering: Relaxed. The caller has seen COUNT 0 with Acquire.
        self.0.load(Ordering::Relaxed).is_null()
    }

    /// Calls `f` for each failure, in no particular order.
    ///
    /// # Safety
    ///
    /// The packet is complete, and the caller is its owner (state rule 4).
    pub(super) unsafe fn for_each(&self, mut f: impl FnMut(&Failure)) {
        // Ordering: Relaxed, as above.
        let mut entry = self.0.load(Ordering::Relaxed);
        while !entry.is_null() {
            // SAFETY: entries are freed only by `clear`, which needs the same owner.
            let failure = unsafe { &*entry };
            f(failure);
            entry = failure.next;
        }
    }

    /// Forgets everything.
    ///
    /// # Safety
    ///
    /// As for [`for_each`](Self::for_each), and no borrow of an entry is alive.
    pub(super) unsafe fn clear(&self) {
        if self.is_empty() {
            return;
        }
        // Ordering: Relaxed, as above.
        let mut entry = self.0.swap(ptr::null_mut(), Ordering::Relaxed);
        while !entry.is_null() {
            // SAFETY: each entry came from `Box::into_raw` and is reached once.
            let failure = unsafe { Box::from_raw(entry) };
            entry = failure.next;
        }
    }
}
