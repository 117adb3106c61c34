//! Schedules many requests of different urgency, for programs that have little time for results at once, such as game engines
//! that stream content.
//!
//! ```text
//!  read, load ──► schedule: the next block of the most urgent request ──► the host's threads ──► memory of the request
//!                     ▲ a block is back                                                              │ all blocks are back
//!                     └──────────────────────────────────────────────────────────────────────────────┤
//!  poll(budget): handed over, as long as there is time ◄── ready, the most urgent first ◄────────────┘
//! ```
//!
//! `schedule` selects the next block, without a clock and without I/O; `depth` finds the number of blocks under way at a device;
//! `memory` holds the bytes.

mod depth;
mod done;
mod memory;
mod schedule;

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use async_channel::{Receiver, Sender};
use futures_lite::future::or;
use pactio_sdk::{Attributes, Code};

use crate::device::Bottom;
use crate::{Buffer, Device, Error, ErrorKind, Host, OpenOptions};
use done::urgency_of;
pub use done::{Done, Progress, Ticket, Urgency};
use memory::{AssetMemory, Loaded, Pool};
use schedule::{Key, Schedule, Step};

/// Reads from devices by urgency, and hands over the bytes when the program has time for them. Cheap to clone; all clones are one
/// streamer.
///
/// The thread that makes a request never does I/O: the host's threads read in blocks of 256 KiB, a limited number at a time per
/// device. The next block always belongs to the most urgent request, so a change of urgency takes effect soon. Memory is taken
/// only when the first block is sent. Each request is handed over once, by [`poll`](Self::poll): done, failed, cancelled or too
/// late.
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
    /// The targets of requests that have ended. Dropping one may close its device, which is not done under the lock.
    over: Vec<Target>,
    /// The time that a call of the handler took lately.
    pace: Duration,
    /// Number of polls under way: each sends waiting blocks at its end.
    polls: u32,
    /// A task is about to send waiting blocks.
    sending: bool,
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
    memory: Arc<AssetMemory>,
    /// Shared by its blocks.
    attributes: Attributes,
    /// The first failure of a block.
    error: Option<Error>,
    /// Closing or dropping the sender cancels the blocks under way.
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
    /// Bytes of the entries that have ended.
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

    /// A streamer with a bound of `bytes` for memory. A larger request proceeds while no other request has memory. While several
    /// devices have work, each device gets an equal share.
    pub fn with_memory(host: &Host, bytes: u64) -> Self {
        let state = State {
            next: 0,
            schedule: Schedule::new(bytes, Instant::now()),
            requests: HashMap::new(),
            batches: HashMap::new(),
            ready: BTreeMap::new(),
            over: Vec::new(),
            pace: Duration::ZERO,
            polls: 0,
            sending: false,
        };
        let pool = Pool::new(host, bytes / 4);
        Self(Arc::new(Shared { state: Mutex::new(state), host: host.clone(), pool }))
    }

    /// Requests a range of a device.
    pub fn read(&self, device: &Device, range: Range<u64>, urgency: Urgency, data: T) -> Ticket {
        let len = range.end.saturating_sub(range.start);
        let target = Target::Open(device.clone(), range.start);
        self.request(device, target, Some(len), self.0.pool.asset(), urgency, data)
    }

    /// Requests the bytes of a device from `position` on, into a buffer of the caller, such as one of a
    /// [pool over mapped memory](crate::BufferPool::from_memory). [`Done::into_buffer`] gives the buffer back.
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
            AssetMemory::of(buffer),
            urgency,
            data,
        )
    }

    /// Requests all bytes of an entry of a tree, such as a file in an archive. The entry is opened when its turn comes.
    pub fn load(&self, tree: &Device, name: &str, urgency: Urgency, data: T) -> Ticket {
        self.request(tree, Target::Entry(tree.clone(), name.into()), None, self.0.pool.asset(), urgency, data)
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
        let left = names.len();
        let mut tickets = Vec::new();
        for (number, name) in names.into_iter().enumerate() {
            let (target, of) = (Target::Entry(tree.clone(), name.into()), Of::Batch(batch, number));
            tickets.push(state.add(tree, target, None, self.0.pool.asset(), urgency, of, now));
        }
        state.batches.insert(batch, Batch { data, begun: now, urgency, tickets, parts, left, done: 0 });
        if left == 0 {
            state.end_batch(batch, Rank::Ended);
        }
        self.0.send_unless_polled(state);
        Ticket(batch)
    }

    fn request(
        &self,
        device: &Device,
        target: Target,
        size: Option<u64>,
        memory: Arc<AssetMemory>,
        urgency: Urgency,
        data: T,
    ) -> Ticket {
        let mut state = self.0.lock();
        let ticket = state.add(device, target, size, memory, urgency, Of::User(data), Instant::now());
        if size == Some(0) {
            state.end(ticket, None);
        } else if size.is_some_and(|size| size > MAX_MEMORY) {
            let text = format!("there is no memory for {} bytes", size.unwrap_or(0));
            state.end(ticket, Some(Error::new(ErrorKind::Io(Code::OUT_OF_MEMORY), text)));
        }
        self.0.send_unless_polled(state);
        Ticket(ticket)
    }

    /// Changes the priority of a request, for its unsent blocks, for the order of handing over, and for the blocks that a device
    /// has in its queue (their [urgency](pactio_sdk::BoundPacketView::urgency)); `false` if the request has ended already.
    pub fn set_priority(&self, ticket: Ticket, priority: i32) -> bool {
        let mut state = self.0.lock();
        let Some(batch) = state.batches.get_mut(&ticket.0) else {
            return state.set_priority(ticket.0, priority);
        };
        batch.urgency.priority = priority;
        for entry in batch.tickets.clone() {
            state.set_priority(entry, priority);
        }
        true
    }

    /// The number of bytes of a request that were read, and the number of all its bytes, if known; `None` if the request has
    /// ended already. The number of all bytes of a batch is known when each of its entries was opened or has ended.
    pub fn progress_of(&self, ticket: Ticket) -> Option<(u64, Option<u64>)> {
        let state = self.0.lock();
        let Some(batch) = state.batches.get(&ticket.0) else { return state.schedule.progress_of(ticket.0) };
        let under_way: Vec<_> =
            batch.tickets.iter().filter_map(|entry| state.schedule.progress_of(*entry)).collect();
        let done = batch.done + under_way.iter().map(|(done, _)| done).sum::<u64>();
        let all = under_way.iter().map(|(_, size)| *size).sum::<Option<u64>>();
        Some((done, all.map(|all| all + batch.done)))
    }

    /// Gives up a request, and hands it over as cancelled; `false` if the request has ended already.
    pub fn cancel(&self, ticket: Ticket) -> bool {
        let mut state = self.0.lock();
        let known = state.fail(ticket.0, Code::CANCELLED);
        self.0.send_unless_polled(state);
        known
    }

    /// Fixes the number of blocks and openings that may be under way at a device. The number applies to everything that lies on
    /// the same device, such as all files of an archive. Without this call, the number begins at 8 and grows as long as that
    /// makes the device faster, up to the number that the device wants.
    pub fn set_in_flight(&self, device: &Device, most: usize) {
        let mut state = self.0.lock();
        state.schedule.fix_depth(&device.bottom(), most, Instant::now());
        self.0.send_unless_polled(state);
    }

    /// Hands over ended requests within a budget of time: given-up requests first, then the most urgent ones. The streamer
    /// estimates the next call of the handler from the last calls, and stops before a call that would exceed the budget. At least
    /// one request is handed over, if there is any. Given-up requests do not count against the budget.
    ///
    /// Returns the state afterwards. The handler may make requests.
    pub fn poll(&self, budget: Duration, mut handler: impl FnMut(Done<T>)) -> Progress {
        let mut begun = Instant::now();
        self.0.lock().polls += 1;
        let _polling = Polling(&self.0);
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
            drop(state);
            let Ended { data, urgency, begun: asked, queued, result, parts } = ended;
            let (ticket, took) = (Ticket(order.1.1), at.duration_since(asked));
            handler(Done { ticket, data, urgency, queued, took, result, parts });
            if is_free {
                begun += at.elapsed();
                continue;
            }
            handed += 1;
            let mut state = self.0.lock();
            // A moving average in which the last calls count most. A slow call raises it at once, and later calls lower it again.
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
            let mut state = self.0.lock();
            let is_over = !state.expire(begun);
            drop(state);
            if is_over || begun.elapsed() >= budget {
                return;
            }
        }
    }
}

/// A poll that is under way. Dropping it sends the waiting blocks.
struct Polling<'a, T: Send + 'static>(&'a Arc<Shared<T>>);

impl<T: Send + 'static> Drop for Polling<'_, T> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.polls -= 1;
        self.0.send_soon(state);
    }
}

/// Number of requests that are given up before other threads get the lock.
const EXPIRED: usize = 64;

/// Largest size of a request in bytes, so that sums do not overflow. No machine has more memory, so a larger request fails.
const MAX_MEMORY: u64 = 1 << 56;

impl<T> State<T> {
    fn progress(&self) -> Progress {
        let (queued, (memory, abandoned)) = (self.schedule.waiting(), self.schedule.memory());
        Progress {
            queued,
            under_way: self.requests.len() - queued,
            ready: self.ready.len(),
            memory,
            abandoned,
        }
    }

    #[allow(clippy::too_many_arguments, reason = "the fields of a request")]
    fn add(
        &mut self,
        device: &Device,
        target: Target,
        size: Option<u64>,
        memory: Arc<AssetMemory>,
        urgency: Urgency,
        of: Of<T>,
        now: Instant,
    ) -> u64 {
        let ticket = self.next;
        self.next += 1;
        let limits = device.limits();
        let most = limits.in_flight().map(|most| most as usize);
        let size = size.map(|size| size.min(MAX_MEMORY));
        self.schedule.add(ticket, &device.bottom(), urgency, size, most, limits.alignment().into(), now);
        let (wanted, gone) = async_channel::bounded(1);
        let attributes = urgency.attributes();
        let request =
            Request { of, begun: now, sent: None, target, memory, attributes, error: None, wanted, gone };
        self.requests.insert(ticket, request);
        ticket
    }

    fn set_priority(&mut self, ticket: u64, priority: i32) -> bool {
        if let Some(request) = self.requests.get(&ticket) {
            request.attributes.set_urgency(urgency_of(priority));
        }
        self.schedule.set_priority(ticket, priority, Instant::now())
    }

    /// Ends a request: with its memory, or with an error.
    fn end(&mut self, ticket: u64, error: Option<Error>) {
        let urgency = self.schedule.urgency(ticket).unwrap_or_default();
        let Some(request) = self.requests.remove(&ticket) else { return };
        let Request { of, begun, sent, target, memory, error: first, .. } = request;
        self.over.push(target);
        let result = match first.or(error) {
            Some(error) => Err(error),
            None => Loaded::of(memory).ok_or_else(|| {
                Error::new(ErrorKind::Io(Code::FAILED), "a device still uses the memory of a finished read")
            }),
        };
        self.schedule.end(ticket, bytes_of(&result));
        let queued = sent.unwrap_or_else(Instant::now).saturating_duration_since(begun);
        self.keep(ticket, of, urgency, begun, queued, result, Rank::Ended);
    }

    /// Gives up a request or a batch; `false` if it has ended already.
    fn fail(&mut self, ticket: u64, code: Code) -> bool {
        let Some(batch) = self.batches.get(&ticket) else { return self.fail_one(ticket, code) };
        for entry in batch.tickets.clone() {
            self.fail_one(entry, code);
        }
        true
    }

    fn fail_one(&mut self, ticket: u64, code: Code) -> bool {
        let urgency = self.schedule.urgency(ticket).unwrap_or_default();
        let Some(request) = self.requests.remove(&ticket) else { return false };
        self.schedule.cancel(ticket);
        let Request { of, begun, sent, target, wanted, .. } = request;
        self.over.push(target);
        wanted.close();
        let queued = sent.unwrap_or_else(Instant::now).saturating_duration_since(begun);
        self.keep(ticket, of, urgency, begun, queued, Err(is_cancelled(code)), Rank::GivenUp);
        true
    }

    /// Gives up at most [`EXPIRED`] requests that have passed their deadline; `true` if there may be more.
    fn expire(&mut self, now: Instant) -> bool {
        for _ in 0..EXPIRED {
            let Some(ticket) = self.schedule.late(now) else { return false };
            self.fail(ticket, Code::TIMED_OUT);
        }
        true
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
                self.hand_on(rank, ticket, ended);
            }
            Of::Batch(batch, number) => {
                let Some(of) = self.batches.get_mut(&batch) else { return };
                of.done += bytes_of(&result);
                of.parts[number] = Some(result);
                of.left -= 1;
                if of.left == 0 {
                    self.end_batch(batch, rank);
                }
            }
        }
    }

    /// All entries of a batch have ended.
    fn end_batch(&mut self, ticket: u64, rank: Rank) {
        let Some(Batch { data, begun, urgency, parts, .. }) = self.batches.remove(&ticket) else { return };
        let parts: Vec<_> = parts.into_iter().flatten().collect();
        let (queued, result) = (Duration::ZERO, Ok(Loaded::empty()));
        self.hand_on(rank, ticket, Ended { data, urgency, begun, queued, result, parts });
    }

    /// Makes an ended request ready to be handed over, in the order of the schedule.
    fn hand_on(&mut self, rank: Rank, ticket: u64, ended: Ended<T>) {
        let key = self.schedule.key(ended.begun, ended.urgency, ticket, Instant::now());
        self.ready.insert((rank, key), ended);
    }
}

impl<T: Send + 'static> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends the blocks that the bounds allow now, unless a poll is under way: the poll sends them at its end.
    fn send_unless_polled(self: &Arc<Self>, state: MutexGuard<'_, State<T>>) {
        if state.polls == 0 {
            self.send(state);
        }
    }

    /// Leaves the sending of blocks to a thread of the host, which takes the caller's thread no time.
    fn send_soon(self: &Arc<Self>, mut state: MutexGuard<'_, State<T>>) {
        if std::mem::replace(&mut state.sending, true) {
            return;
        }
        drop(state);
        let this = Arc::downgrade(self);
        let send = async move {
            let Some(this) = this.upgrade() else { return };
            let mut state = this.lock();
            state.sending = false;
            this.send(state);
        };
        self.host.spawn(send).detach();
    }

    /// Sends the blocks that the bounds allow now. The host's threads read them.
    fn send(self: &Arc<Self>, mut state: MutexGuard<'_, State<T>>) {
        let now = Instant::now();
        // Late requests are not sent.
        state.expire(now);
        while let Some(step) = state.schedule.next(now) {
            let (Step::Open(ticket) | Step::Read(ticket, _)) = step;
            let Some(request) = state.requests.get_mut(&ticket) else { continue };
            request.sent.get_or_insert(now);
            let running = Running { of: Arc::downgrade(self), ticket, step: Some(step.clone()) };
            let (target, memory, attributes, gone) = (
                request.target.clone(),
                request.memory.clone(),
                request.attributes.clone(),
                request.gone.clone(),
            );
            match (step, target) {
                (Step::Open(_), Target::Entry(tree, name)) => {
                    let opening = tree.opening(&*name, OpenOptions::new().read(true));
                    // An opening that was given up counts until the plugin has come back from it.
                    let open = async move { running.opened(opening.await.and_then(sized)) };
                    self.host.spawn(open).detach();
                }
                (Step::Read(_, range), Target::Open(device, start)) => {
                    let size = state.schedule.progress_of(ticket).and_then(|(_, size)| size).unwrap_or(0);
                    let read = async move {
                        let result = read(device, start, range, memory, size, &attributes, gone).await;
                        running.read(result);
                    };
                    self.host.spawn(read).detach();
                }
                // The schedule opens a request without a size, and reads one with a size.
                _ => drop(running),
            }
        }
        let over = std::mem::take(&mut state.over);
        drop(state);
        // Not under the lock: closing a device may call this streamer again.
        drop(over);
    }
}

/// An opened entry and its size.
fn sized(device: Device) -> Result<(Device, u64), Error> {
    match device.size() {
        Some(size) if size <= MAX_MEMORY => Ok((device, size)),
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
    memory: Arc<AssetMemory>,
    size: u64,
    attributes: &Attributes,
    gone: Receiver<()>,
) -> Result<(), Error> {
    let position = start.saturating_add(range.start);
    let part = memory.part(range.start as usize..range.end as usize, size as usize).map_err(|()| {
        let text = format!("there is no memory for {size} bytes of '{}'", device.url());
        Error::new(ErrorKind::Io(Code::OUT_OF_MEMORY), text)
    })?;
    let mut request = device.read_at(position, part).with_attributes(attributes);
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

/// The error of a given-up request.
fn is_cancelled(code: Code) -> Error {
    Error::new(ErrorKind::Io(code), pactio_sdk::IoError::from_code(code).to_string())
}

/// A step that is under way. The step ends at the latest when this value is dropped.
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
                let State { requests, over, .. } = &mut *state;
                match requests.get_mut(&self.ticket) {
                    Some(request) => {
                        over.push(std::mem::replace(&mut request.target, Target::Open(device, 0)));
                    }
                    None => over.push(Target::Open(device, 0)),
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
        if has_ended && is_late {
            state.fail_one(self.ticket, Code::TIMED_OUT);
        } else if has_ended {
            state.end(self.ticket, None);
        }
        shared.send(state);
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
    /// Cancels the blocks under way.
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
