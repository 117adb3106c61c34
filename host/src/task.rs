//! A future that the host's threads run.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};

/// A spawned task, and the future of its result. Dropping it cancels the task; [`detach`](Self::detach) lets it run on.
///
/// If the task panics, awaiting it panics.
#[must_use = "a task that is dropped is cancelled: await it, or detach it"]
pub struct Task<T>(async_executor::Task<T>);

impl<T> Task<T> {
    pub(crate) fn new(task: async_executor::Task<T>) -> Self {
        Self(task)
    }

    /// Lets the task run on by itself.
    pub fn detach(self) {
        self.0.detach();
    }

    /// Stops the task, and waits until it does not run any more. Gives the task's result, if it had finished.
    pub async fn cancel(self) -> Option<T> {
        self.0.cancel().await
    }

    /// Whether the task has finished, or its host is gone.
    pub fn is_finished(&self) -> bool {
        self.0.is_finished()
    }
}

impl<T> Future for Task<T> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<T> {
        Pin::new(&mut self.0).poll(cx)
    }
}

impl<T> fmt::Debug for Task<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task").field("finished", &self.is_finished()).finish()
    }
}
