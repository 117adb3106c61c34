//! Requests that the kernel performs asynchronously: one queue per file, with `io_uring`.

use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::mem;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use io_uring::squeue::Flags;
use io_uring::{IoUring, cqueue, opcode, types};
use pactio_sdk::UrgencyQueue;
use rustix::io::Errno;
use slab::Slab;

use crate::job::{Job, Outcome};
use crate::registered::{Places, RegisteredMemory};

/// Maximum number of requests of a file in the kernel at once; further ones wait here.
pub(crate) const DEPTH: usize = 128;

/// The file is the ring's only registered one.
const FILE: types::Fd = types::Fd(0);

/// The number in the completions of cancel requests.
const CANCEL: u64 = u64::MAX;

/// The kernel's queues and the jobs in them.
pub(crate) struct Ring {
    ring: IoUring,
    /// Jobs in the kernel, by the number that their completion will have. Their memory belongs to the kernel until the
    /// completion.
    jobs: Slab<Job>,
    /// Jobs that were taken since the last [`run`](Self::run).
    new: VecDeque<Job>,
    /// Jobs that the kernel has no room for yet.
    waiting: UrgencyQueue<Job>,
    known: Arc<RegisteredMemory>,
    places: Places,
}

impl Ring {
    /// # Errors
    ///
    /// If the kernel has no `io_uring`, or gives this process no more of them.
    pub(crate) fn new(file: &File, known: Arc<RegisteredMemory>) -> io::Result<Self> {
        let ring = IoUring::builder().dontfork().setup_clamp().build(DEPTH as u32)?;
        ring.submitter().register_files(&[file.as_raw_fd()])?;
        let places = Places::new(&ring);
        Ok(Self {
            ring,
            jobs: Slab::new(),
            new: VecDeque::new(),
            waiting: UrgencyQueue::default(),
            known,
            places,
        })
    }

    /// A descriptor that is readable when there are completions.
    pub(crate) fn descriptor(&self) -> RawFd {
        self.ring.as_raw_fd()
    }

    /// Takes new jobs, for [`run`](Self::run).
    pub(crate) fn take(&mut self, new: impl Iterator<Item = Job>) {
        self.new.extend(new);
    }

    /// Advances all jobs as far as possible without waiting; `false` if the call has to be repeated.
    pub(crate) fn run(&mut self) -> bool {
        self.places.refresh(&self.ring, &self.known);
        while let Some(job) = self.new.pop_front() {
            if self.waiting.is_empty() && self.jobs.len() < DEPTH {
                self.push(job);
            } else {
                self.waiting.push(job);
            }
        }
        loop {
            while self.jobs.len() < DEPTH
                && let Some(job) = self.waiting.pop()
            {
                self.push(job);
            }
            // The kernel may take only some of the entries at a time.
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

    /// Ends the waiting jobs that are not wanted any more, and asks the kernel to end those that it has. `false` if the call has
    /// to be repeated.
    pub(crate) fn cancel_unwanted(&mut self) -> bool {
        self.waiting.extend(self.new.drain(..));
        self.waiting.take_all(Job::is_cancelled).into_iter().for_each(Job::cancel);
        let mut is_done = true;
        for (key, _) in self.jobs.iter().filter(|(_, job)| job.is_cancelled()) {
            let entry = opcode::AsyncCancel::new(key as u64).build().user_data(CANCEL);
            // SAFETY: the entry refers to no memory.
            if unsafe { self.ring.submission().push(&entry) }.is_err() {
                is_done = false;
                break;
            }
        }
        while !self.ring.submission().is_empty() {
            if !self.submit() {
                return false;
            }
        }
        is_done
    }

    /// Puts a job into the queue, which has room for the maximum number of jobs in the kernel.
    fn push(&mut self, job: Job) {
        let Ok((job, step)) = job.step() else { return };
        let entry = if job.is_read() {
            self.places.read(&self.ring, FILE, &step, 0)
        } else {
            self.places.write(&self.ring, FILE, &step)
        };
        let key = self.jobs.insert(job);
        // SAFETY: the memory belongs to the job, which stays in `jobs` until the completion with its number has arrived.
        let pushed =
            unsafe { self.ring.submission().push(&entry.flags(Flags::FIXED_FILE).user_data(key as u64)) };
        assert!(pushed.is_ok(), "the queue holds all that may be with the kernel");
    }

    /// Submits the entries in the queue.
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

    /// Takes completions; `true` if entries have to be submitted for them.
    fn complete(&mut self) -> bool {
        let mut again = false;
        while let Some(completion) = self.next() {
            if completion.user_data() == CANCEL {
                continue;
            }
            let job = self.jobs.remove(completion.user_data() as usize);
            let outcome = match usize::try_from(completion.result()) {
                // SAFETY: the completion states that the kernel has moved `count` bytes.
                Ok(count) => unsafe { job.moved(count) },
                Err(_) => match Errno::from_raw_os_error(-completion.result()) {
                    Errno::CANCELED if job.is_cancelled() => {
                        job.cancel();
                        Outcome::Answered
                    }
                    // The kernel has cancelled the job because the thread that submitted it has ended.
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

/// The memory of jobs in the kernel is released when the kernel has completed them, not before.
impl Drop for Ring {
    fn drop(&mut self) {
        if self.jobs.is_empty() {
            return;
        }
        // This call ends jobs that wait in the kernel at once. On a kernel without it, the drop waits for the jobs.
        let _ = self.ring.submitter().register_sync_cancel(None, types::CancelBuilder::any());
        while !self.jobs.is_empty() {
            match self.ring.submit_and_wait(1) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => {
                    // The state of the jobs in the kernel is unknown, so their memory is never released.
                    mem::forget(mem::take(&mut self.jobs));
                    return;
                }
            }
            while let Some(completion) = self.next() {
                if completion.user_data() != CANCEL {
                    drop(self.jobs.remove(completion.user_data() as usize));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use pactio_sdk::{Attributes, Code, PacketBox, Urgent, Write};

    use super::*;

    #[test]
    fn urgent_jobs_go_first_when_the_kernel_has_room() {
        let (reader, _writer) = io::pipe().unwrap();
        let file = File::from(std::os::fd::OwnedFd::from(reader));
        let Ok(mut ring) = Ring::new(&file, Arc::default()) else { return println!("no io_uring here") };
        let mut packets: Vec<_> = (0..DEPTH + 5).map(|_| PacketBox::<Write>::new_buf(8).unwrap()).collect();
        ring.take(packets.iter_mut().enumerate().map(|(number, packet)| {
            let urgency = if number < DEPTH { 0 } else { (number - DEPTH) as i8 };
            let view = packet.bind_with(Attributes::new().with_urgency(urgency), None).unwrap();
            Job::read(0, view, 1)
        }));
        ring.run();
        assert_eq!((ring.jobs.len(), ring.waiting.len()), (DEPTH, 5));
        let order: Vec<i8> = std::iter::from_fn(|| ring.waiting.pop()).map(|job| job.urgency()).collect();
        assert_eq!(order, [4, 3, 2, 1, 0]);
    }

    #[test]
    fn a_read_that_waits_in_the_kernel_ends_when_it_is_cancelled() {
        let (reader, writer) = io::pipe().unwrap();
        let file = File::from(std::os::fd::OwnedFd::from(reader));
        let Ok(mut ring) = Ring::new(&file, Arc::default()) else { return println!("no io_uring here") };
        let mut packets: Vec<_> = (0..2 * DEPTH).map(|_| PacketBox::<Write>::new_buf(8).unwrap()).collect();
        // Half of them are in the kernel, half wait here.
        ring.take(packets.iter_mut().map(|packet| Job::read(0, packet.bind().unwrap(), 1)));
        ring.run();
        assert!(packets.iter().all(|packet| !packet.is_complete()));
        packets.iter().for_each(PacketBox::cancel);
        while !packets.iter().all(PacketBox::is_complete) {
            ring.cancel_unwanted();
            ring.run();
        }
        assert!(packets.iter().all(|packet| packet.min_error().unwrap().1.code() == Code::CANCELLED));
        drop(writer);
    }
}
