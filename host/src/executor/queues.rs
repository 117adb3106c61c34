//! The views that one thread has deferred for one device.

use pactio_sdk::{Error, PacketPerms, Read, Submission, Write};

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
