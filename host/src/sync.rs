//! One place to choose between real atomics and those of the model checker, and to plant mistakes for it.

#[cfg(pactio_loom)]
pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
#[cfg(pactio_loom)]
pub(crate) use loom::sync::{Mutex, MutexGuard};
#[cfg(not(pactio_loom))]
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
#[cfg(not(pactio_loom))]
pub(crate) use std::sync::{Mutex, MutexGuard};

/// Plants a known mistake, to show that a model finds it.
macro_rules! mutant {
    ($name:literal, $mistake:expr, $right:expr) => {
        if cfg!(pactio_loom) && crate::sync::planted($name) { $mistake } else { $right }
    };
}

pub(crate) use mutant;

#[cfg(pactio_loom)]
pub(crate) fn planted(name: &str) -> bool {
    static PLANTED: std::sync::OnceLock<Option<String>> = std::sync::OnceLock::new();
    PLANTED.get_or_init(|| std::env::var("PACTIO_MUTANT").ok()).as_deref() == Some(name)
}

#[cfg(not(pactio_loom))]
pub(crate) const fn planted(_name: &str) -> bool {
    false
}
