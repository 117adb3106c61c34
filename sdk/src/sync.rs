//! The choice between real atomics and the atomics of the model checkers, in one place.
//!
//! Under `--cfg pactio_loom` and `--cfg pactio_shuttle` the packet core runs on the types of these checkers, so that they check
//! the code that ships and not a copy of it: `loom` for every interleaving and ordering of a few threads, `shuttle` for random
//! schedules of many.

#[cfg(all(feature = "std", not(any(pactio_loom, pactio_shuttle))))]
pub(crate) use core::sync::atomic::AtomicBool;
#[cfg(not(any(pactio_loom, pactio_shuttle)))]
pub(crate) use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
#[cfg(pactio_loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};
#[cfg(pactio_shuttle)]
pub(crate) use shuttle::sync::atomic::{AtomicBool, AtomicPtr, AtomicU64, Ordering};

#[cfg(pactio_loom)]
pub(crate) use loom::sync::{Mutex, MutexGuard};
#[cfg(pactio_shuttle)]
pub(crate) use shuttle::sync::{Mutex, MutexGuard};
#[cfg(all(feature = "std", not(any(pactio_loom, pactio_shuttle))))]
pub(crate) use std::sync::{Mutex, MutexGuard};

#[cfg(pactio_loom)]
pub(crate) use loom::cell::UnsafeCell;

/// `loom`'s closure interface over the standard cell.
#[cfg(not(pactio_loom))]
#[derive(Debug)]
#[repr(transparent)]
pub(crate) struct UnsafeCell<T>(core::cell::UnsafeCell<T>);

#[cfg(not(pactio_loom))]
impl<T> UnsafeCell<T> {
    pub(crate) const fn new(value: T) -> Self {
        Self(core::cell::UnsafeCell::new(value))
    }

    #[inline(always)]
    pub(crate) fn with_mut<R>(&self, f: impl FnOnce(*mut T) -> R) -> R {
        f(self.0.get())
    }
}
