//! Reads of what is in memory already, on the caller's thread: out of the mapped file, or by a call that does not wait.

#[cfg(target_os = "linux")]
pub(crate) use crate::batch::Calls;
#[cfg(target_os = "linux")]
pub(crate) use linux::AtOnce;
#[cfg(not(target_os = "linux"))]
pub(crate) use other::{AtOnce, Calls};

#[cfg(target_os = "linux")]
mod linux {
    use std::fs::File;
    use std::io;
    use std::os::fd::AsRawFd;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};

    use rustix::io::Errno;

    use crate::batch::{Calls, FileCalls, LEAST};
    use crate::job::{Job, Outcome, Step};
    use crate::known::Known;
    use crate::mapped::Mapped;

    /// Larger requests are not copied on the caller's thread.
    const LARGEST: usize = 1 << 20;

    pub(crate) struct AtOnce {
        /// The system can be asked for what the page cache has.
        possible: AtomicBool,
        mapped: Option<Mapped>,
        /// Reads many, unless the kernel may not be given a queue.
        calls: Option<FileCalls>,
    }

    impl AtOnce {
        /// Not at all, if the page cache is gone around; many by one call, if there are calls for that.
        pub(crate) fn new(direct: bool, calls: Option<Arc<Calls>>, known: &Arc<Known>) -> Self {
            let calls = calls.filter(|_| !direct).map(|calls| FileCalls::new(calls, known.clone()));
            Self { possible: AtomicBool::new(!direct), mapped: None, calls }
        }

        /// Out of a mapping of the file, which is so long.
        pub(crate) fn mapped(file: &File, len: u64) -> io::Result<Self> {
            // What is empty has nothing that could be read, and cannot be mapped.
            let mapped = if len > 0 { Some(Mapped::new(file, len)?) } else { None };
            Ok(Self { possible: AtomicBool::new(true), mapped, calls: None })
        }

        pub(crate) fn is_mapped(&self) -> bool {
            self.mapped.is_some()
        }

        /// The device has forgotten memory.
        pub(crate) fn refresh(&self) {
            if let Some(calls) = &self.calls {
                calls.refresh();
            }
        }

        /// Reads what it can. What has to wait for a disk is left.
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

        /// Reads what it can of many, and hands the rest to `rest`.
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
            // Of one that has begun, the next call mostly finds the end of the file.
            let left = calls.read(file, small, |job| if job.is_begun() { one(job) } else { rest(job) });
            left.into_iter().flatten().for_each(one);
        }

        /// By calls that end instead of waiting.
        fn ask(&self, file: &File, job: Job) -> Outcome {
            // Ordering: Relaxed. It saves a call, no more.
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
                // SAFETY: the memory is the job's, which lives through the call.
                let count = unsafe {
                    libc::preadv2(file.as_raw_fd(), &raw const part, 1, position as i64, libc::RWF_NOWAIT)
                };
                let outcome = match usize::try_from(count) {
                    Ok(count) => {
                        if let Some(mapped) = &self.mapped {
                            mapped.saw(position, count);
                        }
                        // SAFETY: the system says so.
                        unsafe { this.moved(count) }
                    }
                    Err(_) => match Errno::from_io_error(&io::Error::last_os_error()) {
                        Some(Errno::AGAIN) => return Outcome::More(this),
                        Some(Errno::INTR) => Outcome::More(this),
                        // This file system cannot say.
                        Some(Errno::OPNOTSUPP | Errno::NOSYS) => {
                            self.possible.store(false, Ordering::Relaxed);
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
}

#[cfg(not(target_os = "linux"))]
mod other {
    use std::fs::File;
    use std::io;
    use std::sync::Arc;

    use crate::job::{Job, Outcome};
    use crate::known::Known;

    /// There are none.
    #[derive(Default)]
    pub(crate) struct Calls;

    pub(crate) struct AtOnce;

    impl AtOnce {
        pub(crate) fn new(_: bool, _: Option<Arc<Calls>>, _: &Arc<Known>) -> Self {
            Self
        }

        pub(crate) fn refresh(&self) {}

        pub(crate) fn mapped(_: &File, _: u64) -> io::Result<Self> {
            Err(io::ErrorKind::Unsupported.into())
        }

        pub(crate) fn is_mapped(&self) -> bool {
            false
        }

        pub(crate) fn read(&self, _: &File, job: Job) -> Outcome {
            Outcome::More(job)
        }

        pub(crate) fn read_all(&self, _: &File, jobs: impl Iterator<Item = Job>, rest: impl Fn(Job)) {
            jobs.for_each(rest);
        }
    }
}
