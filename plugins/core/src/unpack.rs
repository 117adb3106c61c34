//! Answers requests for bytes that are compressed in blocks, on threads of the device.

use std::sync::Arc;

use pactio_pool::Lazy;
use pactio_sdk::{BoundPacketView, Code, IoError, Write};
use quick_cache::sync::Cache;

use crate::blocks::{Blocks, Unpacked};
use crate::source::Source;

/// Number of unpacked blocks that are kept. A block has 64 KiB at most, or one page.
const KEPT: usize = 256;

/// Threads that unpack. A device that does not answer holds up the threads of its own dump only.
const THREADS: usize = 2;

pub(crate) struct Unpacker {
    shared: Arc<Shared>,
    threads: Lazy,
}

struct Shared {
    source: Arc<Source>,
    blocks: Box<dyn Blocks>,
    /// By the offset of the first unpacked byte.
    kept: Cache<u64, Arc<Unpacked>>,
}

impl Unpacker {
    pub(crate) fn new(source: Arc<Source>, blocks: Box<dyn Blocks>) -> Self {
        let shared = Shared { source, blocks, kept: Cache::new(KEPT) };
        Self { shared: Arc::new(shared), threads: Lazy::new("pactio-core") }
    }

    /// Answers a view with the unpacked bytes from `offset` on.
    pub(crate) fn read(&self, offset: u64, view: BoundPacketView<Write>) {
        if let Some(block) = self.shared.blocks.find(offset)
            && block.end - offset >= view.len() as u64
            && let Some(unpacked) = self.shared.kept.get(&block.start)
        {
            return answer(&unpacked, (offset - block.start) as usize, view);
        }
        let threads = match self.threads.get(THREADS) {
            Ok(threads) => threads,
            Err(error) => return view.error(error.into()),
        };
        let shared = self.shared.clone();
        threads.submit(move || shared.read(offset, view));
    }
}

impl Shared {
    fn read(&self, mut offset: u64, mut view: BoundPacketView<Write>) {
        loop {
            if view.is_cancelled() {
                return view.error(IoError::CANCELLED);
            }
            let Some(block) = self.blocks.find(offset) else {
                return view.error(IoError::from_code(Code::CORRUPT));
            };
            let there = usize::try_from(block.end - offset).unwrap_or(usize::MAX);
            let (part, rest) = if view.len() > there {
                let (part, rest) = view.split_at(there);
                (part, Some(rest))
            } else {
                (view, None)
            };
            let unpack = || self.blocks.unpack(&*self.source, &block).map(Arc::new);
            match self.kept.get_or_insert_with(&block.start, unpack) {
                Ok(unpacked) => answer(&unpacked, (offset - block.start) as usize, part),
                Err(error) => part.error(error.into()),
            }
            let Some(rest) = rest else { return };
            (offset, view) = (block.end, rest);
        }
    }
}

/// Answers a view with the bytes of a block from `start` on; the block has as many as the view.
fn answer(block: &Unpacked, mut start: usize, mut view: BoundPacketView<Write>) {
    let end = start + view.len();
    let after = block.damaged.partition_point(|damaged| damaged.end <= start);
    let mut damaged = block.damaged[after..].iter();
    while start < end {
        let next = damaged.next().map_or(end..end, |next| next.start.clamp(start, end)..next.end.min(end));
        for (until, is_good) in [(next.start, true), (next.end, false)] {
            if until == start {
                continue;
            }
            let (part, rest) = if until < end {
                let (part, rest) = view.split_at(until - start);
                (part, Some(rest))
            } else {
                (view, None)
            };
            if is_good {
                part.transfer_data(&block.bytes[start..until]).complete();
            } else {
                part.error(IoError::from_code(Code::CORRUPT));
            }
            let Some(rest) = rest else { return };
            (start, view) = (until, rest);
        }
    }
}
