//! Reads of bytes that are in memory already, on the caller's thread: out of the mapped file, or by a call that does not block.

#[cfg(target_os = "linux")]
pub(crate) use crate::batch::Calls;
#[cfg(target_os = "linux")]
pub(crate) use linux::CachedRead;
#[cfg(not(target_os = "linux"))]
pub(crate) use other::{CachedRead, Calls};

#[cfg(target_os = "linux")]
mod linux {
    use std::fs::File;
    use std::io;
    use std::os::fd::AsRawFd;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use pactio_sdk::Unfilled;
    use rustix::io::Errno;

    use crate::batch::{Calls, FileCalls, LEAST};
    use crate::job::{Job, Outcome, Step};
    use crate::mapped::Mapped;
    use crate::registered::RegisteredMemory;

    /// Maximum size of a request that is copied on the caller's thread.
    const LARGEST: usize = 1 << 20;

    pub(crate) struct CachedRead {
        /// The system can read from the page cache alone.
        possible: AtomicBool,
        mapped: Option<Mapped>,
        /// Reads batches, if queues of the kernel may be used.
        calls: Option<FileCalls>,
    }

    impl CachedRead {
        /// Reads nothing if `direct` bypasses the page cache. Reads batches by one call if `calls` are given.
        pub(crate) fn new(direct: bool, calls: Option<Arc<Calls>>, known: &Arc<RegisteredMemory>) -> Self {
            let calls = calls.filter(|_| !direct).map(|calls| FileCalls::new(calls, known.clone()));
            Self { possible: AtomicBool::new(!direct), mapped: None, calls }
        }

        /// Reads from a mapping of the file, which has `len` bytes.
        pub(crate) fn mapped(file: &File, len: u64) -> io::Result<Self> {
            // An empty file has no bytes to read, and cannot be mapped.
            let mapped = if len > 0 { Some(Mapped::new(file, len)?) } else { None };
            Ok(Self { possible: AtomicBool::new(true), mapped, calls: None })
        }

        pub(crate) fn is_mapped(&self) -> bool {
            self.mapped.is_some()
        }

        /// Fills `into` out of the mapping, if there is one and the bytes are in memory.
        pub(crate) fn fill(&self, position: u64, into: &mut Unfilled<'_>) {
            if let Some(mapped) = &self.mapped
                && into.remaining() <= LARGEST
            {
                mapped.fill(position, into);
            }
        }

        /// To be called after the device has forgotten memory.
        pub(crate) fn refresh(&self) {
            if let Some(calls) = &self.calls {
                calls.refresh();
            }
        }

        /// Reads the bytes that are in memory. Bytes that have to wait for a disk are left.
        pub(crate) fn read(&self, file: &File, job: Job) -> Outcome {
            if job.len() > LARGEST {
                return Outcome::More(job);
            }
            let Some(mapped) = &self.mapped else { return self.ask(file, job) };
            match mapped.copy(job) {
                Outcome::More(job) => self.ask(file, job),
                Outcome::Answered => Outcome::Answered,
            }
        }

        /// Reads the bytes of many jobs that are in memory, and hands unfinished jobs to `rest`.
        pub(crate) fn read_all(
            &self,
            file: &File,
            jobs: impl ExactSizeIterator<Item = Job>,
            rest: impl Fn(Job),
        ) {
            let one = |job| {
                if let Outcome::More(job) = self.read(file, job) {
                    rest(job);
                }
            };
            let Some(calls) = self.calls.as_ref().filter(|_| jobs.len() >= LEAST) else {
                return jobs.for_each(one);
            };
            let small = jobs.filter_map(|job| {
                if job.len() <= LARGEST {
                    return Some(job);
                }
                rest(job);
                None
            });
            // For a job that has begun, the next call mostly finds the end of the file.
            let left = calls.read(file, small, |job| if job.is_begun() { one(job) } else { rest(job) });
            left.into_iter().flatten().for_each(one);
        }

        /// Reads by system calls that return instead of blocking.
        fn ask(&self, file: &File, job: Job) -> Outcome {
            // Ordering: Relaxed. The flag only saves a call.
            if !self.possible.load(Ordering::Relaxed) {
                return Outcome::More(job);
            }
            let mut job = job;
            loop {
                let (this, Step { memory, len, position }) = match job.step() {
                    Ok(next) => next,
                    Err(outcome) => return outcome,
                };
                let part = libc::iovec { iov_base: memory.cast(), iov_len: len };
                // SAFETY: the memory belongs to the job, which lives through the call.
                let count = unsafe {
                    libc::preadv2(file.as_raw_fd(), &raw const part, 1, position as i64, libc::RWF_NOWAIT)
                };
                let outcome = match usize::try_from(count) {
                    Ok(count) => {
                        if let Some(mapped) = &self.mapped {
                            mapped.saw(position, count);
                        }
                        // SAFETY: the system call has returned `count` as the number of bytes that it has read into the step's
                        // memory.
                        unsafe { this.moved(count) }
                    }
                    Err(_) => match Errno::from_io_error(&io::Error::last_os_error()) {
                        Some(Errno::AGAIN) => return Outcome::More(this),
                        Some(Errno::INTR) => Outcome::More(this),
                        // This file system does not support such reads.
                        Some(Errno::OPNOTSUPP | Errno::NOSYS) => {
                            self.possible.store(false, Ordering::Relaxed);
                            return Outcome::More(this);
                        }
                        // The engine tries again, and reports the error.
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
}

#[cfg(not(target_os = "linux"))]
mod other {
    use std::fs::File;
    use std::io;
    use std::sync::Arc;

    use pactio_sdk::Unfilled;

    use crate::job::{Job, Outcome};
    use crate::registered::RegisteredMemory;

    /// No such calls exist on this system.
    #[derive(Default)]
    pub(crate) struct Calls;

    pub(crate) struct CachedRead;

    impl CachedRead {
        pub(crate) fn new(_: bool, _: Option<Arc<Calls>>, _: &Arc<RegisteredMemory>) -> Self {
            Self
        }

        pub(crate) fn refresh(&self) {}

        pub(crate) fn mapped(_: &File, _: u64) -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        pub(crate) fn is_mapped(&self) -> bool {
            false
        }

        pub(crate) fn fill(&self, _: u64, _: &mut Unfilled<'_>) {}

        pub(crate) fn read(&self, _: &File, job: Job) -> Outcome {
            Outcome::More(job)
        }

        pub(crate) fn read_all(&self, _: &File, jobs: impl Iterator<Item = Job>, rest: impl Fn(Job)) {
            jobs.for_each(rest);
        }
    }
}
