//! Detects forked processes: they have none of the host's threads, so their requests would wait for ever.

use std::sync::atomic::{AtomicU32, Ordering};

/// Number of forks on the way from the first process to this one.
static FORKS: AtomicU32 = AtomicU32::new(0);

/// The process that a device belongs to.
#[derive(Clone, Copy)]
pub(crate) struct Process(u32);

impl Process {
    /// This process.
    pub(crate) fn this() -> Self {
        notice();
        Self(FORKS.load(Ordering::Relaxed))
    }

    /// Whether the calling process was forked off since this value was made.
    #[inline(always)]
    pub(crate) fn was_forked(self) -> bool {
        // Ordering: Relaxed. The child has one thread, and that thread has changed the count.
        FORKS.load(Ordering::Relaxed) != self.0
    }
}

/// Registers, once, a function that counts the fork in each process that is forked off from now on.
#[cfg(unix)]
fn notice() {
    use std::sync::Once;

    extern "C" fn in_child() {
        FORKS.fetch_add(1, Ordering::Relaxed);
    }

    static ONCE: Once = Once::new();
    // SAFETY: the function only adds to an atomic static, which a forked process may do. If there is no memory for the
    // registration, a forked process is not noticed.
    ONCE.call_once(|| unsafe {
        let _ = libc::pthread_atfork(None, None, Some(in_child));
    });
}

#[cfg(not(unix))]
fn notice() {}
