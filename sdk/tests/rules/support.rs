//! Devices that answer at the command of a test, and a waker that counts its wakes.

use std::collections::VecDeque;
use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Wake, Waker};

use pactio_sdk::{
    BackendDevice, BoundPacketView, DeviceInfo, PacketIo, PacketPerms, PollingHandle, Read, RequestId, Write,
};

pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Keeps all views until the test takes them.
pub struct Held<P: PacketPerms>(pub Mutex<VecDeque<(u64, BoundPacketView<P>)>>, pub Mutex<Vec<RequestId>>);

impl<P: PacketPerms> Held<P> {
    pub fn new() -> Self {
        Self(Mutex::default(), Mutex::default())
    }

    pub fn take(&self) -> (u64, BoundPacketView<P>) {
        lock(&self.0).pop_front().expect("a view was sent")
    }

    pub fn len(&self) -> usize {
        lock(&self.0).len()
    }
}

impl<P: PacketPerms> PacketIo<P, u64> for Held<P> {
    fn send_io(&self, position: u64, view: BoundPacketView<P>) {
        lock(&self.0).push_back((position, view));
    }

    fn cancel(&self, request: RequestId) {
        lock(&self.1).push(request);
    }
}

/// A device of bytes, byte `i` being `i`, that answers at once.
pub struct Plain(pub Mutex<Vec<u8>>);

impl Plain {
    pub fn new(len: usize) -> Self {
        Self(Mutex::new((0..len).map(|index| index as u8).collect()))
    }
}

impl BackendDevice for Plain {
    fn info(&self) -> DeviceInfo {
        DeviceInfo::with_size(lock(&self.0).len() as u64)
    }

    fn read(&self, position: u64, view: BoundPacketView<Write>) {
        let bytes = lock(&self.0);
        let start = bytes.len().min(usize::try_from(position).unwrap_or(usize::MAX));
        let transferred = view.transfer_data(&bytes[start..]);
        drop(bytes);
        transferred.complete();
    }

    fn write(&self, position: u64, view: BoundPacketView<Read>) {
        let mut bytes = lock(&self.0);
        let start = bytes.len().min(usize::try_from(position).unwrap_or(usize::MAX));
        let transferred = view.transfer_data(&mut bytes[start..]);
        drop(bytes);
        transferred.complete();
    }

    fn exchange(&self, position: u64, view: BoundPacketView<pactio_sdk::ReadWrite>) {
        let mut bytes = lock(&self.0);
        let start = bytes.len().min(usize::try_from(position).unwrap_or(usize::MAX));
        let transferred = view.transfer_data(&mut bytes[start..]);
        drop(bytes);
        transferred.complete();
    }
}

type Queue = VecDeque<(u64, BoundPacketView<Write>)>;

/// Answers in its driver, with the low byte of each position.
#[derive(Default)]
pub struct Queued {
    pub state: Mutex<(Queue, Option<Waker>)>,
    pub polls: AtomicUsize,
    /// The driver ends after this number of polls.
    pub ends_after: Option<usize>,
}

impl BackendDevice for Queued {
    fn info(&self) -> DeviceInfo {
        DeviceInfo::endless().read_only()
    }

    fn read(&self, position: u64, view: BoundPacketView<Write>) {
        let mut state = lock(&self.state);
        state.0.push_back((position, view));
        let waker = state.1.clone();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn polling_handle(&self) -> PollingHandle {
        PollingHandle::Waker
    }

    fn poll_driver(&self, cx: &mut Context<'_>) -> Poll<()> {
        let polls = self.polls.fetch_add(1, Ordering::Relaxed) + 1;
        if self.ends_after.is_some_and(|most| polls > most) {
            return Poll::Ready(());
        }
        let mut state = lock(&self.state);
        state.1 = Some(cx.waker().clone());
        let queue = std::mem::take(&mut state.0);
        drop(state);
        for (position, view) in queue {
            let bytes = vec![position as u8; view.len()];
            view.transfer_data(&bytes).complete();
        }
        Poll::Pending
    }
}

/// Counts its wakes.
#[derive(Default)]
pub struct Wakes(pub AtomicUsize);

impl Wake for Wakes {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

impl Wakes {
    pub fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// Polls a future once.
pub fn poll<F: Future + Unpin>(future: &mut F, wakes: &Arc<Wakes>) -> Poll<F::Output> {
    pin!(future).poll(&mut Context::from_waker(&Waker::from(wakes.clone())))
}

/// The value of a future that is ready at once.
pub fn now<F: Future>(future: F) -> F::Output {
    match pin!(future).poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => value,
        Poll::Pending => panic!("the future is not ready"),
    }
}
