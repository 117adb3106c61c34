//! The callers that wait for room in a device that can be full: its users, in order, and the filter or the layer of the host
//! above it, which asks for its own users.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use pactio_sdk::Admission;
use pactio_sdk::abi::Remote;
use pactio_sdk::io::Turns;

/// The device gets one waker, this one, so it may forget all wakers but the last.
#[derive(Default)]
pub(super) struct Room {
    pub(super) turns: Turns,
    /// The waker of the caller that asks through [`Lent`](super::lent); there is one at a time. Reference-counted, so that no
    /// foreign code runs under the lock.
    above: Mutex<Option<Arc<Waker>>>,
}

impl Room {
    /// Asks the device for room for one of its users. The user's waker is in `turns`.
    pub(super) fn ask(self: &Arc<Self>, remote: &Remote, bytes: usize) -> Poll<()> {
        match remote.extension::<dyn Admission>() {
            Some(admission) => {
                admission.poll_admit(bytes, &mut Context::from_waker(&Waker::from(self.clone())))
            }
            None => Poll::Ready(()),
        }
    }

    /// Asks the device for room for the layer above it.
    pub(super) fn ask_from_above(
        self: &Arc<Self>,
        remote: &Remote,
        bytes: usize,
        cx: &mut Context<'_>,
    ) -> Poll<()> {
        // Stored before the question, because the device may wake the waker at once.
        let stale = self.above().replace(Arc::new(cx.waker().clone()));
        drop(stale);
        self.ask(remote, bytes)
    }

    /// Has the waiting users and the layer above ask again.
    pub(super) fn wake_all(&self) {
        self.turns.wake_all();
        let above = self.above().take();
        if let Some(above) = above {
            above.wake_by_ref();
        }
    }

    fn above(&self) -> MutexGuard<'_, Option<Arc<Waker>>> {
        self.above.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Room {
    fn wake(self: Arc<Self>) {
        self.wake_all();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.wake_all();
    }
}
