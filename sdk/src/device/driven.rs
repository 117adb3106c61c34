//! The common parts of devices with a driver: a queue of requests, and the driver's state.

use core::convert::Infallible;
use core::fmt;
use core::mem;
use core::ops::{Deref, DerefMut};
use core::task::{Context, Poll, Waker};
use core::time::Duration;
use std::sync::{Arc, OnceLock, PoisonError};

use crate::packet::mutant;
use crate::sync::{AtomicBool, Mutex, Ordering, UnsafeCell};
use crate::{Batch, BoundPacketView, Read, Submission, Write};

/// A queue of requests that wait for a driver, and the state of the driver. A device that answers requests later puts them here.
///
/// Any thread may add requests. The first request after the driver has taken the queue wakes the driver. The driver
/// [takes](Self::poll) all requests that arrived between two polls at once, so that it can batch them.
///
/// ```
/// use std::task::{Context, Poll};
/// use pactio_sdk::{
///     BlockOn, BoundPacketView, BackendDevice, DeviceInfo, Driven, IoError, IoRead, LocalDevice, PollingHandle,
///     Submission, Write,
/// };
///
/// /// Answers each request with its number.
/// struct Numbered(Driven<u8>);
///
/// impl BackendDevice for Numbered {
///     fn info(&self) -> DeviceInfo {
///         DeviceInfo::endless().read_only()
///     }
///
///     fn read(&self, position: u64, view: BoundPacketView<Write>) {
///         self.0.read(position, view);
///     }
///
///     fn polling_handle(&self) -> PollingHandle {
///         PollingHandle::Waker
///     }
///
///     fn poll_driver(&self, cx: &mut Context<'_>) -> Poll<()> {
///         self.0.poll(cx, |number, requests, _| {
///             for Submission { view, .. } in requests.reads.drain(..) {
///                 view.transfer_data(&[*number]).complete();
///                 *number += 1;
///             }
///             Poll::Pending
///         })
///     }
/// }
///
/// let device = LocalDevice::new(Numbered(Driven::new(b'a')))?;
/// assert_eq!(device.block_on(device.read::<u8>(0u64))?, b'a');
/// assert_eq!(device.block_on(device.read::<u8>(0u64))?, b'b');
/// # Ok::<(), IoError>(())
/// ```
pub struct Driven<S, T = Infallible> {
    waiting: Lock<Requests<T>>,
    /// The waker of the first poll. In most devices, all polls have this waker.
    waker: OnceLock<Waker>,
    /// The waker of the last poll, once the polls have had different wakers: then `is_other` is set.
    last: Mutex<Option<Arc<Waker>>>,
    is_other: AtomicBool,
    driver: Lock<Driver<S, T>>,
}

struct Driver<S, T> {
    state: S,
    /// Requests that the driver took and has not answered. The memory of both sides is reused.
    requests: Requests<T>,
}

/// Requests in order of arrival, by kind.
///
/// No order is kept between the kinds, as none is promised between requests that are in flight together.
#[derive(Debug)]
pub struct Requests<T = Infallible> {
    /// Reads and their positions.
    pub reads: Vec<Submission<Write, u64>>,
    /// Writes and their positions.
    pub writes: Vec<Submission<Read, u64>>,
    /// Other requests of the device.
    pub others: Vec<T>,
}

impl<T> Default for Requests<T> {
    fn default() -> Self {
        Self { reads: Vec::new(), writes: Vec::new(), others: Vec::new() }
    }
}

impl<T> Requests<T> {
    /// There are no requests.
    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.reads.is_empty() && self.writes.is_empty() && self.others.is_empty()
    }

    /// The number of requests.
    pub fn len(&self) -> usize {
        self.reads.len() + self.writes.len() + self.others.len()
    }

    /// Moves all requests of `from` behind its own.
    #[inline(always)]
    fn take(&mut self, from: &mut Self) {
        take(&mut self.reads, &mut from.reads);
        take(&mut self.writes, &mut from.writes);
        take(&mut self.others, &mut from.others);
    }
}

#[inline(always)]
fn take<T>(to: &mut Vec<T>, from: &mut Vec<T>) {
    if from.is_empty() {
    } else if to.is_empty() {
        mem::swap(to, from);
    } else {
        to.append(from);
    }
}

impl<S, T> Driven<S, T> {
    /// An empty queue, and a driver in its first state.
    pub fn new(state: S) -> Self {
        let driver = Driver { state, requests: Requests::default() };
        Self {
            waiting: Lock::new(Requests::default()),
            waker: OnceLock::new(),
            last: Mutex::new(None),
            is_other: AtomicBool::new(false),
            driver: Lock::new(driver),
        }
    }

    /// Adds a read request.
    #[inline]
    pub fn read(&self, position: u64, view: BoundPacketView<Write>) {
        self.put(|requests| Submission::push_to(&mut requests.reads, position, view));
    }

    /// Adds a write request.
    #[inline]
    pub fn write(&self, position: u64, view: BoundPacketView<Read>) {
        self.put(|requests| Submission::push_to(&mut requests.writes, position, view));
    }

    /// Adds many read requests.
    pub fn read_batch(&self, batch: Batch<'_, Write, u64>) {
        self.put(|requests| batch.append_to(&mut requests.reads));
    }

    /// Adds many write requests.
    pub fn write_batch(&self, batch: Batch<'_, Read, u64>) {
        self.put(|requests| batch.append_to(&mut requests.writes));
    }

    /// Adds a request of another kind.
    pub fn other(&self, request: T) {
        self.put(|requests| requests.others.push(request));
    }

    /// Causes one more poll of the driver, for work that did not arrive as a request.
    pub fn wake(&self) {
        // Ordering: Acquire, with the Release in `set_other`. A request that finds the queue empty sees the flag, since the poll
        // that set the flag locked the queue afterwards.
        if self.is_other.load(Ordering::Acquire) {
            return self.wake_other();
        }
        if let Some(waker) = self.waker.get() {
            waker.wake_by_ref();
        }
    }

    #[cold]
    fn wake_other(&self) {
        let last = self.last.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(last) = last {
            last.wake_by_ref();
        }
    }

    /// Records that the driver is polled with another waker than the first one. From now on, this waker is woken.
    #[cold]
    fn set_other(&self, waker: &Waker) {
        let waker = Arc::new(waker.clone());
        let stale = self.last.lock().unwrap_or_else(PoisonError::into_inner).replace(waker);
        drop(stale);
        // Ordering: Release, for the waker.
        self.is_other.store(mutant!("other_waker_is_forgotten", false, true), Ordering::Release);
    }

    /// Adds requests. The driver takes the whole queue, so only a request that finds the queue empty has to wake it.
    #[inline(always)]
    fn put(&self, put: impl FnOnce(&mut Requests<T>)) {
        let mut waiting = self.waiting.lock();
        let first = waiting.is_empty();
        put(&mut waiting);
        drop(waiting);
        // If no waker is set yet, the first poll has not locked the queue: its lock would have made the waker visible here.
        if mutant!("put_without_wake", false, first) {
            self.wake();
        }
    }

    /// Polls the driver: takes the requests that arrived since the last poll, and calls `f` with them.
    ///
    /// Requests that `f` leaves are passed to `f` again in the next poll, in front of newer requests. `f` may take long: new
    /// requests wait for no lock meanwhile. New requests wake the waker of the last poll. The second of two concurrent polls only
    /// wakes its own waker.
    #[inline]
    pub fn poll(
        &self,
        cx: &mut Context<'_>,
        f: impl FnOnce(&mut S, &mut Requests<T>, &mut Context<'_>) -> Poll<()>,
    ) -> Poll<()> {
        let Some(mut driver) = self.driver.try_lock() else {
            cx.waker().wake_by_ref();
            return Poll::Pending;
        };
        // The waker is set before the queue is locked, see `put`.
        let first = self.waker.get_or_init(|| cx.waker().clone());
        // Ordering: Relaxed. Only polls change the flag, and they come one after the other.
        if !first.will_wake(cx.waker()) || self.is_other.load(Ordering::Relaxed) {
            self.set_other(cx.waker());
        }
        let Driver { state, requests } = &mut *driver;
        requests.take(&mut self.waiting.lock());
        f(state, requests, cx)
    }
}

impl<S: fmt::Debug, T> fmt::Debug for Driven<S, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Driven");
        debug.field("waiting", &self.waiting.lock().len());
        match self.driver.try_lock() {
            Some(driver) => debug.field("state", &driver.state).field("taken", &driver.requests.len()),
            None => debug.field("state", &"in a poll"),
        };
        debug.finish()
    }
}

/// A lock that is held for a few instructions without foreign code, or that is only tried.
///
/// The release of this lock is a plain store; the release of a mutex is another locked instruction. Two locked instructions are a
/// fifth of the cost of a queued request. The drawback is that a waiting thread does not sleep on the lock: it spins, then
/// yields, then sleeps for a moment, so that a holder of lower priority can finish.
struct Lock<T> {
    held: AtomicBool,
    value: UnsafeCell<T>,
}

// SAFETY: the value is only reached by the one thread that holds the lock.
unsafe impl<T: Send> Sync for Lock<T> {}

impl<T> Lock<T> {
    fn new(value: T) -> Self {
        Self { held: AtomicBool::new(false), value: UnsafeCell::new(value) }
    }

    #[inline(always)]
    fn try_lock(&self) -> Option<Guard<'_, T>> {
        // Ordering: Acquire, with the Release of the guard's drop.
        let acquire = mutant!("lock_relaxed", Ordering::Relaxed, Ordering::Acquire);
        let taken = self.held.compare_exchange(false, true, acquire, Ordering::Relaxed);
        taken.is_ok().then(|| Guard(self))
    }

    #[inline(always)]
    fn lock(&self) -> Guard<'_, T> {
        loop {
            match self.try_lock() {
                Some(guard) => return guard,
                None => self.wait(),
            }
        }
    }

    #[cold]
    fn wait(&self) {
        #[cfg(pactio_loom)]
        loom::thread::yield_now();
        let mut round = 0u32;
        // Ordering: Relaxed. The load guards no data; `try_lock` acquires.
        while !cfg!(pactio_loom) && self.held.load(Ordering::Relaxed) {
            match round {
                0..64 => core::hint::spin_loop(),
                64..128 => std::thread::yield_now(),
                _ => std::thread::sleep(Duration::from_micros(50)),
            }
            round += 1;
        }
    }
}

/// Holds the lock while it exists.
struct Guard<'a, T>(&'a Lock<T>);

impl<T> Deref for Guard<'_, T> {
    type Target = T;

    #[inline(always)]
    fn deref(&self) -> &T {
        // SAFETY: this thread holds the lock, and the value is borrowed from the guard.
        self.0.value.with_mut(|value| unsafe { &*value })
    }
}

impl<T> DerefMut for Guard<'_, T> {
    #[inline(always)]
    fn deref_mut(&mut self) -> &mut T {
        // SAFETY: this thread holds the lock, and the value is borrowed from the guard, which is borrowed exclusively.
        self.0.value.with_mut(|value| unsafe { &mut *value })
    }
}

impl<T> Drop for Guard<'_, T> {
    #[inline(always)]
    fn drop(&mut self) {
        // Ordering: Release, for the next holder.
        self.0.held.store(false, mutant!("unlock_relaxed", Ordering::Relaxed, Ordering::Release));
    }
}

#[cfg(all(test, pactio_loom))]
mod models {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    use loom::thread;

    use super::*;
    use crate::packet::models::model;

    /// Counts wakes, with plain atomics, at which the model checker does not switch threads.
    #[derive(Default)]
    struct Wakes(AtomicUsize);

    impl Wake for Wakes {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Polls, and returns the sum of the requests that were queued.
    fn poll(driven: &Driven<u32, u32>, wakes: &Arc<Wakes>) -> u32 {
        let waker = Waker::from(wakes.clone());
        let mut sum = 0;
        let _ = driven.poll(&mut Context::from_waker(&waker), |polls, requests, _| {
            *polls += 1;
            sum = requests.others.drain(..).sum();
            Poll::Pending
        });
        sum
    }

    #[test]
    fn two_puts_against_the_driver() {
        model(None, || {
            let (driven, wakes) = (Arc::new(Driven::<u32, u32>::new(0)), Arc::<Wakes>::default());
            let putter = {
                let driven = driven.clone();
                thread::spawn(move || [1, 2].map(|request| driven.other(request)))
            };
            let mut sum = poll(&driven, &wakes);
            if wakes.0.swap(0, Ordering::SeqCst) > 0 {
                sum += poll(&driven, &wakes);
            }
            putter.join().unwrap();
            if wakes.0.load(Ordering::SeqCst) > 0 {
                sum += poll(&driven, &wakes);
            }
            assert_eq!(sum, 3, "a request waits, and no thread was woken for it");
        });
    }

    #[test]
    fn the_last_waker_is_woken() {
        model(None, || {
            let driven = Arc::new(Driven::<u32, u32>::new(0));
            let (first, last) = (Arc::<Wakes>::default(), Arc::<Wakes>::default());
            assert_eq!(poll(&driven, &first), 0);
            let putter = {
                let driven = driven.clone();
                thread::spawn(move || driven.other(1))
            };
            let mut sum = poll(&driven, &last);
            putter.join().unwrap();
            // The poll ran before the request was added, or took the request.
            if last.0.load(Ordering::SeqCst) > 0 {
                sum += poll(&driven, &last);
            }
            // A wake of the first waker that came before the last poll needs no answer.
            assert_eq!(sum, 1, "a request waits, and the last waker was not woken");
        });
    }

    #[test]
    fn two_that_put_at_once() {
        model(None, || {
            let (driven, wakes) = (Arc::new(Driven::<u32, u32>::new(0)), Arc::<Wakes>::default());
            assert_eq!(poll(&driven, &wakes), 0);
            let other = {
                let driven = driven.clone();
                thread::spawn(move || driven.other(1))
            };
            driven.other(2);
            other.join().unwrap();
            assert_eq!(wakes.0.load(Ordering::SeqCst), 1, "one wake is for all");
            assert_eq!(poll(&driven, &wakes), 3);
        });
    }

    #[test]
    fn two_polls_at_once() {
        model(None, || {
            let (driven, wakes) = (Arc::new(Driven::<u32, u32>::new(0)), Arc::<Wakes>::default());
            driven.other(1);
            let other = {
                let (driven, wakes) = (driven.clone(), wakes.clone());
                thread::spawn(move || poll(&driven, &wakes))
            };
            let mut sum = poll(&driven, &wakes);
            sum += other.join().unwrap();
            assert_eq!(sum, 1, "a request was answered twice or never");
        });
    }
}

#[cfg(all(test, not(pactio_loom), not(pactio_shuttle)))]
mod tests {
    use super::*;

    #[test]
    fn what_a_poll_leaves_comes_first_in_the_next() {
        let driven = Driven::<(), u32>::new(());
        let mut cx = Context::from_waker(Waker::noop());
        driven.other(1);
        driven.other(2);
        let _ = driven.poll(&mut cx, |(), requests, _| {
            assert_eq!(requests.others.remove(0), 1);
            Poll::Pending
        });
        driven.other(3);
        let _ = driven.poll(&mut cx, |(), requests, _| {
            assert_eq!((requests.others.as_slice(), requests.len()), (&[2, 3][..], 2));
            Poll::Pending
        });
    }

    #[test]
    fn eight_threads_put_while_one_polls() {
        let driven = Driven::<u64, u64>::new(0);
        let total = std::thread::scope(|scope| {
            let threads: Vec<_> =
                (0..8u64).map(|_| scope.spawn(|| (0..10_000).for_each(|n| driven.other(n)))).collect();
            let mut taken = 0;
            while !threads.iter().all(|thread| thread.is_finished()) || taken < 80_000 {
                let _ = driven.poll(&mut Context::from_waker(Waker::noop()), |sum, requests, _| {
                    taken += requests.len();
                    *sum += requests.others.drain(..).sum::<u64>();
                    Poll::Pending
                });
            }
            driven.driver.lock().state
        });
        assert_eq!(total, 8 * (9_999 * 10_000 / 2));
    }
}
