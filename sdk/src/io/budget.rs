//! Requests that are answered at once do not keep a task running for ever: now and then, one of them gives way to the other tasks
//! of its thread.
//!
//! Only the worker threads of an executor have a budget. On all other threads, a request that is answered at once is ready in its
//! first poll.

use core::cell::Cell;
use core::task::Context;

/// Number of requests in a row that are answered at once before one of them gives way: some microseconds of work.
const IN_A_ROW: u32 = 256;

thread_local! {
    /// Answers until the next one gives way; 0 on threads without a budget.
    static LEFT: Cell<u32> = const { Cell::new(0) };
}

/// Gives this thread a budget, since it runs many tasks.
pub fn give_way_here() {
    LEFT.with(|left| left.set(IN_A_ROW));
}

/// The next request that is answered at once gives way.
#[inline(always)]
pub(super) fn next_gives_way() -> bool {
    LEFT.with(|left| left.get() == 1)
}

/// Counts a request that was answered at once, and does not [give way](next_gives_way).
#[inline(always)]
pub(super) fn count() {
    LEFT.with(|left| left.set(left.get().saturating_sub(1)));
}

/// Counts a request that was answered at once; `true` if its task gives way. The task is woken in that case.
#[inline(always)]
pub(super) fn gives_way(cx: &Context<'_>) -> bool {
    LEFT.with(|left| match left.get() {
        0 => false,
        1 => {
            left.set(IN_A_ROW);
            cx.waker().wake_by_ref();
            true
        }
        more => {
            left.set(more - 1);
            false
        }
    })
}
