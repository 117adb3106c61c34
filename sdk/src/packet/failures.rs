//! The record of failures: a list that views push to and the owner reads when the packet is complete.
//!
//! Each entry holds a range and its error as one value (rule P10: offset and error belong together). A request that succeeds
//! never allocates here. If an entry cannot be allocated, the whole request fails with [`IoError::OUT_OF_MEMORY`]: a device
//! that answers has no caller to which it could report the failed allocation, and must not be ended for that reason.

use alloc::alloc::{Layout, alloc};
use alloc::boxed::Box;
use alloc::string::String;
use core::ptr::{self, NonNull};

use crate::IoError;
use crate::sync::{AtomicPtr, Ordering};

/// One failed range.
pub(super) struct Failure {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) error: IoError,
    /// The text of the side that failed the range.
    pub(super) text: Option<Box<str>>,
    next: *mut Failure,
}

/// A stack of [`Failure`]s: many views push, and the owner reads once no view can push any more.
pub(super) struct Failures(AtomicPtr<Failure>);

impl Failures {
    pub(super) fn new() -> Self {
        Self(AtomicPtr::new(ptr::null_mut()))
    }

    /// The entry that stands for all entries after an entry could not be allocated. It is never freed, and no entry is pushed on
    /// top of it.
    fn lost() -> *mut Failure {
        static LOST: Lost = Lost(Failure {
            start: 0,
            end: usize::MAX,
            error: IoError::OUT_OF_MEMORY,
            text: None,
            next: ptr::null_mut(),
        });
        (&raw const LOST.0).cast_mut()
    }

    /// Records that `start..end` failed. The caller holds a view that has not finished. The text is left out if there is no
    /// memory for it.
    #[cold]
    pub(super) fn push(&self, start: usize, end: usize, error: IoError, text: Option<&str>) {
        // SAFETY: an entry has a size.
        let entry = unsafe { alloc(Layout::new::<Failure>()) }.cast::<Failure>();
        let Some(entry) = NonNull::new(entry) else { return self.lose() };
        let entry = entry.as_ptr();
        // SAFETY: the entry is ours alone, and the memory is large enough.
        unsafe {
            entry.write(Failure { start, end, error, text: text.and_then(copy), next: ptr::null_mut() })
        };
        // Ordering: Release, for a thread that frees this entry because a later entry could not be allocated. The owner reads
        // only after the Release of each pusher's `finish` (state rule 4).
        let mut head = self.0.load(Ordering::Relaxed);
        loop {
            if ptr::eq(head, Self::lost()) {
                // SAFETY: no other thread has seen the entry.
                return drop(unsafe { Box::from_raw(entry) });
            }
            // SAFETY: `entry` is ours alone until the exchange succeeds.
            unsafe { (*entry).next = head };
            match self.0.compare_exchange_weak(head, entry, Ordering::Release, Ordering::Relaxed) {
                Ok(_) => return,
                Err(now) => head = now,
            }
        }
    }

    /// Records that an entry could not be allocated.
    #[cold]
    fn lose(&self) {
        // Ordering: Acquire, for the entries of other threads, which are freed here; their `push` releases them. Release is not
        // needed, since the static entry is never written.
        free(self.0.swap(Self::lost(), Ordering::Acquire));
    }

    /// Whether no range failed. Called when the packet is complete: before that, a view may still add a failure.
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
        // Ordering: Relaxed. The caller has seen COUNT 0 with Acquire.
        let mut entry = self.0.load(Ordering::Relaxed);
        while !entry.is_null() {
            // SAFETY: entries are freed by `clear`, which needs the same owner, and by `push`, which needs a view that has not
            // finished: none exists.
            let failure = unsafe { &*entry };
            f(failure);
            entry = failure.next;
        }
    }

    /// Removes all entries.
    ///
    /// # Safety
    ///
    /// As for [`for_each`](Self::for_each), and no borrow of an entry is alive.
    pub(super) unsafe fn clear(&self) {
        if self.is_empty() {
            return;
        }
        // Ordering: Relaxed. The caller has seen COUNT 0 with Acquire.
        free(self.0.swap(ptr::null_mut(), Ordering::Relaxed));
    }
}

/// Longer texts are cut, so that a failure stays short.
const MAX_TEXT_BYTES: usize = 4096;

fn copy(text: &str) -> Option<Box<str>> {
    let text = &text[..text.floor_char_boundary(MAX_TEXT_BYTES)];
    let mut copy = String::new();
    copy.try_reserve_exact(text.len()).ok()?;
    copy.push_str(text);
    Some(copy.into_boxed_str())
}

/// Frees entries that the caller has taken.
fn free(mut entry: *mut Failure) {
    while !entry.is_null() && !ptr::eq(entry, Failures::lost()) {
        // SAFETY: each entry but the static one was allocated by `push` as a `Box` is, and is reached once.
        let failure = unsafe { Box::from_raw(entry) };
        entry = failure.next;
    }
}

struct Lost(Failure);

// SAFETY: the value is never changed, and its pointer is null.
unsafe impl Sync for Lost {}
