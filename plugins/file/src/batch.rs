//! Many reads of cached bytes by one call: a queue of the kernel (`io_uring`) in which no request may wait.
//!
//! The number of queues does not depend on the number of files. A queue that is used for the same file again registers the file:
//! the kernel then does not look up the descriptor for each read.

use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use io_uring::squeue::Flags;
use io_uring::{IoUring, types};
use rustix::io::Errno;

use crate::job::{Job, Outcome};
use crate::registered::{Places, RegisteredMemory};

/// Maximum number of reads in one call.
const DEPTH: usize = 128;

/// With fewer reads, one call for each is as fast.
pub(crate) const LEAST: usize = 4;

/// Maximum number of queues. Each call in progress uses one queue, and an answer within a call may make another call. Files use
/// the queues in turn.
const MAX_QUEUES: usize = 8;

/// The number of the registered file.
const FILE: types::Fd = types::Fd(0);

/// The value for no registered file.
const NO_FILE: RawFd = -1;

/// The queues of all files, made when they are needed.
#[derive(Default)]
pub(crate) struct Calls {
    queues: Mutex<Queues>,
    /// Ordering: Relaxed. The count is only a number.
    files: AtomicU64,
}

#[derive(Default)]
struct Queues {
    /// The queues that no call uses. The last one was used most recently.
    idle: Vec<Queue>,
    made: usize,
}

struct Queue {
    ring: IoUring,
    /// The jobs of the next call, by the number that their completion will have.
    jobs: Vec<Option<Job>>,
    /// The file that the queue was used for last.
    last: Option<u64>,
    /// The file `last` is registered, until the file is closed or the queue is used for another one. The memory that its device
    /// knows is registered for the same time.
    registered: bool,
    places: Places,
}

/// A file's access to the queues.
pub(crate) struct FileCalls {
    calls: Arc<Calls>,
    number: u64,
    known: Arc<RegisteredMemory>,
}

impl FileCalls {
    pub(crate) fn new(calls: Arc<Calls>, known: Arc<RegisteredMemory>) -> Self {
        let number = calls.files.fetch_add(1, Ordering::Relaxed);
        Self { calls, number, known }
    }

    /// To be called after memory was forgotten. Queues that are in use refresh themselves at the end of their use.
    pub(crate) fn refresh(&self) {
        for queue in self.calls.lock().idle.iter_mut().filter(|queue| queue.last == Some(self.number)) {
            queue.places.refresh(&queue.ring, &self.known);
        }
    }

    /// Reads the bytes that are available without waiting, and hands unfinished jobs to `rest`. Returns the jobs that were not
    /// taken.
    pub(crate) fn read<J>(&self, file: &File, mut jobs: J, rest: impl Fn(Job)) -> Option<J>
    where
        J: Iterator<Item = Job>,
    {
        let Some(mut queue) = self.calls.take(self.number) else { return Some(jobs) };
        queue.turn_to(self.number, file, &self.known);
        while queue.fill(file, &mut jobs) {
            if !queue.call(&rest) {
                // The queue still counts as made: if the kernel refuses all queues, the maximum is reached soon, and no more are
                // made.
                queue.end(rest);
                return Some(jobs);
            }
        }
        let mut queues = self.calls.lock();
        if queue.registered {
            queue.places.refresh(&queue.ring, &self.known);
        }
        queues.idle.push(queue);
        None
    }
}

/// Removes the registrations of the closed file. No thread reads the file any more, so the queues that have registered it are
/// idle.
impl Drop for FileCalls {
    fn drop(&mut self) {
        for queue in &mut self.calls.lock().idle {
            queue.forget(self.number);
        }
    }
}

impl Calls {
    /// A queue that was used for this file, or a new one, or the least recently used one.
    fn take(&self, file: u64) -> Option<Queue> {
        let mut queues = self.lock();
        if let Some(index) = queues.idle.iter().rposition(|queue| queue.last == Some(file)) {
            return Some(queues.idle.remove(index));
        }
        if queues.made == MAX_QUEUES {
            return if queues.idle.is_empty() { None } else { Some(queues.idle.remove(0)) };
        }
        queues.made += 1;
        drop(queues);
        let queue = Queue::new().inspect_err(|error| {
            // A shortage may be over later. A queue that this kernel or a sandbox denies is not requested again.
            if !matches!(Errno::from_io_error(error), Some(Errno::NOSYS | Errno::PERM)) {
                self.lock().made -= 1;
            }
        });
        queue.ok()
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        // No foreign code runs under the lock.
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// # Errors
    ///
    /// If the kernel has no `io_uring`, or gives this process no more of them.
    fn new() -> io::Result<Self> {
        let ring = IoUring::builder().dontfork().build(DEPTH as u32)?;
        ring.submitter().register_files(&[NO_FILE])?;
        let places = Places::new(&ring);
        Ok(Self { ring, jobs: Vec::with_capacity(DEPTH), last: None, registered: false, places })
    }

    /// Uses the queue for this file from now on. The file is registered at the second use.
    fn turn_to(&mut self, number: u64, file: &File, known: &RegisteredMemory) {
        if self.last == Some(number) {
            self.registered = self.registered || self.register(file.as_raw_fd());
            if self.registered {
                self.places.refresh(&self.ring, known);
            }
        } else {
            if let Some(last) = self.last {
                self.forget(last);
            }
            self.last = Some(number);
        }
    }

    /// Ends the use of the queue for this file, if this file has used the queue last.
    fn forget(&mut self, number: u64) {
        if self.last == Some(number) {
            // If the registration cannot be removed, as in a forked process, the file stays open until the queue is closed.
            let _ = self.registered && self.register(NO_FILE);
            self.places.clear(&self.ring);
            self.registered = false;
            self.last = None;
        }
    }

    fn register(&self, descriptor: RawFd) -> bool {
        self.ring.submitter().register_files_update(0, &[descriptor]).is_ok()
    }

    /// Takes the jobs of one call; `false` if there are no more.
    fn fill(&mut self, file: &File, jobs: impl Iterator<Item = Job>) -> bool {
        self.jobs.clear();
        let (descriptor, flags) = if self.registered {
            (FILE, Flags::FIXED_FILE)
        } else {
            (types::Fd(file.as_raw_fd()), Flags::empty())
        };
        for job in jobs.take(DEPTH) {
            let Ok((job, step)) = job.step() else { continue };
            let entry = self.places.read(&self.ring, descriptor, &step, libc::RWF_NOWAIT);
            let entry = entry.flags(flags).user_data(self.jobs.len() as u64);
            // SAFETY: the memory belongs to the job, which stays in `jobs` until its completion has arrived, or until the queue
            // is closed.
            let pushed = unsafe { self.ring.submission().push(&entry) };
            assert!(pushed.is_ok(), "the queue holds as many as go into one call");
            self.jobs.push(Some(job));
        }
        !self.jobs.is_empty()
    }

    /// Performs all jobs that were filled in; `false` if the kernel refuses them.
    fn call(&mut self, rest: &impl Fn(Job)) -> bool {
        let mut left = self.jobs.len();
        while left > 0 {
            // No job waits in the kernel, so all are complete when the call returns.
            match self.ring.submit_and_wait(left) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
            for completion in self.ring.completion() {
                left -= 1;
                let Some(job) = self.jobs[completion.user_data() as usize].take() else { continue };
                let outcome = match usize::try_from(completion.result()) {
                    // SAFETY: the completion states that the kernel has moved `count` bytes.
                    Ok(count) => unsafe { job.moved(count) },
                    // The read would have to wait, or has failed. In the second case, the engine tries again and reports the
                    // error.
                    Err(_) => Outcome::More(job),
                };
                if let Outcome::More(job) = outcome {
                    rest(job);
                }
            }
        }
        true
    }

    /// Gives up all jobs that have no completion yet.
    fn end(self, rest: impl Fn(Job)) {
        let Self { ring, jobs, .. } = self;
        // The ring is closed first: the kernel does not perform jobs that were not submitted. Submitted jobs are complete, since
        // no job waits in the kernel.
        drop(ring);
        jobs.into_iter().flatten().for_each(rest);
    }
}
