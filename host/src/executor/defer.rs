//! Views that wait until the task that this thread is blocked on has nothing more to send.
//!
//! A request that is polled first, with the waker of this thread's own `block_on`, leaves its view here. When that task is
//! pending, everything goes to the devices, one call for each, and the task is polled again in any case. So a request
//! needs no waker, and many cost one call.

use std::sync::Arc;
use std::task::Context;

use pactio_sdk::{BoundPacketView, Read, Submission, Write};

use super::Driver;
use super::local::{is_blocked_on, queue};

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
