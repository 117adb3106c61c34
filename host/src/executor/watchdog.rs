//! Notices calls into plugins that do not return.
//!
//! | a call takes | then |
//! |---|---|
//! | [`HELD`] | if its thread is one of the host's, another one takes the thread's place; drivers that the thread was to poll are polled elsewhere |
//! | the host's limit | it is reported, and its device fails new requests until it returns |
//!
//! Opening and closing may take as long as the storage takes: they are reported, and their devices fail nothing.

use std::collections::HashMap;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use super::crew::Crew;
use super::driver::Drive;
use super::posts::{self, Call, Inside, Post};

/// The time that a call may hold up a thread of the host.
const HELD: Duration = Duration::from_millis(100);

/// The time between two looks while calls are under way, and while the process does nothing.
const BUSY: Duration = Duration::from_millis(50);
const IDLE: Duration = Duration::from_secs(1);

/// Looks at the posts of all threads on a thread of its own, which starts with the first device.
pub(crate) struct Watchdog {
    watched: Arc<Mutex<Watched>>,
    crew: Arc<Crew>,
    /// Dropping it ends the thread.
    stop: OnceLock<Sender<()>>,
    limit: Duration,
}

#[derive(Default)]
struct Watched {
    devices: Vec<Weak<dyn Drive>>,
    /// Number of devices after the last removal of closed ones.
    kept: usize,
    slow: HashMap<u64, Slow>,
    number: u64,
}

/// A call that opens or closes a device.
struct Slow {
    what: &'static str,
    whom: String,
    begun: Instant,
    told: bool,
}

/// A watched call, which ends when this is dropped.
pub(crate) struct UnderWay {
    watched: Arc<Mutex<Watched>>,
    number: u64,
    _inside: Inside,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let ended = lock(&self.watched).slow.remove(&self.number);
        if let Some(Slow { what, whom, begun, told: true }) = ended {
            tracing::warn!(call = what, whom, "the plugin came back after {:.1?}", begun.elapsed());
        }
    }
}

fn lock(watched: &Mutex<Watched>) -> MutexGuard<'_, Watched> {
    watched.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watchdog {
    /// A watchdog that reports calls that take longer than `limit`.
    pub(super) fn new(crew: Arc<Crew>, limit: Duration) -> Self {
        Self { watched: Arc::default(), crew, stop: OnceLock::new(), limit }
    }

    /// Watches the calls of a device while it exists.
    pub(crate) fn watch(&self, device: Weak<dyn Drive>) {
        let mut watched = lock(&self.watched);
        if watched.devices.len() > 2 * watched.kept + 16 {
            watched.devices.retain(|device| device.strong_count() > 0);
            watched.kept = watched.devices.len();
        }
        watched.devices.push(device);
        drop(watched);
        self.start();
    }

    /// Makes a call that is reported if it does not return.
    pub(crate) fn call<T>(&self, what: &'static str, whom: &str, call: impl FnOnce() -> T) -> T {
        let _under_way = self.begin(what, whom);
        call()
    }

    /// Begins a call that ends when the result is dropped, on the same thread.
    pub(crate) fn begin(&self, what: &'static str, whom: &str) -> UnderWay {
        self.start();
        let mut watched = lock(&self.watched);
        watched.number += 1;
        let number = watched.number;
        let call = Slow { what, whom: whom.to_owned(), begun: Instant::now(), told: false };
        watched.slow.insert(number, call);
        let inside = Inside::enter(posts::current_device(), Call::Slow);
        UnderWay { watched: self.watched.clone(), number, _inside: inside }
    }

    fn start(&self) {
        self.stop.get_or_init(|| {
            let (stop, stopped) = channel();
            let (watched, crew, limit) = (self.watched.clone(), self.crew.clone(), self.limit);
            let watch = move || {
                posts::is_known();
                let mut rounds = Rounds { watched, crew, limit, looks: HashMap::new() };
                let (busy, idle) = (BUSY.min(limit / 4).max(Duration::from_millis(5)), IDLE.min(limit / 4));
                let mut interval = busy;
                while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                    interval = if rounds.look() { busy } else { idle.max(busy) };
                }
            };
            // Without the thread, no hanging call is reported. The host works all the same.
            if let Err(error) = thread::Builder::new().name("pactio-watchdog".to_owned()).spawn(watch) {
                tracing::warn!("plugins that do not come back will not be noticed: {error}");
            }
            stop
        });
    }
}

/// The watchdog's thread.
struct Rounds {
    watched: Arc<Mutex<Watched>>,
    crew: Arc<Crew>,
    limit: Duration,
    /// By the address of a post.
    looks: HashMap<usize, Look>,
}

/// The call that a thread was in at the last look.
struct Look {
    number: u64,
    /// The time at which the thread was first seen in this call.
    since: Instant,
    /// The device that was found to hang, if the time is over the limit.
    hangs: Option<(Weak<dyn Drive>, Call)>,
}

impl Rounds {
    /// Looks at all threads; whether calls are under way.
    fn look(&mut self) -> bool {
        let posts = posts::all();
        let mut is_held = false;
        let mut before = std::mem::take(&mut self.looks);
        for post in &posts {
            let address = Arc::as_ptr(post).addr();
            let old = before.remove(&address);
            let Some(seen) = post.look() else {
                before.extend(old.map(|old| (address, old)));
                continue;
            };
            let mut look = match old {
                Some(old) if old.number == seen.number => old,
                old => {
                    before.extend(old.map(|old| (address, old)));
                    Look { number: seen.number, since: Instant::now(), hangs: None }
                }
            };
            if look.since.elapsed() >= HELD.min(self.limit) {
                is_held = true;
                self.crew.replace(post);
            }
            if look.hangs.is_none() && look.since.elapsed() >= self.limit && seen.call != Call::Slow {
                look.hangs = self.hangs(post, &seen.device, seen.call, &look);
            }
            self.looks.insert(address, look);
        }
        // Calls that have ended.
        for Look { since, hangs, .. } in before.into_values() {
            if let Some((device, call)) = hangs
                && let Some(device) = device.upgrade()
            {
                device.came_back(call, since.elapsed());
            }
        }
        if is_held {
            self.rescue();
        }
        self.report_slow();
        !self.looks.is_empty()
    }

    /// Reports that a thread has been in a call of a device for longer than the limit, if the device is one of this host.
    fn hangs(
        &self,
        post: &Post,
        device: &*const (),
        call: Call,
        look: &Look,
    ) -> Option<(Weak<dyn Drive>, Call)> {
        let is_meant = |known: &&Weak<dyn Drive>| known.as_ptr().cast::<()>() == *device;
        let known = lock(&self.watched).devices.iter().find(is_meant).cloned()?;
        let device = known.upgrade()?;
        // Only now is the address that of this device for sure: the thread is still in the same call, which borrows the device.
        let is_same = post.look().is_some_and(|now| now.number == look.number && now.call == call);
        is_same.then(|| device.hangs(call, look.since.elapsed()))?;
        Some((known, call))
    }

    /// Has the drivers polled that a thread has taken over and does not get to.
    fn rescue(&self) {
        let devices: Vec<_> = lock(&self.watched).devices.iter().filter_map(Weak::upgrade).collect();
        devices.iter().for_each(|device| device.rescue());
    }

    fn report_slow(&self) {
        let mut late = Vec::new();
        for call in lock(&self.watched).slow.values_mut() {
            if !call.told && call.begun.elapsed() >= self.limit {
                call.told = true;
                late.push((call.what, call.whom.clone(), call.begun));
            }
        }
        // Not under the lock: the subscriber of the records may open a device.
        for (call, whom, begun) in late {
            tracing::error!(call, whom, "the plugin has not come back for {:.1?}", begun.elapsed());
        }
    }
}
