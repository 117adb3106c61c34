//! The common part of the filters that do work later: `delay`, `limit` and `retry`.

#![forbid(unsafe_code)]
#![deny(missing_docs)]

use std::cmp::Ordering;
use std::collections::BinaryHeap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::Instant;

use async_io::Timer;
use pactio_sdk::{
    BoundPacketView, IoError, Lower, NoPos, PacketIo, Read, ReadWrite, RequestId, Urgent, Write,
};

/// Jobs and their times. A device polls the schedule as its driver. When the schedule is dropped, the jobs that were not done are
/// dropped.
#[derive(Default)]
pub struct Schedule(Later);

/// A handle of a schedule for the jobs themselves, which does not keep the schedule open.
#[derive(Clone, Default)]
pub struct Later(Arc<Shared>);

#[derive(Default)]
struct Shared {
    queue: Mutex<Queue>,
    /// The driver's waker, which is the same in all polls.
    waker: OnceLock<Waker>,
    timer: Mutex<Option<Timer>>,
}

#[derive(Default)]
struct Queue {
    due: BinaryHeap<Due>,
    /// The number of the next job, so that jobs that are due at the same time are done in order.
    number: u64,
    closed: bool,
}

struct Due {
    when: Instant,
    number: u64,
    work: Work,
}

enum Work {
    Job(Box<dyn FnOnce() + Send>),
    /// A request for the device below.
    Send(Request, Lower),
}

impl Work {
    fn run(self) {
        match self {
            Self::Job(job) => job(),
            Self::Send(request, _) if request.is_cancelled() => request.refuse(),
            Self::Send(request, below) => request.send(&below),
        }
    }
}

/// The earliest job is the greatest, since a heap gives its greatest element first.
impl Ord for Due {
    fn cmp(&self, other: &Self) -> Ordering {
        (other.when, other.number).cmp(&(self.when, self.number))
    }
}

impl PartialOrd for Due {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Due {
    fn eq(&self, other: &Self) -> bool {
        self.number == other.number
    }
}

impl Eq for Due {}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // No foreign code runs under a lock, so the guarded value is consistent even if the lock is poisoned.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Later {
    /// Does `job` in the driver, at the time `when` or later.
    pub fn at(&self, when: Instant, job: impl FnOnce() + Send + 'static) {
        self.add(when, Work::Job(Box::new(job)));
    }

    fn add(&self, when: Instant, work: Work) {
        let mut queue = lock(&self.0.queue);
        if queue.closed {
            // The lock is released first: dropping the work fails a request, and that may call this function again.
            drop(queue);
            return drop(work);
        }
        let number = queue.number;
        queue.number += 1;
        let first = queue.due.peek().is_none_or(|first| when < first.when);
        queue.due.push(Due { when, number, work });
        drop(queue);
        if first && let Some(waker) = self.0.waker.get() {
            waker.wake_by_ref();
        }
    }

    fn due(&self) -> Option<Work> {
        let mut queue = lock(&self.0.queue);
        let now = Instant::now();
        queue.due.peek().is_some_and(|first| first.when <= now).then(|| queue.due.pop())?.map(|due| due.work)
    }
}

impl Schedule {
    /// A handle for the jobs.
    pub fn later(&self) -> Later {
        self.0.clone()
    }

    /// Does `job` in the driver, at the time `when` or later.
    pub fn at(&self, when: Instant, job: impl FnOnce() + Send + 'static) {
        self.0.at(when, job);
    }

    /// Sends a request to the device below at the time `when` or later, unless it is [given up](Self::cancel) before.
    pub fn send_at(&self, when: Instant, request: Request, below: &Lower) {
        self.0.add(when, Work::Send(request, below.clone()));
    }

    /// Fails the requests with this identity that were not sent yet, as cancelled.
    pub fn cancel(&self, wanted: RequestId) {
        let mut queue = lock(&self.0.0.queue);
        let is_meant = |due: &Due| matches!(&due.work, Work::Send(request, _) if request.id() == wanted);
        // Most calls are for requests that were sent already.
        if !queue.due.iter().any(is_meant) {
            return;
        }
        let (is_cancelled, kept): (Vec<_>, Vec<_>) =
            std::mem::take(&mut queue.due).into_iter().partition(is_meant);
        queue.due = kept.into();
        drop(queue);
        for due in is_cancelled {
            if let Work::Send(request, _) = due.work {
                request.refuse();
            }
        }
    }

    /// Does the jobs that are due; the body of a driver.
    pub fn poll(&self, cx: &mut Context<'_>) -> Poll<()> {
        let shared = &*self.0.0;
        shared.waker.get_or_init(|| cx.waker().clone());
        loop {
            while let Some(work) = self.0.due() {
                work.run();
            }
            let Some(next) = lock(&shared.queue).due.peek().map(|due| due.when) else {
                *lock(&shared.timer) = None;
                return Poll::Pending;
            };
            let mut timer = lock(&shared.timer);
            let timer = timer.get_or_insert_with(|| Timer::at(next));
            timer.set_at(next);
            // If an earlier job was added meanwhile, its `add` has woken the driver.
            if Pin::new(timer).poll(cx).is_pending() {
                return Poll::Pending;
            }
        }
    }
}

impl Drop for Schedule {
    fn drop(&mut self) {
        let mut queue = lock(&self.0.0.queue);
        queue.closed = true;
        let never = std::mem::take(&mut queue.due);
        drop(queue);
        drop(never);
    }
}

/// A request that is not sent yet.
#[derive(Debug)]
#[allow(missing_docs)]
pub enum Request {
    Read(u64, BoundPacketView<Write>),
    Write(u64, BoundPacketView<Read>),
    Exchange(u64, BoundPacketView<ReadWrite>),
    ReadNext(BoundPacketView<Write>),
    WriteNext(BoundPacketView<Read>),
}

/// Evaluates an expression with the view of any kind of request.
macro_rules! with_view {
    ($request:expr, $view:ident => $body:expr) => {
        match $request {
            Request::Read(_, $view) | Request::ReadNext($view) => $body,
            Request::Write(_, $view) | Request::WriteNext($view) => $body,
            Request::Exchange(_, $view) => $body,
        }
    };
}

impl Request {
    /// The identity of the request.
    pub fn id(&self) -> RequestId {
        with_view!(self, view => view.request())
    }

    /// The number of bytes.
    #[allow(clippy::len_without_is_empty, reason = "empty requests are requests")]
    pub fn len(&self) -> usize {
        with_view!(self, view => view.len())
    }

    /// Whether the result is not wanted any more.
    pub fn is_cancelled(&self) -> bool {
        with_view!(self, view => view.is_cancelled())
    }

    /// Whether the result is of no use any more: its deadline has passed.
    pub fn is_late(&self) -> bool {
        with_view!(self, view => view.is_late())
    }

    /// Fails the request as cancelled.
    pub fn refuse(self) {
        self.fail(IoError::CANCELLED);
    }

    /// Fails the request.
    pub fn fail(self, error: IoError) {
        with_view!(self, view => view.error(error));
    }

    /// Sends the request.
    pub fn send(self, below: &Lower) {
        match self {
            Self::Read(position, view) => below.send_io(position, view),
            Self::Write(position, view) => below.send_io(position, view),
            Self::Exchange(position, view) => below.send_io(position, view),
            Self::ReadNext(view) => below.send_io(NoPos, view),
            Self::WriteNext(view) => below.send_io(NoPos, view),
        }
    }
}

impl Urgent for Request {
    fn urgency(&self) -> i8 {
        match self {
            // The order of a stream's requests is the order of its bytes.
            Self::ReadNext(_) | Self::WriteNext(_) => 0,
            _ => with_view!(self, view => view.urgency()),
        }
    }
}

/// The methods of a device that makes a [`Request`] of each request and hands it to `self.take`.
#[macro_export]
macro_rules! take_requests {
    () => {
        fn read(&self, position: u64, view: pactio_sdk::BoundPacketView<pactio_sdk::Write>) {
            self.take($crate::Request::Read(position, view));
        }

        fn write(&self, position: u64, view: pactio_sdk::BoundPacketView<pactio_sdk::Read>) {
            self.take($crate::Request::Write(position, view));
        }

        fn exchange(&self, position: u64, view: pactio_sdk::BoundPacketView<pactio_sdk::ReadWrite>) {
            self.take($crate::Request::Exchange(position, view));
        }

        fn read_next(&self, view: pactio_sdk::BoundPacketView<pactio_sdk::Write>) {
            self.take($crate::Request::ReadNext(view));
        }

        fn write_next(&self, view: pactio_sdk::BoundPacketView<pactio_sdk::Read>) {
            self.take($crate::Request::WriteNext(view));
        }

        fn polling_handle(&self) -> pactio_sdk::PollingHandle {
            pactio_sdk::PollingHandle::Waker
        }

        fn poll_driver(&self, cx: &mut std::task::Context<'_>) -> std::task::Poll<()> {
            self.schedule.poll(cx)
        }
    };
}

/// A number that looks random and follows from another: the last step of SplitMix64 (Steele, Lea and Flood, 2014).
pub fn mix(number: u64) -> u64 {
    let number = number.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let number = (number ^ number >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let number = (number ^ number >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ number >> 31
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use pactio_sdk::{Attributes, PacketBox, Read, UrgencyQueue};

    use super::*;

    #[test]
    fn the_requests_of_a_stream_stay_in_order() {
        let mut queue = UrgencyQueue::default();
        let mut packets: Vec<_> =
            (0..3).map(|_| PacketBox::<Read>::copy_from_slice(b"bytes").unwrap()).collect();
        for (number, packet) in (0..).zip(&mut packets) {
            let mut view = packet.bind_with(Attributes::new().with_urgency(number), None).unwrap();
            view.set_tag(number as u64);
            queue.push(Request::WriteNext(view));
        }
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        let tags = order.iter().map(|request| with_view!(request, view => view.tag()));
        assert!(tags.eq(0..3));
    }

    #[test]
    fn what_is_left_when_it_is_dropped_is_dropped_too() {
        let schedule = Schedule::default();
        let later = schedule.later();
        let alive = Arc::new(());
        let (kept, again) = (alive.clone(), later.clone());
        // The job holds a handle, which keeps neither the schedule nor its jobs alive.
        schedule
            .at(Instant::now() + Duration::from_secs(3600), move || again.at(Instant::now(), || drop(kept)));
        assert_eq!(Arc::strong_count(&alive), 2);
        drop(schedule);
        assert_eq!(Arc::strong_count(&alive), 1);
        let kept = alive.clone();
        later.at(Instant::now(), || drop(kept));
        assert_eq!(Arc::strong_count(&alive), 1);
    }

    #[test]
    fn things_are_done_in_the_order_in_which_they_are_due() {
        let schedule = Schedule::default();
        let done = Arc::new(Mutex::new(Vec::new()));
        let start = Instant::now();
        for (number, delay) in [(3, 30), (1, 0), (4, 30), (2, 10)] {
            let done = done.clone();
            schedule.at(start + Duration::from_millis(delay), move || lock(&done).push(number));
        }
        let mut cx = Context::from_waker(Waker::noop());
        while lock(&done).len() < 4 {
            assert!(schedule.poll(&mut cx).is_pending());
            assert!(start.elapsed() < Duration::from_secs(60));
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(*lock(&done), [1, 2, 3, 4]);
    }
}
