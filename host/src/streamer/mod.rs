//! Many requests of different urgency, for programs that have little time for them at a time, such as engines that stream the
//! content that they show.
//!
//! ```text
//!  read, load ──► schedule: the next block of the most urgent request ──► the host's threads ──► memory of the request
//!                     ▲ a block is back                                                              │ all blocks are back
//!                     └──────────────────────────────────────────────────────────────────────────────┤
//!  poll(budget): handed over, as long as there is time ◄── ready, the most urgent first ◄────────────┘
//! ```
//!
//! `schedule` decides, without a clock and without I/O; `depth` finds the number of blocks under way at a device; `memory` holds the bytes.

mod depth;
mod memory;
mod schedule;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use async_channel::{Receiver, Sender};
use futures_lite::future::or;
use pactio_sdk::Code;

use crate::device::Bottom;
use crate::{Buffer, Device, Error, ErrorKind, Host};
use memory::{Loaded, Pool, Whole};
use schedule::{Key, Schedule, Step};

/// Reads from devices by urgency, and hands over the bytes when the program has time for them. Cheap to clone; all clones are one
/// streamer.
///
/// The thread that makes a request never does I/O: the host's threads read in blocks of 256 KiB, a limited number at a time per device.
/// The next block is that of the most urgent request, so a change takes effect soon. Memory is taken only when the first block is
/// sent. Each request is handed over once, by [`poll`](Self::poll): done, failed, cancelled or too late.
///
/// Memory of a request that was given up stays taken until its device has answered. It counts only against that device, and
/// [`Progress::abandoned`] reports it.
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

/// The urgency of a request. A step of priority counts as much as an arrival one second earlier: a request with a higher priority overtakes
/// those that came before it, and no request waits for ever. A quarter of a second before its deadline, a request gains eight steps.
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
    result: Result<Loaded, Error>,
    /// The results of the entries of a batch.
    parts: Vec<Result<Loaded, Error>>,
}

impl<T> Done<T> {
    /// The bytes that were read; empty for a batch of which all entries were read. Dropping the value gives their memory back to the
    /// streamer, on another thread.
    ///
    /// # Errors
    ///
    /// If not all bytes were read; the error states the reason, for a batch that of its first entry that failed.
    pub fn bytes(&self) -> Result<&[u8], &Error> {
        match self.parts.iter().find_map(|part| part.as_ref().err()) {
            Some(error) => Err(error),
            None => self.result.as_deref(),
        }
    }

    /// The bytes that were read, as an owned vector; it is freed where it is dropped.
    ///
    /// # Errors
    ///
    /// As [`bytes`](Self::bytes).
    pub fn into_bytes(self) -> Result<Vec<u8>, Error> {
        match self.parts.into_iter().find_map(Result::err) {
            Some(error) => Err(error),
            None => self.result.map(Loaded::into_vec),
        }
    }

    /// The buffer that was given to [`Streamer::read_into`], with the bytes that were read.
    ///
    /// # Errors
    ///
    /// As [`bytes`](Self::bytes). The buffer is free again then.
    ///
    /// # Panics
    ///
    /// If the request had no buffer.
    pub fn into_buffer(self) -> Result<Buffer, Error> {
        self.result.map(|loaded| loaded.into_buffer().expect("the request was made with a buffer"))
    }

    /// The entries of a batch, in the order in which they were named; empty for other requests.
    pub fn entries(&self) -> impl Iterator<Item = Result<&[u8], &Error>> + '_ {
        self.parts.iter().map(Result::as_deref)
    }
}

/// The state of a [`Streamer`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Requests of which nothing was sent.
    pub queued: usize,
    /// Requests of which a part was sent, or that are being opened.
    pub under_way: usize,
    /// Requests that have ended and were not handed over yet.
    pub ready: usize,
    /// Bytes of memory of the requests that are under way or ready.
    pub memory: u64,
    /// Bytes of memory of given-up requests that devices have not answered.
    pub abandoned: u64,
}

struct Shared<T> {
    state: Mutex<State<T>>,
    host: Host,
    pool: Pool,
}

struct State<T> {
    next: u64,
    schedule: Schedule<Bottom>,
    requests: HashMap<u64, Request<T>>,
    batches: HashMap<u64, Batch<T>>,
    ready: BTreeMap<(Rank, Key), Ended<T>>,
    /// The time that a call of the handler took lately.
    pace: Duration,
}

/// Given-up requests are handed over before all others.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    GivenUp,
    Ended,
}

/// A request that is queued or under way.
struct Request<T> {
    /// The user's data, or the batch and the number of the entry in it.
    of: Of<T>,
    begun: Instant,
    sent: Option<Instant>,
    target: Target,
    memory: Arc<Whole>,
    /// The first failure of a block.
    error: Option<Error>,
    /// Dropped to have the blocks under way given up.
    wanted: Sender<()>,
    gone: Receiver<()>,
}

enum Of<T> {
    User(T),
    Batch(u64, usize),
}

/// The device that is read, and the position of the first byte.
#[derive(Clone)]
enum Target {
    Entry(Device, Arc<str>),
    Open(Device, u64),
}

/// Entries that are handed over together.
struct Batch<T> {
    data: T,
    begun: Instant,
    urgency: Urgency,
    tickets: Vec<u64>,
    parts: Vec<Option<Result<Loaded, Error>>>,
    left: usize,
    /// Bytes of entries that have ended, and of those of which the size was known.
    done: u64,
}

/// A request that has ended and was not handed over.
struct Ended<T> {
    data: T,
    urgency: Urgency,
    begun: Instant,
    queued: Duration,
    result: Result<Loaded, Error>,
    parts: Vec<Result<Loaded, Error>>,
}

fn bytes_of(result: &Result<Loaded, Error>) -> u64 {
    result.as_ref().map_or(0, |loaded| loaded.len() as u64)
}

impl<T> Ended<T> {
    fn memory(&self) -> u64 {
        bytes_of(&self.result) + self.parts.iter().map(bytes_of).sum::<u64>()
    }
}

impl<T: Send + 'static> Streamer<T> {
    /// A streamer of a host, with 256 MiB of memory for requests that are under way or not handed over yet.
    pub fn new(host: &Host) -> Self {
        Self::with_memory(host, 256 << 20)
    }

    /// A streamer with another bound for memory. One request proceeds, of any size. While several devices have work, each gets an equal
    /// share.
    pub fn with_memory(host: &Host, bytes: u64) -> Self {
        let state = State {
            next: 0,
            schedule: Schedule::new(bytes, Instant::now()),
            requests: HashMap::new(),
            batches: HashMap::new(),
            ready: BTreeMap::new(),
            pace: Duration::ZERO,
        };
        let pool = Pool::new(host, bytes / 4);
        Self(Arc::new(Shared { state: Mutex::new(state), host: host.clone(), pool }))
    }

    /// Requests a range of a device.
    pub fn read(&self, device: &Device, range: Range<u64>, urgency: Urgency, data: T) -> Ticket {
        let len = range.end.saturating_sub(range.start);
        let target = Target::Open(device.clone(), range.start);
        self.request(device, target, Some(len), self.0.pool.whole(), urgency, data)
    }

    /// Requests the bytes of a device from `position` on for a buffer of the caller's, such as one of a
    /// [pool over mapped memory](crate::BufferPool::from_memory). [`Done::into_buffer`] gives it back.
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # fn run(host: &pactio::Host, device: &pactio::Device) -> Result<(), pactio::Error> {
    /// use pactio::{BufferPool, Streamer, Urgency};
    ///
    /// let (streamer, staging) = (Streamer::new(host), BufferPool::new(4, 1 << 20)?);
    /// if let Some(buffer) = staging.try_get() {
    ///     streamer.read_into(device, 0, buffer, Urgency::default(), ());
    /// }
    /// streamer.poll(Duration::from_millis(2), |done| match done.into_buffer() {
    ///     Ok(buffer) => println!("{} bytes are in place {}", buffer.len(), buffer.index()),
    ///     Err(error) => eprintln!("{error}"),
    /// });
    /// # Ok(())
    /// # }
    /// ```
    pub fn read_into(
        &self,
        device: &Device,
        position: u64,
        buffer: Buffer,
        urgency: Urgency,
        data: T,
    ) -> Ticket {
        let len = buffer.len() as u64;
        self.request(
            device,
            Target::Open(device.clone(), position),
            Some(len),
            Whole::of(buffer),
            urgency,
            data,
        )
    }

    /// Requests all bytes of an entry of a tree, such as a file in an archive. The entry is opened when its turn comes.
    pub fn load(&self, tree: &Device, name: &str, urgency: Urgency, data: T) -> Ticket {
        self.request(tree, Target::Entry(tree.clone(), name.into()), None, self.0.pool.whole(), urgency, data)
    }

    /// Requests all bytes of several entries of a tree, which are handed over together: see [`Done::entries`].
    ///
    /// ```no_run
    /// # use std::time::Duration;
    /// # fn run(host: &pactio::Host, assets: &pactio::Device) {
    /// use pactio::{Streamer, Urgency};
    ///
    /// let streamer = Streamer::new(host);
    /// let level = streamer.load_all(assets, ["e1/map", "e1/light", "e1/sound"], Urgency::default(), "e1");
    /// if let Some((done, _)) = streamer.progress_of(level) {
    ///     println!("{done} bytes so far");
    /// }
    /// streamer.poll(Duration::from_millis(2), |done| {
    ///     for (number, entry) in done.entries().enumerate() {
    ///         println!("{number}: {:?} bytes", entry.map(<[u8]>::len));
    ///     }
    /// });
    /// # }
    /// ```
    pub fn load_all<'n>(
        &self,
        tree: &Device,
        names: impl IntoIterator<Item = &'n str>,
        urgency: Urgency,
        data: T,
    ) -> Ticket {
        let names: Vec<&str> = names.into_iter().collect();
        let mut state = self.0.lock();
        let batch = state.next;
        state.next += 1;
        let mut parts = Vec::new();
        parts.resize_with(names.len(), || None);
        let now = Instant::now();
        let tickets = (0..names.len() as u64).map(|number| batch + 1 + number).collect();
        let left = names.len();
        state.batches.insert(batch, Batch { data, begun: now, urgency, tickets, parts, left, done: 0 });
        for (number, name) in names.into_iter().enumerate() {
            let target = Target::Entry(tree.clone(), name.into());
            state.add(tree, target, None, self.0.pool.whole(), urgency, Of::Batch(batch, number), now);
        }
        if left == 0 {
            state.end_batch(batch, false);
        }
        self.0.send(state);
        Ticket(batch)
    }

    fn request(
        &self,
        device: &Device,
        target: Target,
        size: Option<u64>,
        memory: Arc<Whole>,
        urgency: Urgency,
        data: T,
    ) -> Ticket {
        let mut state = self.0.lock();
        let ticket = state.add(device, target, size, memory, urgency, Of::User(data), Instant::now());
        if size == Some(0) {
            state.end(ticket, None);
        } else if size.is_some_and(|size| size > MOST_MEMORY) {
            let text = format!("there is no memory for {} bytes", size.unwrap_or(0));
            state.end(ticket, Some(Error::new(ErrorKind::Io(Code::OUT_OF_MEMORY), text)));
        }
        self.0.send(state);
        Ticket(ticket)
    }

    /// Changes the priority with which the blocks of a request are sent, and the request is handed over; `false` if it has ended
    /// already. Blocks that were sent are with the device, which has its own order.
    pub fn set_priority(&self, ticket: Ticket, priority: i32) -> bool {
        let (mut state, now) = (self.0.lock(), Instant::now());
        let State { batches, schedule, .. } = &mut *state;
        match batches.get_mut(&ticket.0) {
            None => schedule.set_priority(ticket.0, priority, now),
            Some(batch) => {
                batch.urgency.priority = priority;
                for entry in &batch.tickets {
                    schedule.set_priority(*entry, priority, now);
                }
                true
            }
        }
    }

    /// The bytes of a request that were read, and the number of all its bytes if that is known; `None` if it has ended already. Of a
    /// batch, all bytes are those of the entries that were opened.
    pub fn progress_of(&self, ticket: Ticket) -> Option<(u64, Option<u64>)> {
        let state = self.0.lock();
        let Some(batch) = state.batches.get(&ticket.0) else { return state.schedule.progress_of(ticket.0) };
        let under_way: Vec<_> =
            batch.tickets.iter().filter_map(|entry| state.schedule.progress_of(*entry)).collect();
        let done = batch.done + under_way.iter().map(|(done, _)| done).sum::<u64>();
        let all = under_way.iter().map(|(_, size)| *size).sum::<Option<u64>>();
        Some((done, all.map(|all| all + batch.done)))
    }

    /// Gives up a request, which is handed over as cancelled; `false` if it has ended already.
    pub fn cancel(&self, ticket: Ticket) -> bool {
        let mut state = self.0.lock();
        let (known, given_up) = state.give_up(ticket.0, Code::CANCELLED);
        self.0.send(state);
        // Not under the lock: dropping a device may call this streamer again.
        drop(given_up);
        known
    }

    /// Fixes the number of blocks and openings that may be under way at a device. The number counts for everything that lies on the same
    /// device, such as all files of an archive. Unless it is fixed, it begins at 8 and grows as long as that makes the device
    /// faster, up to the number that the device asks for.
    pub fn set_in_flight(&self, device: &Device, most: usize) {
        let mut state = self.0.lock();
        state.schedule.fix_depth(&device.bottom(), most, Instant::now());
        self.0.send(state);
    }

    /// Hands over ended requests as long as there is time, those that were given up first, then the most urgent: it stops before a
    /// call of the handler that would exceed the budget, if the call takes as long as the last ones. At least one request is handed over,
    /// if there is any. Those that were given up cost nothing of the budget.
    ///
    /// Returns the state afterwards. The handler may make requests.
    pub fn poll(&self, budget: Duration, mut handler: impl FnMut(Done<T>)) -> Progress {
        let mut begun = Instant::now();
        self.expire(begun, budget);
        let mut handed = 0;
        loop {
            let mut state = self.0.lock();
            let at = Instant::now();
            let is_free = state.ready.first_key_value().is_some_and(|((rank, _), _)| *rank == Rank::GivenUp);
            if !is_free && handed > 0 && at.duration_since(begun) + state.pace >= budget {
                return state.progress();
            }
            let Some((order, ended)) = state.ready.pop_first() else { return state.progress() };
            state.schedule.handed_over(ended.memory());
            self.0.send(state);
            let Ended { data, urgency, begun: asked, queued, result, parts } = ended;
            let (ticket, took) = (Ticket(order.1.1), at.duration_since(asked));
            handler(Done { ticket, data, urgency, queued, took, result, parts });
            if is_free {
                begun += at.elapsed();
                continue;
            }
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
            let (mut state, mut given_up) = (self.0.lock(), Vec::new());
            while given_up.len() < EXPIRED
                && let Some(ticket) = state.schedule.late(begun)
            {
                given_up.push(state.give_up(ticket, Code::TIMED_OUT));
            }
            self.0.send(state);
            // Not under the lock: dropping a device may call this streamer again.
            let is_over = given_up.len() < EXPIRED;
            drop(given_up);
            if is_over || begun.elapsed() >= budget {
                return;
            }
        }
    }
}

/// Number of requests that are given up before other threads get the lock.
const EXPIRED: usize = 64;

/// No request has more bytes, so that sums do not overflow. No machine has this memory: such a request fails.
const MOST_MEMORY: u64 = 1 << 56;

impl<T> State<T> {
    fn progress(&self) -> Progress {
        let ((queued, under_way), (memory, abandoned)) = (self.schedule.counts(), self.schedule.memory());
        Progress { queued, under_way, ready: self.ready.len(), memory, abandoned }
    }

    #[allow(clippy::too_many_arguments, reason = "the fields of a request")]
    fn add(
        &mut self,
        device: &Device,
        target: Target,
        size: Option<u64>,
        memory: Arc<Whole>,
        urgency: Urgency,
        of: Of<T>,
        now: Instant,
    ) -> u64 {
        let ticket = self.next;
        self.next += 1;
        let limits = device.limits();
        let most = limits.in_flight().map(|most| most as usize);
        let size = size.map(|size| size.min(MOST_MEMORY));
        self.schedule.add(ticket, &device.bottom(), urgency, size, most, limits.alignment().into(), now);
        let (wanted, gone) = async_channel::bounded(1);
        let request = Request { of, begun: now, sent: None, target, memory, error: None, wanted, gone };
        self.requests.insert(ticket, request);
        ticket
    }

    /// Ends a request: with its memory, or with an error.
    fn end(&mut self, ticket: u64, error: Option<Error>) {
        let urgency = self.schedule.urgency(ticket).unwrap_or_default();
        let Some(request) = self.requests.remove(&ticket) else { return };
        let Request { of, begun, sent, memory, error: first, .. } = request;
        let result = match first.or(error) {
            Some(error) => Err(error),
            None => Ok(Loaded::of(memory)),
        };
        self.schedule.end(ticket, bytes_of(&result));
        let queued = sent.unwrap_or_else(Instant::now).saturating_duration_since(begun);
        self.keep(ticket, of, urgency, begun, queued, result, Rank::Ended);
    }

    /// Gives up a request or a batch; whether it had not ended, and the devices that are not needed any more.
    fn give_up(&mut self, ticket: u64, code: Code) -> (bool, Vec<Target>) {
        let Some(batch) = self.batches.get(&ticket) else {
            let (known, target) = self.give_up_one(ticket, code);
            return (known, target.into_iter().collect());
        };
        let tickets = batch.tickets.clone();
        (true, tickets.into_iter().filter_map(|entry| self.give_up_one(entry, code).1).collect())
    }

    fn give_up_one(&mut self, ticket: u64, code: Code) -> (bool, Option<Target>) {
        let urgency = self.schedule.urgency(ticket).unwrap_or_default();
        let Some(request) = self.requests.remove(&ticket) else { return (false, None) };
        self.schedule.give_up(ticket);
        let Request { of, begun, sent, target, wanted, .. } = request;
        wanted.close();
        let queued = sent.unwrap_or_else(Instant::now).saturating_duration_since(begun);
        self.keep(ticket, of, urgency, begun, queued, Err(given_up(code)), Rank::GivenUp);
        (true, Some(target))
    }

    #[allow(clippy::too_many_arguments, reason = "the fields of an ended request")]
    fn keep(
        &mut self,
        ticket: u64,
        of: Of<T>,
        urgency: Urgency,
        begun: Instant,
        queued: Duration,
        result: Result<Loaded, Error>,
        rank: Rank,
    ) {
        match of {
            Of::User(data) => {
                let ended = Ended { data, urgency, begun, queued, result, parts: Vec::new() };
                self.ready.insert((rank, order(urgency, ticket)), ended);
            }
            Of::Batch(batch, number) => {
                let Some(of) = self.batches.get_mut(&batch) else { return };
                of.done += bytes_of(&result);
                of.parts[number] = Some(result);
                of.left -= 1;
                if of.left == 0 {
                    self.end_batch(batch, rank == Rank::GivenUp);
                }
            }
        }
    }

    /// All entries of a batch have ended.
    fn end_batch(&mut self, ticket: u64, is_given_up: bool) {
        let Some(Batch { data, begun, urgency, parts, .. }) = self.batches.remove(&ticket) else { return };
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        let result = Ok(Loaded::empty());
        let rank = if is_given_up { Rank::GivenUp } else { Rank::Ended };
        let ended = Ended { data, urgency, begun, queued: Duration::ZERO, result, parts };
        self.ready.insert((rank, order(urgency, ticket)), ended);
    }
}

/// The order in which ended requests are handed over.
fn order(urgency: Urgency, ticket: u64) -> Key {
    (-i128::from(urgency.priority), ticket)
}

impl<T: Send + 'static> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends the blocks that may be sent. The host's threads read them, so this takes no time.
    fn send(self: &Arc<Self>, mut state: MutexGuard<'_, State<T>>) {
        let now = Instant::now();
        let mut over = Vec::new();
        // Late requests are not sent.
        while over.len() < EXPIRED
            && let Some(ticket) = state.schedule.late(now)
        {
            over.push(state.give_up(ticket, Code::TIMED_OUT));
        }
        while let Some(step) = state.schedule.next(now) {
            let (Step::Open(ticket) | Step::Read(ticket, _)) = step;
            let Some(request) = state.requests.get_mut(&ticket) else { continue };
            request.sent.get_or_insert(now);
            let running = Running { of: Arc::downgrade(self), ticket, step: Some(step.clone()) };
            let (target, memory, gone) =
                (request.target.clone(), request.memory.clone(), request.gone.clone());
            match (step, target) {
                (Step::Open(_), Target::Entry(tree, name)) => {
                    // Opening may take long, and must not delay other tasks on the host's threads.
                    let open = blocking::unblock(move || running.opened(open(&tree, &name)));
                    self.host.spawn(open).detach();
                }
                (Step::Read(_, range), Target::Open(device, start)) => {
                    let size = state.schedule.progress_of(ticket).and_then(|(_, size)| size).unwrap_or(0);
                    let read = async move {
                        let result = read(device, start, range, memory, size, gone).await;
                        running.read(result);
                    };
                    self.host.spawn(read).detach();
                }
                // The schedule opens a request without a size, and reads one with a size.
                _ => drop(running),
            }
        }
        drop(state);
        // Not under the lock: dropping a device may call this streamer again.
        drop(over);
    }
}

/// Opens an entry; gives its size, too.
fn open(tree: &Device, name: &str) -> Result<(Device, u64), Error> {
    let device = tree.open(name)?;
    match device.size() {
        Some(size) if size <= MOST_MEMORY => Ok((device, size)),
        Some(size) => {
            let text = format!("there is no memory for the {size} bytes of '{}'", device.url());
            Err(Error::new(ErrorKind::Io(Code::OUT_OF_MEMORY), text))
        }
        None => {
            let text = format!("'{}' has no size, so it cannot be read as a whole", device.url());
            Err(Error::new(ErrorKind::Io(Code::UNSUPPORTED), text))
        }
    }
}

/// Reads a block into its place in the memory of the request. Returns when the device does not use the place any more.
async fn read(
    device: Device,
    start: u64,
    range: Range<u64>,
    memory: Arc<Whole>,
    size: u64,
    gone: Receiver<()>,
) -> Result<(), Error> {
    let position = start.saturating_add(range.start);
    let part = memory.part(range.start as usize..range.end as usize, size as usize).map_err(|()| {
        let text = format!("there is no memory for {size} bytes of '{}'", device.url());
        Error::new(ErrorKind::Io(Code::OUT_OF_MEMORY), text)
    })?;
    let mut request = device.read_at(position, part);
    let first = or(async { Some((&mut request).await) }, async {
        // No message is ever sent: the channel is closed when the request is given up.
        let _ = gone.recv().await;
        None
    })
    .await;
    let (report, _part) = match first {
        Some(answer) => answer?,
        None => request.cancel().await?,
    };
    device.exactly("read", position, report)
}

/// The error of a request that is of no use any more.
fn given_up(code: Code) -> Error {
    Error::new(ErrorKind::Io(code), pactio_sdk::IoError::from_code(code).to_string())
}

/// A step that is under way. It ends at the latest when this is dropped.
struct Running<T: Send + 'static> {
    of: Weak<Shared<T>>,
    ticket: u64,
    step: Option<Step>,
}

impl<T: Send + 'static> Running<T> {
    fn opened(mut self, opened: Result<(Device, u64), Error>) {
        self.step = None;
        self.end_opening(opened);
    }

    fn end_opening(&self, opened: Result<(Device, u64), Error>) {
        let Some(shared) = self.of.upgrade() else { return };
        let mut state = shared.lock();
        let (size, error) = match opened {
            Ok((device, size)) => {
                if let Some(request) = state.requests.get_mut(&self.ticket) {
                    // A tree is not closed here: others wait for its entries, or its user has it.
                    request.target = Target::Open(device, 0);
                }
                (Some(size), None)
            }
            Err(error) => (None, Some(error)),
        };
        if state.schedule.opened(self.ticket, size) {
            state.end(self.ticket, error);
        }
        shared.send(state);
    }

    fn read(mut self, result: Result<(), Error>) {
        let Some(step) = self.step.take() else { return };
        self.end_block(&step, result);
    }

    fn end_block(&self, step: &Step, result: Result<(), Error>) {
        let (Some(shared), Step::Read(_, range)) = (self.of.upgrade(), step) else { return };
        let now = Instant::now();
        let mut state = shared.lock();
        let is_done = result.is_ok();
        if let (Err(error), Some(request)) = (result, state.requests.get_mut(&self.ticket)) {
            request.error.get_or_insert(error);
        }
        let is_late = state
            .schedule
            .urgency(self.ticket)
            .is_some_and(|urgency| urgency.deadline.is_some_and(|d| d <= now));
        let has_ended = state.schedule.block_ended(self.ticket, range.end - range.start, is_done, now);
        let mut over = None;
        if has_ended && is_late {
            over = state.give_up_one(self.ticket, Code::TIMED_OUT).1;
        } else if has_ended {
            over = state.requests.get(&self.ticket).map(|request| request.target.clone());
            state.end(self.ticket, None);
        }
        shared.send(state);
        // Not under the lock: dropping a device may call this streamer again.
        drop(over);
    }
}

impl<T: Send + 'static> Drop for Running<T> {
    fn drop(&mut self) {
        let Some(step) = self.step.take() else { return };
        let text = "the host has stopped, or a panic ended the request";
        let error = Error::new(ErrorKind::Io(Code::CANCELLED), text);
        match step {
            Step::Open(_) => self.end_opening(Err(error)),
            Step::Read(..) => self.end_block(&step, Err(error)),
        }
    }
}

impl<T> Drop for Shared<T> {
    /// Has the blocks under way given up.
    fn drop(&mut self) {
        for request in self.state.get_mut().unwrap_or_else(PoisonError::into_inner).requests.values() {
            request.wanted.close();
        }
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
