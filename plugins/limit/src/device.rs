//! A device whose requests wait until they may go.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use pactio_plugin_schedule::{Later, Request, Schedule, take_requests};
use pactio_sdk::{
    BoundPacketView, Cancellation, Capability, ExtensionQuery, Figure, Filter, IoError, Lower, PacketPerms,
    ReboundPacket, Records, RequestId, Statistics,
};

/// What is bounded.
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
    waiting: VecDeque<Request>,
    in_flight: u32,
    /// When the next request may go.
    next: Instant,
    /// Somebody sends what may go; whoever comes meanwhile leaves it to them.
    sending: bool,
    /// The schedule looks here when the next may go.
    scheduled: bool,
    waited: u64,
}

/// What to do next.
enum Next {
    Goes(Request),
    Later(Option<Instant>),
}

/// So many requests are sent by one call; the driver goes on with the rest.
const IN_A_ROW: usize = 64;

impl LimitedDevice {
    pub(crate) fn new(below: Lower, bounds: Bounds) -> Self {
        let schedule = Schedule::default();
        let state = State {
            waiting: VecDeque::new(),
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
        self.shared.state().waiting.push_back(request);
        self.shared.send();
    }
}

impl Bounds {
    /// How long a request keeps the next one waiting.
    fn cost(&self, bytes: usize) -> Duration {
        let bytes = self.bytes.map_or(0.0, |rate| bytes as f64 / rate as f64);
        let request = self.requests.map_or(0.0, |rate| 1.0 / f64::from(rate));
        Duration::try_from_secs_f64(bytes.max(request)).unwrap_or(Duration::MAX)
    }
}

/// Length of a request, and whether somebody wants it.
fn look(request: &Request) -> (RequestId, usize, bool) {
    fn of<Perms: PacketPerms>(view: &BoundPacketView<Perms>) -> (RequestId, usize, bool) {
        (view.request(), view.len(), !view.is_cancelled())
    }
    match request {
        Request::Read(_, view) | Request::ReadNext(view) => of(view),
        Request::Write(_, view) | Request::WriteNext(view) => of(view),
        Request::Exchange(_, view) => of(view),
    }
}

fn refuse(request: Request) {
    match request {
        Request::Read(_, view) | Request::ReadNext(view) => view.error(IoError::CANCELLED),
        Request::Write(_, view) | Request::WriteNext(view) => view.error(IoError::CANCELLED),
        Request::Exchange(_, view) => view.error(IoError::CANCELLED),
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // No foreign code runs under the lock.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what may go, in order. An answer may come at once and lead here again: then the call that is under way goes on.
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
            if look(&request).2 {
                self.pass(request);
            } else {
                refuse(request);
                if self.bounds.in_flight.is_some() {
                    self.state().in_flight -= 1;
                }
            }
            state = self.state();
            sent += 1;
            if sent == IN_A_ROW && !state.waiting.is_empty() {
                // Others may go on asking for ever; this thread has its own work.
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

    /// The request that may go now, or when to look again, if nobody does before.
    fn next(&self, state: &mut State) -> Next {
        let Some((_, bytes, wanted)) = state.waiting.front().map(look) else { return Next::Later(None) };
        if self.bounds.in_flight.is_some_and(|most| state.in_flight >= most) {
            return Next::Later(None);
        }
        let now = Instant::now();
        if wanted && state.next > now {
            if state.scheduled {
                return Next::Later(None);
            }
            (state.scheduled, state.waited) = (true, state.waited + 1);
            return Next::Later(Some(state.next));
        }
        if wanted {
            state.next = state.next.max(now).checked_add(self.bounds.cost(bytes)).unwrap_or(now);
        }
        if self.bounds.in_flight.is_some() {
            state.in_flight += 1;
        }
        state.waiting.pop_front().map_or(Next::Later(None), Next::Goes)
    }

    /// Sends a request that may go, and sends the next one when it is answered if those in flight are counted.
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
            // For want of memory; it is failed already.
            None => self.state().in_flight -= 1,
        }
    }

    fn counted<Perms: PacketPerms>(
        self: &Arc<Self>,
        view: BoundPacketView<Perms>,
    ) -> Option<BoundPacketView<Perms>> {
        let mut rebound = ReboundPacket::new(view).ok()?;
        let fresh = rebound.bind().ok()?;
        // The device below keeps this, and is kept by what this names.
        let this = Arc::downgrade(self);
        rebound.on_complete(move |rebound| {
            let this = this.upgrade();
            // Before whoever sent it hears of it.
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
    /// No admission: requests that wait here have been admitted already.
    const FORWARDS: &'static [Capability] = &[
        Capability::LIMITS,
        Capability::STAT,
        Capability::FLUSH,
        Capability::RESIZE,
        Capability::MAP,
        Capability::LIST,
        Capability::PROVENANCE,
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
        let mut kept = VecDeque::new();
        let mut given_up = Vec::new();
        {
            let mut state = self.shared.state();
            for waiting in state.waiting.drain(..) {
                if look(&waiting).0 == request { given_up.push(waiting) } else { kept.push_back(waiting) }
            }
            state.waiting = kept;
        }
        given_up.into_iter().for_each(refuse);
        self.shared.below.cancel(request);
    }
}

impl Statistics for LimitedDevice {
    fn statistics(&self, from: u64, figures: Records<Figure>) {
        let state = self.shared.state();
        let now = [
            Figure::count("requests waiting", state.waiting.len() as u64),
            Figure::count("in flight", state.in_flight.into()),
            Figure::count("pauses", state.waited),
        ];
        drop(state);
        figures.complete_from(from, now);
    }
}
