//! A device that holds requests back until the limits permit them.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pactio_schedule::{Later, Request, Schedule, take_requests};
use pactio_sdk::{
    BoundPacketView, Cancellation, Capability, ExtensionQuery, Filter, IoError, Lower, Metric, PacketPerms,
    ReboundPacket, Records, RequestId, Statistics, UrgencyQueue,
};

/// The limits.
pub(crate) struct Bounds {
    /// Per second.
    pub(crate) bytes: Option<u64>,
    /// Per second.
    pub(crate) requests: Option<u32>,
    pub(crate) in_flight: Option<u32>,
}

/// See the [crate](crate).
pub(crate) struct LimitedDevice {
    shared: Arc<Shared>,
    schedule: Schedule,
}

struct Shared {
    below: Lower,
    bounds: Bounds,
    later: Later,
    state: Mutex<State>,
}

struct State {
    waiting: UrgencyQueue<Request>,
    in_flight: u32,
    /// The time at which the next request may be sent.
    next: Instant,
    /// A thread is sending the permitted requests; other threads do not send.
    sending: bool,
    /// The schedule calls [`Shared::send`] when the next request may be sent.
    scheduled: bool,
    waited: u64,
}

/// The next action.
enum Next {
    Goes(Request),
    Later(Option<Instant>),
}

/// Maximum idle time that is credited to later requests: the rate is reached although timers and threads run late. A burst is the
/// amount that the limits permit in this time.
const CREDIT: Duration = Duration::from_millis(20);

/// Maximum number of requests that are sent by one call; the driver continues with the rest.
const IN_A_ROW: usize = 64;

impl LimitedDevice {
    pub(crate) fn new(below: Lower, bounds: Bounds) -> Self {
        let schedule = Schedule::default();
        let state = State {
            waiting: UrgencyQueue::default(),
            in_flight: 0,
            next: Instant::now(),
            sending: false,
            scheduled: false,
            waited: 0,
        };
        let shared = Shared { below, bounds, later: schedule.later(), state: Mutex::new(state) };
        Self { shared: Arc::new(shared), schedule }
    }

    fn take(&self, request: Request) {
        self.shared.state().waiting.push(request);
        self.shared.send();
    }
}

impl Bounds {
    /// The delay that a request causes for the next one.
    fn cost(&self, bytes: usize) -> Duration {
        let bytes = self.bytes.map_or(0.0, |rate| bytes as f64 / rate as f64);
        let request = self.requests.map_or(0.0, |rate| 1.0 / f64::from(rate));
        Duration::try_from_secs_f64(bytes.max(request)).unwrap_or(Duration::MAX)
    }
}

/// The error of a request whose result is of no use any more.
fn unwanted(request: &Request) -> Option<IoError> {
    if request.is_cancelled() { Some(IoError::CANCELLED) } else { request.is_late().then_some(IoError::LATE) }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // No foreign code runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends the permitted requests, the most urgent first. An answer that comes at once may call this function again. The
    /// inner call returns, and the outer call continues.
    fn send(self: &Arc<Self>) {
        let mut state = self.state();
        if state.sending {
            return;
        }
        state.sending = true;
        let mut sent = 0;
        let again = loop {
            let request = match self.next(&mut state) {
                Next::Goes(request) => request,
                Next::Later(when) => break when,
            };
            drop(state);
            match unwanted(&request) {
                None => self.pass(request),
                Some(error) => {
                    request.fail(error);
                    if self.bounds.in_flight.is_some() {
                        self.state().in_flight -= 1;
                    }
                }
            }
            state = self.state();
            sent += 1;
            if sent == IN_A_ROW && !state.waiting.is_empty() {
                // Other threads may add requests without end, so the driver sends the rest and this thread returns.
                state.scheduled = true;
                break Some(Instant::now());
            }
        };
        state.sending = false;
        drop(state);
        if let Some(when) = again {
            let this = Arc::downgrade(self);
            self.later.at(when, move || {
                if let Some(this) = this.upgrade() {
                    this.state().scheduled = false;
                    this.send();
                }
            });
        }
    }

    /// The request that may be sent now; or else the time of the next attempt, if that attempt has to be scheduled.
    fn next(&self, state: &mut State) -> Next {
        let State { waiting, in_flight, next, scheduled, waited, .. } = state;
        let Some(first) = waiting.first() else { return Next::Later(None) };
        let wanted = unwanted(&first).is_none();
        if self.bounds.in_flight.is_some_and(|most| *in_flight >= most) {
            return Next::Later(None);
        }
        let now = Instant::now();
        if wanted && *next > now {
            if *scheduled {
                return Next::Later(None);
            }
            (*scheduled, *waited) = (true, *waited + 1);
            return Next::Later(Some(*next));
        }
        if wanted {
            let from = now.checked_sub(CREDIT).map_or(*next, |earliest| (*next).max(earliest));
            *next = from.checked_add(self.bounds.cost(first.len())).unwrap_or(now);
        }
        if self.bounds.in_flight.is_some() {
            *in_flight += 1;
        }
        Next::Goes(first.take())
    }

    /// Sends a permitted request. If requests in flight are counted, its answer sends the next one.
    fn pass(self: &Arc<Self>, request: Request) {
        if self.bounds.in_flight.is_none() {
            return request.send(&self.below);
        }
        let request = match request {
            Request::Read(position, view) => self.counted(view).map(|view| Request::Read(position, view)),
            Request::Write(position, view) => self.counted(view).map(|view| Request::Write(position, view)),
            Request::Exchange(position, view) => {
                self.counted(view).map(|view| Request::Exchange(position, view))
            }
            Request::ReadNext(view) => self.counted(view).map(Request::ReadNext),
            Request::WriteNext(view) => self.counted(view).map(Request::WriteNext),
        };
        match request {
            Some(request) => request.send(&self.below),
            // Memory to rebind the view could not be allocated; the view has failed already.
            None => self.state().in_flight -= 1,
        }
    }

    fn counted<Perms: PacketPerms>(
        self: &Arc<Self>,
        view: BoundPacketView<Perms>,
    ) -> Option<BoundPacketView<Perms>> {
        let mut rebound = ReboundPacket::new(view).ok()?;
        let fresh = rebound.bind().ok()?;
        // The device below keeps this callback, and `Shared` keeps the device below: a strong reference would be a cycle.
        let this = Arc::downgrade(self);
        rebound.on_complete(move |rebound| {
            let this = this.upgrade();
            // The count is lowered before the requester gets the answer.
            if let Some(this) = &this {
                this.state().in_flight -= 1;
            }
            let _ = rebound.forward();
            if let Some(this) = this {
                this.send();
            }
        });
        Some(fresh)
    }
}

impl Filter for LimitedDevice {
    /// Admission is not forwarded: requests that wait here have been admitted already.
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
    ];

    fn lower(&self) -> &Lower {
        &self.shared.below
    }

    take_requests!();

    fn extensions<'d>(&'d self, query: &mut ExtensionQuery<'d>) {
        query.offer::<dyn Cancellation>(self).offer::<dyn Statistics>(self);
    }
}

impl Cancellation for LimitedDevice {
    fn cancel(&self, request: RequestId) {
        let cancelled = self.shared.state().waiting.take_all(|waiting| waiting.id() == request);
        cancelled.into_iter().for_each(Request::refuse);
        self.shared.below.cancel(request);
    }
}

impl Statistics for LimitedDevice {
    fn statistics(&self, from: u64, figures: Records<Metric>) {
        let state = self.shared.state();
        let now = [
            Metric::count("requests waiting", state.waiting.len() as u64),
            Metric::count("in flight", state.in_flight.into()),
            Metric::count("pauses", state.waited),
        ];
        drop(state);
        figures.complete_from(from, now);
    }
}
