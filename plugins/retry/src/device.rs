//! A device that sends failed bytes again, and only those.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use pactio_schedule::{Later, Schedule};
use pactio_sdk::{
    BoundPacketView, Cancellation, Capability, Code, ExtensionQuery, Filter, IoError, Lower, Metric,
    PacketIo, PacketPerms, PollingHandle, Read, ReboundPacket, Records, RequestId, Statistics, Write,
};

/// The settings of the retries.
pub(crate) struct Plan {
    /// The most attempts.
    pub(crate) attempts: u32,
    /// The last attempt begins at most this time after the first.
    pub(crate) within: Duration,
    pub(crate) delay: Duration,
    pub(crate) longest: Duration,
    pub(crate) io: bool,
}

/// See the [crate](crate).
pub(crate) struct RetryingDevice {
    pub(crate) shared: Arc<Shared>,
    pub(crate) schedule: Schedule,
}

pub(crate) struct Shared {
    pub(crate) below: Lower,
    pub(crate) later: Later,
    pub(crate) plan: Plan,
    retried: AtomicU64,
    gave_up: AtomicU64,
    paused: Mutex<Paused>,
}

/// An attempt to answer a view.
#[derive(Clone, Copy)]
struct Attempt {
    number: u32,
    /// The time of the first attempt.
    began: Instant,
}

impl Attempt {
    fn first() -> Self {
        Self { number: 1, began: Instant::now() }
    }

    fn next(self) -> Self {
        Self { number: self.number.saturating_add(1), ..self }
    }
}

/// The views that wait for their next attempt, by a number.
#[derive(Default)]
struct Paused {
    next: u64,
    waiting: HashMap<u64, (RequestId, Resume)>,
}

/// Tries a view again, or fails it.
type Resume = Box<dyn FnOnce(Result<(), IoError>) + Send>;

impl Plan {
    /// Whether a failure may be over soon.
    fn is_temporary(&self, error: IoError) -> bool {
        error.is_temporary() || (self.io && error.code() == Code::IO)
    }

    /// The pause behind an attempt, or `None` if it was the last. Pauses are random, so that many requests that failed together
    /// do not come back together.
    fn pause(&self, attempt: Attempt) -> Option<Duration> {
        let bound = self.delay.saturating_mul(1 << (attempt.number - 1).min(30)).min(self.longest);
        let pause = Duration::from_nanos(fastrand::u64(0..=bound.as_nanos() as u64));
        let is_last = attempt.number >= self.attempts || attempt.began.elapsed() + pause > self.within;
        (!is_last).then_some(pause)
    }
}

impl Shared {
    pub(crate) fn new(below: Lower, later: Later, plan: Plan) -> Self {
        Self {
            below,
            later,
            plan,
            retried: AtomicU64::new(0),
            gave_up: AtomicU64::new(0),
            paused: Mutex::default(),
        }
    }

    fn paused(&self) -> MutexGuard<'_, Paused> {
        self.paused.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends a view.
    fn send<Perms: PacketPerms>(
        self: &Arc<Self>,
        position: u64,
        view: BoundPacketView<Perms>,
        attempt: Attempt,
    ) where
        Lower: PacketIo<Perms, u64>,
    {
        // If that fails for lack of memory, the view has failed already.
        let Ok(mut rebound) = ReboundPacket::new(view) else { return };
        let Ok(fresh) = rebound.bind() else { return };
        // A weak reference: the device below keeps this closure, and `self` keeps the device below.
        let this = Arc::downgrade(self);
        rebound.on_complete(move |rebound| {
            let Some(this) = this.upgrade() else {
                let _ = rebound.forward();
                return;
            };
            let unwanted = rebound.is_cancelled();
            let _ = rebound.settle(|failed| {
                let temporary = failed.result().is_err_and(|cause| this.plan.is_temporary(cause.error()));
                if !temporary {
                    return failed.complete();
                }
                // Also if the failure comes a moment after the cancellation.
                if unwanted {
                    return failed.into_view().error(IoError::CANCELLED);
                }
                if failed.is_late() {
                    return failed.complete();
                }
                let Some(pause) = this.plan.pause(attempt) else {
                    this.gave_up.fetch_add(1, Ordering::Relaxed);
                    return failed.complete();
                };
                this.retried.fetch_add(1, Ordering::Relaxed);
                let position = position.saturating_add(failed.range().start as u64);
                this.pause(position, failed.into_view(), attempt.next(), pause);
            });
        });
        self.below.send_io(position, fresh);
    }

    /// Sends a view again after a pause, unless it is cancelled before.
    fn pause<Perms: PacketPerms>(
        self: &Arc<Self>,
        position: u64,
        view: BoundPacketView<Perms>,
        attempt: Attempt,
        pause: Duration,
    ) where
        Lower: PacketIo<Perms, u64>,
    {
        let number = {
            let mut paused = self.paused();
            // A cancellation sets the bit before it looks for the view here: under the lock, it is seen, or finds the view.
            if view.is_cancelled() {
                drop(paused);
                return view.error(IoError::CANCELLED);
            }
            let (this, request) = (Arc::downgrade(self), view.request());
            let resume = move |goes: Result<(), IoError>| match (goes, this.upgrade()) {
                (Err(error), _) => view.error(error),
                (Ok(()), _) if view.is_cancelled() => view.error(IoError::CANCELLED),
                (Ok(()), _) if view.is_late() => view.error(IoError::LATE),
                (Ok(()), Some(this)) => this.send(position, view, attempt),
                (Ok(()), None) => {}
            };
            paused.next += 1;
            let number = paused.next;
            paused.waiting.insert(number, (request, Box::new(resume)));
            number
        };
        let this = Arc::downgrade(self);
        self.later.at(Instant::now() + pause, move || {
            let paused = this.upgrade().and_then(|this| this.paused().waiting.remove(&number));
            if let Some((_, resume)) = paused {
                resume(Ok(()));
            }
        });
    }
}

impl Filter for RetryingDevice {
    /// Exchanges and streams are forwarded as they are: the number of bytes that a failed one moved is unknown. No admission:
    /// attempts do not wait for room below.
    const FORWARDS: &'static [Capability] = &[
        Capability::EXCHANGE,
        Capability::READ_NEXT,
        Capability::WRITE_NEXT,
        Capability::LIMITS,
        Capability::STAT,
        Capability::FLUSH,
        Capability::PUBLISH,
        Capability::RESIZE,
        Capability::ZERO,
        Capability::MAP,
        Capability::LIST,
        Capability::PROVENANCE,
        Capability::REFUSED,
    ];

    fn lower(&self) -> &Lower {
        &self.shared.below
    }

    fn read(&self, position: u64, view: BoundPacketView<Write>) {
        self.shared.send(position, view, Attempt::first());
    }

    fn write(&self, position: u64, view: BoundPacketView<Read>) {
        self.shared.send(position, view, Attempt::first());
    }

    fn extensions<'d>(&'d self, query: &mut ExtensionQuery<'d>) {
        query.offer::<dyn Cancellation>(self).offer::<dyn Statistics>(self);
    }

    fn polling_handle(&self) -> PollingHandle {
        PollingHandle::Waker
    }

    fn poll_driver(&self, cx: &mut Context<'_>) -> Poll<()> {
        self.schedule.poll(cx)
    }
}

impl Cancellation for RetryingDevice {
    fn cancel(&self, request: RequestId) {
        // The views fail outside of the lock, as that runs foreign code.
        let is_cancelled: Vec<_> = {
            let mut paused = self.shared.paused();
            paused.waiting.extract_if(|_, (of, _)| *of == request).collect()
        };
        for (_, (_, resume)) in is_cancelled {
            resume(Err(IoError::CANCELLED));
        }
        self.shared.below.cancel(request);
    }
}

impl Statistics for RetryingDevice {
    fn statistics(&self, from: u64, figures: Records<Metric>) {
        figures.complete_from(
            from,
            [
                Metric::count("retried", self.shared.retried.load(Ordering::Relaxed)),
                Metric::count("given up", self.shared.gave_up.load(Ordering::Relaxed)),
            ],
        );
    }
}
