//! The descriptor of a device: when it is ready, the device's driver is queued for a poll. The thread that waits for descriptors
//! enters no plugin.
//!
//! ```text
//!  ready ──► waker: the driver is queued ──► a thread polls the driver ──► the descriptor is waited for again
//! ```

use std::io;
#[cfg(unix)]
use std::os::fd::{BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

#[cfg(unix)]
use async_io::Async;

use crate::executor::Driver;

/// Waits for a descriptor.
pub(super) struct Descriptor {
    /// A duplicate, so that the device can close its own.
    #[cfg(unix)]
    duplicate: Async<OwnedFd>,
    /// The directions that are waited for. Only the thread that polls the driver uses them.
    armed: [AtomicBool; 2],
    ready: Arc<Ready>,
    waker: Waker,
}

/// The waker of the descriptor.
struct Ready {
    driver: Arc<Driver>,
    /// The descriptor has become ready since the last wait for it began.
    fired: AtomicBool,
}

impl Wake for Ready {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        // The waker does not know which direction has fired, so both are armed again.
        // Ordering: Relaxed. The notification after it orders the poll, which reads the flag.
        self.fired.store(true, Ordering::Relaxed);
        self.driver.notify_elsewhere();
    }
}

#[cfg(unix)]
impl Descriptor {
    /// Begins to wait for the descriptor of the driver's device.
    ///
    /// # Errors
    ///
    /// If it is no descriptor that can be waited for.
    pub(super) fn new(
        driver: &Arc<Driver>,
        descriptor: i32,
        readable: bool,
        writable: bool,
    ) -> io::Result<Self> {
        if descriptor < 0 {
            let text = format!("{descriptor} is not a descriptor");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        // SAFETY: a device promises that its descriptor stays open while the device exists, and the device was just opened.
        let owned = unsafe { BorrowedFd::borrow_raw(descriptor) }.try_clone_to_owned()?;
        let duplicate = Async::new_nonblocking(owned)?;
        let ready = Arc::new(Ready { driver: driver.clone(), fired: AtomicBool::new(true) });
        let waker = Waker::from(ready.clone());
        let this = Self { duplicate, armed: Default::default(), ready, waker };
        this.watch_again(readable, writable);
        Ok(this)
    }

    /// Asks to be woken when the descriptor is ready in these directions; does not block. The driver was polled just before. A
    /// direction that is still armed is not armed again. Hang-ups wake in both directions, so that the driver sees them. A
    /// direction that is no longer wanted may wake once more.
    pub(super) fn watch_again(&self, readable: bool, writable: bool) {
        // The waker does not know which direction has fired, so both are armed again.
        // Ordering: Relaxed. The notification after the store orders the poll, which reads the flag. The driver's word orders the
        // polls, and so the uses of `armed`.
        if self.ready.fired.swap(false, Ordering::Relaxed) {
            self.armed.iter().for_each(|armed| armed.store(false, Ordering::Relaxed));
        }
        let begins = |armed: &AtomicBool, is_wanted| is_wanted && !armed.swap(true, Ordering::Relaxed);
        let mut cx = Context::from_waker(&self.waker);
        let mut wait = |poll: fn(&Async<OwnedFd>, &mut Context<'_>) -> Poll<io::Result<()>>| loop {
            match poll(&self.duplicate, &mut cx) {
                Poll::Pending => return,
                // An old event, perhaps newer than the driver's last poll. The next turn registers the interest again, which
                // fires at once if the descriptor is still ready, so no event is lost.
                Poll::Ready(Ok(())) => {}
                Poll::Ready(Err(error)) => {
                    return tracing::error!(
                        "the descriptor of a device cannot be waited for any more: {error}"
                    );
                }
            }
        };
        if begins(&self.armed[0], readable) {
            wait(Async::poll_readable);
        }
        if begins(&self.armed[1], writable) {
            wait(Async::poll_writable);
        }
    }
}

#[cfg(not(unix))]
impl Descriptor {
    pub(super) fn new(_: &Arc<Driver>, _: i32, _: bool, _: bool) -> io::Result<Self> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn watch_again(&self, _: bool, _: bool) {}
}
