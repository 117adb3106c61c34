//! Which blocks are kept, and which are on their way.
//!
//! ```text
//!  nothing ──first reader──► flight ──read──► kept ──► evicted
//!                             │  ▲             │
//!      other readers wait ────┘  │             │
//!      a write: forgotten ◄──────┴─────────────┘   who waits still gets what was read; who comes later reads anew
//! ```

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pactio_sdk::{BoundPacketView, Code, PacketBox, Write};
use quick_cache::UnitWeighter;
use quick_cache::sync::Cache;

/// A part of a request, and where it begins in its block.
pub(crate) struct Part {
    pub(crate) view: BoundPacketView<Write>,
    pub(crate) start: usize,
}

/// Blocks by number.
pub(crate) struct Blocks {
    kept: Cache<u64, Arc<PacketBox<Write>>, UnitWeighter>,
    flights: Mutex<Flights>,
}

struct Flights {
    blocks: HashMap<u64, Flight>,
    /// The last block that was kept of which not everything exists: the device ended there.
    last: u64,
    /// How often something was changed.
    changes: u64,
}

/// A block that is being read, for all who wait.
struct Flight {
    /// Tells it from a later one of the same block.
    number: u64,
    /// [`Flights::changes`] when it began.
    changes: u64,
    waiting: Vec<Part>,
}

/// What a reader finds.
pub(crate) enum Found {
    Kept(Arc<PacketBox<Write>>, Part),
    /// Somebody else reads it; the part waits.
    Joined,
    /// The reader is the first, and has to read it; the part waits.
    First {
        /// For [`Blocks::landed`].
        flight: u64,
    },
}

impl Blocks {
    pub(crate) fn new(count: usize) -> Self {
        Self {
            kept: Cache::new(count),
            flights: Mutex::new(Flights { blocks: HashMap::new(), last: u64::MAX, changes: 0 }),
        }
    }

    fn flights(&self) -> MutexGuard<'_, Flights> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of blocks that are kept.
    pub(crate) fn kept(&self) -> usize {
        self.kept.len()
    }

    /// Finds a block, or has the part wait for it. `number` is one that no other call has given.
    pub(crate) fn find(&self, block: u64, part: Part, number: u64) -> Found {
        if let Some(kept) = self.kept.get(&block) {
            return Found::Kept(kept, part);
        }
        let mut flights = self.flights();
        let changes = flights.changes;
        match flights.blocks.entry(block) {
            Entry::Occupied(mut flight) => {
                flight.get_mut().waiting.push(part);
                Found::Joined
            }
            Entry::Vacant(vacant) => {
                // It may have landed since.
                if let Some(kept) = self.kept.get(&block) {
                    return Found::Kept(kept, part);
                }
                vacant.insert(Flight { number, changes, waiting: vec![part] });
                Found::First { flight: number }
            }
        }
    }

    /// A block was read: keeps it, if all of it that exists was, and nothing was written meanwhile. Gives who waits for it.
    pub(crate) fn landed(&self, block: u64, flight: u64, packet: &Arc<PacketBox<Write>>) -> Vec<Part> {
        let mut flights = self.flights();
        let Flights { blocks, last, changes } = &mut *flights;
        let Entry::Occupied(entry) = blocks.entry(block) else { return Vec::new() };
        if entry.get().number != flight {
            return Vec::new();
        }
        // Under the lock, so that nobody reads it again, and no write comes in between.
        let report = packet.report();
        let ended = |(_, error): (_, pactio_sdk::Error)| error.code() == Code::End;
        // A write elsewhere may have moved the end that this read has seen.
        let current = report.is_done() || entry.get().changes == *changes;
        if report.failed_ranges().all(ended) && report.done() > 0 && current {
            self.kept.insert(block, packet.clone());
            if !report.is_done() {
                *last = block;
            }
        }
        entry.remove().waiting
    }

    /// Something was written to these blocks: gives who waits for one that is read just now, and is not to be kept.
    pub(crate) fn forget(&self, changed: RangeInclusive<u64>) -> Vec<(u64, Vec<Part>)> {
        let mut flights = self.flights();
        flights.changes += 1;
        // What is written behind the end moves the end.
        let moved =
            (flights.last < *changed.start() || changed.contains(&flights.last)).then_some(flights.last);
        if moved.is_some() {
            flights.last = u64::MAX;
        }
        let mut waiting = Vec::new();
        for block in changed.chain(moved) {
            self.kept.remove(&block);
            if let Some(flight) = flights.blocks.remove(&block) {
                waiting.push((block, flight.waiting));
            }
        }
        waiting
    }

    /// Everything may have changed.
    pub(crate) fn forget_all(&self) -> Vec<(u64, Vec<Part>)> {
        let mut flights = self.flights();
        flights.changes += 1;
        self.kept.clear();
        flights.last = u64::MAX;
        flights.blocks.drain().map(|(block, flight)| (block, flight.waiting)).collect()
    }
}
