//! Requests that the kernel works on by itself: one queue per file, with `io_uring`.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use io_uring::squeue::Flags;
use io_uring::{IoUring, cqueue, types};
use rustix::io::Errno;
use slab::Slab;

use crate::job::{Job, Outcome};
use crate::known::{Known, Places};

/// So many requests of a file are with the kernel at once; more wait here.
pub(crate) const DEPTH: usize = 128;

/// The file is the ring's only registered one.
const FILE: types::Fd = types::Fd(0);

/// The kernel's queues and what is in them.
pub(crate) struct Ring {
    ring: IoUring,
    /// With the kernel, by the number that its completion will have. Their memory is the kernel's until then.
    jobs: Slab<Job>,
    /// Not with the kernel yet.
    waiting: VecDeque<Job>,
    known: Arc<Known>,
    places: Places,
}

impl Ring {
    /// # Errors
    ///
    /// If the kernel has no `io_uring`, or no more for this process.
    pub(crate) fn new(file: &File, known: Arc<Known>) -> io::Result<Self> {
        let ring = IoUring::builder().dontfork().setup_clamp().build(DEPTH as u32)?;
        ring.submitter().register_files(&[file.as_raw_fd()])?;
        let places = Places::new(&ring);
        Ok(Self { ring, jobs: Slab::new(), waiting: VecDeque::new(), known, places })
    }

    /// Is readable when there are completions.
    pub(crate) fn descriptor(&self) -> RawFd {
        self.ring.as_raw_fd()
    }

    /// Takes new jobs and moves all on as far as that goes without waiting; `false` if the kernel wants to be asked again.
    pub(crate) fn run(&mut self, new: impl Iterator<Item = Job>) -> bool {
        self.places.refresh(&self.ring, &self.known);
        self.waiting.extend(new);
        loop {
            while self.jobs.len() < DEPTH
                && let Some(job) = self.waiting.pop_front()
            {
                self.push(job);
            }
            // It may take only some of them at a time.
            while !self.ring.submission().is_empty() {
                if !self.submit() {
                    return false;
                }
            }
            let again = self.complete();
            if !again && (self.waiting.is_empty() || self.jobs.len() == DEPTH) {
                return true;
            }
        }
    }

    /// Puts a job into the queue. There is room for as many as may be with the kernel.
    fn push(&mut self, job: Job) {
        let Ok((job, step)) = job.step() else { return };
        let entry = if job.is_read() {
            self.places.read(&self.ring, FILE, &step, 0)
        } else {
            self.places.write(&self.ring, FILE, &step)
        };
        let key = self.jobs.insert(job);
        // SAFETY: the memory is the job's, and the job stays in `jobs` until the completion with its number is in.
        let pushed =
            unsafe { self.ring.submission().push(&entry.flags(Flags::FIXED_FILE).user_data(key as u64)) };
        assert!(pushed.is_ok(), "the queue holds all that may be with the kernel");
    }

    /// Hands over what is in the queue.
    fn submit(&self) -> bool {
        match self.ring.submit() {
            Ok(_) => true,
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::INTR | Errno::AGAIN | Errno::BUSY) => false,
                _ => panic!("io_uring does not take requests: {error}"),
            },
        }
    }

    fn next(&mut self) -> Option<cqueue::Entry> {
        self.ring.completion().next()
    }

    /// Takes completions in; `true` if something has to be submitted for them.
    fn complete(&mut self) -> bool {
        let mut again = false;
        while let Some(completion) = self.next() {
            let job = self.jobs.remove(completion.user_data() as usize);
            let outcome = match usize::try_from(completion.result()) {
                // SAFETY: the kernel says so.
                Ok(count) => unsafe { job.moved(count) },
                Err(_) => match Errno::from_raw_os_error(-completion.result()) {
                    // Given up with the thread that submitted it, which has ended meanwhile.
                    Errno::CANCELED | Errno::AGAIN => Outcome::More(job),
                    errno => job.failed(errno),
                },
            };
            if let Outcome::More(job) = outcome {
                self.push(job);
                again = true;
            }
        }
        again
    }
}

/// The memory of what is with the kernel is given back when the kernel is through with it, not before.
impl Drop for Ring {
    fn drop(&mut self) {
        if self.jobs.is_empty() {
            return;
        }
        // What only waits ends at once; on a kernel that cannot do this, it takes as long as the work takes.
        let _ = self.ring.submitter().register_sync_cancel(None, types::CancelBuilder::any());
        while !self.jobs.is_empty() {
            match self.ring.submit_and_wait(1) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    // Nobody knows what the kernel still does.
                    mem::forget(mem::take(&mut self.jobs));
                    return;
                }
            }
            while let Some(completion) = self.next() {
                drop(self.jobs.remove(completion.user_data() as usize));
            }
        }
    }
}
