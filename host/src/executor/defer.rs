//! Views that wait until the task that this thread is blocked on has nothing more to send.
//!
//! A request that is polled first, with the waker of this thread's own `block_on`, leaves its view here. When that task is
//! pending, everything goes to the devices, one call for each, and the task is polled again in any case. So a request
//! needs no waker, and many cost one call. A task that sends one request after the other is better served at once: see
//! [`Pace`](super::queues::Pace).

use std::sync::Arc;
use std::task::Context;

use pactio_sdk::{BoundPacketView, Read, Submission, Write};

use super::Driver;
use super::local::queue;

/// Leaves the view of a read request here; gives it back to be sent now, if that is better or the task is
/// not the one that this thread is blocked on.
#[inline]
pub(crate) fn read(
    driver: &Arc<Driver>,
    param: u64,
    view: BoundPacketView<Write>,
    cx: &Context<'_>,
) -> Result<(), BoundPacketView<Write>> {
    queue(driver, cx.waker(), view, |queues, view| queues.reads.push(Submission { param, view }))
}

/// The same for a write request.
#[inline]
pub(crate) fn write(
    driver: &Arc<Driver>,
    param: u64,
    view: BoundPacketView<Read>,
    cx: &Context<'_>,
) -> Result<(), BoundPacketView<Read>> {
    queue(driver, cx.waker(), view, |queues, view| queues.writes.push(Submission { param, view }))
}
