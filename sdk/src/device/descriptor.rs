//! Drivers of devices that wait for a descriptor, under executors that can wait for one.

use core::pin::Pin;
use core::task::{Context, Poll};
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};

use super::{LocalDevice, LocalDriver};
use crate::abi::{BackendDevice, PollingHandle};

/// Waits until a descriptor is ready.
trait Readiness: Send + Unpin {
    /// `Ready`: the descriptor is ready, and the driver has to be polled before the next call.
    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;
}

/// Polls a device's driver when its waker is woken or its descriptor is ready.
struct Driven<D: BackendDevice, R> {
    driver: LocalDriver<D>,
    readiness: Option<R>,
}

impl<D: BackendDevice, R: Readiness> Future for Driven<D, R> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = &mut *self;
        loop {
            if Pin::new(&mut this.driver).poll(cx).is_ready() {
                return Poll::Ready(());
            }
            let Some(readiness) = &mut this.readiness else { return Poll::Pending };
            match readiness.poll_ready(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Ok(())) => this.driver.notify(),
                // The descriptor cannot be waited for; the driver still has its waker.
                Poll::Ready(Err(_)) => this.readiness = None,
            }
        }
    }
}

impl<D: BackendDevice> LocalDevice<D> {
    /// The driver and the descriptor that it waits for. The descriptor is duplicated, so that the device may close its own
    /// meanwhile.
    fn driven<R: Readiness>(
        &self,
        wait: impl FnOnce(OwnedFd, bool, bool) -> io::Result<R>,
    ) -> io::Result<Driven<D, R>> {
        let readiness = match self.polling_handle() {
            PollingHandle::Descriptor { descriptor, .. } if descriptor < 0 => {
                let message = format!("{descriptor} is not a descriptor");
                return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
            }
            PollingHandle::Descriptor { descriptor, readable, writable } => {
                // SAFETY: a device promises that its descriptor stays open while it exists, and `self` keeps it.
                let owned = unsafe { BorrowedFd::borrow_raw(descriptor) }.try_clone_to_owned()?;
                Some(wait(owned, readable, writable)?)
            }
            PollingHandle::None | PollingHandle::Waker => None,
        };
        Ok(Driven { driver: self.driver(), readiness })
    }
}

/// Drivers under tokio.
#[cfg(feature = "tokio")]
mod tokio {
    use super::*;
    use ::tokio::io::Interest;
    use ::tokio::io::unix::AsyncFd;
    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    struct Descriptor {
        descriptor: AsyncFd<OwnedFd>,
        flags: PollFlags,
        readable: bool,
        writable: bool,
        look: Look,
    }

    /// When a descriptor is checked. tokio reports changes only, so a check finds the readiness that a driver leaves behind.
    #[derive(Clone, Copy, PartialEq)]
    enum Look {
        /// When tokio reports a change.
        Later,
        /// Now.
        Now,
        /// The descriptor was ready: the driver is polled next, and then the other tasks.
        Served,
    }

    impl Descriptor {
        fn is_ready_now(&self) -> io::Result<bool> {
            let mut asked = [PollFd::new(self.descriptor.get_ref(), self.flags)];
            Ok(poll(&mut asked, Some(&Timespec::default()))? > 0)
        }
    }

    impl Readiness for Descriptor {
        fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            if self.look == Look::Served {
                self.look = Look::Now;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if self.readable
                && let Poll::Ready(guard) = self.descriptor.poll_read_ready(cx)
            {
                guard?.clear_ready();
                self.look = Look::Now;
            }
            if self.writable
                && let Poll::Ready(guard) = self.descriptor.poll_write_ready(cx)
            {
                guard?.clear_ready();
                self.look = Look::Now;
            }
            if self.look == Look::Later {
                return Poll::Pending;
            }
            // Hang-ups count as ready, so that the driver sees them.
            if self.is_ready_now()? {
                self.look = Look::Served;
                return Poll::Ready(Ok(()));
            }
            // The readiness was cleared: the next poll registers for the next change.
            self.look = Look::Later;
            cx.waker().wake_by_ref();
            Poll::Pending
        }
    }

    impl<D: BackendDevice> LocalDevice<D> {
        /// The device's driver, to be spawned on tokio. The driver waits for the device's descriptor, if the device has one.
        ///
        /// # Errors
        ///
        /// If the descriptor cannot be duplicated or registered.
        ///
        /// # Panics
        ///
        /// If the device has a descriptor, and the call is made outside of a tokio runtime with I/O enabled.
        pub fn tokio_driver(&self) -> io::Result<impl Future<Output = ()> + Send + use<D>> {
            self.driven(|descriptor, readable, writable| {
                let (mut flags, mut interest) = (PollFlags::empty(), None::<Interest>);
                for (wanted, flag, add) in [
                    (readable, PollFlags::IN, Interest::READABLE),
                    (writable, PollFlags::OUT, Interest::WRITABLE),
                ] {
                    if wanted {
                        flags |= flag;
                        interest = Some(interest.map_or(add, |interest| interest | add));
                    }
                }
                let interest = interest.unwrap_or(Interest::ERROR);
                // SAFETY: an `OwnedFd` is always the same open descriptor, and closes it when it is dropped with the `AsyncFd`.
                let descriptor = unsafe { AsyncFd::register_with_interest(descriptor, interest) }?;
                Ok(Descriptor { descriptor, flags, readable, writable, look: Look::Later })
            })
        }
    }
}

/// Drivers under smol, or any other executor: async-io waits on a thread of its own.
#[cfg(feature = "smol")]
mod smol {
    use super::*;
    use async_io::Async;

    struct Descriptor {
        descriptor: Async<OwnedFd>,
        readable: bool,
        writable: bool,
    }

    impl Readiness for Descriptor {
        fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            if self.readable
                && let Poll::Ready(ready) = self.descriptor.poll_readable(cx)
            {
                return Poll::Ready(ready);
            }
            if self.writable
                && let Poll::Ready(ready) = self.descriptor.poll_writable(cx)
            {
                return Poll::Ready(ready);
            }
            Poll::Pending
        }
    }

    impl<D: BackendDevice> LocalDevice<D> {
        /// The device's driver, to be spawned on smol or any other executor. The driver waits for the device's descriptor, if the
        /// device has one.
        ///
        /// # Errors
        ///
        /// If the descriptor cannot be duplicated or registered.
        pub fn smol_driver(&self) -> io::Result<impl Future<Output = ()> + Send + use<D>> {
            self.driven(|descriptor, readable, writable| {
                Ok(Descriptor { descriptor: Async::new_nonblocking(descriptor)?, readable, writable })
            })
        }
    }
}
