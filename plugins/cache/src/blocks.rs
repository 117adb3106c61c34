//! The blocks that are kept, and those that are being read.
//!
//! ```text
//!  nothing ──first reader──► flight ──read──► kept ──► evicted
//!                             │  ▲             │
//!      other readers wait ────┘  │             │
//!      a write: forgotten ◄──────┴─────────────┘   waiting readers still get the old bytes; later ones read anew
//! ```

use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pactio_sdk::{Attributes, BoundPacketView, Code, PacketBox, RequestId, Write};
use quick_cache::UnitWeighter;
use quick_cache::sync::Cache;

/// A part of a request, and its start in its block.
pub(crate) struct Part {
    pub(crate) view: BoundPacketView<Write>,
    pub(crate) start: usize,
}

/// Blocks by number.
pub(crate) struct Blocks {
    kept: Cache<u64, Arc<PacketBox<Write>>, UnitWeighter>,
    flights: Mutex<Flights>,
}

#[derive(Default)]
struct Flights {
    /// Flights by their number.
    all: HashMap<u64, Flight>,
    /// The flight of a block that readers may join: nothing was written to the block since it began.
    current: HashMap<u64, u64>,
    /// The last kept block that is incomplete: the device ended there.
    last: Option<u64>,
    /// Number of changes so far.
    changes: u64,
}

/// A block that is being read, for all parts that wait for it.
struct Flight {
    block: u64,
    /// [`Flights::changes`] when the flight began.
    changes: u64,
    /// The waiting parts, each with [`Flights::changes`] at its arrival.
    waiting: Vec<(u64, Part)>,
    /// The request to the device below, when it was made.
    request: Option<RequestId>,
    /// The attributes of this request: those of the first part, with the urgency of the most urgent one.
    attributes: Attributes,
}

/// The parts that waited for a block that was read.
#[derive(Default)]
pub(crate) struct Landed {
    /// The parts for which the read is valid.
    pub(crate) answered: Vec<Part>,
    /// The parts that arrived after a change that may have moved the end that the read found; they read again.
    pub(crate) late: Vec<Part>,
}

/// The result of a lookup.
pub(crate) enum Found {
    Kept(Arc<PacketBox<Write>>, Part),
    /// Another request reads the block; the part waits.
    Joined,
    /// The part is the first one, so the caller has to read the block; the part waits.
    First {
        /// The number for [`Blocks::landed`].
        flight: u64,
        /// The attributes of the request for the block.
        attributes: Attributes,
    },
}

impl Blocks {
    pub(crate) fn new(count: usize) -> Self {
        Self { kept: Cache::new(count), flights: Mutex::default() }
    }

    fn flights(&self) -> MutexGuard<'_, Flights> {
        self.flights.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Number of blocks that are kept.
    pub(crate) fn kept(&self) -> usize {
        self.kept.len()
    }

    /// A block that is kept.
    pub(crate) fn get(&self, block: u64) -> Option<Arc<PacketBox<Write>>> {
        self.kept.get(&block)
    }

    /// Finds a block, or queues the part for it. `number` must differ from the numbers of all other calls.
    pub(crate) fn find(&self, block: u64, part: Part, number: u64) -> Found {
        if let Some(kept) = self.kept.get(&block) {
            return Found::Kept(kept, part);
        }
        let mut flights = self.flights();
        let Flights { all, current, changes, .. } = &mut *flights;
        if let Some(flight) = current.get(&block).and_then(|number| all.get_mut(number)) {
            let urgency = part.view.urgency();
            if urgency > flight.attributes.urgency() {
                flight.attributes.set_urgency(urgency);
            }
            flight.waiting.push((*changes, part));
            return Found::Joined;
        }
        // The block may have arrived since the first lookup.
        if let Some(kept) = self.kept.get(&block) {
            return Found::Kept(kept, part);
        }
        // Without the deadline of the first part: parts that join may have none.
        let attributes = Attributes::new().with_urgency(part.view.urgency());
        let waiting = vec![(*changes, part)];
        all.insert(
            number,
            Flight { block, changes: *changes, waiting, request: None, attributes: attributes.clone() },
        );
        current.insert(block, number);
        Found::First { flight: number, attributes }
    }

    /// Records the request for a flight's block, which is about to be sent; `false` if no part waits for the block any more.
    pub(crate) fn begins(&self, number: u64, request: RequestId) -> bool {
        let mut flights = self.flights();
        let Some(flight) = flights.all.get_mut(&number) else { return false };
        flight.request = Some(request);
        !flight.waiting.is_empty()
    }

    /// Removes the parts of a request, and returns them with the requests for blocks that no other part waits for. No part joins
    /// the flights of these blocks any more.
    pub(crate) fn cancel(&self, request: RequestId) -> (Vec<Part>, Vec<RequestId>) {
        let (mut parts, mut unwanted) = (Vec::new(), Vec::new());
        let mut flights = self.flights();
        let Flights { all, current, .. } = &mut *flights;
        for (number, flight) in all {
            let before = parts.len();
            parts.extend(
                flight
                    .waiting
                    .extract_if(.., |(_, part)| part.view.request() == request)
                    .map(|(_, part)| part),
            );
            if parts.len() > before && flight.waiting.is_empty() {
                unwanted.extend(flight.request);
                if current.get(&flight.block) == Some(number) {
                    current.remove(&flight.block);
                }
            }
        }
        (parts, unwanted)
    }

    /// Keeps a block that was read, if all of its existing bytes were read and nothing was written to it meanwhile. Returns the
    /// parts that waited for it: a part that came before a write was answered may get the bytes from before the write.
    pub(crate) fn landed(&self, number: u64, packet: &Arc<PacketBox<Write>>) -> Landed {
        let mut flights = self.flights();
        let Some(flight) = flights.all.remove(&number) else { return Landed::default() };
        let current = flights.current.get(&flight.block) == Some(&number);
        if current {
            flights.current.remove(&flight.block);
        }
        // The lock is held meanwhile, so that no other request reads the block again and no write comes in between.
        let report = packet.report();
        let ended = |(_, error): (_, pactio_sdk::IoError)| error.code() == Code::END;
        // A write elsewhere may have moved the end that this read has seen.
        let right = report.is_done() || flight.changes == flights.changes;
        if report.failed_ranges().all(ended) && report.done() > 0 && current && right {
            self.kept.insert(flight.block, packet.clone());
            if !report.is_done() {
                flights.last = Some(flight.block);
            }
        }
        let (answered, late): (Vec<_>, Vec<_>) = flight
            .waiting
            .into_iter()
            .partition(|(changes, _)| report.is_done() || *changes == flight.changes);
        let parts = |waiting: Vec<(u64, Part)>| waiting.into_iter().map(|(_, part)| part).collect();
        Landed { answered: parts(answered), late: parts(late) }
    }

    /// Removes the flight of a block that cannot be read, and returns the parts that wait for it.
    pub(crate) fn abandon(&self, number: u64) -> Vec<Part> {
        let mut flights = self.flights();
        let Some(flight) = flights.all.remove(&number) else { return Vec::new() };
        if flights.current.get(&flight.block) == Some(&number) {
            flights.current.remove(&flight.block);
        }
        flight.waiting.into_iter().map(|(_, part)| part).collect()
    }

    /// Removes these blocks after a write to them: later parts read them again.
    pub(crate) fn forget(&self, changed: RangeInclusive<u64>) {
        let mut flights = self.flights();
        flights.changes += 1;
        // A write behind the end moves the end.
        let moved = flights.last.filter(|last| last < changed.start() || changed.contains(last));
        if moved.is_some() {
            flights.last = None;
        }
        for block in changed.chain(moved) {
            self.kept.remove(&block);
            flights.current.remove(&block);
        }
    }

    /// Removes all blocks, since all of them may have changed.
    pub(crate) fn forget_all(&self) {
        let mut flights = self.flights();
        flights.changes += 1;
        self.kept.clear();
        flights.last = None;
        flights.current.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A block of 8 bytes of which the first `there` exist; `part` makes parts that want its first bytes.
    fn block(there: usize) -> Arc<PacketBox<Write>> {
        let mut packet = PacketBox::<Write>::new_buf(8).unwrap();
        packet.bind().unwrap().transfer_data(&[7; 8][..there]).complete();
        Arc::new(packet)
    }

    fn part(packet: &mut PacketBox<Write>) -> Part {
        Part { view: packet.bind().unwrap(), start: 0 }
    }

    fn packets<const N: usize>() -> [PacketBox<Write>; N] {
        std::array::from_fn(|_| PacketBox::<Write>::new_buf(4).unwrap())
    }

    #[test]
    fn who_came_before_a_write_is_answered_and_who_comes_later_reads_anew() {
        let (blocks, [mut early, mut joins, mut later]) = (Blocks::new(8), packets());
        assert!(matches!(blocks.find(3, part(&mut early), 1), Found::First { flight: 1, .. }));
        assert!(matches!(blocks.find(3, part(&mut joins), 2), Found::Joined));
        blocks.forget(3..=3);
        assert!(matches!(blocks.find(3, part(&mut later), 3), Found::First { flight: 3, .. }));
        let landed = blocks.landed(1, &block(8));
        assert_eq!((landed.answered.len(), landed.late.len(), blocks.kept()), (2, 0, 0));
        let landed = blocks.landed(3, &block(8));
        assert_eq!((landed.answered.len(), landed.late.len(), blocks.kept()), (1, 0, 1));
    }

    #[test]
    fn an_end_that_was_moved_is_not_given_to_who_came_after_that() {
        let (blocks, [mut early, mut late]) = (Blocks::new(8), packets());
        assert!(matches!(blocks.find(0, part(&mut early), 1), Found::First { .. }));
        // The device grows; the flight may have seen the old end.
        blocks.forget(64..=64);
        assert!(matches!(blocks.find(0, part(&mut late), 2), Found::Joined));
        let landed = blocks.landed(1, &block(3));
        assert_eq!((landed.answered.len(), landed.late.len(), blocks.kept()), (1, 1, 0));
    }

    #[test]
    fn a_block_that_cannot_be_read_fails_its_own_readers_alone() {
        let (blocks, [mut first, mut second]) = (Blocks::new(8), packets());
        assert!(matches!(blocks.find(0, part(&mut first), 1), Found::First { .. }));
        blocks.forget(0..=0);
        assert!(matches!(blocks.find(0, part(&mut second), 2), Found::First { .. }));
        assert_eq!(blocks.abandon(1).len(), 1);
        assert_eq!(blocks.landed(2, &block(8)).answered.len(), 1);
    }
}
