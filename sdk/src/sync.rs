//! One place to choose between real atomics and those of the model checker.
//!
//! Under `--cfg pactio_loom` the packet core runs on `loom`'s types, so that the models check the code that ships
//! and not a copy of it.

#[cfg(not(pactio_loom))]
pub(crate) use core::sync::atomic::{AtomicPtr, AtomicU64, Ordering};
#[cfg(pactio_loom)]
pub(crate) use loom::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

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
