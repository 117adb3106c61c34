//! Who does what cannot be done at once: the kernel's queue of the file, or the threads that all files share.

use std::fs::File;
use std::sync::Arc;
use std::task::{Context, Poll};

use pactio_sdk::PollingHandle;

use crate::job::Job;
use pactio_plugin_pool::Pool;

#[cfg(target_os = "linux")]
pub(crate) use linux::{Rings, at_once};
#[cfg(not(target_os = "linux"))]
pub(crate) use other::{Rings, at_once};

/// More threads than processors, since they mostly wait for the system.
pub(crate) const THREADS: usize = 4;

pub(crate) enum Engine {
    #[cfg(target_os = "linux")]
    Ring(Box<linux::Queue>),
    Threads,
}

impl Engine {
    /// Does a job, later.
    pub(crate) fn submit(&self, job: Job, file: &Arc<File>, pool: &Pool) {
        match self {
            #[cfg(target_os = "linux")]
            Self::Ring(queue) => queue.submit(job),
            Self::Threads => {
                let file = file.clone();
                pool.submit(move || job.run(&file));
            }
        }
    }

    pub(crate) fn in_flight(&self) -> u32 {
        match self {
            #[cfg(target_os = "linux")]
            Self::Ring(_) => crate::ring::DEPTH as u32,
            Self::Threads => THREADS as u32 * 2,
        }
    }

    pub(crate) fn polling_handle(&self) -> PollingHandle {
        match self {
            #[cfg(target_os = "linux")]
            Self::Ring(queue) => queue.polling_handle(),
            Self::Threads => PollingHandle::None,
        }
    }

    pub(crate) fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        match self {
            #[cfg(target_os = "linux")]
            Self::Ring(queue) => queue.poll(cx),
            Self::Threads => {
                let _ = cx;
                Poll::Ready(())
            }
        }
    }
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fs::File;
    use std::io;
    use std::os::fd::{AsRawFd, RawFd};
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::{Context, Poll};

    use pactio_sdk::{Driven, PollingHandle};
    use rustix::io::Errno;

    use super::Engine;
    use crate::job::{Job, Outcome, Step};
    use crate::ring::Ring;

    /// So many files have a queue of their own at a time. It costs two descriptors and some kernel memory, which would not
    /// do for ten thousand files; those that come later have the threads.
    const MOST: usize = 256;

    /// Counts the queues.
    #[derive(Default)]
    pub(crate) struct Rings(Arc<()>);

    impl Rings {
        /// A queue for a file.
        ///
        /// # Errors
        ///
        /// Why there is none.
        pub(crate) fn engine(&self, file: &File) -> io::Result<Engine> {
            let counted = self.0.clone();
            if Arc::strong_count(&counted) > MOST + 1 {
                return Err(io::Error::other(format!("{MOST} files have a queue already")));
            }
            let ring = Ring::new(file)?;
            let descriptor = ring.descriptor();
            let queue = Queue { driven: Driven::new(ring), descriptor, _counted: counted };
            Ok(Engine::Ring(Box::new(queue)))
        }
    }

    pub(crate) struct Queue {
        driven: Driven<Ring, Job>,
        descriptor: RawFd,
        _counted: Arc<()>,
    }

    impl Queue {
        pub(super) fn submit(&self, job: Job) {
            self.driven.other(job);
        }

        pub(super) fn polling_handle(&self) -> PollingHandle {
            PollingHandle::Descriptor { descriptor: self.descriptor, readable: true, writable: false }
        }

        pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
            self.driven.poll(cx, |ring, requests, cx| {
                if !ring.run(requests.others.drain(..)) {
                    cx.waker().wake_by_ref();
                }
                Poll::Pending
            })
        }
    }

    /// Larger requests are not copied on the caller's thread.
    const LARGEST: usize = 256 << 10;

    /// Reads what the page cache has, on this thread. What has to wait for a disk is left.
    pub(crate) fn at_once(file: &File, possible: &AtomicBool, job: Job) -> Outcome {
        // Ordering: Relaxed. It saves a call, no more.
        if job.len() > LARGEST || !possible.load(Ordering::Relaxed) {
            return Outcome::More(job);
        }
        let mut job = job;
        loop {
            let (this, Step { memory, len, position }) = match job.step() {
                Ok(next) => next,
                Err(outcome) => return outcome,
            };
            let part = libc::iovec { iov_base: memory.cast(), iov_len: len };
            // SAFETY: the memory is the job's, which lives through the call.
            let count = unsafe {
                libc::preadv2(file.as_raw_fd(), &raw const part, 1, position as i64, libc::RWF_NOWAIT)
            };
            let outcome = match usize::try_from(count) {
                // SAFETY: the system says so.
                Ok(count) => unsafe { this.moved(count) },
                Err(_) => match Errno::from_io_error(&io::Error::last_os_error()) {
                    Some(Errno::AGAIN) => return Outcome::More(this),
                    Some(Errno::INTR) => Outcome::More(this),
                    // This file system cannot say.
                    Some(Errno::OPNOTSUPP | Errno::NOSYS) => {
                        possible.store(false, Ordering::Relaxed);
                        return Outcome::More(this);
                    }
                    // Whoever does it the long way finds out.
                    _ => return Outcome::More(this),
                },
            };
            match outcome {
                Outcome::More(next) => job = next,
                Outcome::Answered => return Outcome::Answered,
            }
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod other {
    use std::fs::File;
    use std::io;
    use std::sync::atomic::AtomicBool;

    use super::Engine;
    use crate::job::{Job, Outcome};

    #[derive(Default)]
    pub(crate) struct Rings;

    impl Rings {
        pub(crate) fn engine(&self, _: &File) -> io::Result<Engine> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }

    pub(crate) fn at_once(_: &File, _: &AtomicBool, job: Job) -> Outcome {
        Outcome::More(job)
    }
}
