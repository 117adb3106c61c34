//! Selects the block that is read next: pure logic, with the time as an argument.
//!
//! ```text
//!  add ──► waits for memory ──► next(): blocks, the most urgent first ──► block_ended ──► all blocks are back: finished
//!              │ to be opened: next(): Open ──► opened                        │
//!              └─────────────── cancel ──► place and memory stay taken ──────┘ until the blocks are back
//! ```
//!
//! # Order
//!
//! Each request has a key, the time of its arrival minus one second per step of priority; the least key is served first. So a
//! request of a higher priority overtakes those that came before it, but no request waits for ever: after a second per step, an
//! old request goes before new ones. [`NEAR`] before its deadline, a request gains [`BOOST`].
//!
//! # Memory
//!
//! A request takes memory for all its bytes when its first block is sent. There is one bound for all requests that were not given
//! up. The same bound applies to each device, divided by the number of devices that have work. The bound of a device also counts
//! the memory of given-up requests that the device has not answered. A request that is larger than the bound proceeds while no
//! other request has memory.

use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::ops::Range;
use std::time::{Duration, Instant};

use super::Urgency;
use super::depth::Depth;

/// A step of priority counts as much as an arrival this much earlier, in nanoseconds.
const STEP: i128 = 1_000_000_000;

/// Time before its deadline at which a request becomes more urgent.
const NEAR: Duration = Duration::from_millis(250);

/// Steps of priority that a request gains near its deadline.
const BOOST: i128 = 8;

/// Bytes of a block: a change of urgency takes effect at the next block.
pub(super) const BLOCK: u64 = 256 << 10;

/// The order of requests: the least goes first.
pub(super) type Key = (i128, u64);

/// The next action.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// Open the entry of the request.
    Open(u64),
    /// Read these bytes of the request, counted from its start.
    Read(u64, Range<u64>),
}

/// The requests of all devices.
pub(super) struct Schedule<L> {
    began: Instant,
    limit: u64,
    /// Memory of requests that are under way or ready, without those that were given up.
    memory: u64,
    /// Memory of given-up requests that devices have not answered.
    abandoned: u64,
    lanes: HashMap<L, Lane>,
    jobs: HashMap<u64, Job<L>>,
    /// The times at which requests become more urgent, and their deadlines.
    near: BTreeSet<(Instant, u64)>,
    deadlines: BTreeSet<(Instant, u64)>,
}

/// Whether there is memory for a request.
enum Room {
    There,
    /// The device has its share already, or has not answered given-up requests.
    NotHere,
    /// The requests of all devices have taken the shared memory.
    Full,
}

/// The requests of one device.
struct Lane {
    /// Requests without memory: not sent yet, or to be opened.
    waiting: BTreeSet<Key>,
    /// Requests with memory that have more blocks to send.
    active: BTreeSet<Key>,
    /// Blocks and openings under way.
    in_flight: usize,
    depth: Depth,
    /// Bytes of a block.
    block: u64,
    /// Memory of its requests under way, and of those that were given up.
    memory: u64,
    abandoned: u64,
    /// The user has fixed the depth: the lane stays when it has no requests.
    kept: bool,
}

struct Job<L> {
    lane: L,
    urgency: Urgency,
    arrival: Instant,
    key: Key,
    /// `None` until it is opened.
    size: Option<u64>,
    /// The first byte that was not sent.
    next: u64,
    done: u64,
    in_flight: usize,
    /// Memory was taken.
    has_memory: bool,
    /// The request was given up: it holds only its place and its memory.
    is_cancelled: bool,
    /// A block has failed: no more blocks are sent.
    failed: bool,
}

impl<L> Job<L> {
    fn memory(&self) -> u64 {
        if self.has_memory { self.size.unwrap_or(0) } else { 0 }
    }

    fn has_more(&self) -> bool {
        !self.failed && !self.is_cancelled && self.size.is_none_or(|size| self.next < size)
    }
}

impl Lane {
    fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.active.is_empty() && self.in_flight == 0
    }
}

impl<L: Clone + Eq + Hash> Schedule<L> {
    pub(super) fn new(limit: u64, now: Instant) -> Self {
        Self {
            began: now,
            limit,
            memory: 0,
            abandoned: 0,
            lanes: HashMap::new(),
            jobs: HashMap::new(),
            near: BTreeSet::new(),
            deadlines: BTreeSet::new(),
        }
    }

    /// The place of a request in the order.
    pub(super) fn key(&self, arrival: Instant, urgency: Urgency, ticket: u64, now: Instant) -> Key {
        let age = arrival.saturating_duration_since(self.began).as_nanos() as i128;
        let is_near = urgency.deadline.is_some_and(|deadline| deadline <= now + NEAR);
        let boost = if is_near { BOOST } else { 0 };
        (age - (i128::from(urgency.priority) + boost) * STEP, ticket)
    }

    fn lane(&mut self, lane: &L, depth: impl FnOnce() -> Depth, block: u64) -> &mut Lane {
        self.lanes.entry(lane.clone()).or_insert_with(|| Lane {
            waiting: BTreeSet::new(),
            active: BTreeSet::new(),
            in_flight: 0,
            depth: depth(),
            block,
            memory: 0,
            abandoned: 0,
            kept: false,
        })
    }

    /// Adds a request. `size` is `None` if the request has to be opened first. `most` is the largest number of requests that the
    /// device wants at a time. Its requests are multiples of `unit` bytes.
    #[allow(clippy::too_many_arguments, reason = "the fields of a request")]
    pub(super) fn add(
        &mut self,
        ticket: u64,
        lane: &L,
        urgency: Urgency,
        size: Option<u64>,
        most: Option<usize>,
        unit: u64,
        now: Instant,
    ) {
        let key = self.key(now, urgency, ticket, now);
        let block = BLOCK.next_multiple_of(unit.max(1));
        self.lane(lane, || Depth::new(most, now), block).waiting.insert(key);
        if let Some(deadline) = urgency.deadline {
            self.deadlines.insert((deadline, ticket));
            if let Some(near) = deadline.checked_sub(NEAR).filter(|&near| near > now) {
                self.near.insert((near, ticket));
            }
        }
        let job = Job {
            lane: lane.clone(),
            urgency,
            arrival: now,
            key,
            size,
            next: 0,
            done: 0,
            in_flight: 0,
            has_memory: false,
            is_cancelled: false,
            failed: false,
        };
        self.jobs.insert(ticket, job);
    }

    /// Fixes the number of blocks under way at a device.
    pub(super) fn fix_depth(&mut self, lane: &L, most: usize, now: Instant) {
        let lane = self.lane(lane, || Depth::new(None, now), BLOCK);
        (lane.depth, lane.kept) = (Depth::fixed(most.max(1), now), true);
    }

    /// The urgency of a request, unless it was given up.
    pub(super) fn urgency(&self, ticket: u64) -> Option<Urgency> {
        self.jobs.get(&ticket).filter(|job| !job.is_cancelled).map(|job| job.urgency)
    }

    /// The number of bytes of a request that are done, and the number of all its bytes, if known.
    pub(super) fn progress_of(&self, ticket: u64) -> Option<(u64, Option<u64>)> {
        self.jobs.get(&ticket).filter(|job| !job.is_cancelled).map(|job| (job.done, job.size))
    }

    /// Changes the priority; `false` if the request has ended or was given up.
    pub(super) fn set_priority(&mut self, ticket: u64, priority: i32, now: Instant) -> bool {
        let Some(urgency) = self.urgency(ticket) else { return false };
        self.rekey(ticket, Urgency { priority, ..urgency }, now);
        true
    }

    fn rekey(&mut self, ticket: u64, urgency: Urgency, now: Instant) {
        let Some(arrival) = self.jobs.get(&ticket).map(|job| job.arrival) else { return };
        let key = self.key(arrival, urgency, ticket, now);
        let Self { jobs, lanes, .. } = self;
        let Some(job) = jobs.get_mut(&ticket) else { return };
        let before = std::mem::replace(&mut job.key, key);
        job.urgency = urgency;
        let Some(lane) = lanes.get_mut(&job.lane) else { return };
        for queue in [&mut lane.waiting, &mut lane.active] {
            if queue.remove(&before) {
                queue.insert(key);
            }
        }
    }

    /// The next request that has passed its deadline; the caller gives it up.
    pub(super) fn late(&self, now: Instant) -> Option<u64> {
        self.deadlines.first().filter(|(deadline, _)| *deadline <= now).map(|(_, ticket)| *ticket)
    }

    /// Takes the next step, and its place and memory; `None` if nothing can be sent now.
    pub(super) fn next(&mut self, now: Instant) -> Option<Step> {
        while let Some(&(near, ticket)) = self.near.first()
            && near <= now
        {
            self.near.pop_first();
            if let Some(urgency) = self.urgency(ticket) {
                self.rekey(ticket, urgency, now);
            }
        }
        // The most urgent request that waits for shared memory: less urgent requests take no memory before it.
        let mut thirsty: Option<Key> = None;
        let mut best: Option<(Key, bool)> = None;
        let working = self.lanes.values().filter(|lane| !lane.is_idle()).count().max(1) as u64;
        for lane in self.lanes.values() {
            if lane.in_flight >= lane.depth.now() {
                continue;
            }
            if let Some(&key) = lane.active.first()
                && best.is_none_or(|(other, _)| key < other)
            {
                best = Some((key, false));
            }
            let Some(&key) = lane.waiting.first() else { continue };
            let Some(job) = self.jobs.get(&key.1) else { continue };
            match job.size.map_or(Room::There, |size| self.room(lane, size, working)) {
                Room::There if best.is_none_or(|(other, _)| key < other) => {
                    best = Some((key, job.size.is_some()));
                }
                Room::Full if thirsty.is_none_or(|other| key < other) => thirsty = Some(key),
                _ => {}
            }
        }
        let (key, takes_memory) = best?;
        if takes_memory && thirsty.is_some_and(|thirsty| thirsty < key) {
            // Requests that have their memory may still send blocks.
            let free = self.lanes.values().filter(|lane| lane.in_flight < lane.depth.now());
            let key = free.filter_map(|lane| lane.active.first()).min().copied()?;
            return self.take(key);
        }
        self.take(key)
    }

    /// Whether there is memory for a request of a device.
    fn room(&self, lane: &Lane, bytes: u64, working: u64) -> Room {
        let own = lane.memory + lane.abandoned;
        if own > 0 && own.saturating_add(bytes) > self.limit / working {
            Room::NotHere
        } else if self.memory == 0 || self.memory.saturating_add(bytes) <= self.limit {
            Room::There
        } else {
            Room::Full
        }
    }

    fn take(&mut self, key: Key) -> Option<Step> {
        let ticket = key.1;
        let job = self.jobs.get_mut(&ticket)?;
        let lane = self.lanes.get_mut(&job.lane)?;
        lane.in_flight += 1;
        job.in_flight += 1;
        let Some(size) = job.size else {
            lane.waiting.remove(&key);
            return Some(Step::Open(ticket));
        };
        if !job.has_memory {
            job.has_memory = true;
            lane.waiting.remove(&key);
            lane.active.insert(key);
            lane.memory += size;
            self.memory += size;
        }
        let end = job.next.saturating_add(lane.block).min(size);
        let range = job.next..end;
        job.next = end;
        if end == size {
            lane.active.remove(&key);
        }
        Some(Step::Read(ticket, range))
    }

    /// Records that an entry was opened; `size` is `None` if that failed. Returns `true` if the request has ended: the opening
    /// failed or the entry is empty, and the request was not given up.
    pub(super) fn opened(&mut self, ticket: u64, size: Option<u64>) -> bool {
        let Some(job) = self.jobs.get_mut(&ticket) else { return false };
        job.in_flight -= 1;
        if let Some(lane) = self.lanes.get_mut(&job.lane) {
            lane.in_flight -= 1;
            match size {
                Some(size) if !job.is_cancelled && size > 0 => {
                    job.size = Some(size);
                    lane.waiting.insert(job.key);
                    return false;
                }
                _ => job.failed = true,
            }
        }
        let is_wanted = !job.is_cancelled;
        if job.is_cancelled {
            self.release(ticket);
        }
        is_wanted
    }

    /// Records that a block is back. Returns `true` if the request has ended: all blocks are back, all bytes were read or a block
    /// failed, and the request was not given up.
    pub(super) fn block_ended(&mut self, ticket: u64, bytes: u64, is_done: bool, now: Instant) -> bool {
        let Some(job) = self.jobs.get_mut(&ticket) else { return false };
        job.in_flight -= 1;
        job.failed |= !is_done;
        job.done += if is_done { bytes } else { 0 };
        if let Some(lane) = self.lanes.get_mut(&job.lane) {
            lane.in_flight -= 1;
            if job.failed {
                lane.active.remove(&job.key);
            }
            let has_work = !lane.active.is_empty() || !lane.waiting.is_empty();
            lane.depth.ended(bytes, has_work, now);
        }
        if job.in_flight > 0 || job.has_more() {
            return false;
        }
        let is_wanted = !job.is_cancelled;
        if job.is_cancelled {
            self.release(ticket);
        }
        is_wanted
    }

    /// Removes a request that has ended. `kept` is the number of its bytes that stay taken until
    /// [`handed_over`](Self::handed_over).
    pub(super) fn end(&mut self, ticket: u64, kept: u64) {
        let Some(job) = self.jobs.get(&ticket) else { return };
        let memory = job.memory();
        self.memory = self.memory - memory + kept;
        self.forget_times(ticket);
        if let Some(lane) = self.jobs.get(&ticket).and_then(|job| self.lanes.get_mut(&job.lane)) {
            lane.memory -= memory;
        }
        self.remove(ticket);
    }

    /// Gives up a request. Its place and its memory stay taken until its blocks are back.
    pub(super) fn cancel(&mut self, ticket: u64) {
        self.forget_times(ticket);
        let Some(job) = self.jobs.get_mut(&ticket) else { return };
        job.is_cancelled = true;
        let (memory, is_idle) = (job.memory(), job.in_flight == 0);
        if let Some(lane) = self.lanes.get_mut(&job.lane) {
            lane.waiting.remove(&job.key);
            lane.active.remove(&job.key);
            lane.memory -= memory;
            lane.abandoned += memory;
        }
        self.memory -= memory;
        self.abandoned += memory;
        if is_idle {
            self.release(ticket);
        }
    }

    /// Releases the memory of a given-up request that has nothing under way any more.
    fn release(&mut self, ticket: u64) {
        let Some(job) = self.jobs.get(&ticket) else { return };
        let memory = job.memory();
        self.abandoned -= memory;
        if let Some(lane) = self.lanes.get_mut(&job.lane) {
            lane.abandoned -= memory;
        }
        self.remove(ticket);
    }

    fn remove(&mut self, ticket: u64) {
        let Some(job) = self.jobs.remove(&ticket) else { return };
        if let Some(lane) = self.lanes.get_mut(&job.lane) {
            lane.waiting.remove(&job.key);
            lane.active.remove(&job.key);
        }
        if self.lanes.get(&job.lane).is_some_and(|lane| lane.is_idle() && !lane.kept && lane.abandoned == 0) {
            // A device that is used again soon keeps its depth.
            if self.lanes.len() > KEPT_LANES {
                self.lanes.remove(&job.lane);
            }
        }
    }

    fn forget_times(&mut self, ticket: u64) {
        let deadline = self.jobs.get(&ticket).and_then(|job| job.urgency.deadline);
        if let Some(deadline) = deadline {
            self.deadlines.remove(&(deadline, ticket));
            if let Some(near) = deadline.checked_sub(NEAR) {
                self.near.remove(&(near, ticket));
            }
        }
    }

    /// The bytes of a ready request were handed over.
    pub(super) fn handed_over(&mut self, bytes: u64) {
        self.memory -= bytes;
    }

    /// Memory that is taken: of requests under way or ready, and of those that were given up.
    pub(super) fn memory(&self) -> (u64, u64) {
        (self.memory, self.abandoned)
    }

    /// Number of requests that wait to be opened, or for memory.
    pub(super) fn waiting(&self) -> usize {
        self.lanes.values().map(|lane| lane.waiting.len()).sum()
    }
}

/// If there are more lanes than this, the lanes of idle devices are removed.
const KEPT_LANES: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn schedule(limit: u64) -> (Schedule<u8>, Instant) {
        let now = Instant::now();
        (Schedule::new(limit, now), now)
    }

    fn later(now: Instant, millis: u64) -> Instant {
        now + Duration::from_millis(millis)
    }

    /// The tickets of the next steps.
    fn tickets(schedule: &mut Schedule<u8>, now: Instant) -> Vec<u64> {
        std::iter::from_fn(|| schedule.next(now))
            .map(|step| match step {
                Step::Open(ticket) | Step::Read(ticket, _) => ticket,
            })
            .collect()
    }

    #[test]
    fn the_urgent_goes_first_and_at_the_next_block() {
        let (mut schedule, now) = schedule(1 << 40);
        schedule.fix_depth(&0, 1, now);
        schedule.add(1, &0, Urgency::default(), Some(3 * BLOCK), None, 1, now);
        assert_eq!(schedule.next(now), Some(Step::Read(1, 0..BLOCK)));
        assert_eq!(schedule.next(now), None);
        schedule.add(2, &0, Urgency::of(5), Some(10), None, 1, later(now, 1));
        assert!(!schedule.block_ended(1, BLOCK, true, now));
        assert_eq!(schedule.next(now), Some(Step::Read(2, 0..10)));
        assert!(schedule.block_ended(2, 10, true, now));
        schedule.end(2, 10);
        assert_eq!(schedule.next(now), Some(Step::Read(1, BLOCK..2 * BLOCK)));
        assert!(!schedule.block_ended(1, BLOCK, true, now));
        assert_eq!(schedule.progress_of(1), Some((2 * BLOCK, Some(3 * BLOCK))));
        assert_eq!(schedule.next(now), Some(Step::Read(1, 2 * BLOCK..3 * BLOCK)));
        assert!(schedule.block_ended(1, BLOCK, true, now));
    }

    #[test]
    fn the_lowest_priority_does_not_starve_and_deadlines_raise() {
        let (mut schedule, now) = schedule(1 << 40);
        schedule.fix_depth(&0, 1, now);
        schedule.add(1, &0, Urgency::of(-3), Some(1), None, 1, now);
        // New requests of the default priority come all the time.
        for second in 0..10 {
            let at = now + Duration::from_secs(second);
            schedule.add(10 + second, &0, Urgency::default(), Some(1), None, 1, at);
            let Some(Step::Read(ticket, _)) = schedule.next(at) else { panic!("nothing to do") };
            assert!(schedule.block_ended(ticket, 1, true, at));
            schedule.end(ticket, 0);
            if ticket == 1 {
                assert!((3..=4).contains(&second), "it came after {second} s");
                let near = Urgency::default().until(later(at, 1000));
                schedule.add(90, &0, Urgency::of(4), Some(1), None, 1, at);
                schedule.add(91, &0, near, Some(1), None, 1, at);
                assert_eq!(schedule.next(later(at, 10)), Some(Step::Read(90, 0..1)));
                schedule.block_ended(90, 1, true, at);
                schedule.end(90, 0);
                schedule.add(92, &0, Urgency::of(4), Some(1), None, 1, later(at, 700));
                assert_eq!(schedule.next(later(at, 800)), Some(Step::Read(91, 0..1)), "near its deadline");
                assert_eq!(schedule.late(later(at, 999)), None);
                assert_eq!(schedule.late(later(at, 1000)), Some(91));
                return;
            }
        }
        panic!("the request of the lowest priority has starved");
    }

    #[test]
    fn memory_is_held_until_the_blocks_are_back_and_stuck_devices_stop_no_others() {
        let (mut schedule, now) = schedule(64);
        for ticket in 0..40 {
            schedule.add(ticket, &0, Urgency::default(), Some(32), None, 1, now);
        }
        assert_eq!(tickets(&mut schedule, now), [0, 1], "64 bytes");
        // The requests are given up, and the device does not answer: no more requests are sent to the device.
        for ticket in 0..40 {
            schedule.cancel(ticket);
        }
        assert_eq!(schedule.memory(), (0, 64));
        schedule.add(40, &0, Urgency::default(), Some(32), None, 1, now);
        assert_eq!(tickets(&mut schedule, now), [] as [u64; 0]);
        // Other devices go on.
        schedule.add(41, &1, Urgency::default(), Some(32), None, 1, now);
        assert_eq!(tickets(&mut schedule, now), [41]);
        assert!(!schedule.block_ended(0, 32, false, now), "it was given up");
        assert_eq!(schedule.memory(), (32, 32));
        // A large and urgent request of the stuck device gets no memory, and holds up no small requests of other devices.
        schedule.add(42, &0, Urgency::of(9), Some(60), None, 1, now);
        schedule.add(43, &1, Urgency::default(), Some(8), None, 1, now);
        schedule.fix_depth(&1, 8, now);
        assert!(schedule.block_ended(41, 32, true, now));
        schedule.end(41, 32);
        assert_eq!(tickets(&mut schedule, now), [43]);
    }

    #[test]
    fn what_waits_for_memory_is_not_overtaken_by_what_needs_less() {
        let (mut schedule, now) = schedule(100);
        schedule.add(1, &0, Urgency::default(), Some(60), None, 1, now);
        schedule.add(2, &0, Urgency::default(), Some(80), None, 1, now);
        schedule.add(3, &0, Urgency::default(), Some(10), None, 1, now);
        assert_eq!(tickets(&mut schedule, now), [1]);
        assert!(schedule.block_ended(1, 60, true, now));
        schedule.end(1, 60);
        assert_eq!(tickets(&mut schedule, now), [] as [u64; 0], "it is ready, and not handed over");
        schedule.handed_over(60);
        assert_eq!(tickets(&mut schedule, now), [2, 3]);
        // A request that is larger than the bound proceeds while no other request has memory.
        assert!(schedule.block_ended(2, 80, true, now));
        schedule.end(2, 0);
        assert!(schedule.block_ended(3, 10, true, now));
        schedule.end(3, 0);
        schedule.add(4, &0, Urgency::default(), Some(1000), None, 1, now);
        assert_eq!(tickets(&mut schedule, now), [4]);
    }

    #[test]
    fn entries_are_opened_first_and_what_fails_or_is_empty_ends() {
        let (mut schedule, now) = schedule(1 << 30);
        for ticket in 1..=4 {
            schedule.add(ticket, &0, Urgency::default(), None, Some(2), 1, now);
        }
        assert_eq!((schedule.next(now), schedule.next(now)), (Some(Step::Open(1)), Some(Step::Open(2))));
        assert_eq!(schedule.next(now), None);
        assert_eq!(schedule.waiting(), 2);
        assert!(schedule.opened(1, Some(0)), "an empty entry is done");
        schedule.end(1, 0);
        assert!(schedule.opened(2, None), "it could not be opened");
        schedule.end(2, 0);
        assert_eq!(tickets(&mut schedule, now), [3, 4]);
        schedule.cancel(3);
        assert!(!schedule.opened(3, Some(10)));
        assert!(!schedule.opened(4, Some(300 << 10)));
        assert_eq!(schedule.next(now), Some(Step::Read(4, 0..BLOCK)));
        assert_eq!(schedule.next(now), Some(Step::Read(4, BLOCK..300 << 10)));
        // After a failure no block is sent, and the blocks under way are awaited.
        assert!(!schedule.block_ended(4, BLOCK, false, now));
        assert!(schedule.block_ended(4, (300 << 10) - BLOCK, true, now));
        schedule.end(4, 0);
        assert_eq!((schedule.memory(), schedule.waiting(), schedule.jobs.len()), ((0, 0), 0, 0));
    }
}
