//! A device that sends on requests after a delay.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use pactio_schedule::{Request, Schedule, mix, take_requests};
use pactio_sdk::{Cancellation, Capability, ExtensionQuery, Filter, Lower, RequestId};

/// The delay of requests.
pub(crate) struct Plan {
    pub(crate) latency: Duration,
    /// Maximum additional delay.
    pub(crate) jitter: Duration,
    pub(crate) seed: u64,
}

/// See the [crate](crate).
pub(crate) struct DelayedDevice {
    below: Lower,
    schedule: Schedule,
    plan: Plan,
    /// Number of requests so far.
    count: AtomicU64,
    /// The sequential reads, and the sequential writes.
    streams: [Direction; 2],
}

/// The time at which the last request of a direction is sent.
#[derive(Default)]
struct Direction(Mutex<Option<Instant>>);

impl Direction {
    /// The time for the next request: `when`, but not before the last request.
    fn after(&self, when: Instant) -> Instant {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let next = last.map_or(when, |last| last.max(when));
        *last = Some(next);
        next
    }
}

impl DelayedDevice {
    pub(crate) fn new(below: Lower, plan: Plan) -> Self {
        Self {
            below,
            schedule: Schedule::default(),
            plan,
            count: AtomicU64::new(0),
            streams: Default::default(),
        }
    }

    fn take(&self, request: Request) {
        // Ordering: Relaxed. The count is a number and orders nothing.
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let part = mix(self.plan.seed ^ mix(number)) as f64 / u64::MAX as f64;
        let when = Instant::now() + self.plan.latency + self.plan.jitter.mul_f64(part);
        // The order of a stream's requests is the order of its bytes.
        let when = match &request {
            Request::ReadNext(_) => self.streams[0].after(when),
            Request::WriteNext(_) => self.streams[1].after(when),
            _ => when,
        };
        self.schedule.send_at(when, request, &self.below);
    }
}

impl Filter for DelayedDevice {
    /// Admission is not forwarded: a request is sent later, when there may be no room.
    const FORWARDS: &'static [Capability] = &[
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
        Capability::STATISTICS,
    ];

    fn lower(&self) -> &Lower {
        &self.below
    }

    take_requests!();

    fn extensions<'d>(&'d self, query: &mut ExtensionQuery<'d>) {
        query.offer::<dyn Cancellation>(self);
    }
}

impl Cancellation for DelayedDevice {
    fn cancel(&self, request: RequestId) {
        self.schedule.cancel(request);
        self.below.cancel(request);
    }
}
