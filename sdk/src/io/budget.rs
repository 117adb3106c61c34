//! Requests that are answered at once do not keep a task running for ever: now and then, one of them gives way to the other tasks
//! of its thread.
//!
//! Only the worker threads of an executor have a budget, so code that polls a request once elsewhere is not surprised.

use core::cell::Cell;
use core::task::Context;

/// Answers at once in a row before one gives way: some microseconds of work.
const IN_A_ROW: u32 = 256;

thread_local! {
    /// Answers until the next one gives way; 0 on threads without a budget.
    static LEFT: Cell<u32> = const { Cell::new(0) };
}

/// This thread runs many tasks: requests give way there.
pub fn give_way_here() {
    LEFT.with(|left| left.set(IN_A_ROW));
}

/// A request was answered at once; `true` if its task gives way, and is woken.
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
