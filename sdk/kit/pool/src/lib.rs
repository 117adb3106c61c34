//! A few threads that do work: the most urgent first, and among equals in the order in which it was submitted. Each eighth job is
//! the one that waits for the longest time, so that none waits for ever.

#![forbid(unsafe_code)]

use std::fmt;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError};
use std::thread;

use pactio_sdk::{UrgencyQueue, Urgent};

struct Job {
    urgency: i8,
    run: Box<dyn FnOnce() + Send>,
}

/// Takes jobs. When the pool is dropped, the threads finish the submitted jobs and end.
#[derive(Debug)]
pub struct Pool {
    shared: Arc<Shared>,
}

#[derive(Debug, Default)]
struct Shared {
    queue: Mutex<Queue>,
    work: Condvar,
}

#[derive(Default)]
struct Queue {
    jobs: UrgencyQueue<Job>,
    idle: usize,
    closed: bool,
}

impl Urgent for Job {
    fn urgency(&self) -> i8 {
        self.urgency
    }
}

impl Pool {
    fn start(name: &str, threads: usize) -> io::Result<Arc<Self>> {
        let pool = Self { shared: Arc::default() };
        for index in 0..threads {
            let shared = pool.shared.clone();
            thread::Builder::new().name(format!("{name}-{index}")).spawn(move || shared.work())?;
        }
        Ok(Arc::new(pool))
    }

    /// Submits a job of the usual urgency.
    pub fn submit(&self, job: impl FnOnce() + Send + 'static) {
        self.submit_urgent(0, job);
    }

    /// Submits a job to the threads. Higher is more urgent, and 0 is usual. A job that panics does not affect the others.
    pub fn submit_urgent(&self, urgency: i8, job: impl FnOnce() + Send + 'static) {
        let mut queue = self.shared.lock();
        queue.jobs.push(Job { urgency, run: Box::new(job) });
        let idle = queue.idle > 0;
        drop(queue);
        if idle {
            self.shared.work.notify_one();
        }
    }
}

/// A pool that starts when it is first needed.
#[derive(Debug)]
pub struct Lazy {
    name: &'static str,
    started: OnceLock<Arc<Pool>>,
}

impl Lazy {
    /// A pool that is not started. The names of its threads will be `name` and a number.
    pub const fn new(name: &'static str) -> Self {
        Self { name, started: OnceLock::new() }
    }

    /// The pool, which starts with `threads` threads if it is not started yet.
    ///
    /// # Errors
    ///
    /// If the system does not start a thread; the message says so.
    pub fn get(&self, threads: usize) -> io::Result<Arc<Pool>> {
        if let Some(pool) = self.started.get() {
            return Ok(pool.clone());
        }
        let started = Pool::start(self.name, threads).map_err(|error| {
            io::Error::new(error.kind(), format!("its threads cannot be started: {error}"))
        })?;
        Ok(self.started.get_or_init(|| started).clone())
    }
}

impl fmt::Debug for Queue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Queue({} jobs)", self.jobs.len())
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
        // No foreign code runs under the lock, so the queue is consistent even if the lock is poisoned.
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The main loop of a thread.
    fn work(&self) {
        while let Some(job) = self.next() {
            // A job that panics drops its values, such as a view, which then fails; the thread continues.
            let _ = catch_unwind(AssertUnwindSafe(job.run));
        }
    }

    fn next(&self) -> Option<Job> {
        let mut queue = self.lock();
        loop {
            if let Some(job) = queue.jobs.pop() {
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
