//! A device that reads each block once, for all requests that want it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pactio_sdk::{
    Answer, BoundPacketView, Cancellation, Capability, ExtensionQuery, Filter, IoError, Lower, Metric,
    PacketBox, PacketIo, PacketPerms, Read, ReadNow, ReadWrite, ReboundPacket, Records, RequestId, Resize,
    Statistics, Unfilled, Write,
};

use crate::blocks::{Blocks, Found, Part};

/// See the [crate](crate).
pub(crate) struct CachedDevice {
    shared: Arc<Shared>,
}

struct Shared {
    below: Lower,
    blocks: Blocks,
    block: usize,
    counts: Counts,
}

/// Counters that order no other memory.
#[derive(Default)]
struct Counts {
    hits: AtomicU64,
    joined: AtomicU64,
    misses: AtomicU64,
}

impl CachedDevice {
    pub(crate) fn new(below: Lower, size: u64, block: usize) -> Self {
        let count = usize::try_from(size / block as u64).unwrap_or(usize::MAX);
        let shared = Shared { below, blocks: Blocks::new(count), block, counts: Counts::default() };
        Self { shared: Arc::new(shared) }
    }
}

impl Shared {
    /// Sends a view that changes bytes, and removes the blocks that it touches before the view is answered.
    fn change<Perms: PacketPerms>(self: &Arc<Self>, position: u64, view: BoundPacketView<Perms>)
    where
        Lower: PacketIo<Perms, u64>,
    {
        let unit = self.block as u64;
        let blocks = position / unit..=position.saturating_add(view.len() as u64).div_ceil(unit);
        // If memory for this cannot be allocated, the view has failed already.
        let Ok(mut rebound) = ReboundPacket::new(view) else { return };
        let Ok(fresh) = rebound.bind() else { return };
        // The device below keeps this callback, and `Shared` keeps the device below: a strong reference would be a cycle.
        let this = Arc::downgrade(self);
        rebound.on_complete(move |rebound| {
            if let Some(this) = this.upgrade() {
                this.blocks.forget(blocks);
            }
            let _ = rebound.forward();
        });
        self.below.send_io(position, fresh);
    }

    /// Reads a part of one block.
    fn read(self: &Arc<Self>, block: u64, part: Part) {
        // Ordering: Relaxed. Each call gets another number.
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let (count, flight) = match self.blocks.find(block, part, number) {
            Found::Kept(kept, part) => {
                self.counts.hits.fetch_add(1, Ordering::Relaxed);
                return kept.answer(part.start, part.view);
            }
            Found::Joined => (&self.counts.joined, None),
            Found::First { flight, attributes } => (&self.counts.misses, Some((flight, attributes))),
        };
        count.fetch_add(1, Ordering::Relaxed);
        let Some((flight, attributes)) = flight else { return };
        let bound = PacketBox::<Write>::new_buf(self.block)
            .and_then(|mut packet| Ok((packet.bind_with(attributes, None)?, packet)));
        let (whole, packet) = match bound {
            Ok(bound) => bound,
            Err(error) => {
                return self.blocks.abandon(flight).into_iter().for_each(|part| part.view.error(error));
            }
        };
        if !self.blocks.begins(flight, packet.request()) {
            whole.error(IoError::CANCELLED);
            self.blocks.abandon(flight).into_iter().for_each(|part| self.read(block, part));
            return;
        }
        let this = Arc::downgrade(self);
        packet.on_complete(move |packet| {
            // If the device was dropped, all waiting parts have failed with it.
            let Some(this) = this.upgrade() else { return };
            let packet = Arc::new(packet);
            let landed = this.blocks.landed(flight, &packet);
            for part in landed.answered {
                packet.answer(part.start, part.view);
            }
            landed.late.into_iter().for_each(|part| this.read(block, part));
        });
        self.below.send_io(block * self.block as u64, whole);
    }
}

impl Filter for CachedDevice {
    /// Admission is not forwarded: the cache's own requests do not wait for room below.
    const FORWARDS: &'static [Capability] = &[
        Capability::LIMITS,
        Capability::STAT,
        Capability::FLUSH,
        Capability::PUBLISH,
        Capability::MAP,
        Capability::LIST,
        Capability::PROVENANCE,
        Capability::REFUSED,
    ];

    fn lower(&self) -> &Lower {
        &self.shared.below
    }

    fn read(&self, position: u64, view: BoundPacketView<Write>) {
        let unit = self.shared.block as u64;
        // A block at the end of the range of positions would end behind that range.
        if position
            .checked_add(view.len() as u64)
            .and_then(|end| end.checked_next_multiple_of(unit))
            .is_none()
        {
            return self.shared.below.send_io(position, view);
        }
        let (mut block, mut start, mut rest) = (position / unit, (position % unit) as usize, view);
        while rest.len() > self.shared.block - start {
            let (view, behind) = rest.split_at(self.shared.block - start);
            self.shared.read(block, Part { view, start });
            (block, start, rest) = (block + 1, 0, behind);
        }
        self.shared.read(block, Part { view: rest, start });
    }

    fn write(&self, position: u64, view: BoundPacketView<Read>) {
        self.shared.change(position, view);
    }

    fn exchange(&self, position: u64, view: BoundPacketView<ReadWrite>) {
        self.shared.change(position, view);
    }

    fn extensions<'d>(&'d self, query: &mut ExtensionQuery<'d>) {
        query
            .offer::<dyn ReadNow>(self)
            .offer::<dyn Cancellation>(self)
            .offer::<dyn Resize>(self)
            .offer::<dyn Statistics>(self);
    }
}

impl ReadNow for CachedDevice {
    /// Reads out of one block that is kept.
    fn read_now(&self, position: u64, into: &mut Unfilled<'_>) {
        let Shared { blocks, block: unit, counts, .. } = &*self.shared;
        let (start, len) = ((position % *unit as u64) as usize, into.remaining());
        if len <= *unit - start
            && let Some(kept) = blocks.get(position / *unit as u64)
            && let Ok(bytes) = kept.done_slice(start..start + len)
        {
            into.append(bytes);
            counts.hits.fetch_add(1, Ordering::Relaxed);
        }
    }
}

impl Cancellation for CachedDevice {
    fn cancel(&self, request: RequestId) {
        let (parts, unwanted) = self.shared.blocks.cancel(request);
        parts.into_iter().for_each(|part| part.view.error(IoError::CANCELLED));
        // The reads that this request made, and its own views that were sent on.
        unwanted.into_iter().chain([request]).for_each(|request| self.shared.below.cancel(request));
    }
}

impl Resize for CachedDevice {
    fn resize(&self, size: u64, answer: Answer) {
        let Some(below) = self.shared.below.extension::<dyn Resize>() else {
            return answer.error(IoError::UNSUPPORTED);
        };
        let bound = PacketBox::<Write>::new_buf(1).and_then(PacketBox::into_bound);
        let (packet, view) = match bound {
            Ok(bound) => bound,
            Err(error) => return answer.error(error),
        };
        let this = Arc::downgrade(&self.shared);
        packet.on_complete(move |packet| {
            if let Some(this) = this.upgrade() {
                this.blocks.forget_all();
            }
            answer.result(packet.err_any());
        });
        below.resize(size, Answer::new(view));
    }
}

impl Statistics for CachedDevice {
    fn statistics(&self, from: u64, figures: Records<Metric>) {
        let Shared { counts, blocks, block, .. } = &*self.shared;
        let number = |count: &AtomicU64| count.load(Ordering::Relaxed);
        figures.complete_from(
            from,
            [
                Metric::count("hits", number(&counts.hits)),
                Metric::count("misses", number(&counts.misses)),
                Metric::count("joined", number(&counts.joined)),
                Metric::bytes("bytes kept", (blocks.kept() * block) as u64),
            ],
        );
    }
}
