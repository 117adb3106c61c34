//! The threads of a host, and the executor that they share.

use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::Poll;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use async_channel::{Receiver, Sender};
use async_executor::Executor;

use super::driver::Driver;
use super::local::Local;
use super::watchdog::Watchdog;
use crate::{Error, ErrorKind, Task};

/// An executor for tasks with its worker threads, and one for drivers with a thread of its own, so that drivers are polled even
/// while all tasks block. The runtime lives as long as the host or a device of the host.
pub(crate) struct Runtime {
    tasks: Arc<Executor<'static>>,
    drivers: Arc<Executor<'static>>,
    woken: Sender<Arc<Driver>>,
    /// The other end of the channel, emptied when the runtime ends: a driver in the channel keeps the channel alive.
    to_drive: Receiver<Arc<Driver>>,
    /// Closed to stop the threads.
    stop: Sender<()>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    watchdog: Watchdog,
}

impl Runtime {
    /// Starts `workers` threads, at least one. Calls that take longer than `limit` are reported.
    pub(crate) fn start(workers: usize, limit: Duration) -> Result<Arc<Self>, Error> {
        let (stop, stopped) = async_channel::bounded(1);
        let (woken, to_drive) = async_channel::unbounded();
        let tasks = Arc::new(Executor::new());
        let drivers = Arc::new(Executor::new());
        drivers.spawn(drive_woken(to_drive.clone())).detach();
        let workers = (0..workers.max(1)).map(|index| (format!("pactio-{index}"), &tasks));
        let runtime = Self {
            woken,
            to_drive,
            stop,
            threads: Mutex::default(),
            watchdog: Watchdog::new(limit),
            tasks: tasks.clone(),
            drivers: drivers.clone(),
        };
        for (name, executor) in workers.chain([("pactio-driver".to_owned(), &drivers)]) {
            let (executor, stopped) = (executor.clone(), stopped.clone());
            let thread = thread::Builder::new()
                .name(name.clone())
                .spawn(move || work(&executor, &stopped))
                .map_err(|error| {
                Error::new(ErrorKind::Setup, format!("cannot start thread '{name}': {error}"))
                    .with_system(error)
            })?;
            runtime.threads.lock().unwrap_or_else(PoisonError::into_inner).push(thread);
        }
        Ok(Arc::new(runtime))
    }

    /// Runs a task on the worker threads.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Task<T> {
        Task::new(self.tasks.spawn(future))
    }

    /// Runs a future that waits for a device, on the driving thread.
    pub(crate) fn spawn_watch(&self, future: impl Future<Output = ()> + Send + 'static) -> Task<()> {
        Task::new(self.drivers.spawn(future))
    }

    /// The watchdog, which notices calls that do not return.
    pub(crate) fn watchdog(&self) -> &Watchdog {
        &self.watchdog
    }

    /// The channel for drivers that no other thread is about to poll.
    pub(crate) fn woken(&self) -> Sender<Arc<Driver>> {
        self.woken.clone()
    }
}

/// Polls `future` to its end on this thread, and the drivers that it wakes.
///
/// While there is nothing to do, the thread sleeps on the descriptors of all devices and timers.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    let mut future = pin!(future);
    let local = Local::enter();
    async_io::block_on(poll_fn(|cx| {
        loop {
            local.polls_with(cx.waker());
            if let Poll::Ready(value) = future.as_mut().poll(cx) {
                return Poll::Ready(value);
            }
            if !local.drive() {
                return Poll::Pending;
            }
        }
    }))
}

async fn drive_woken(to_drive: Receiver<Arc<Driver>>) {
    while let Ok(driver) = to_drive.recv().await {
        driver.run_from_queue();
    }
}

/// The life of a worker thread.
fn work(executor: &Executor<'static>, stopped: &Receiver<()>) {
    // The panic of a task goes to the code that awaits the task. A panic that gets here comes from a waker or a drop, and must
    // not end the thread.
    while catch_unwind(AssertUnwindSafe(|| block_on(executor.run(stopped.recv())))).is_err() {
        tracing::error!("a task panicked where nobody waited for it");
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.stop.close();
        let this = thread::current().id();
        let threads = std::mem::take(self.threads.get_mut().unwrap_or_else(PoisonError::into_inner));
        // A task may have held the last device: then the current thread is one of the threads, and it ends when it returns.
        for thread in threads.into_iter().filter(|thread| thread.thread().id() != this) {
            if thread.join().is_err() {
                tracing::error!("a worker thread panicked");
            }
        }
        self.woken.close();
        while self.to_drive.try_recv().is_ok() {}
    }
}
