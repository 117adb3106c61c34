//! A device that sends on what it gets after a while.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use pactio_plugin_schedule::{Request, Schedule, mix, take_requests};
use pactio_sdk::{Capability, Filter, Lower};

/// How long.
pub(crate) struct Plan {
    pub(crate) latency: Duration,
    /// Up to so much more.
    pub(crate) jitter: Duration,
    pub(crate) seed: u64,
}

/// See the [crate](crate).
pub(crate) struct DelayedDevice {
    below: Lower,
    schedule: Schedule,
    plan: Plan,
    /// Requests so far.
    count: AtomicU64,
    /// What is read next, and what is written next.
    streams: [Direction; 2],
}

/// When the last request of a direction is sent.
#[derive(Default)]
struct Direction(Mutex<Option<Instant>>);

impl Direction {
    /// A time for the next one that is not before.
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
        // Ordering: Relaxed. It is a number and orders nothing.
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let part = mix(self.plan.seed ^ mix(number)) as f64 / u64::MAX as f64;
        let when = Instant::now() + self.plan.latency + self.plan.jitter.mul_f64(part);
        // The order of a stream's requests is the order of its bytes.
        let when = match &request {
            Request::ReadNext(_) => self.streams[0].after(when),
            Request::WriteNext(_) => self.streams[1].after(when),
            _ => when,
        };
        let below = self.below.clone();
        self.schedule.at(when, move || request.send(&below));
    }
}

impl Filter for DelayedDevice {
    /// No admission: a request is sent later, when there may be no room.
    const FORWARDS: &'static [Capability] = &[
        Capability::CANCELLATION,
        Capability::LIMITS,
        Capability::STAT,
        Capability::FLUSH,
        Capability::RESIZE,
        Capability::MAP,
        Capability::LIST,
        Capability::PROVENANCE,
        Capability::STATISTICS,
    ];

    fn lower(&self) -> &Lower {
        &self.below
    }

    take_requests!();
}
