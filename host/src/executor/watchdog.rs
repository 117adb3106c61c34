//! Notices calls into plugins that do not return.
//!
//! Drivers are inspected from outside: a driver that is in the same poll as at the look before has not returned. Rare calls are
//! recorded.

use std::collections::HashMap;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use super::driver::Driver;

/// Inspects drivers and calls on a thread of its own, which starts with the first of them.
pub(crate) struct Watchdog {
    watched: Arc<Mutex<Watched>>,
    /// Dropping it ends the thread.
    stop: OnceLock<Sender<()>>,
    limit: Duration,
}

#[derive(Default)]
struct Watched {
    drivers: Vec<(Weak<Driver>, Look)>,
    calls: HashMap<u64, Call>,
    number: u64,
}

/// The result of a look at a driver.
#[derive(Clone, Copy)]
struct Look {
    /// The poll that the driver was in, if it was in one.
    poll: Option<u32>,
    /// The time at which the driver was first seen in that poll.
    since: Instant,
    told: bool,
}

/// A call that is under way.
struct Call {
    what: &'static str,
    whom: String,
    begun: Instant,
    told: bool,
}

/// A watched call, which ends when this is dropped.
pub(crate) struct UnderWay {
    watched: Arc<Mutex<Watched>>,
    number: u64,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let ended = lock(&self.watched).calls.remove(&self.number);
        if let Some(Call { what, whom, begun, told: true }) = ended {
            tracing::warn!(call = what, whom, "the plugin came back after {:.1?}", begun.elapsed());
        }
    }
}

fn lock(watched: &Mutex<Watched>) -> MutexGuard<'_, Watched> {
    watched.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watchdog {
    /// A watchdog that reports calls that take longer than `limit`.
    pub(super) fn new(limit: Duration) -> Self {
        Self { watched: Arc::default(), stop: OnceLock::new(), limit }
    }

    /// Watches a driver while it exists.
    pub(crate) fn watch(&self, driver: &Arc<Driver>) {
        let look = Look { poll: None, since: Instant::now(), told: false };
        lock(&self.watched).drivers.push((Arc::downgrade(driver), look));
        self.start();
    }

    /// Makes a call that is reported if it does not return.
    pub(crate) fn call<T>(&self, what: &'static str, whom: &str, call: impl FnOnce() -> T) -> T {
        let _under_way = self.begin(what, whom);
        call()
    }

    /// Begins a call that ends when the result is dropped.
    pub(crate) fn begin(&self, what: &'static str, whom: &str) -> UnderWay {
        self.start();
        let mut watched = lock(&self.watched);
        watched.number += 1;
        let number = watched.number;
        let call = Call { what, whom: whom.to_owned(), begun: Instant::now(), told: false };
        watched.calls.insert(number, call);
        UnderWay { watched: self.watched.clone(), number }
    }

    fn start(&self) {
        self.stop.get_or_init(|| {
            let (stop, stopped) = channel();
            let (watched, limit) = (self.watched.clone(), self.limit);
            let interval = (limit / 4).clamp(Duration::from_millis(5), Duration::from_secs(1));
            let look = move || {
                while stopped.recv_timeout(interval) == Err(RecvTimeoutError::Timeout) {
                    look(&watched, limit);
                }
            };
            // Without the thread, no hanging call is reported. The host works all the same.
            if let Err(error) = thread::Builder::new().name("pactio-watchdog".to_owned()).spawn(look) {
                tracing::warn!("nobody will notice drivers that hang: {error}");
            }
            stop
        });
    }
}

fn look(watched: &Mutex<Watched>, limit: Duration) {
    let (mut hanging, mut calls) = (Vec::new(), Vec::new());
    {
        let mut watched = lock(watched);
        watched.drivers.retain_mut(|(driver, look)| {
            let Some(driver) = driver.upgrade() else { return false };
            let poll = driver.current_poll();
            if poll.is_none() || poll != look.poll {
                *look = Look { poll, since: Instant::now(), told: false };
            } else if !look.told && look.since.elapsed() >= limit {
                look.told = true;
                hanging.extend(poll.map(|poll| (driver, look.since, poll)));
            }
            true
        });
        for call in watched.calls.values_mut().filter(|call| !call.told && call.begun.elapsed() >= limit) {
            call.told = true;
            calls.push((call.what, call.whom.clone(), call.begun));
        }
    }
    // Not under the lock: the subscriber of the records may open a device, and a device may be closed when its handle here is
    // dropped.
    for (call, whom, begun) in calls {
        tracing::error!(call, whom, "the plugin has not come back for {:.1?}", begun.elapsed());
    }
    for (driver, since, poll) in hanging {
        driver.hangs(since.elapsed(), poll);
    }
}
