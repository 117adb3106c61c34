//! The views that one thread has deferred for one device.

use pactio_sdk::{Error, PacketPerms, Read, Submission, Write};

/// Whether a task waits for each request before it sends the next, by what it did before.
#[derive(Default)]
pub(super) struct Pace {
    /// So many requests are sent at once, before one is deferred again to see whether others come with it.
    alone: u8,
}

impl Pace {
    const ALONE: u8 = 63;

    /// The next request is sent at once.
    #[inline(always)]
    pub(super) fn is_alone(&mut self) -> bool {
        let alone = self.alone > 0;
        self.alone -= u8::from(alone);
        alone
    }

    /// So many requests were sent together.
    pub(super) fn sent(&mut self, together: usize) {
        self.alone = if together == 1 { Self::ALONE } else { 0 };
    }
}

/// What is to be sent to one device.
#[derive(Default)]
pub(crate) struct Queues {
    pub(crate) reads: Vec<Submission<Write, u64>>,
    pub(crate) writes: Vec<Submission<Read, u64>>,
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
    }

    /// Fails what was cancelled before it was sent: a device that is told to give up a request does not know it yet.
    pub(super) fn fail_cancelled(&mut self) {
        fail_cancelled(&mut self.reads);
        fail_cancelled(&mut self.writes);
    }

    /// The device is closed.
    pub(super) fn fail(&mut self) {
        self.reads.drain(..).for_each(|submission| submission.view.error(Error::NOT_SUBMITTED));
        self.writes.drain(..).for_each(|submission| submission.view.error(Error::NOT_SUBMITTED));
    }
}

fn fail_cancelled<P: PacketPerms>(queue: &mut Vec<Submission<P, u64>>) {
    if queue.iter().any(|submission| submission.view.is_cancelled()) {
        for submission in queue.extract_if(.., |submission| submission.view.is_cancelled()) {
            submission.view.error(Error::CANCELLED);
        }
    }
}
