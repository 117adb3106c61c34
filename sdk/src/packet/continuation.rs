//! Calls a function when a packet is complete, without a task: on the thread that gives the last answer.

use alloc::sync::Arc;
use alloc::task::Wake;
use core::ptr::NonNull;
use core::task::{Context, Waker};

use super::block::Block;
use super::owner::poll_block;
use super::{PacketBox, PacketPerms};
use crate::sync::UnsafeCell;

/// The function to call and its argument, kept by the waker of the packet.
///
/// The content belongs to the thread that polls. From the moment when the poll finds the packet pending, the content belongs to
/// the thread that wakes.
struct Continuation<S, F>(UnsafeCell<Option<(S, F)>>);

// SAFETY: one thread at a time uses the content, by the rule above; the waker slot of the packet hands it over.
unsafe impl<S: Send, F: Send> Sync for Continuation<S, F> {}
// SAFETY: one thread at a time uses the content, by the rule above, and its two values may be moved to another thread.
unsafe impl<S: Send, F: Send> Send for Continuation<S, F> {}

impl<S, F: FnOnce(S)> Continuation<S, F> {
    /// # Safety
    ///
    /// The content belongs to the caller.
    unsafe fn run(&self) {
        // SAFETY: the content belongs to the caller.
        if let Some((store, then)) = self.0.with_mut(|content| unsafe { (*content).take() }) {
            then(store);
        }
    }
}

impl<S: Send + 'static, F: FnOnce(S) + Send + 'static> Wake for Continuation<S, F> {
    fn wake(self: Arc<Self>) {
        // SAFETY: only the packet holds this waker, and it wakes once, after the poll found the packet pending.
        unsafe { self.run() };
    }
}

/// Calls `then` with `store` when the packet is complete: now, or from the last answer.
///
/// # Safety
///
/// `store` is the owner of the packet of `block`.
pub(super) unsafe fn on_complete<S: Send + 'static>(
    block: NonNull<Block>,
    store: S,
    then: impl FnOnce(S) + Send + 'static,
) {
    let continuation = Arc::new(Continuation(UnsafeCell::new(Some((store, then)))));
    let waker = Waker::from(continuation.clone());
    // SAFETY: the owner is in the continuation, which lives at least until the poll is over.
    if unsafe { poll_block(block, &mut Context::from_waker(&waker)) }.is_ready() {
        // SAFETY: a poll that is ready leaves no waker behind, so the content is still ours.
        unsafe { continuation.run() };
    }
}

impl<Perms: PacketPerms> PacketBox<Perms> {
    /// Calls `then` when the request is complete: now, or on the thread of its last answer. So a request continues without a
    /// task.
    ///
    /// ```
    /// # use pactio_sdk::{IoError, PacketBox, Write};
    /// # use std::sync::mpsc::channel;
    /// # let (sender, receiver) = channel();
    /// let mut packet = PacketBox::<Write>::new_buf(4)?;
    /// let view = packet.bind()?;
    /// packet.on_complete(move |packet| sender.send(packet.simple_slice().map(<[u8]>::to_vec)).unwrap());
    /// view.transfer_data(b"done").complete();
    /// assert_eq!(receiver.recv().unwrap(), Ok(b"done".to_vec()));
    /// # Ok::<(), IoError>(())
    /// ```
    pub fn on_complete(self, then: impl FnOnce(Self) + Send + 'static) {
        // SAFETY: `self` is the owner of its block.
        unsafe { on_complete(self.block(), self, then) };
    }
}
