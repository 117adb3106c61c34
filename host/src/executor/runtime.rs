//! The threads of a host, and the executor that they share.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_channel::{Receiver, Sender};
use async_executor::Executor;

use super::crew::{Crew, Lives, Role};
use super::driver::Duty;
use super::forks::Process;
use super::local::poll_task;
use super::posts;
use super::watchdog::Watchdog;
use crate::{Error, Task};

/// An executor for tasks with its worker threads, and a thread that polls drivers, also while all tasks block. The runtime lives
/// as long as the host or a device of the host.
pub(crate) struct Runtime {
    tasks: Arc<Executor<'static>>,
    woken: Sender<Duty>,
    /// The other end of the channel, emptied when the runtime ends: a driver in the channel keeps the channel alive.
    to_drive: Receiver<Duty>,
    crew: Arc<Crew>,
    lives: Mutex<Lives>,
    watchdog: Watchdog,
    limit: Duration,
    process: Process,
}

impl Runtime {
    /// Starts `workers` threads, at least one. Calls that take longer than `limit` are reported.
    pub(crate) fn start(workers: usize, limit: Duration) -> Result<Arc<Self>, Error> {
        let (woken, to_drive) = async_channel::unbounded();
        let tasks = Arc::new(Executor::new());
        let (crew, lives) = Crew::new(tasks.clone(), to_drive.clone());
        let watchdog = Watchdog::new(crew.clone(), limit);
        let lives = Mutex::new(lives);
        let runtime = Self { tasks, woken, to_drive, crew, lives, watchdog, limit, process: Process::this() };
        for _ in 0..workers.max(1) {
            runtime.crew.start(Role::Worker)?;
        }
        runtime.crew.start(Role::Driver)?;
        Ok(Arc::new(runtime))
    }

    /// Runs a task on the worker threads.
    pub(crate) fn spawn<T: Send + 'static>(
        &self,
        future: impl Future<Output = T> + Send + 'static,
    ) -> Task<T> {
        Task::new(self.tasks.spawn(async move {
            let mut future = pin!(future);
            poll_fn(|cx| poll_task(future.as_mut(), cx)).await
        }))
    }

    /// Whether this process was forked off from the one that started the threads.
    pub(crate) fn was_forked(&self) -> bool {
        self.process.was_forked()
    }

    /// The watchdog, which notices calls that do not return.
    pub(crate) fn watchdog(&self) -> &Watchdog {
        &self.watchdog
    }

    /// The time after which a call is reported.
    pub(crate) fn limit(&self) -> Duration {
        self.limit
    }

    /// The channel for drivers that no other thread is about to poll.
    pub(crate) fn woken(&self) -> Sender<Duty> {
        self.woken.clone()
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        self.crew.end();
        self.woken.close();
        // If a task held the last device, this is one of the runtime's own threads, which ends only when it returns. If this is a
        // thread of another host, a thread of this host may wait for the end of that host in the same way. In both cases, this
        // thread does not wait.
        if !posts::must_not_wait() && !self.was_forked() {
            self.lives.get_mut().unwrap_or_else(PoisonError::into_inner).wait(&self.crew, self.limit);
        }
        while self.to_drive.try_recv().is_ok() {}
    }
}
