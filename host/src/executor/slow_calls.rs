//! Threads that open and close devices, for callers that wait for a limited time: the plugin may not come back from such a call.
//!
//! All hosts share the threads. If each thread is inside a plugin, further calls wait in a queue.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;
use std::time::Duration;

use super::Process;
use super::posts::mark_thread_may_close;
use crate::gauges::Bounded;

/// Most threads of the process.
const MAX_THREADS: usize = 256;

/// A thread without a call ends after this time.
const IDLE: Duration = Duration::from_secs(1);

type Call = Box<dyn FnOnce() + Send>;

struct SlowCalls {
    calls: VecDeque<Call>,
    threads: usize,
    /// Threads that wait for a call.
    idle: usize,
}

static SLOW_CALLS: Mutex<SlowCalls> = Mutex::new(SlowCalls { calls: VecDeque::new(), threads: 0, idle: 0 });
static CALLS: Condvar = Condvar::new();

fn lock() -> MutexGuard<'static, SlowCalls> {
    // No foreign code runs under the lock.
    SLOW_CALLS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Performs a call on another thread, as soon as there is one. Devices can be closed there.
///
/// # Errors
///
/// If there is no thread and none can be started. The call is then dropped.
pub(crate) fn perform(call: impl FnOnce() + Send + 'static) -> io::Result<()> {
    // A forked process has none of the threads, and a thread of the parent may have held the lock during the fork: each call
    // gets a thread of its own there.
    static FIRST: OnceLock<Process> = OnceLock::new();
    if FIRST.get_or_init(Process::this).was_forked() {
        let run = move || {
            mark_thread_may_close();
            call();
        };
        return thread::Builder::new().name("pactio-helper".to_owned()).spawn(run).map(drop);
    }
    let mut slow_calls = lock();
    slow_calls.calls.push_back(Box::new(call));
    // The idle threads are enough for the calls in the queue.
    if slow_calls.calls.len() <= slow_calls.idle {
        drop(slow_calls);
        CALLS.notify_one();
        return Ok(());
    }
    // The call stays in the queue until a thread has ended its call.
    if slow_calls.threads == MAX_THREADS {
        return Ok(());
    }
    slow_calls.threads += 1;
    let started = thread::Builder::new().name("pactio-helper".to_owned()).spawn(help);
    let Err(error) = started else { return Ok(()) };
    slow_calls.threads -= 1;
    // Another thread will perform the call.
    if slow_calls.threads > 0 {
        return Ok(());
    }
    // The lock was held since the push, so the last call is this one. Its drop is foreign code, and runs without the lock.
    let call = slow_calls.calls.pop_back();
    drop(slow_calls);
    drop(call);
    Err(error)
}

/// The threads, and the number of calls that wait for one.
pub(crate) fn counts() -> (Bounded, usize) {
    let slow_calls = lock();
    (Bounded { now: slow_calls.threads, most: MAX_THREADS }, slow_calls.calls.len())
}

/// Performs calls until none has come for [`IDLE`].
fn help() {
    mark_thread_may_close();
    let mut slow_calls = lock();
    loop {
        if let Some(call) = slow_calls.calls.pop_front() {
            drop(slow_calls);
            // The thread stays in the count `threads`, so a panic must not end it.
            if catch_unwind(AssertUnwindSafe(call)).is_err() {
                tracing::error!("opening or closing a device panicked");
            }
            slow_calls = lock();
            continue;
        }
        slow_calls.idle += 1;
        let (relocked, waited) = CALLS
            .wait_timeout_while(slow_calls, IDLE, |slow_calls| slow_calls.calls.is_empty())
            .unwrap_or_else(PoisonError::into_inner);
        slow_calls = relocked;
        slow_calls.idle -= 1;
        if waited.timed_out() && slow_calls.calls.is_empty() {
            slow_calls.threads -= 1;
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::channel;

    use super::{MAX_THREADS, counts, perform};

    #[test]
    fn calls_beyond_the_bound_wait_and_none_is_lost() {
        const CALLS: usize = MAX_THREADS + 50;
        let (go, wait) = async_channel::bounded::<()>(1);
        let (begins, began) = channel();
        let done = Arc::new(AtomicUsize::new(0));
        for _ in 0..CALLS {
            let (wait, begins, done) = (wait.clone(), begins.clone(), done.clone());
            perform(move || {
                let _ = begins.send(());
                let _ = wait.recv_blocking();
                done.fetch_add(1, Ordering::Relaxed);
                // The thread goes on with the next call.
                panic!("a call that panics");
            })
            .unwrap();
        }
        drop(begins);
        for _ in 0..MAX_THREADS {
            began.recv().unwrap();
        }
        let (threads, waiting) = counts();
        assert_eq!((threads.now, threads.most), (MAX_THREADS, MAX_THREADS));
        assert!(waiting >= CALLS - MAX_THREADS, "{waiting} calls wait");
        drop(go);
        // When the channel ends, each call has begun.
        assert_eq!(began.iter().count(), CALLS - MAX_THREADS);
        while done.load(Ordering::Relaxed) < CALLS {
            std::thread::yield_now();
        }
        // Idle threads end, so the count falls to 0 unless a thread was lost.
        while counts().0.now > 0 {
            std::thread::sleep(std::time::Duration::from_millis(20));
        }
    }
}
