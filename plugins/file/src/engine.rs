//! I/O that cannot be done at once: by the kernel's queue of the file, or by the threads that all files share.

use std::fs::File;
use std::sync::Arc;
use std::task::{Context, Poll};

use pactio_sdk::{PollingHandle, Urgent};

use crate::job::Job;
use pactio_pool::Pool;

#[cfg(target_os = "linux")]
pub(crate) use linux::Rings;
#[cfg(not(target_os = "linux"))]
pub(crate) use other::Rings;

/// Number of threads. It does not depend on the number of processors, since the threads mostly wait for the system.
pub(crate) const THREADS: usize = 4;

pub(crate) enum Engine {
    #[cfg(target_os = "linux")]
    Ring(Box<linux::Queue>),
    Threads,
}

impl Engine {
    /// Performs a job later.
    pub(crate) fn submit(&self, job: Job, file: &Arc<File>, pool: &Pool) {
        match self {
            #[cfg(target_os = "linux")]
            Self::Ring(queue) => queue.submit(job),
            Self::Threads => {
                let file = file.clone();
                pool.submit_urgent(job.urgency(), move || job.run(&file));
            }
        }
    }

    /// Whether the engine is a queue, which may register memory.
    pub(crate) fn is_ring(&self) -> bool {
        !matches!(self, Self::Threads)
    }

    /// Makes the queue unregister the memory that the device has forgotten.
    pub(crate) fn refresh(&self) {
        match self {
            #[cfg(target_os = "linux")]
            Self::Ring(queue) => queue.wake(),
            Self::Threads => {}
        }
    }

    /// Makes the queue end the jobs whose results are not wanted any more.
    pub(crate) fn cancel_unwanted(&self) {
        match self {
            #[cfg(target_os = "linux")]
            Self::Ring(queue) => queue.cancel_unwanted(),
            Self::Threads => {}
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
    use std::os::fd::RawFd;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::task::{Context, Poll};

    use pactio_sdk::{Driven, PollingHandle};

    use super::Engine;
    use crate::job::Job;
    use crate::registered::RegisteredMemory;
    use crate::ring::Ring;

    /// Maximum number of files with a queue of their own at a time. A queue costs two descriptors and some kernel memory, which
    /// is too much for ten thousand files; further files use the threads.
    const MAX_RINGS: usize = 256;

    /// Counts the queues.
    #[derive(Default)]
    pub(crate) struct Rings(Arc<()>);

    impl Rings {
        /// A queue for a file.
        ///
        /// # Errors
        ///
        /// The reason why the file has no queue of its own.
        pub(crate) fn engine(&self, file: &File, known: &Arc<RegisteredMemory>) -> io::Result<Engine> {
            let counted = self.0.clone();
            if Arc::strong_count(&counted) > MAX_RINGS + 1 {
                return Err(io::Error::other(format!("{MAX_RINGS} files have a queue already")));
            }
            let ring = Ring::new(file, known.clone())?;
            let descriptor = ring.descriptor();
            let unwanted = AtomicBool::new(false);
            let queue = Queue { driven: Driven::new(ring), descriptor, unwanted, _counted: counted };
            Ok(Engine::Ring(Box::new(queue)))
        }
    }

    pub(crate) struct Queue {
        driven: Driven<Ring, Job>,
        descriptor: RawFd,
        /// There may be jobs that are not wanted any more.
        unwanted: AtomicBool,
        _counted: Arc<()>,
    }

    impl Queue {
        pub(super) fn submit(&self, job: Job) {
            self.driven.other(job);
        }

        pub(super) fn cancel_unwanted(&self) {
            // Ordering: Relaxed. The wake orders the poll after it.
            self.unwanted.store(true, Ordering::Relaxed);
            self.driven.wake();
        }

        pub(super) fn wake(&self) {
            self.driven.wake();
        }

        pub(super) fn polling_handle(&self) -> PollingHandle {
            PollingHandle::Descriptor { descriptor: self.descriptor, readable: true, writable: false }
        }

        pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
            self.driven.poll(cx, |ring, requests, cx| {
                // New jobs are taken first, and `run` comes last: it may take the completions of cancelled jobs.
                ring.take(requests.others.drain(..));
                // Ordering: Relaxed. The wake ordered this poll after it.
                let is_cancelled = !self.unwanted.swap(false, Ordering::Relaxed) || ring.cancel_unwanted();
                if !is_cancelled {
                    self.unwanted.store(true, Ordering::Relaxed);
                }
                // The queue may still have entries that the kernel did not take.
                if !is_cancelled || !ring.run() {
                    cx.waker().wake_by_ref();
                }
                Poll::Pending
            })
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod other {
    use std::fs::File;
    use std::io;
    use std::sync::Arc;

    use super::Engine;
    use crate::registered::RegisteredMemory;

    #[derive(Default)]
    pub(crate) struct Rings;

    impl Rings {
        pub(crate) fn engine(&self, _: &File, _: &Arc<RegisteredMemory>) -> io::Result<Engine> {
            Err(io::ErrorKind::Unsupported.into())
        }
    }
}
