//! Views that wait until the task that this thread is blocked on has nothing more to send.
//!
//! A request that is polled the first time, with the waker of this thread's own `block_on`, puts its view here. When that task is
//! pending, all views go to the devices, one call for the reads and one for the writes of each device, and the task is polled
//! again in any case. So a request needs no waker, and many requests cost one call. For a task that sends one request after the
//! other, it is better to send at once: see [`Pace`].

use pactio_sdk::{IoError, PacketPerms, Read, Submission, Write};

/// Whether a task waits for each request before it sends the next, judged by its earlier requests.
#[derive(Default)]
pub(super) struct Pace {
    /// Number of requests that are sent at once, before one is deferred again to see whether others come with it.
    alone: u8,
}

impl Pace {
    const ALONE: u8 = 63;

    /// Whether the next request is sent at once. Counts the request.
    #[inline(always)]
    pub(super) fn is_alone(&mut self) -> bool {
        let alone = self.alone > 0;
        self.alone -= u8::from(alone);
        alone
    }

    /// Records the number of requests that were sent together.
    pub(super) fn sent(&mut self, together: usize) {
        self.alone = if together == 1 { Self::ALONE } else { 0 };
    }
}

/// The views that one thread has to send to one device.
#[derive(Default)]
pub(crate) struct Queues {
    pub(crate) reads: Vec<Submission<Write, u64>>,
    pub(crate) writes: Vec<Submission<Read, u64>>,
    /// Some of the requests may be cancelled.
    pub(super) cancelled: bool,
}

impl Queues {
    pub(super) fn is_empty(&self) -> bool {
        self.reads.is_empty() && self.writes.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.reads.len() + self.writes.len()
    }

    pub(super) fn append(&mut self, mut other: Self) {
        self.reads.append(&mut other.reads);
        self.writes.append(&mut other.writes);
        self.cancelled |= other.cancelled;
    }

    /// Fails requests that were cancelled before they were sent: a device that is told to give up such a request does not know it
    /// yet.
    pub(super) fn fail_cancelled(&mut self) {
        if std::mem::take(&mut self.cancelled) {
            fail_cancelled(&mut self.reads);
            fail_cancelled(&mut self.writes);
        }
    }

    /// Fails all requests.
    pub(crate) fn fail(&mut self, error: IoError) {
        self.reads.drain(..).for_each(|submission| submission.view.error(error));
        self.writes.drain(..).for_each(|submission| submission.view.error(error));
    }
}

fn fail_cancelled<P: PacketPerms>(queue: &mut Vec<Submission<P, u64>>) {
    for submission in queue.extract_if(.., |submission| submission.view.is_cancelled()) {
        submission.view.error(IoError::CANCELLED);
    }
}
