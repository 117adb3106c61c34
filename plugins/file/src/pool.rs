//! A few threads that do blocking work in the order in which it was submitted.

use std::collections::VecDeque;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;

/// More threads than processors, since they mostly wait for the system.
pub(crate) const THREADS: usize = 4;

type Job = Box<dyn FnOnce() + Send>;

/// Takes jobs. When it is dropped, the threads finish what was submitted and end.
pub(crate) struct Pool {
    shared: Arc<Shared>,
}

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    work: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: VecDeque<Job>,
    idle: usize,
    closed: bool,
}

impl Pool {
    pub(crate) fn start() -> io::Result<Arc<Self>> {
        let pool = Self { shared: Arc::default() };
        for index in 0..THREADS {
            let shared = pool.shared.clone();
            thread::Builder::new().name(format!("pactio-file-{index}")).spawn(move || shared.work())?;
        }
        Ok(Arc::new(pool))
    }

    pub(crate) fn submit(&self, job: impl FnOnce() + Send + 'static) {
        let mut queue = self.shared.lock();
        queue.jobs.push_back(Box::new(job));
        let idle = queue.idle > 0;
        drop(queue);
        if idle {
            self.shared.work.notify_one();
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.lock().closed = true;
        self.shared.work.notify_all();
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        // No foreign code runs under the lock, so the queue is in order even if it is poisoned.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The life of a thread.
    fn work(&self) {
        while let Some(job) = self.next() {
            // A job that panics drops its view, which fails; the thread goes on.
            let _ = catch_unwind(AssertUnwindSafe(job));
        }
    }

    fn next(&self) -> Option<Job> {
        let mut queue = self.lock();
        loop {
            if let Some(job) = queue.jobs.pop_front() {
                return Some(job);
            }
            if queue.closed {
                return None;
            }
            queue.idle += 1;
            queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
            queue.idle -= 1;
        }
    }
}
