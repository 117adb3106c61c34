//! Requests that wait for room in a device: in order, and without a place in the device (rule 20).

use core::fmt;
use core::pin::Pin;
use core::task::{Context, Poll, Waker};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::Admitted;

/// The requests of one device that wait for their turn. Only the first of them asks the device.
///
/// ```text
///   request 7 (asks the device) ◄── request 8 ◄── request 9          each waits in its own future;
///        └── admitted, or gone ──► wakes request 8                   here is only a waker of each
/// ```
#[derive(Default)]
pub struct Turns(Arc<Mutex<Queue>>);

#[derive(Default)]
struct Queue {
    next: u64,
    /// By order of arrival. The wakers are counted, so that no foreign code runs under the lock (rule 4).
    waiting: BTreeMap<u64, Option<Arc<Waker>>>,
}

impl Turns {
    /// Wakes the first request, so that it asks again: the device may have forgotten its waker.
    pub fn wake_first(&self) {
        let queue = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let first = queue.waiting.first_key_value().and_then(|(_, waker)| waker.clone());
        drop(queue);
        if let Some(first) = first {
            first.wake_by_ref();
        }
    }

    /// Asks the device, unless another request waits, and gives `None` if the device has room; otherwise gives a future that
    /// waits for the turn and asks then.
    pub fn admit(
        &self,
        ask: impl FnMut(&mut Context<'_>) -> Poll<()> + Send + Unpin + 'static,
    ) -> Option<Admitted> {
        let mut turn = Turn { turns: self.0.clone(), number: 0, ask };
        {
            let mut queue = turn.queue();
            queue.next += 1;
            let number = queue.next;
            queue.waiting.insert(number, None);
            drop(queue);
            turn.number = number;
        }
        match turn.poll_turn(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(()) => None,
            Poll::Pending => Some(Box::pin(turn)),
        }
    }
}

/// A place in the queue.
struct Turn<F> {
    turns: Arc<Mutex<Queue>>,
    number: u64,
    ask: F,
}

impl<F> Turn<F> {
    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.turns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<F: FnMut(&mut Context<'_>) -> Poll<()>> Turn<F> {
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let waker = Arc::new(cx.waker().clone());
        let mut queue = self.queue();
        let first = queue.waiting.first_key_value().is_some_and(|(number, _)| *number == self.number);
        // The waker is stored for each request, also for the first: `wake_first` and the end of the turn before it use the waker.
        let stale = queue.waiting.insert(self.number, Some(waker));
        drop(queue);
        drop(stale);
        if first { (self.ask)(cx) } else { Poll::Pending }
    }
}

impl<F: FnMut(&mut Context<'_>) -> Poll<()> + Unpin> Future for Turn<F> {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        self.poll_turn(cx)
    }
}

impl<F> Drop for Turn<F> {
    /// Removes the request from the queue, also when it is admitted, and wakes the next request, which asks.
    fn drop(&mut self) {
        let mut queue = self.queue();
        let stale = queue.waiting.remove(&self.number);
        let next = queue.waiting.first_key_value().and_then(|(_, waker)| waker.clone());
        drop(queue);
        drop(stale);
        if let Some(next) = next {
            next.wake_by_ref();
        }
    }
}

impl fmt::Debug for Turns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Turns")
    }
}
