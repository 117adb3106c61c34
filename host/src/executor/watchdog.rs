//! Notices calls into plugins that do not return.
//!
//! | a call takes | then |
//! |---|---|
//! | [`HELD`] | if the thread belongs to the host, another thread takes its place; the drivers that it was to poll are polled elsewhere |
//! | the host's limit | it is reported, and its device fails new requests until it returns |
//!
//! If the innermost call of a thread does not end, the time of that call counts. If the innermost calls end, the time of the
//! outermost call counts, since it keeps making calls. Opening and closing may take as long as the storage takes: they are
//! reported, but their devices go on taking requests. The watchdog looks at the threads every [`BUSY`] while calls are under way,
//! otherwise every [`IDLE`].
//!
//! The watchdog also notices requests that were [deferred](super::deferred) and are not sent. A thread of the host sends them.

use std::collections::HashMap;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use super::crew::Crew;
use super::deferred::Watch;
use super::driver::{Drive, Driver};
use super::posts::{self, Call, Inside, Place, Post, Seen};

/// The time that a call may hold up a thread of the host.
const HELD: Duration = Duration::from_millis(100);

/// The time between two looks.
const BUSY: Duration = Duration::from_millis(50);
const IDLE: Duration = Duration::from_secs(1);

/// Looks at the posts of all threads on a thread of its own, which starts with the first device.
pub(crate) struct Watchdog {
    watched: Arc<Mutex<Watched>>,
    crew: Arc<Crew>,
    /// Sends drivers with deferred requests to the thread. Dropping the sender ends the thread.
    deferring: OnceLock<Sender<Arc<Driver>>>,
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
    subject: String,
    begun: Instant,
    told: bool,
}

/// A watched call. The call ends when this value is dropped.
pub(crate) struct UnderWay {
    watched: Arc<Mutex<Watched>>,
    number: u64,
    _inside: Inside,
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        let ended = lock(&self.watched).slow.remove(&self.number);
        if let Some(Slow { what, subject, begun, told: true }) = ended {
            tracing::warn!(call = what, subject, "the plugin came back after {:.1?}", begun.elapsed());
        }
    }
}

fn lock(watched: &Mutex<Watched>) -> MutexGuard<'_, Watched> {
    watched.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Watchdog {
    /// A watchdog that reports calls that take longer than `limit`.
    pub(super) fn new(crew: Arc<Crew>, limit: Duration) -> Self {
        Self { watched: Arc::default(), crew, deferring: OnceLock::new(), limit }
    }

    /// Watches the calls of a device while it exists.
    pub(crate) fn watch(&self, device: Weak<dyn Drive>) {
        let mut watched = lock(&self.watched);
        // Closed devices are removed each time that the list has doubled, so that the removal costs little per device.
        if watched.devices.len() > 2 * watched.kept + 16 {
            watched.devices.retain(|device| device.strong_count() > 0);
            watched.kept = watched.devices.len();
        }
        watched.devices.push(device);
        drop(watched);
        self.start();
    }

    /// Looks at the deferred requests of a device, which the watchdog watches, until there are none for a while.
    pub(crate) fn watch_deferred(&self, driver: Arc<Driver>) {
        if let Some(deferring) = self.deferring.get() {
            // Without the thread, the requests are sent when they are polled.
            let _ = deferring.send(driver);
        }
    }

    /// Makes a call that is reported if it does not return.
    pub(crate) fn call<T>(&self, what: &'static str, subject: &str, call: impl FnOnce() -> T) -> T {
        let _under_way = self.begin(what, subject);
        call()
    }

    /// Begins a call that opens or closes a device, and that is reported if it does not return. The call ends when the
    /// result is dropped, on the same thread.
    pub(crate) fn begin(&self, what: &'static str, subject: &str) -> UnderWay {
        self.start();
        let mut watched = lock(&self.watched);
        watched.number += 1;
        let number = watched.number;
        let call = Slow { what, subject: subject.to_owned(), begun: Instant::now(), told: false };
        watched.slow.insert(number, call);
        // The device around this call, if any, stays the innermost one, so that the plugin's records name the same device.
        let inside = Inside::enter(posts::current_device(), Call::Slow);
        UnderWay { watched: self.watched.clone(), number, _inside: inside }
    }

    /// Starts the watchdog's thread, once. It looks at the posts of all threads, and at the deferred requests of each driver
    /// that is sent to it, until the watchdog is dropped.
    fn start(&self) {
        self.deferring.get_or_init(|| {
            let (deferring, deferred) = channel();
            let (watched, crew, limit) = (self.watched.clone(), self.crew.clone(), self.limit);
            let watch = move || {
                Rounds { watched, crew, limit, looks: HashMap::new(), hanging: Vec::new() }.run(&deferred);
            };
            // Without the thread, no hanging call is reported. The host works all the same.
            if let Err(error) = thread::Builder::new().name("pactio-watchdog".to_owned()).spawn(watch) {
                tracing::warn!("plugins that do not come back will not be noticed: {error}");
            }
            deferring
        });
    }
}

impl Rounds {
    /// The work of the watchdog's thread.
    fn run(mut self, deferred: &Receiver<Arc<Driver>>) {
        // A round may drop the last reference to a device. The plugin may not come back from closing it, so a thread of a host
        // does not close it and does not wait for that.
        posts::join_host();
        // By default, Linux lets timers fire 50 us late; the first look at deferred requests comes after 25 us.
        // The slack becomes 1000 ns. If this fails, the looks come late.
        #[cfg(target_os = "linux")]
        let _ = rustix::thread::set_current_timer_slack(std::num::NonZero::new(1000));
        // At least four looks within the limit, but no more than one every 5 ms.
        let busy = BUSY.min(self.limit / 4).max(Duration::from_millis(5));
        let idle = IDLE.min(self.limit / 4).max(busy);
        // The next look at the threads.
        let mut next = Instant::now() + busy;
        let mut unsent: Vec<Unsent> = Vec::new();
        loop {
            // The wait ends at the next look at the threads or at deferred requests, or when a driver is sent.
            let first = unsent.iter().map(|unsent| unsent.next).min();
            let until = first.map_or(next, |first| first.min(next));
            match deferred.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(driver) => unsent.push(Unsent::new(driver)),
                Err(RecvTimeoutError::Timeout) => {}
                // The watchdog was dropped.
                Err(RecvTimeoutError::Disconnected) => return,
            }
            let now = Instant::now();
            unsent.retain_mut(|unsent| unsent.look(now));
            if now >= next {
                next = now + if self.look() { busy } else { idle };
            }
        }
    }
}

/// A device with deferred requests.
struct Unsent {
    driver: Arc<Driver>,
    watch: Watch,
    /// The time of the next look.
    next: Instant,
}

impl Unsent {
    fn new(driver: Arc<Driver>) -> Self {
        Self { driver, watch: Watch::default(), next: Instant::now() }
    }

    /// Looks at the requests, if it is time; `false` if the watch has ended.
    fn look(&mut self, now: Instant) -> bool {
        if now < self.next {
            return true;
        }
        let pause = self.driver.look_at_deferred(&mut self.watch);
        if let Some(pause) = pause {
            self.next = now + pause;
        }
        pause.is_some()
    }
}

/// The watchdog's thread.
struct Rounds {
    watched: Arc<Mutex<Watched>>,
    crew: Arc<Crew>,
    limit: Duration,
    /// By the address of a post.
    looks: HashMap<usize, Look>,
    /// The calls over the limit that were reported.
    hanging: Vec<Hanging>,
}

/// The calls that a thread was in at the last look.
#[derive(Clone, Copy)]
struct Look {
    seen: Seen,
    /// The time at which the thread was first seen in the outermost call, and at this step of it.
    since: Instant,
    step_since: Instant,
}

impl Look {
    /// The calls of a thread now, after an `earlier` look. The time of the outermost call goes on while its number is the
    /// same, and the time of the step while the step is the same; otherwise they begin now.
    fn after(earlier: Option<Self>, seen: Seen) -> Self {
        let now = Instant::now();
        match earlier.filter(|earlier| earlier.seen.number == seen.number) {
            Some(Self { since, step_since, seen: before }) => {
                let step_since = if before.step == seen.step { step_since } else { now };
                Self { seen, since, step_since }
            }
            None => Self { seen, since: now, step_since: now },
        }
    }
}

/// A call that was reported.
struct Hanging {
    post: Arc<Post>,
    device: Weak<dyn Drive>,
    call: Call,
    since: Instant,
    /// The number of the outermost call, and the step if the reported call is the innermost one.
    number: u64,
    step: Option<u64>,
}

impl Hanging {
    /// The thread is still in this call.
    fn goes_on(&self) -> bool {
        let is_same =
            |seen: Seen| seen.number == self.number && self.step.is_none_or(|step| seen.step == step);
        self.post.look().is_some_and(is_same)
    }
}

impl Rounds {
    /// Looks at all threads; `true` if calls are under way.
    fn look(&mut self) -> bool {
        // The reported calls that have ended.
        for ended in self.hanging.extract_if(.., |hanging| !hanging.goes_on()) {
            if let Some(device) = ended.device.upgrade() {
                device.came_back(ended.call, ended.since.elapsed());
            }
        }
        let mut is_held = false;
        let earlier = std::mem::take(&mut self.looks);
        for post in &posts::all() {
            let Some(seen) = post.look() else { continue };
            let address = Arc::as_ptr(post).addr();
            let look = Look::after(earlier.get(&address).copied(), seen);
            if look.since.elapsed() >= HELD.min(self.limit) {
                is_held = true;
                // Ignores threads that are not of this host.
                self.crew.replace(post);
            }
            self.report_hanging(post, look);
            self.looks.insert(address, look);
        }
        // The held thread may have taken over drivers that it does not come to poll.
        if is_held {
            self.rescue();
        }
        self.report_slow();
        !self.looks.is_empty()
    }

    /// Reports a call of a device of this host that has taken longer than the limit, once.
    fn report_hanging(&mut self, post: &Arc<Post>, look: Look) {
        let Look { seen, since, step_since } = look;
        // A step that does not end is the fault of the innermost call. If the steps go on, it is that of the outermost one.
        let (Place { device, call }, since, step) = if step_since.elapsed() >= self.limit {
            (seen.innermost, step_since, Some(seen.step))
        } else if since.elapsed() >= self.limit {
            (seen.outermost, since, None)
        } else {
            return;
        };
        // Opening and closing are reported by `report_slow`. A thread has one report until the reported call ends.
        if call == Call::Slow || self.hanging.iter().any(|hanging| Arc::ptr_eq(&hanging.post, post)) {
            return;
        }
        // A device of another host is reported by the watchdog of that host.
        let is_meant = |known: &&Weak<dyn Drive>| known.as_ptr().cast::<()>() == device;
        let Some(known) = lock(&self.watched).devices.iter().find(is_meant).cloned() else { return };
        let hanging = Hanging { post: post.clone(), device: known, call, since, number: seen.number, step };
        // The thread may have come back meanwhile, and the address may be that of another device now.
        if hanging.goes_on()
            && let Some(device) = hanging.device.upgrade()
        {
            device.hangs(call, since.elapsed());
            self.hanging.push(hanging);
        }
    }

    /// Queues the drivers that a thread has taken over, but has not begun to poll.
    fn rescue(&self) {
        let devices: Vec<_> = lock(&self.watched).devices.iter().filter_map(Weak::upgrade).collect();
        devices.iter().for_each(|device| device.rescue());
    }

    /// Reports the calls that open or close a device and take longer than the limit, each once.
    fn report_slow(&self) {
        let mut late = Vec::new();
        for call in lock(&self.watched).slow.values_mut() {
            if !call.told && call.begun.elapsed() >= self.limit {
                call.told = true;
                late.push((call.what, call.subject.clone(), call.begun));
            }
        }
        // Not under the lock: the subscriber of the records may open a device.
        for (call, subject, begun) in late {
            tracing::error!(call, subject, "the plugin has not come back for {:.1?}", begun.elapsed());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

    use pactio_sdk::abi::DriverStatus;

    use super::*;
    use pactio_sdk::RequestId;

    use crate::executor::Views;

    /// Counts the reports. The alignment leaves the lowest bits of the address free for the kind of the call.
    #[derive(Default)]
    #[repr(align(8))]
    struct Device {
        hangs: AtomicU32,
        came_back: AtomicU32,
    }

    impl Drive for Device {
        unsafe fn poll_driver(&self) -> DriverStatus {
            DriverStatus::ENDED
        }
        fn send(&self, _: &mut Views) {}
        fn cancel_late(&self, _: RequestId) {}
        fn watch_deferred(&self, _: &Arc<Driver>) {}
        fn driver_ended(&self, _: DriverStatus) {}
        fn watch_again(&self) {}
        fn rescue(&self) {}
        fn hangs(&self, _: Call, _: Duration) {
            self.hangs.fetch_add(1, Ordering::SeqCst);
        }
        fn came_back(&self, _: Call, _: Duration) {
            self.came_back.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Looks until `reported` is true, while a thread does `work` in two devices; gives the reports of both.
    fn reports(
        work: fn(&Device, &Device, &AtomicBool),
        reported: fn(&Device, &Device) -> bool,
    ) -> [(u32, u32); 2] {
        let devices = [Arc::new(Device::default()), Arc::new(Device::default())];
        let (crew, _lives) = Crew::new(Arc::default(), async_channel::unbounded().1);
        let watched = Watched {
            devices: devices.iter().map(|device| Arc::downgrade(device) as Weak<dyn Drive>).collect(),
            ..Watched::default()
        };
        let limit = Duration::from_millis(30);
        let watched = Arc::new(Mutex::new(watched));
        let mut rounds = Rounds { watched, crew, limit, looks: HashMap::new(), hanging: Vec::new() };
        let ends = Arc::new(AtomicBool::new(false));
        let worker = {
            let ([outer, inner], ends) = (devices.clone(), ends.clone());
            thread::spawn(move || work(&outer, &inner, &ends))
        };
        while !reported(&devices[0], &devices[1]) {
            rounds.look();
            thread::sleep(Duration::from_millis(1));
        }
        ends.store(true, Ordering::SeqCst);
        worker.join().unwrap();
        rounds.look();
        devices.map(|device| (device.hangs.load(Ordering::SeqCst), device.came_back.load(Ordering::SeqCst)))
    }

    fn enter(device: &Device, call: Call) -> Inside {
        Inside::enter(std::ptr::from_ref(device).cast(), call)
    }

    #[test]
    fn a_device_that_keeps_calling_another_one_hangs_and_the_other_does_not() {
        let found = reports(
            |outer, inner, ends| {
                let _outer = enter(outer, Call::Driver);
                while !ends.load(Ordering::SeqCst) {
                    drop(enter(inner, Call::Request));
                }
            },
            |outer, _| outer.hangs.load(Ordering::SeqCst) > 0,
        );
        assert_eq!(found, [(1, 1), (0, 0)]);
    }

    #[test]
    fn the_innermost_device_hangs_and_comes_back_before_the_call_around_it_ends() {
        let found = reports(
            |outer, inner, ends| {
                let _outer = enter(outer, Call::Driver);
                let stuck = enter(inner, Call::Request);
                while inner.hangs.load(Ordering::SeqCst) == 0 {
                    thread::sleep(Duration::from_millis(1));
                }
                drop(stuck);
                while !ends.load(Ordering::SeqCst) {
                    drop(enter(inner, Call::Request));
                }
            },
            |_, inner| inner.came_back.load(Ordering::SeqCst) > 0,
        );
        assert_eq!(found[1], (1, 1));
    }
}
