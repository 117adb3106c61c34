//! Many reads of what the page cache has, by one call: a queue of the kernel (`io_uring`) in which nothing may wait.

use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::AsRawFd;
use std::sync::Mutex;

use io_uring::{IoUring, opcode, types};

use crate::job::{Job, Outcome, Step};

/// So many reads go into one call.
const DEPTH: usize = 128;

/// With fewer reads, one call for each is as fast.
pub(crate) const LEAST: usize = 4;

/// The file is the queue's only registered one.
const FILE: types::Fixed = types::Fixed(0);

/// The queue of a file, made when it is first needed.
pub(crate) struct Calls(Mutex<State>);

enum State {
    New,
    Open(Box<Queue>),
    /// The kernel does not give one, or it broke.
    Gone,
}

struct Queue {
    ring: IoUring,
    /// What goes into the next call, by the number that its completion will have.
    jobs: Vec<Option<Job>>,
}

impl Calls {
    pub(crate) fn new(possible: bool) -> Self {
        Self(Mutex::new(if possible { State::New } else { State::Gone }))
    }

    /// Reads what it can without waiting, and hands the rest to `rest`. Gives back what it did not look at.
    pub(crate) fn read<J>(&self, file: &File, mut jobs: J, rest: impl Fn(Job)) -> Option<J>
    where
        J: Iterator<Item = Job>,
    {
        // Another thread may be in a call, or this one, further outside: what it answers can send more. If somebody's waker
        // panicked there, nobody knows how far the queue was.
        let Ok(mut state) = self.0.try_lock() else { return Some(jobs) };
        if let State::New = &*state {
            *state = Queue::new(file).map_or(State::Gone, |queue| State::Open(Box::new(queue)));
        }
        let State::Open(queue) = &mut *state else { return Some(jobs) };
        while queue.fill(&mut jobs) {
            if !queue.call(&rest) {
                if let State::Open(queue) = mem::replace(&mut *state, State::Gone) {
                    queue.end(rest);
                }
                return Some(jobs);
            }
        }
        None
    }
}

impl Queue {
    /// # Errors
    ///
    /// If the kernel has no `io_uring`, or no more for this process.
    fn new(file: &File) -> io::Result<Self> {
        let ring = IoUring::builder().dontfork().build(DEPTH as u32)?;
        ring.submitter().register_files(&[file.as_raw_fd()])?;
        Ok(Self { ring, jobs: Vec::with_capacity(DEPTH) })
    }

    /// Takes as many jobs as go into one call; `false` if there are no more.
    fn fill(&mut self, jobs: impl Iterator<Item = Job>) -> bool {
        self.jobs.clear();
        let mut submission = self.ring.submission();
        for job in jobs.take(DEPTH) {
            let Ok((job, Step { memory, len, position })) = job.step() else { continue };
            let entry = opcode::Read::new(FILE, memory, len as u32)
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
