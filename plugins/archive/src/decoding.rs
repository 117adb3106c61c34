//! What all files of an archive share that are decompressed: threads, memory for what comes out, and a bound for what goes in.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::{io, thread};

use pactio_plugin_pool::{Lazy, Pool};
use pactio_sdk::Figure;
use quick_cache::Weighter;
use quick_cache::sync::Cache;

/// What is on its way from below or being decompressed, in bytes. One file goes on, however long it is.
const MOST_UNDER_WAY: u64 = 64 << 20;

/// Decompressed bytes, at an address where copying is fast.
pub(crate) struct Block {
    memory: Vec<u8>,
    start: usize,
}

impl Block {
    const ALIGNMENT: usize = 64;

    pub(crate) fn zeroed(len: usize) -> Self {
        let memory = vec![0; len + Self::ALIGNMENT];
        let start = memory.as_ptr().align_offset(Self::ALIGNMENT).min(Self::ALIGNMENT);
        Self { memory, start }
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.memory[self.start..self.memory.len() - Self::ALIGNMENT + self.start]
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        let end = self.memory.len() - Self::ALIGNMENT + self.start;
        &mut self.memory[self.start..end]
    }
}

/// A file's number, and a block's in it.
pub(crate) type Key = (u32, u64);

/// Counts what is kept by its bytes.
#[derive(Clone)]
pub(crate) struct Bytes;

impl Weighter<Key, Arc<Block>> for Bytes {
    fn weight(&self, _: &Key, block: &Arc<Block>) -> u64 {
        block.memory.len() as u64
    }
}

pub(crate) struct Decoding {
    pub(crate) pool: Arc<Pool>,
    pub(crate) kept: Cache<Key, Arc<Block>, Bytes>,
    counts: Counts,
    under_way: Mutex<UnderWay>,
}

// All orderings are Relaxed: they are numbers, and nothing is read because of them.
#[derive(Default)]
struct Counts {
    hits: AtomicU64,
    joined: AtomicU64,
    decoded: AtomicU64,
    decoded_bytes: AtomicU64,
}

#[derive(Default)]
struct UnderWay {
    bytes: u64,
    waiting: VecDeque<(u64, Job)>,
}

type Job = Box<dyn FnOnce(Ticket) + Send>;

/// Leave for so many bytes to be under way, until it is dropped.
pub(crate) struct Ticket {
    of: Arc<Decoding>,
    bytes: u64,
}

impl Decoding {
    pub(crate) fn new(pool: Arc<Pool>, memory: u64) -> Self {
        // An estimate of how many there will be, for which room is made.
        let estimate = (memory >> 20).clamp(16, 1 << 16) as usize;
        let kept = Cache::with_weighter(estimate, memory, Bytes);
        Self { pool, kept, counts: Counts::default(), under_way: Mutex::default() }
    }

    fn under_way(&self) -> MutexGuard<'_, UnderWay> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a job for so many bytes as soon as there is room, in the order of the calls.
    pub(crate) fn begin(self: &Arc<Self>, bytes: u64, job: impl FnOnce(Ticket) + Send + 'static) {
        let mut under_way = self.under_way();
        under_way.waiting.push_back((bytes, Box::new(job)));
        drop(under_way);
        self.go_on();
    }

    fn go_on(self: &Arc<Self>) {
        loop {
            let mut under_way = self.under_way();
            let fits = under_way
                .waiting
                .front()
                .is_some_and(|(bytes, _)| under_way.bytes == 0 || under_way.bytes + bytes <= MOST_UNDER_WAY);
            if !fits {
                return;
            }
            let Some((bytes, job)) = under_way.waiting.pop_front() else { return };
            // So that what counts nothing cannot be without end.
            let bytes = bytes.max(1);
            under_way.bytes += bytes;
            drop(under_way);
            job(Ticket { of: self.clone(), bytes });
        }
    }

    pub(crate) fn hit(&self) {
        self.counts.hits.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn joined(&self) {
        self.counts.joined.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn decoded(&self, bytes: usize) {
        self.counts.decoded.fetch_add(1, Ordering::Relaxed);
        self.counts.decoded_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    pub(crate) fn figures(&self) -> Vec<Figure> {
        let number = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Counts { hits, joined, decoded, decoded_bytes } = &self.counts;
        vec![
            Figure::count("hits", number(hits)),
            Figure::count("joined", number(joined)),
            Figure::count("decoded", number(decoded)),
            Figure::bytes("bytes decoded", number(decoded_bytes)),
            Figure::bytes("bytes kept", self.kept.weight()),
        ]
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.of.under_way().bytes -= self.bytes;
        self.of.go_on();
    }
}

/// The threads that decompress, for all archives: one per processor.
pub(crate) fn pool() -> io::Result<Arc<Pool>> {
    static POOL: Lazy = Lazy::new("pactio-archive");
    POOL.get(thread::available_parallelism().map_or(1, usize::from))
}
