//! Many reads of what the page cache has, by one call: a queue of the kernel (`io_uring`) in which nothing may wait.
//!
//! It does not matter which file a queue was used for before, so there are few, whatever the number of files.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::sync::{Mutex, MutexGuard, PoisonError};

use io_uring::{IoUring, opcode, types};

use crate::job::{Job, Outcome, Step};

/// So many reads go into one call.
const DEPTH: usize = 128;

/// With fewer reads, one call for each is as fast.
pub(crate) const LEAST: usize = 4;

/// So many queues there are at most: one for each thread that is in a call, and for each call that is made by what another one
/// answers.
const MOST: usize = 8;

/// The queues of all files, made when they are needed.
#[derive(Default)]
pub(crate) struct Calls(Mutex<Queues>);

#[derive(Default)]
struct Queues {
    idle: Vec<Queue>,
    made: usize,
}

struct Queue {
    ring: IoUring,
    /// What goes into the next call, by the number that its completion will have.
    jobs: Vec<Option<Job>>,
}

impl Calls {
    /// Reads what it can without waiting, and hands the rest to `rest`. Gives back what it did not look at.
    pub(crate) fn read<J>(&self, file: &File, mut jobs: J, rest: impl Fn(Job)) -> Option<J>
    where
        J: Iterator<Item = Job>,
    {
        let Some(mut queue) = self.take() else { return Some(jobs) };
        while queue.fill(file, &mut jobs) {
            if !queue.call(&rest) {
                // It stays among those that were made, so that a kernel that does this to all is left alone soon.
                queue.end(rest);
                return Some(jobs);
            }
        }
        self.lock().idle.push(queue);
        None
    }

    fn take(&self) -> Option<Queue> {
        let mut queues = self.lock();
        if let Some(queue) = queues.idle.pop() {
            return Some(queue);
        }
        if queues.made == MOST {
            return None;
        }
        queues.made += 1;
        drop(queues);
        Queue::new().ok()
    }

    fn lock(&self) -> MutexGuard<'_, Queues> {
        // No foreign code runs under the lock.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Queue {
    /// # Errors
    ///
    /// If the kernel has no `io_uring`, or no more for this process.
    fn new() -> io::Result<Self> {
        let ring = IoUring::builder().dontfork().build(DEPTH as u32)?;
        Ok(Self { ring, jobs: Vec::with_capacity(DEPTH) })
    }

    /// Takes as many jobs as go into one call; `false` if there are no more.
    fn fill(&mut self, file: &File, jobs: impl Iterator<Item = Job>) -> bool {
        self.jobs.clear();
        let file = types::Fd(file.as_raw_fd());
        let mut submission = self.ring.submission();
        for job in jobs.take(DEPTH) {
            let Ok((job, Step { memory, len, position })) = job.step() else { continue };
            let entry = opcode::Read::new(file, memory, len as u32)
                .offset(position)
                .rw_flags(libc::RWF_NOWAIT)
                .build()
                .user_data(self.jobs.len() as u64);
            // SAFETY: the memory is the job's, which stays in `jobs` until its completion is in, or until the queue is closed.
            let pushed = unsafe { submission.push(&entry) };
            assert!(pushed.is_ok(), "the queue holds as many as go into one call");
            self.jobs.push(Some(job));
        }
        !self.jobs.is_empty()
    }

    /// Has everything done that was filled in; `false` if the kernel does not take it.
    fn call(&mut self, rest: &impl Fn(Job)) -> bool {
        let mut left = self.jobs.len();
        while left > 0 {
            // Nothing waits in the kernel, so all are through when the call comes back.
            match self.ring.submit_and_wait(left) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
            for completion in self.ring.completion() {
                left -= 1;
                let Some(job) = self.jobs[completion.user_data() as usize].take() else { continue };
                let outcome = match usize::try_from(completion.result()) {
                    // SAFETY: the kernel says so.
                    Ok(count) => unsafe { job.moved(count) },
                    // It would have to wait; or it is an error, which whoever does it the long way finds out.
                    Err(_) => Outcome::More(job),
                };
                if let Outcome::More(job) = outcome {
                    rest(job);
                }
            }
        }
        true
    }

    /// Gives all up that it has not seen the end of.
    fn end(self, rest: impl Fn(Job)) {
        let Self { ring, jobs } = self;
        // First, so that the kernel has nothing more to do with the memory.
        drop(ring);
        jobs.into_iter().flatten().for_each(rest);
    }
}
