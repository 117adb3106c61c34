//! Counts the calls inside of an object, so that an object that is out of use is dropped when the last call has left it.
//!
//! ```text
//!  state: │ calls under way × 16 │ DRIVEN │ DROPPED │ ENDED │ PANICKED │
//! ```
//!
//! Polls of the driver are not counted: polls come one at a time, and as long as DRIVEN is set, only a poll may end the object.
//! So the common poll costs no locked instruction. A call that finds the object out of use when it leaves causes a poll of the
//! driver. That poll clears DRIVEN; from then on, the last call that leaves drops the object, or the poll itself does.

use crate::IoError;
use crate::packet::mutant;
use crate::sync::{AtomicU64, Ordering};

/// The object's code panicked.
pub(super) const PANICKED: u64 = 1;
/// The object's driver said that it has ended.
pub(super) const ENDED: u64 = 2;
const DROPPED: u64 = 4;
const DRIVEN: u64 = 8;
const CALL: u64 = 16;
const OUT_OF_USE: u64 = PANICKED | ENDED;

#[derive(Debug)]
pub(super) struct Calls {
    state: AtomicU64,
    /// Whether calls are counted. The calls of a backend are not: a backend keeps no views, and need not be dropped early.
    counted: bool,
}

/// The duty of a call after it has left the object.
#[derive(Debug, PartialEq, Eq)]
#[must_use]
pub(super) enum Left {
    /// Nothing.
    Done,
    /// The object is out of use; its driver has to be polled once more.
    WakeDriver,
    /// Drop the object: no other call is inside or will enter, and no other call gets this result.
    Drop,
}

impl Calls {
    /// Does not count calls: the object is not dropped early.
    pub(super) fn uncounted() -> Self {
        Self { state: AtomicU64::new(0), counted: false }
    }

    /// `driven` says that a driver will be polled.
    pub(super) fn counted(driven: bool) -> Self {
        Self { state: AtomicU64::new(if driven { DRIVEN } else { 0 }), counted: true }
    }

    /// Begins a call; the error is the answer for the requester. Either way, [`leave`](Self::leave) ends it.
    #[inline(always)]
    pub(super) fn enter(&self) -> Result<(), IoError> {
        let state = if self.counted {
            // Ordering: Acquire, with the Release of `retire` and of earlier calls that changed data that this call will see.
            self.state.fetch_add(CALL, Ordering::Acquire)
        } else {
            // Ordering: Relaxed. The flag guards no data: a call that misses it finds the state that the panic left, which safe
            // code of the plugin has to tolerate.
            self.state.load(Ordering::Relaxed)
        };
        usable(state)
    }

    /// Ends a call.
    #[inline(always)]
    pub(super) fn leave(&self) -> Left {
        if self.counted {
            // Ordering: Release, so that the call or poll that drops the object sees the effects of this call. If this call drops
            // the object, `last` acquires the effects of the others.
            let left = mutant!("leave_call_relaxed", Ordering::Relaxed, Ordering::Release);
            let state = self.state.fetch_sub(CALL, left);
            if state & OUT_OF_USE != 0 {
                return self.left_out_of_use(state);
            }
        }
        Left::Done
    }

    #[cold]
    fn left_out_of_use(&self, state: u64) -> Left {
        if mutant!("leave_call_driven", 0, state) & DRIVEN != 0 { Left::WakeDriver } else { self.last() }
    }

    /// The error for a poll of an object that is out of use. Polls are not counted, so that no `leave` follows.
    #[inline(always)]
    pub(super) fn check_poll(&self) -> Result<(), IoError> {
        // Ordering: Acquire, as in `enter`.
        usable(self.state.load(Ordering::Acquire))
    }

    /// Why the object is out of use, if it is.
    #[cfg(feature = "plugin")]
    pub(super) fn out_of_use(&self) -> Option<IoError> {
        // Ordering: Relaxed. The answer is a report and guards no data.
        usable(self.state.load(Ordering::Relaxed)).err()
    }

    /// Ends the polls: there will be no poll after this one.
    #[cold]
    pub(super) fn end_polls(&self) -> Left {
        // Ordering: Release, so that the call that drops the object sees the effects of the polls.
        self.state.fetch_and(!DRIVEN, mutant!("end_polls_relaxed", Ordering::Relaxed, Ordering::Release));
        self.last()
    }

    /// Puts the object out of use: no later call reaches the object. The caller is in a call or a poll.
    #[cold]
    pub(super) fn retire(&self, why: u64) {
        // Ordering: Release, with the Acquire of `enter`.
        self.state.fetch_or(why, Ordering::Release);
    }

    /// Returns `Drop` once, when no call is inside and no poll will come. The caller knows that the object is out of use.
    fn last(&self) -> Left {
        let acquire = mutant!("last_relaxed", Ordering::Relaxed, Ordering::Acquire);
        // Ordering: Acquire, for the effects of the other calls before they left.
        let dropped = self.state.fetch_update(acquire, Ordering::Relaxed, |state| {
            (state < CALL && state & (DRIVEN | DROPPED) == 0).then_some(state | DROPPED)
        });
        if dropped.is_ok() { Left::Drop } else { Left::Done }
    }

    /// Whether the object was dropped, by the call or poll that got `Left::Drop`.
    pub(super) fn is_dropped(&mut self) -> bool {
        // Ordering: Relaxed. `&mut self` excludes other references.
        self.state.load(Ordering::Relaxed) & DROPPED != 0
    }
}

#[inline(always)]
fn usable(state: u64) -> Result<(), IoError> {
    if state & OUT_OF_USE == 0 { Ok(()) } else { Err(out_of_use(state)) }
}

#[cold]
fn out_of_use(state: u64) -> IoError {
    if state & PANICKED != 0 { IoError::POISONED } else { IoError::DRIVER_ENDED }
}

#[cfg(all(test, pactio_loom))]
mod models {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use loom::cell::UnsafeCell;
    use loom::thread;

    use super::*;
    use crate::packet::models::model;

    /// An object, with the number of its drops and of the wakes of its driver. Both counts are plain atomics, at which loom does
    /// not switch threads.
    struct Object {
        calls: Calls,
        inner: UnsafeCell<u32>,
        drops: AtomicUsize,
        wakes: AtomicUsize,
    }

    impl Object {
        fn new(driven: bool) -> Arc<Self> {
            let (drops, wakes) = (AtomicUsize::new(0), AtomicUsize::new(0));
            Arc::new(Self { calls: Calls::counted(driven), inner: UnsafeCell::new(0), drops, wakes })
        }

        fn after(&self, left: Left) {
            match left {
                Left::Done => {}
                Left::WakeDriver => {
                    self.wakes.fetch_add(1, Ordering::SeqCst);
                }
                Left::Drop => {
                    self.inner.with_mut(|inner| unsafe { *inner += 1 });
                    self.drops.fetch_add(1, Ordering::SeqCst);
                }
            }
        }

        fn call(&self, panics: bool) {
            if self.calls.enter().is_ok() {
                self.inner.with(|inner| unsafe { *inner });
                if panics {
                    self.calls.retire(PANICKED);
                }
            }
            self.after(self.calls.leave());
        }

        fn poll(&self, ends: bool) {
            let mut over = true;
            if self.calls.check_poll().is_ok() {
                self.inner.with(|inner| unsafe { *inner });
                over = ends;
                if ends {
                    self.calls.retire(ENDED);
                }
            }
            if over {
                self.after(self.calls.end_polls());
            }
        }
    }

    #[test]
    fn a_call_that_panics_against_a_call_and_the_driver() {
        model(Some(3), || {
            let object = Object::new(true);
            let threads = [true, false].map(|panics| {
                let object = object.clone();
                thread::spawn(move || object.call(panics))
            });
            object.poll(false);
            object.poll(false);
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            if object.drops.load(Ordering::SeqCst) == 0 {
                assert!(object.wakes.load(Ordering::SeqCst) > 0, "no thread will drop it");
                object.poll(false);
            }
            assert_eq!(object.drops.load(Ordering::SeqCst), 1);
        });
    }

    #[test]
    fn a_driver_that_ends_during_two_calls() {
        model(Some(3), || {
            let object = Object::new(true);
            let threads = [false, false].map(|panics| {
                let object = object.clone();
                thread::spawn(move || object.call(panics))
            });
            object.poll(true);
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            assert_eq!(object.drops.load(Ordering::SeqCst), 1);
        });
    }

    #[test]
    fn two_calls_that_panic_without_a_driver() {
        model(None, || {
            let object = Object::new(false);
            let other = {
                let object = object.clone();
                thread::spawn(move || object.call(true))
            };
            object.call(true);
            other.join().unwrap();
            assert_eq!(object.drops.load(Ordering::SeqCst), 1);
        });
    }
}
