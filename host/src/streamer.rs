//! Many requests of different urgency, for programs that have little time for them at a time: engines that stream what they show.
//!
//! ```text
//!  read, load ──► queue of each device, the most urgent first ──► under way, so many per device and so much memory
//!                                                                       │ any thread
//!  poll(budget): handed over, as long as there is time ◄── done, the most urgent first
//! ```

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use async_channel::{Receiver, Sender};
use pactio_sdk::Code;

use crate::device::Bottom;
use crate::{Device, Error, ErrorKind, Host, Task};

/// Reads from devices by urgency, and hands over what was read when there is time for it. Cheap to clone; all clones are one.
///
/// The thread that asks never does I/O: requests are sent by the host's threads, so many at a time per device, and memory for
/// them is taken only then. Each request is handed over once, by [`poll`](Self::poll): done, failed, cancelled or too late.
///
/// ```no_run
/// # use std::time::Duration;
/// # use pactio::{Host, Streamer, Urgency};
/// # fn main() -> Result<(), pactio::Error> {
/// let host = Host::builder().build()?;
/// let assets = host.open("file:base.zip | archive")?;
/// let streamer = Streamer::new(&host);
/// let texture = streamer.load(&assets, "textures/sky", Urgency::of(1), "sky");
/// // The player turns to it.
/// streamer.set_priority(texture, 10);
/// // Once in each frame:
/// streamer.poll(Duration::from_millis(2), |done| match done.bytes() {
///     Ok(bytes) => println!("{} has {} bytes", done.data, bytes.len()),
///     Err(error) => eprintln!("{}: {error}", done.data),
/// });
/// # Ok(())
/// # }
/// ```
pub struct Streamer<T: Send + 'static = ()>(Arc<Shared<T>>);

/// Names a request of a [`Streamer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(u64);

/// How urgent a request is: first the priority counts, then the deadline, then who came first.
///
/// ```
/// # use std::time::{Duration, Instant};
/// # use pactio::Urgency;
/// let now = Urgency::of(10).until(Instant::now() + Duration::from_millis(50));
/// let soon = Urgency::default();
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Urgency {
    priority: i32,
    deadline: Option<Instant>,
}

impl Urgency {
    /// A priority; the higher goes first.
    pub const fn of(priority: i32) -> Self {
        Self { priority, deadline: None }
    }

    /// What is not there by then is of no use: it is given up, also when it is under way, and fails as timed out.
    #[must_use]
    pub const fn until(mut self, deadline: Instant) -> Self {
        self.deadline = Some(deadline);
        self
    }
}

/// A request that has come to its end.
#[derive(Debug)]
pub struct Done<T> {
    /// Which one.
    pub ticket: Ticket,
    /// What was given with it.
    pub data: T,
    /// How urgent it was at last.
    pub urgency: Urgency,
    /// From the request until it was sent to its device; until its end, if it never was.
    pub queued: Duration,
    /// From the request until it was handed over.
    pub took: Duration,
    result: Result<Vec<u8>, Error>,
}

impl<T> Done<T> {
    /// What was read.
    ///
    /// # Errors
    ///
    /// Why not all of it was.
    pub fn bytes(&self) -> Result<&[u8], &Error> {
        self.result.as_deref()
    }

    /// The same, to be kept.
    ///
    /// # Errors
    ///
    /// As [`bytes`](Self::bytes).
    pub fn into_bytes(self) -> Result<Vec<u8>, Error> {
        self.result
    }
}

/// What is going on in a [`Streamer`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Requests that wait to be sent.
    pub queued: usize,
    /// Requests that were sent.
    pub under_way: usize,
    /// Requests that have come to an end and were not handed over yet.
    pub ready: usize,
    /// Bytes of memory that requests have which are under way or ready.
    pub memory: u64,
}

struct Shared<T> {
    /// First, so that what is under way is given up before the host may end.
    state: Mutex<State<T>>,
    host: Host,
    memory_limit: u64,
}

struct State<T> {
    next: u64,
    requests: HashMap<u64, Request<T>>,
    /// By the device at the bottom.
    groups: HashMap<Bottom, Group>,
    /// Those that have a deadline and are queued or under way.
    deadlines: BTreeSet<(Instant, u64)>,
    memory: u64,
    /// Files that are open and wait for memory. Who lets go of the other end has them look again.
    thirsty: Vec<Sender<()>>,
    /// Of what was never sent: its devices may be closed with it, which is not done under the lock.
    over: Vec<Wanted>,
    ready: BTreeMap<Order, Ended<T>>,
    /// How long a handler took lately.
    pace: Duration,
}

/// Requests of one device, and how many of them may be under way.
struct Group {
    queue: BTreeMap<Order, u64>,
    under_way: usize,
    most: usize,
    /// Set by the user: it stays when nobody asks for anything.
    kept: bool,
}

/// What goes first is the least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Order {
    priority: std::cmp::Reverse<i32>,
    /// None is last.
    deadline: (bool, Option<Instant>),
    ticket: u64,
}

impl Order {
    fn of(urgency: Urgency, ticket: u64) -> Self {
        let Urgency { priority, deadline } = urgency;
        Self { priority: std::cmp::Reverse(priority), deadline: (deadline.is_none(), deadline), ticket }
    }
}

/// A request that is queued or under way.
struct Request<T> {
    data: T,
    urgency: Urgency,
    begun: Instant,
    group: Bottom,
    stage: Stage,
}

enum Stage {
    Queued(Wanted),
    /// The task is there as soon as it was made.
    UnderWay {
        task: Option<Task<()>>,
        sent: Instant,
        memory: u64,
        /// Somebody opens it, which is not given up: its place among those that are under way is free when that is through.
        opening: bool,
    },
}

/// What is to be read.
enum Wanted {
    Range(Device, Range<u64>),
    Whole(Device, String),
}

/// A request that has ended and was not handed over.
struct Ended<T> {
    data: T,
    urgency: Urgency,
    begun: Instant,
    queued: Duration,
    result: Result<Vec<u8>, Error>,
}

impl<T> Request<T> {
    fn is_late(&self, now: Instant) -> bool {
        self.urgency.deadline.is_some_and(|deadline| deadline <= now)
    }
}

impl<T> Ended<T> {
    fn memory(&self) -> u64 {
        self.result.as_ref().map_or(0, |bytes| bytes.len() as u64)
    }
}

impl<T: Send + 'static> Streamer<T> {
    /// A streamer of a host, with 256 MiB of memory for what is under way or not handed over yet.
    pub fn new(host: &Host) -> Self {
        Self::with_memory(host, 256 << 20)
    }

    /// The same with another bound for memory. One request goes on, however large it is.
    pub fn with_memory(host: &Host, bytes: u64) -> Self {
        let state = State {
            next: 0,
            requests: HashMap::new(),
            groups: HashMap::new(),
            deadlines: BTreeSet::new(),
            memory: 0,
            thirsty: Vec::new(),
            over: Vec::new(),
            ready: BTreeMap::new(),
            pace: Duration::ZERO,
        };
        Self(Arc::new(Shared { state: Mutex::new(state), host: host.clone(), memory_limit: bytes }))
    }

    /// Has a range of a device read.
    pub fn read(&self, device: &Device, range: Range<u64>, urgency: Urgency, data: T) -> Ticket {
        self.request(Wanted::Range(device.clone(), range), urgency, data)
    }

    /// Has all of something read that has a name in a tree, such as a file in an archive. It is opened when its turn comes.
    pub fn load(&self, tree: &Device, name: &str, urgency: Urgency, data: T) -> Ticket {
        self.request(Wanted::Whole(tree.clone(), name.to_owned()), urgency, data)
    }

    fn request(&self, wanted: Wanted, urgency: Urgency, data: T) -> Ticket {
        let device = wanted.device();
        let (group, most) = (device.bottom(), device.limits().in_flight());
        let mut state = self.0.lock();
        let ticket = state.next;
        state.next += 1;
        let of_group = state.groups.entry(group.clone()).or_insert_with(|| Group {
            queue: BTreeMap::new(),
            under_way: 0,
            most: most.map_or(IN_FLIGHT, |most| most.clamp(1, 64) as usize),
            kept: false,
        });
        of_group.queue.insert(Order::of(urgency, ticket), ticket);
        if let Some(deadline) = urgency.deadline {
            state.deadlines.insert((deadline, ticket));
        }
        let stage = Stage::Queued(wanted);
        let request = Request { data, urgency, begun: Instant::now(), group, stage };
        state.requests.insert(ticket, request);
        self.0.send(state);
        Ticket(ticket)
    }

    /// Changes how soon a request has its turn, and is handed over; `false` if it has ended already. One that is under way is with its
    /// device, which has its own order.
    pub fn set_priority(&self, ticket: Ticket, priority: i32) -> bool {
        let mut state = self.0.lock();
        let Some(request) = state.requests.get_mut(&ticket.0) else { return false };
        let before = Order::of(request.urgency, ticket.0);
        request.urgency.priority = priority;
        let after = Order::of(request.urgency, ticket.0);
        let State { requests, groups, .. } = &mut *state;
        if let Some(group) = requests.get(&ticket.0).and_then(|request| groups.get_mut(&request.group))
            && group.queue.remove(&before).is_some()
        {
            group.queue.insert(after, ticket.0);
        }
        true
    }

    /// Gives a request up: it is handed over as cancelled; `false` if it has ended already.
    pub fn cancel(&self, ticket: Ticket) -> bool {
        let state = self.0.lock();
        let (ended, task) = self.0.give_up(state, ticket.0, Code::CANCELLED);
        // Not under the lock: what it drops may come back here.
        drop(task);
        ended
    }

    /// How many requests may be under way at a device: more keep it busy, fewer let the urgent ones overtake sooner. It counts for all
    /// that lies on the same device, such as all files of an archive. Unless set, it is what the device of the first request
    /// wants, or 8.
    pub fn set_in_flight(&self, device: &Device, most: usize) {
        let mut state = self.0.lock();
        let group = state.groups.entry(device.bottom()).or_insert_with(|| Group {
            queue: BTreeMap::new(),
            under_way: 0,
            most,
            kept: true,
        });
        (group.most, group.kept) = (most.max(1), true);
        self.0.send(state);
    }

    /// Hands over what has come to an end, the most urgent first, as long as there is time: it stops before a handler that would
    /// take longer than what is left, if that takes as long as the last ones. At least one is handed over, if there is any.
    ///
    /// Returns what is left. The handler may make requests.
    pub fn poll(&self, budget: Duration, mut handler: impl FnMut(Done<T>)) -> Progress {
        let begun = Instant::now();
        self.expire(begun, budget);
        let mut handed = 0;
        loop {
            let mut state = self.0.lock();
            let at = Instant::now();
            if handed > 0 && at.duration_since(begun) + state.pace >= budget {
                return state.progress();
            }
            let Some((order, ended)) = state.ready.pop_first() else { return state.progress() };
            state.memory -= ended.memory();
            self.0.send(state);
            let Ended { data, urgency, begun: asked, queued, result, .. } = ended;
            let (ticket, took) = (Ticket(order.ticket), at.duration_since(asked));
            handler(Done { ticket, data, urgency, queued, took, result });
            handed += 1;
            let mut state = self.0.lock();
            // An average in which the last ones count most; a slow one counts at once, but not for many polls.
            let time = at.elapsed().min(budget);
            state.pace = if time > state.pace { time } else { (state.pace * 7 + time) / 8 };
        }
    }

    /// What is going on.
    pub fn progress(&self) -> Progress {
        self.0.lock().progress()
    }

    /// Gives up what has passed its deadline, as long as there is time.
    fn expire(&self, begun: Instant, budget: Duration) {
        loop {
            let (mut state, mut tasks) = (self.0.lock(), Vec::new());
            while tasks.len() < EXPIRED
                && let Some(&(deadline, ticket)) = state.deadlines.first()
                && deadline <= begun
            {
                tasks.push(state.end(ticket, Err(given_up(Code::TIMED_OUT))));
            }
            self.0.send(state);
            // The tasks end here, not under the lock: what they drop may come back.
            if tasks.len() < EXPIRED || begun.elapsed() >= budget {
                return;
            }
        }
    }
}

/// So many are given up before others have the lock.
const EXPIRED: usize = 64;

/// No request counts as more, so that sums have room. There is no such memory: it fails.
const MOST_MEMORY: u64 = 1 << 56;

/// Requests under way at a device that has no wish.
const IN_FLIGHT: usize = 8;

impl Wanted {
    fn device(&self) -> &Device {
        match self {
            Self::Range(device, _) | Self::Whole(device, _) => device,
        }
    }

    /// How much memory it takes, as far as that is known before it is opened.
    fn memory(&self) -> u64 {
        match self {
            Self::Range(_, range) => range.end.saturating_sub(range.start).min(MOST_MEMORY),
            Self::Whole(..) => 0,
        }
    }
}

impl<T> State<T> {
    fn progress(&self) -> Progress {
        let queued = self.groups.values().map(|group| group.queue.len()).sum();
        let under_way = self.requests.len() - queued;
        Progress { queued, under_way, ready: self.ready.len(), memory: self.memory }
    }

    /// Places that are taken.
    fn under_way(&self) -> usize {
        self.groups.values().map(|group| group.under_way).sum()
    }

    /// The most urgent request that may be sent now. What is too late by then ends.
    fn next(&mut self, memory_limit: u64) -> Option<u64> {
        loop {
            if self.memory >= memory_limit && self.under_way() + self.ready.len() > 0 {
                return None;
            }
            // Smaller ones would take what a larger one waits for.
            self.thirsty.retain(|asked| !asked.is_closed());
            if !self.thirsty.is_empty() {
                return None;
            }
            let free = self.groups.values_mut().filter(|group| group.under_way < group.most);
            let firsts = free
                .filter_map(|group| group.queue.first_key_value().map(|(order, _)| *order).zip(Some(group)));
            let (Order { ticket, .. }, group) = firsts.min_by_key(|(order, _)| *order)?;
            if self.requests.get(&ticket).is_some_and(|request| request.is_late(Instant::now())) {
                self.end(ticket, Err(given_up(Code::TIMED_OUT)));
                continue;
            }
            group.queue.pop_first();
            group.under_way += 1;
            return Some(ticket);
        }
    }

    /// A place among those under way at a device is free again.
    fn free(&mut self, group: &Bottom) {
        if let Some(of_group) = self.groups.get_mut(group) {
            of_group.under_way -= 1;
        }
        self.forget(group);
    }

    /// Nobody asks for anything of a device any more, perhaps.
    fn forget(&mut self, group: &Bottom) {
        let idle = |group: &Group| group.queue.is_empty() && group.under_way == 0 && !group.kept;
        if self.groups.get(group).is_some_and(idle) {
            self.groups.remove(group);
        }
    }

    /// A request has ended.
    fn end(&mut self, ticket: u64, result: Result<Vec<u8>, Error>) -> Option<Task<()>> {
        let Request { data, urgency, begun, group, stage } = self.requests.remove(&ticket)?;
        if let Some(deadline) = urgency.deadline {
            self.deadlines.remove(&(deadline, ticket));
        }
        let order = Order::of(urgency, ticket);
        let (task, queued) = match stage {
            Stage::Queued(wanted) => {
                self.over.push(wanted);
                if let Some(of_group) = self.groups.get_mut(&group) {
                    of_group.queue.remove(&order);
                }
                self.forget(&group);
                (None, begun.elapsed())
            }
            Stage::UnderWay { task, sent, memory, opening } => {
                self.memory -= memory;
                if !opening {
                    self.free(&group);
                }
                (task, sent.duration_since(begun))
            }
        };
        let ended = Ended { data, urgency, begun, queued, result };
        self.memory += ended.memory();
        self.ready.insert(order, ended);
        task
    }
}

impl<T: Send + 'static> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends what may be sent. Requests are made by the host's threads, so this takes no time.
    fn send(self: &Arc<Self>, mut state: MutexGuard<'_, State<T>>) {
        while let Some(ticket) = state.next(self.memory_limit) {
            let Some(request) = state.requests.get_mut(&ticket) else { continue };
            let (memory, opening) = match &request.stage {
                Stage::Queued(wanted) => (wanted.memory(), matches!(wanted, Wanted::Whole(..))),
                Stage::UnderWay { .. } => continue,
            };
            let sent = Stage::UnderWay { task: None, sent: Instant::now(), memory, opening };
            let Stage::Queued(wanted) = std::mem::replace(&mut request.stage, sent) else { continue };
            let group = request.group.clone();
            state.memory += memory;
            let of = Arc::downgrade(self);
            let running = Running { of: of.clone(), ticket };
            let place = opening.then(|| Place { of, ticket, group });
            let task = self.host.spawn(async move {
                let result = wanted.read(&running, place).await;
                running.ended(result);
            });
            // It ends only after the lock is let go.
            if let Some(Request { stage: Stage::UnderWay { task: place, .. }, .. }) =
                state.requests.get_mut(&ticket)
            {
                *place = Some(task);
            }
        }
        let room = state.memory < self.memory_limit || state.memory == 0;
        let thirsty = if room { std::mem::take(&mut state.thirsty) } else { Vec::new() };
        let over = std::mem::take(&mut state.over);
        drop(state);
        // Not under the lock, since it wakes them.
        drop((thirsty, over));
    }

    /// Ends a request that is of no use any more, and gives its task to be dropped.
    fn give_up(
        self: &Arc<Self>,
        mut state: MutexGuard<'_, State<T>>,
        ticket: u64,
        code: Code,
    ) -> (bool, Option<Task<()>>) {
        if !state.requests.contains_key(&ticket) {
            return (false, None);
        }
        let task = state.end(ticket, Err(given_up(code)));
        self.send(state);
        (true, task)
    }

    /// A request takes so much memory, which is known now. If there is no room for it, gives what to wait for before it asks again.
    fn takes(&self, ticket: u64, bytes: u64) -> Result<(), Receiver<()>> {
        let bytes = bytes.min(MOST_MEMORY);
        let mut state = self.lock();
        let State { requests, memory: all, thirsty, .. } = &mut *state;
        if let Some(Request { stage: Stage::UnderWay { memory, .. }, .. }) = requests.get_mut(&ticket) {
            if *all > 0 && bytes > self.memory_limit.saturating_sub(*all) {
                let (asked, room) = async_channel::bounded(1);
                thirsty.push(asked);
                return Err(room);
            }
            *all = *all - *memory + bytes;
            *memory = bytes;
        }
        Ok(())
    }
}

/// The error of what is of no use any more.
fn given_up(code: Code) -> Error {
    Error::new(ErrorKind::Io(code), pactio_sdk::IoError::from_code(code).to_string())
}

/// A place among those that are under way at a device, while something is opened. The one who waits for it may give up meanwhile.
struct Place<T: Send + 'static> {
    of: Weak<Shared<T>>,
    ticket: u64,
    group: Bottom,
}

impl<T: Send + 'static> Drop for Place<T> {
    fn drop(&mut self) {
        let Some(shared) = self.of.upgrade() else { return };
        let mut state = shared.lock();
        match state.requests.get_mut(&self.ticket) {
            Some(Request { stage: Stage::UnderWay { opening, .. }, .. }) => *opening = false,
            _ => state.free(&self.group),
        }
        shared.send(state);
    }
}

impl Wanted {
    async fn read<T: Send + 'static>(
        self,
        running: &Running<T>,
        place: Option<Place<T>>,
    ) -> Result<Vec<u8>, Error> {
        let (device, range) = match self {
            Self::Range(device, range) => (device, range),
            Self::Whole(tree, name) => {
                // Opening may take its time, in which others of this host's threads shall not wait.
                let device = blocking::unblock(move || {
                    let opened = tree.open(&name);
                    drop(place);
                    opened
                });
                let device = device.await?;
                let Some(size) = device.size() else {
                    let text = format!("'{}' has no size, so nobody knows what all of it is", device.url());
                    return Err(Error::new(ErrorKind::Io(Code::UNSUPPORTED), text));
                };
                running.takes(size).await;
                (device, 0..size)
            }
        };
        let len = usize::try_from(range.end.saturating_sub(range.start)).unwrap_or(usize::MAX);
        let mut bytes = Vec::new();
        if bytes.try_reserve_exact(len).is_err() {
            let text = format!("there is no memory for {len} bytes of '{}'", device.url());
            return Err(Error::new(ErrorKind::Io(Code::OUT_OF_MEMORY), text));
        }
        bytes.resize(len, 0);
        if bytes.is_empty() { Ok(bytes) } else { device.read_exact_at(range.start, bytes).await }
    }
}

/// Ends its request, at the latest when it is dropped.
struct Running<T: Send + 'static> {
    of: Weak<Shared<T>>,
    ticket: u64,
}

impl<T: Send + 'static> Running<T> {
    /// Takes so much memory, as soon as there is room.
    async fn takes(&self, bytes: u64) {
        loop {
            let Some(room) = self.of.upgrade().and_then(|shared| shared.takes(self.ticket, bytes).err())
            else {
                return;
            };
            // Nothing is ever sent: it ends.
            let _ = room.recv().await;
        }
    }

    fn ended(&self, result: Result<Vec<u8>, Error>) {
        let Some(shared) = self.of.upgrade() else { return };
        let mut state = shared.lock();
        let late = state.requests.get(&self.ticket).is_some_and(|request| request.is_late(Instant::now()));
        let result = if late { result.and(Err(given_up(Code::TIMED_OUT))) } else { result };
        let task = state.end(self.ticket, result);
        shared.send(state);
        // It is this one, which is about to end.
        if let Some(task) = task {
            task.detach();
        }
    }
}

impl<T: Send + 'static> Drop for Running<T> {
    fn drop(&mut self) {
        // Nothing, if it has ended.
        let text = "the host has stopped, or a panic ended the request";
        self.ended(Err(Error::new(ErrorKind::Io(Code::CANCELLED), text)));
    }
}

impl<T: Send + 'static> Clone for Streamer<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T: Send + 'static> fmt::Debug for Streamer<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Streamer").field(&self.progress()).finish()
    }
}
