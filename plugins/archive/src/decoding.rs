//! Resources that all compressed files of an archive share: threads, memory for decompressed bytes, and a bound for the bytes
//! under way.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::ThreadId;
use std::{io, thread};

use pactio_pool::{Lazy, Pool};
use pactio_sdk::{Attributes, Metric, UrgencyQueue, Urgent};
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use crate::block::Block;

/// Maximum number of bytes that are being read from below or decompressed. A single file is begun regardless of its length.
const MAX_UNDER_WAY: u64 = 64 << 20;

/// A file's number, and the number of a block in it.
pub(crate) type Key = (u32, u64);

/// Weighs a cached block by its bytes.
#[derive(Clone)]
pub(crate) struct Bytes;

impl Weighter<Key, Arc<Block>> for Bytes {
    fn weight(&self, _: &Key, block: &Arc<Block>) -> u64 {
        block.bytes().len() as u64
    }
}

pub(crate) struct Decoding {
    pub(crate) pool: Arc<Pool>,
    pub(crate) kept: Cache<Key, Arc<Block>, Bytes>,
    counts: Counts,
    under_way: Mutex<UnderWay>,
}

// All orderings are Relaxed: the counters are numbers, and no other memory is read because of them.
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
    waiting: UrgencyQueue<Waiting>,
    /// The threads that begin jobs at this moment.
    threads: Vec<ThreadId>,
}

/// A job that waits until there is room for its bytes.
struct Waiting {
    bytes: u64,
    /// Those of the file, whose urgency changes with its readers.
    attributes: Attributes,
    job: Job,
}

impl Urgent for Waiting {
    fn urgency(&self) -> i8 {
        self.attributes.urgency()
    }
}

type Job = Box<dyn FnOnce(Ticket) + Send>;

/// The right to have `bytes` bytes under way, until the ticket is dropped.
pub(crate) struct Ticket {
    of: Arc<Decoding>,
    bytes: u64,
}

impl Decoding {
    pub(crate) fn new(pool: Arc<Pool>, memory: u64) -> Self {
        // The estimated number of blocks: the cache allocates its tables for it.
        let estimate = (memory >> 20).clamp(16, 1 << 16) as usize;
        // The cache refuses an entry that is longer than 97 % of its capacity. With 1/32 more, memory for one block holds one
        // block.
        let kept = Cache::with_weighter(estimate, memory.saturating_add(memory / 32), Bytes);
        Self { pool, kept, counts: Counts::default(), under_way: Mutex::default() }
    }

    fn under_way(&self) -> MutexGuard<'_, UnderWay> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a job when there is room for its `bytes` bytes. The most urgent jobs begin first, and equals in the order of the
    /// calls.
    pub(crate) fn begin(
        self: &Arc<Self>,
        bytes: u64,
        attributes: Attributes,
        job: impl FnOnce(Ticket) + Send + 'static,
    ) {
        let mut under_way = self.under_way();
        under_way.waiting.push(Waiting { bytes, attributes, job: Box::new(job) });
        drop(under_way);
        self.go_on();
    }

    /// Begins the jobs that there is room for. A job that ends during this call, for example because its file was closed, calls
    /// this function again. The inner call returns at once, and the loop of the outer call begins the next job. Without this
    /// rule, the stack would get as deep as the queue is long.
    fn go_on(self: &Arc<Self>) {
        let Some(_beginning) = Beginning::new(self) else { return };
        while let Some((bytes, job)) = self.next() {
            job(Ticket { of: self.clone(), bytes });
        }
    }

    /// The next job, if there is room for it.
    fn next(&self) -> Option<(u64, Job)> {
        let mut under_way = self.under_way();
        let in_use = under_way.bytes;
        let fits = |next: &Waiting| in_use == 0 || in_use + next.bytes <= MAX_UNDER_WAY;
        let Waiting { bytes, job, .. } = under_way.waiting.pop_if(fits)?;
        // A job of 0 bytes counts as 1, so that the number of such jobs is bounded too.
        let bytes = bytes.max(1);
        under_way.bytes += bytes;
        Some((bytes, job))
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

    pub(crate) fn figures(&self) -> Vec<Metric> {
        let number = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let Counts { hits, joined, decoded, decoded_bytes } = &self.counts;
        vec![
            Metric::count("hits", number(hits)),
            Metric::count("joined", number(joined)),
            Metric::count("decoded", number(decoded)),
            Metric::bytes("bytes decoded", number(decoded_bytes)),
            Metric::bytes("bytes kept", self.kept.weight()),
        ]
    }
}

/// Marks this thread as one that begins jobs, until the value is dropped; a panic drops the value as well. Several threads may
/// begin jobs at the same time: the jobs of one thread must not wait for another thread.
struct Beginning<'d>(&'d Decoding);

impl<'d> Beginning<'d> {
    /// `None`, if the thread is marked already.
    fn new(decoding: &'d Decoding) -> Option<Self> {
        let thread = thread::current().id();
        let mut under_way = decoding.under_way();
        if under_way.threads.contains(&thread) {
            return None;
        }
        under_way.threads.push(thread);
        Some(Self(decoding))
    }
}

impl Drop for Beginning<'_> {
    fn drop(&mut self) {
        let thread = thread::current().id();
        self.0.under_way().threads.retain(|beginning| *beginning != thread);
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

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::sync::mpsc;

    use super::*;

    fn decoding() -> Arc<Decoding> {
        Arc::new(Decoding::new(pool().unwrap(), 1 << 20))
    }

    #[test]
    fn thousands_of_jobs_that_find_nothing_to_do_end_one_after_the_other() {
        let (decoding, (done, all)) = (decoding(), mpsc::channel());
        let (give, ticket) = mpsc::channel();
        decoding.begin(MAX_UNDER_WAY, Attributes::new(), move |ticket| give.send(ticket).unwrap());
        for number in 0..100_000 {
            let done = done.clone();
            decoding.begin(MAX_UNDER_WAY, Attributes::new(), move |ticket| {
                done.send(number).unwrap();
                drop(ticket);
            });
        }
        drop((done, ticket.recv().unwrap()));
        assert!(all.into_iter().eq(0..100_000));
        assert!(decoding.under_way().bytes == 0 && decoding.under_way().threads.is_empty());
    }

    #[test]
    fn a_job_that_panics_leaves_room_for_the_next() {
        let (decoding, (done, ran)) = (decoding(), mpsc::channel());
        let panicking = || decoding.begin(MAX_UNDER_WAY, Attributes::new(), |_| panic!("a test's"));
        assert!(catch_unwind(AssertUnwindSafe(panicking)).is_err());
        decoding.begin(MAX_UNDER_WAY, Attributes::new(), move |_| done.send(()).unwrap());
        assert!(ran.recv().is_ok());
    }

    #[test]
    fn memory_for_one_block_keeps_one() {
        let decoding = decoding();
        decoding.kept.insert((0, 0), Arc::new(Block::zeroed(1 << 20)));
        assert!(decoding.kept.get(&(0, 0)).is_some());
    }
}
