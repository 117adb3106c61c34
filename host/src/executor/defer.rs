//! Views that wait until the task that this thread is blocked on has nothing more to send.
//!
//! A request that is polled first, with the waker of this thread's own `block_on`, leaves its view here. When that task is
//! pending, everything goes to the devices, one call for each, and the task is polled again in any case. So a request
//! needs no waker, and many cost one call.

use std::sync::Arc;
use std::task::Context;

use pactio_sdk::{BoundPacketView, Error, PacketPerms, Read, Submission, Write};

use super::Driver;
use super::local::{is_blocked_on, queue};

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

/// Leaves the view of a read request here; gives it back if the task is not the one that this thread is blocked on.
#[inline]
pub(crate) fn read(
    driver: &Arc<Driver>,
    param: u64,
    view: BoundPacketView<Write>,
    cx: &Context<'_>,
) -> Result<(), BoundPacketView<Write>> {
    if !is_blocked_on(cx.waker()) {
        return Err(view);
    }
    queue(driver, |queues| queues.reads.push(Submission { param, view }));
    Ok(())
}

/// The same for a write request.
#[inline]
pub(crate) fn write(
    driver: &Arc<Driver>,
    param: u64,
    view: BoundPacketView<Read>,
    cx: &Context<'_>,
) -> Result<(), BoundPacketView<Read>> {
    if !is_blocked_on(cx.waker()) {
        return Err(view);
    }
    queue(driver, |queues| queues.writes.push(Submission { param, view }));
    Ok(())
}
