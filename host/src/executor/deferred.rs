//! Requests that wait in a queue of their device, so that many of them cross the boundary in one call.
//!
//! ```text
//!  requests of tasks ──► the queue of their thread ──► one call for the reads, and one for the writes
//!                                  ▲
//!          emptied by the first of ├─ the thread's own `block_on`, when its task is pending
//!                                  ├─ a second poll of one of the requests, on any thread: the first request wakes its task for it
//!                                  └─ a thread of the host, if neither happens soon: see `watchdog`
//! ```
//!
//! If a task waits for each request before it makes the next, its requests are sent at once: see [`BatchHeuristic`].
//!
//! `mutant!` gives its last argument. The models can plant the mistake before it, to show that they find it.

use std::mem;
use std::sync::PoisonError;
use std::time::Duration;

use pactio_sdk::{IoError, NoPos, PacketPerms, Read, ReadWrite, RequestId, Submission, Write};

use crate::sync::{AtomicBool, AtomicU8, AtomicUsize, Mutex, MutexGuard, Ordering, mutant};

/// Number of queues of a device. If there are more threads, they share the queues.
const QUEUES: usize = 4;

/// The queues of one device.
pub(crate) struct Deferred<V: Load = Views> {
    queues: [Queue<V>; QUEUES],
    /// The watchdog looks at the queues. Set under the lock of a queue that has a view.
    is_watched: AtomicBool,
    /// A thread of the host is about to empty the queues.
    is_overdue: AtomicBool,
}

/// The views that some threads have deferred. Queues do not share lines of the processor's caches.
#[repr(align(128))]
pub(crate) struct Queue<V: Load = Views> {
    pace: BatchHeuristic,
    /// Number of views that are in the queue, or that a thread sends now. Changed under the lock.
    len: AtomicUsize,
    inner: Mutex<Inner<V>>,
}

struct Inner<V: Load> {
    views: V,
    /// Number of times that the queue was emptied.
    times: u32,
    /// A request has woken its task, so that it empties the queue.
    has_woken: bool,
    /// Number of threads that send views of this queue.
    senders: u32,
    /// Requests that were cancelled since the first of these threads began.
    late: Vec<V::Request>,
    /// An empty list with allocated memory, which replaces the views when a thread takes them.
    spare: V,
}

/// Views on their way to a device.
pub(crate) trait Load: Default {
    /// Identity of a request.
    type Request: Clone;
    /// Number of views.
    fn len(&self) -> usize;
    /// Takes out the views of requests that were cancelled.
    fn take_cancelled(&mut self) -> Self;
}

impl<V: Load> Default for Deferred<V> {
    fn default() -> Self {
        let queues = std::array::from_fn(|_| {
            let inner = Inner {
                views: V::default(),
                times: 0,
                has_woken: false,
                senders: 0,
                late: Vec::new(),
                spare: V::default(),
            };
            Queue { pace: BatchHeuristic::default(), len: AtomicUsize::new(0), inner: Mutex::new(inner) }
        });
        Self { queues, is_watched: AtomicBool::new(false), is_overdue: AtomicBool::new(false) }
    }
}

impl<V: Load> Deferred<V> {
    /// The queue of a thread, by its number.
    #[inline(always)]
    pub(super) fn of_thread(&self, thread: usize) -> &Queue<V> {
        &self.queues[thread % QUEUES]
    }

    /// All queues.
    pub(super) fn queues(&self) -> impl Iterator<Item = &Queue<V>> {
        self.queues.iter()
    }

    /// Takes the cancelled views out of the queues, because `request` was cancelled. The caller iterates to the end, and
    /// fails the views. If the request is being sent, the device may not know it yet, so its sender cancels it at the device
    /// afterwards.
    pub(super) fn cancel(&self, request: V::Request) -> impl Iterator<Item = V> {
        self.queues.iter().filter_map(move |queue| {
            // Ordering: Relaxed. The caller has the request from the thread that deferred it, so it sees at least that request
            // here.
            if queue.len.load(Ordering::Relaxed) == 0 {
                return None;
            }
            let mut inner = queue.lock();
            // One of the senders may have the request: `sent` gives it to them.
            if inner.senders > 0 {
                inner.late.push(request.clone());
            }
            let cancelled = inner.views.take_cancelled();
            queue.change_len(-(cancelled.len() as isize));
            // The cancelled request may be the one that has woken its task: the next request wakes its own task.
            inner.has_woken &= mutant!("a_wake_counts_for_a_task_that_left", true, cancelled.len() == 0);
            Some(cancelled)
        })
    }

    /// A view was deferred, under the lock of its queue. `true`: the watchdog does not look at this device yet, and the caller
    /// tells it.
    #[inline(always)]
    fn begins_watch(&self) -> bool {
        // Ordering: Relaxed. `Watch::look` takes the lock of the queue after it has cleared the flag.
        !self.is_watched.load(Ordering::Relaxed) && !self.is_watched.swap(true, Ordering::Relaxed)
    }

    /// Records that a thread of the host is to empty the queues; `false` if that was recorded before.
    fn begins_overdue(&self) -> bool {
        // Ordering: Relaxed. The locks of the queues order everything else.
        !self.is_overdue.swap(true, Ordering::Relaxed)
    }

    /// Records that a thread of the host empties the queues now.
    pub(super) fn ends_overdue(&self) {
        self.is_overdue.store(false, Ordering::Relaxed);
    }
}

impl<V: Load> Queue<V> {
    fn lock(&self) -> MutexGuard<'_, Inner<V>> {
        // No foreign code runs under the lock.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the number of views. The caller has the lock.
    #[inline(always)]
    fn change_len(&self, by: isize) {
        // Ordering: Relaxed. Only one thread at a time stores, and the threads that load rely on no other memory.
        self.len.store(self.len.load(Ordering::Relaxed).wrapping_add_signed(by), Ordering::Relaxed);
    }

    /// Whether the next request is sent at once, since the thread's requests come one after the other. Counts the request.
    #[inline(always)]
    pub(super) fn sends_at_once(&self) -> bool {
        // Ordering: Relaxed. Both are hints.
        self.len.load(Ordering::Relaxed) == 0 && self.pace.is_alone()
    }

    /// The end of the queue.
    #[inline(always)]
    pub(super) fn end<'a>(&'a self, deferred: &'a Deferred<V>) -> End<'a, V> {
        End { inner: self.lock(), queue: self, deferred }
    }

    /// Takes all views, which the caller sends; `None` if there are none.
    #[inline]
    pub(super) fn take(&self) -> Option<Taken<'_, V>> {
        // Ordering: Relaxed. The caller looks for a request that it has deferred itself, or that it got from the thread that
        // deferred it.
        if self.len.load(Ordering::Relaxed) == 0 {
            return None;
        }
        let mut inner = self.lock();
        // The length also counts views that another thread has taken and sends now.
        if inner.views.len() == 0 {
            return None;
        }
        // The next request wakes its own task. `times` shows the watchdog that the queue was emptied, and `senders` shows
        // `cancel` that a thread sends views.
        inner.has_woken = false;
        inner.times = inner.times.wrapping_add(1);
        inner.senders += 1;
        let spare = mem::take(&mut inner.spare);
        let views = mem::replace(&mut inner.views, spare);
        // Taken views count until they are sent, so that nothing is added here; the mutant takes them off.
        self.change_len(mutant!("taken_views_are_forgotten", -(views.len() as isize), 0));
        let count = views.len();
        Some(Taken { queue: self, views, count })
    }

    /// Ends the sending of `count` views, and keeps their `emptied` list for reuse. Gives the requests that were cancelled
    /// meanwhile: the caller cancels them at the device.
    fn sent(&self, emptied: V, count: usize) -> Vec<V::Request> {
        self.pace.sent(count);
        let mut inner = self.lock();
        inner.senders -= 1;
        self.change_len(mutant!("taken_views_are_forgotten", 0, -(count as isize)));
        inner.spare = emptied;
        if inner.late.is_empty() {
            return Vec::new();
        }
        // Another sender may have the request that was cancelled, so each sender gets all. The last one clears the list.
        if inner.senders == 0 { mem::take(&mut inner.late) } else { inner.late.clone() }
    }
}

/// The views that a thread sends. A drop, which only a panic causes, ends the sending, too.
pub(super) struct Taken<'a, V: Load = Views> {
    queue: &'a Queue<V>,
    pub(super) views: V,
    count: usize,
}

impl<V: Load> Taken<'_, V> {
    /// Ends the sending, when the device has the views; gives the requests to cancel there.
    #[inline]
    pub(super) fn end(mut self) -> Vec<V::Request> {
        self.sent()
    }

    fn sent(&mut self) -> Vec<V::Request> {
        match mem::take(&mut self.count) {
            0 => Vec::new(),
            count => {
                let mut views = mem::take(&mut self.views);
                // Views are left if a panic ended the sending. Their drop fails them.
                if views.len() > 0 {
                    views = V::default();
                }
                self.queue.sent(views, count)
            }
        }
    }
}

impl<V: Load> Drop for Taken<'_, V> {
    fn drop(&mut self) {
        self.sent();
    }
}

/// The end of a queue, under its lock.
pub(super) struct End<'a, V: Load = Views> {
    inner: MutexGuard<'a, Inner<V>>,
    queue: &'a Queue<V>,
    deferred: &'a Deferred<V>,
}

/// The duties of a thread that has deferred a view.
#[must_use]
pub(super) struct Left {
    /// Have the watchdog look at the device.
    pub(super) watch: bool,
    /// Wake the request's task, so that it empties the queue.
    pub(super) wake: bool,
}

impl<V: Load> End<'_, V> {
    /// The queue, to which the caller adds one view.
    #[inline(always)]
    pub(super) fn views(&mut self) -> &mut V {
        &mut self.inner.views
    }

    /// Releases the lock after the view was added. `returns`: this thread will empty the queue itself.
    #[inline(always)]
    pub(super) fn leave(mut self, returns: bool) -> Left {
        self.queue.change_len(1);
        let watch = self.deferred.begins_watch();
        let wake = !returns && !mem::replace(&mut self.inner.has_woken, true);
        Left { watch, wake }
    }
}

/// The watchdog's looks at the queues of one device. The pause between two looks is [`Watch::FIRST`] at first, and again after
/// a request was found that no thread sends. It grows to [`Watch::LAST`] while threads send their requests.
#[derive(Default)]
pub(super) struct Watch {
    /// The queues at the last look.
    seen: [Seen; QUEUES],
    /// Number of looks since the pause was shortest.
    looks: u32,
    /// Number of looks in a row that found no request, and that none was sent meanwhile.
    idle: u32,
}

/// A queue at a look of the watchdog.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
struct Seen {
    /// Number of times that the queue was emptied.
    times: u32,
    has_views: bool,
}

/// The result of a look.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Looked {
    /// Look again after this time.
    Again(Duration),
    /// A queue was not emptied since the last look: have a thread of the host empty it, and look again after this time.
    Overdue(Duration),
    /// There is nothing to look for. The next request that is deferred begins a new watch.
    Idle,
}

impl Watch {
    /// The first pause between two looks. A request on an idle device is sent after one or two such pauses.
    const FIRST: Duration = Duration::from_micros(25);
    /// The longest pause.
    const LAST: Duration = Duration::from_millis(1);
    /// Number of looks between two extensions of the pause.
    const STEP: u32 = 2;
    /// Number of idle looks after the longest pause, after which the watch ends.
    const IDLE: u32 = if cfg!(pactio_loom) { 1 } else { 3 };

    /// Looks at the queues once. Gives the time until the next look, and whether a thread of the host empties the queues.
    pub(super) fn look<V: Load>(&mut self, deferred: &Deferred<V>) -> Looked {
        let (has_views, was_emptied, is_overdue) = self.look_at_all(deferred);
        // The pause doubles after every `STEP` looks. The 10 only keeps the shift in its range.
        let pause = Self::LAST.min(Self::FIRST * (1 << (self.looks / Self::STEP).min(10)));
        self.looks = self.looks.saturating_add(1);
        // Only the first such look asks for a thread, until that thread begins.
        if is_overdue && deferred.begins_overdue() {
            self.looks = 0;
            return Looked::Overdue(Self::FIRST);
        }
        // Idle looks count from the longest pause on; in models they count at once, which saves looks.
        if has_views || was_emptied || pause < Self::LAST && !cfg!(pactio_loom) {
            self.idle = 0;
            return Looked::Again(pause);
        }
        self.idle += 1;
        if self.idle < Self::IDLE {
            return Looked::Again(pause);
        }
        // Ordering: Relaxed. The locks order the store: a thread that defers a view afterwards sees that the device is not
        // watched.
        deferred.is_watched.store(false, Ordering::Relaxed);
        // A view that was deferred before the store began no watch: the last look finds it. If a later view has begun a
        // watch, this one ends.
        let (has_views, ..) =
            mutant!("the_watch_ends_without_a_look", (false, false, false), self.look_at_all(deferred));
        if has_views && deferred.begins_watch() { Looked::Again(pause) } else { Looked::Idle }
    }

    /// Looks at each queue, and keeps its state for the next look. Gives three statements: a queue has views; a queue was
    /// emptied since the last look; a queue is overdue, since it had views at the last look and was not emptied.
    fn look_at_all<V: Load>(&mut self, deferred: &Deferred<V>) -> (bool, bool, bool) {
        let (mut has_views, mut was_emptied, mut is_overdue) = (false, false, false);
        for (queue, seen) in deferred.queues.iter().zip(&mut self.seen) {
            let inner = queue.lock();
            let current = Seen { times: inner.times, has_views: inner.views.len() > 0 };
            has_views |= current.has_views;
            was_emptied |= current.times != seen.times;
            is_overdue |= current.has_views && current == *seen;
            *seen = current;
        }
        (has_views, was_emptied, is_overdue)
    }
}

/// Whether a thread waits for each request before it sends the next, judged by its earlier requests.
#[derive(Default)]
struct BatchHeuristic {
    /// Number of requests that are sent at once, before one is deferred again to see whether others come with it. Threads that
    /// share a queue may count wrong.
    alone: AtomicU8,
    /// Number of times that a request was deferred and no other one came with it.
    tries: AtomicU8,
}

impl BatchHeuristic {
    const ALONE: u8 = 63;

    /// Whether the next request is sent at once. Counts the request.
    #[inline(always)]
    fn is_alone(&self) -> bool {
        let alone = self.alone.load(Ordering::Relaxed);
        if alone > 0 {
            self.alone.store(alone - 1, Ordering::Relaxed);
        }
        alone > 0
    }

    /// Judges by the number of requests that were sent together whether the next ones are deferred.
    fn sent(&self, together: usize) {
        // Ordering: Relaxed, here and below. The numbers are hints.
        if together > 1 {
            return self.alone.store(0, Ordering::Relaxed);
        }
        // The request was alone, so the next ones are sent at once: one more every other time. With a constant number, the
        // deferred request could always be the last one of a group.
        let tries = self.tries.load(Ordering::Relaxed).wrapping_add(1);
        self.tries.store(tries, Ordering::Relaxed);
        self.alone.store(Self::ALONE + tries % 2, Ordering::Relaxed);
    }
}

/// The views of a queue.
#[derive(Default)]
pub(crate) struct Views {
    pub(crate) reads: Vec<Submission<Write, u64>>,
    pub(crate) writes: Vec<Submission<Read, u64>>,
}

impl Views {
    /// Fails all requests.
    pub(crate) fn fail(&mut self, error: IoError) {
        self.reads.drain(..).for_each(|submission| submission.view.error(error));
        self.writes.drain(..).for_each(|submission| submission.view.error(error));
    }
}

/// Finds the list of the views of one kind.
pub(crate) type List<Perms, P> = fn(&mut Views) -> &mut Vec<Submission<Perms, P>>;

/// A kind of request, which may be deferred.
pub(crate) trait Deferrable<P>: PacketPerms {
    /// The list that its views wait in; `None` if views of this kind are always sent at once.
    const LIST: Option<List<Self, P>> = None;
}

impl Deferrable<u64> for ReadWrite {}
impl Deferrable<NoPos> for Write {}
impl Deferrable<NoPos> for Read {}

impl Deferrable<u64> for Write {
    const LIST: Option<List<Self, u64>> = Some(|views| &mut views.reads);
}

impl Deferrable<u64> for Read {
    const LIST: Option<List<Self, u64>> = Some(|views| &mut views.writes);
}

impl Load for Views {
    type Request = RequestId;

    fn len(&self) -> usize {
        self.reads.len() + self.writes.len()
    }

    fn take_cancelled(&mut self) -> Self {
        Self { reads: take_cancelled(&mut self.reads), writes: take_cancelled(&mut self.writes) }
    }
}

fn take_cancelled<P: PacketPerms>(views: &mut Vec<Submission<P, u64>>) -> Vec<Submission<P, u64>> {
    views.extract_if(.., |submission| submission.view.is_cancelled()).collect()
}

#[cfg(all(test, pactio_loom))]
mod models {
    use std::sync::Arc;

    use loom::thread;

    use super::*;

    /// Number of requests of a model.
    const REQUESTS: usize = 2;

    #[derive(Default)]
    struct Model {
        deferred: Deferred<Ids>,
        requests: Mutex<[Request; REQUESTS]>,
    }

    /// Number of the events of a request.
    #[derive(Clone, Copy, Default)]
    struct Request {
        sent: u32,
        failed: u32,
        /// The device had the request, and gave it up.
        dropped: u32,
    }

    /// Requests by number, and whether they were cancelled.
    #[derive(Default)]
    struct Ids(Vec<(usize, Arc<AtomicBool>)>);

    impl Load for Ids {
        type Request = usize;

        fn len(&self) -> usize {
            self.0.len()
        }

        fn take_cancelled(&mut self) -> Self {
            Self(self.0.extract_if(.., |(_, cancelled)| cancelled.load(Ordering::SeqCst)).collect())
        }
    }

    impl Model {
        /// Defers a request on a thread. Setting the flag cancels the request.
        fn defer(&self, id: usize, thread: usize) -> (Arc<AtomicBool>, Left) {
            let cancelled = Arc::new(AtomicBool::new(false));
            let mut end = self.deferred.of_thread(thread).end(&self.deferred);
            end.views().0.push((id, cancelled.clone()));
            (cancelled, end.leave(false))
        }

        /// Sends the requests of a queue.
        fn send(&self, thread: usize) {
            let Some(mut taken) = self.deferred.of_thread(thread).take() else { return };
            for (id, _) in taken.views.0.drain(..) {
                self.requests.lock().unwrap()[id].sent += 1;
            }
            let late = taken.end();
            let forgotten = mutant!("late_cancellations_are_forgotten", late.len(), 0);
            late.into_iter().skip(forgotten).for_each(|id| self.drop_future(id));
        }

        /// The device ignores requests that it does not know.
        fn drop_future(&self, id: usize) {
            let request = &mut self.requests.lock().unwrap()[id];
            if request.sent > 0 {
                request.dropped += 1;
            }
        }

        fn cancel(&self, id: usize, cancelled: &AtomicBool) {
            cancelled.store(true, Ordering::SeqCst);
            for views in self.deferred.cancel(id) {
                views.0.iter().for_each(|(id, _)| self.requests.lock().unwrap()[*id].failed += 1);
            }
            self.drop_future(id);
        }

        fn request(&self, id: usize) -> Request {
            self.requests.lock().unwrap()[id]
        }

        fn assert_ended(&self) {
            assert!(self.deferred.queues().all(|queue| queue.len.load(Ordering::SeqCst) == 0));
            for request in *self.requests.lock().unwrap() {
                assert_eq!(request.sent + request.failed, 1, "it is sent once, or fails");
            }
        }
    }

    fn explore(run: fn()) {
        let runs = Arc::new(std::sync::atomic::AtomicUsize::new(0));
        let counter = runs.clone();
        loom::model(move || {
            run();
            counter.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
        });
        let name = std::thread::current().name().unwrap_or("model").to_owned();
        println!("loom_executions {name}={} (complete)", runs.load(std::sync::atomic::Ordering::SeqCst));
    }

    #[test]
    fn each_request_is_sent_once() {
        explore(|| {
            let model = Arc::new(Model::default());
            let _ = model.defer(0, 0).1;
            let other = {
                let model = model.clone();
                thread::spawn(move || {
                    // This thread got the first request from the other thread.
                    model.send(0);
                    assert_eq!(model.request(0).sent, 1, "its request is not sent");
                })
            };
            let woken = model.defer(1, 0).1.wake;
            if woken {
                model.send(0);
            }
            other.join().unwrap();
            model.send(0);
            model.assert_ended();
        });
    }

    #[test]
    fn a_cancelled_request_is_not_sent_or_the_device_is_told() {
        explore(|| {
            let model = Arc::new(Model::default());
            let (first, second) = (model.defer(0, 0).0, model.defer(1, 0).0);
            let owner = {
                let model = model.clone();
                thread::spawn(move || model.cancel(1, &second))
            };
            model.send(0);
            owner.join().unwrap();
            drop(first);
            model.send(0);
            model.assert_ended();
            let request = model.request(1);
            assert!(request.sent == 0 || request.dropped > 0, "the device goes on with it");
        });
    }

    #[test]
    fn a_request_that_woke_its_task_and_is_cancelled_leaves_that_to_the_next() {
        explore(|| {
            let model = Model::default();
            let (first, left) = model.defer(0, 0);
            assert!(left.wake);
            model.cancel(0, &first);
            assert!(model.defer(1, 0).1.wake, "no task will send the request");
        });
    }

    #[test]
    fn a_request_that_is_deferred_is_watched() {
        explore(|| {
            let model = Arc::new(Model::default());
            assert!(model.defer(0, 0).1.watch, "nothing is watched at first");
            model.send(0);
            let other = {
                let model = model.clone();
                // In another queue.
                thread::spawn(move || model.defer(1, 1).1.watch)
            };
            // One look after the request was sent, and one that ends the watch unless another request comes.
            let mut watch = Watch::default();
            let goes_on = (0..2).all(|_| watch.look(&model.deferred) != Looked::Idle);
            let begins = other.join().unwrap();
            assert!(goes_on != begins, "watched by {}", u8::from(goes_on) + u8::from(begins));
        });
    }
}
