//! Many requests of different urgency, for programs that have little time for them at a time, such as engines that stream the
//! content that they show.
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

/// Reads from devices by urgency, and hands over the bytes when the program has time for them. Cheap to clone; all clones are one
/// streamer.
///
/// The thread that makes a request never does I/O: the host's threads send the requests, a limited number at a time per device,
/// and memory is taken only when a request is sent. Each request is handed over once, by [`poll`](Self::poll): done, failed,
/// cancelled or too late.
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

/// Identifies a request of a [`Streamer`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(u64);

/// The urgency of a request: first the priority counts, then the deadline, then the order of arrival.
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
    /// An urgency with a priority; the higher goes first.
    pub const fn of(priority: i32) -> Self {
        Self { priority, deadline: None }
    }

    /// Adds a deadline: a request that is not done by then is given up, also when it is under way, and fails as timed out.
    #[must_use]
    pub const fn until(mut self, deadline: Instant) -> Self {
        self.deadline = Some(deadline);
        self
    }
}

/// A request that has ended.
#[derive(Debug)]
pub struct Done<T> {
    /// The ticket of the request.
    pub ticket: Ticket,
    /// The data that was given with the request.
    pub data: T,
    /// The last urgency of the request.
    pub urgency: Urgency,
    /// Time from the request until it was sent to its device, or until its end if it was never sent.
    pub queued: Duration,
    /// Time from the request until it was handed over.
    pub took: Duration,
    result: Result<Vec<u8>, Error>,
}

impl<T> Done<T> {
    /// The bytes that were read.
    ///
    /// # Errors
    ///
    /// If not all bytes were read; the error states the reason.
    pub fn bytes(&self) -> Result<&[u8], &Error> {
        self.result.as_deref()
    }

    /// The bytes that were read, as an owned vector.
    ///
    /// # Errors
    ///
    /// As [`bytes`](Self::bytes).
    pub fn into_bytes(self) -> Result<Vec<u8>, Error> {
        self.result
    }
}

/// The state of a [`Streamer`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Requests that wait to be sent.
    pub queued: usize,
    /// Requests that were sent.
    pub under_way: usize,
    /// Requests that have ended and were not handed over yet.
    pub ready: usize,
    /// Bytes of memory of the requests that are under way or ready.
    pub memory: u64,
}

struct Shared<T> {
    /// Declared first, so that requests under way are given up before the host may end.
    state: Mutex<State<T>>,
    host: Host,
    memory_limit: u64,
}

struct State<T> {
    next: u64,
    requests: HashMap<u64, Request<T>>,
    /// The groups, by the device at the bottom.
    groups: HashMap<Bottom, Group>,
    /// Requests that have a deadline and are queued or under way.
    deadlines: BTreeSet<(Instant, u64)>,
    memory: u64,
    /// One sender for each open file that waits for memory. Dropping the sender has the file's request ask again.
    thirsty: Vec<Sender<()>>,
    /// Targets of requests that were never sent. Dropping them may close their devices, which is not done under the lock.
    over: Vec<Wanted>,
    ready: BTreeMap<Order, Ended<T>>,
    /// The time that a call of the handler took lately.
    pace: Duration,
}

/// Requests of one device, and the number of them that may be under way.
struct Group {
    queue: BTreeMap<Order, u64>,
    under_way: usize,
    most: usize,
    /// Set by the user: the group stays when it has no requests.
    kept: bool,
}

/// The order of requests: the least goes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Order {
    priority: std::cmp::Reverse<i32>,
    /// `None` is last.
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
    /// `task` is set as soon as the task was made.
    UnderWay {
        task: Option<Task<()>>,
        sent: Instant,
        memory: u64,
        /// A thread opens the entry, which is not given up: the place among the requests under way is free when the opening has
        /// ended.
        opening: bool,
    },
}

/// The bytes that are to be read.
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
    /// A streamer of a host, with 256 MiB of memory for requests that are under way or not handed over yet.
    pub fn new(host: &Host) -> Self {
        Self::with_memory(host, 256 << 20)
    }

    /// A streamer with another bound for memory. One request proceeds, of any size.
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

    /// Requests a range of a device.
    pub fn read(&self, device: &Device, range: Range<u64>, urgency: Urgency, data: T) -> Ticket {
        self.request(Wanted::Range(device.clone(), range), urgency, data)
    }

    /// Requests all bytes of an entry of a tree, such as a file in an archive. The entry is opened when its turn comes.
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

    /// Changes the priority with which a request is sent and handed over; `false` if it has ended already. A request that is
    /// under way is with its device, which has its own order.
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

    /// Gives up a request, which is handed over as cancelled; `false` if it has ended already.
    pub fn cancel(&self, ticket: Ticket) -> bool {
        let state = self.0.lock();
        let (ended, task) = self.0.give_up(state, ticket.0, Code::CANCELLED);
        // Not under the lock: dropping the task may call this streamer again.
        drop(task);
        ended
    }

    /// Sets the number of requests that may be under way at a device: more keep the device busy, fewer let urgent requests
    /// overtake sooner. The number counts for everything that lies on the same device, such as all files of an archive. Unless
    /// set, it is the number that the device of the first request asks for, or 8.
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

    /// Hands over ended requests, the most urgent first, as long as there is time: it stops before a call of the handler that
    /// would exceed the budget, if the call takes as long as the last ones. At least one request is handed over, if there is any.
    ///
    /// Returns the state afterwards. The handler may make requests.
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
            // An average in which the last calls count most; a slow call counts at once, but not for many polls.
            let time = at.elapsed().min(budget);
            state.pace = if time > state.pace { time } else { (state.pace * 7 + time) / 8 };
        }
    }

    /// The current state.
    pub fn progress(&self) -> Progress {
        self.0.lock().progress()
    }

    /// Gives up requests that have passed their deadline, as long as there is time.
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
            // The tasks are dropped here, not under the lock: dropping them may call this streamer again.
            if tasks.len() < EXPIRED || begun.elapsed() >= budget {
                return;
            }
        }
    }
}

/// Number of requests that are given up before other threads get the lock.
const EXPIRED: usize = 64;

/// No request counts with more bytes, so that sums do not overflow. No machine has this memory: such a request fails.
const MOST_MEMORY: u64 = 1 << 56;

/// Requests under way at a device that asks for no number.
const IN_FLIGHT: usize = 8;

impl Wanted {
    fn device(&self) -> &Device {
        match self {
            Self::Range(device, _) | Self::Whole(device, _) => device,
        }
    }

    /// The memory that it takes, in bytes, as far as known before it is opened.
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

    /// Number of places that are taken.
    fn under_way(&self) -> usize {
        self.groups.values().map(|group| group.under_way).sum()
    }

    /// The most urgent request that may be sent now. Requests that are too late end.
    fn next(&mut self, memory_limit: u64) -> Option<u64> {
        loop {
            if self.memory >= memory_limit && self.under_way() + self.ready.len() > 0 {
                return None;
            }
            // Smaller requests would take the memory that a larger one waits for.
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

    /// Frees a place among the requests under way at a device.
    fn free(&mut self, group: &Bottom) {
        if let Some(of_group) = self.groups.get_mut(group) {
            of_group.under_way -= 1;
        }
        self.forget(group);
    }

    /// Removes the group of a device, if it has no requests and was not set by the user.
    fn forget(&mut self, group: &Bottom) {
        let idle = |group: &Group| group.queue.is_empty() && group.under_way == 0 && !group.kept;
        if self.groups.get(group).is_some_and(idle) {
            self.groups.remove(group);
        }
    }

    /// Ends a request with a result; gives its task, if there is one.
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

    /// Sends the requests that may be sent. Requests are made by the host's threads, so this takes no time.
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
            // The task ends only after the lock is released.
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
        // Not under the lock, since this wakes the waiting requests.
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

    /// Takes `bytes` of memory for a request, which are known now. If there is no room, gives the channel to wait for before
    /// asking again.
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

/// The error of a request that is of no use any more.
fn given_up(code: Code) -> Error {
    Error::new(ErrorKind::Io(code), pactio_sdk::IoError::from_code(code).to_string())
}

/// A place among the requests under way at a device, while an entry is opened. The request may be given up meanwhile.
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
                // Opening may take long, and must not delay other tasks on the host's threads.
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
    /// Takes `bytes` of memory, as soon as there is room.
    async fn takes(&self, bytes: u64) {
        loop {
            let Some(room) = self.of.upgrade().and_then(|shared| shared.takes(self.ticket, bytes).err())
            else {
                return;
            };
            // No message is ever sent: `recv` ends when the sender is dropped.
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
        // The task is the current one, which is about to end.
        if let Some(task) = task {
            task.detach();
        }
    }
}

impl<T: Send + 'static> Drop for Running<T> {
    fn drop(&mut self) {
        // Without effect, if the request has ended.
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
