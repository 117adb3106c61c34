//! The threads and the memory that all hosts of a process use together, and their bounds.

use crate::Bounded;
use crate::executor::slow_calls;
use crate::gauges::{BUFFERS, LOST, THREADS};

/// The threads and the memory that all hosts of this process use, with their bounds.
///
/// | bound | when it is reached |
/// |-------|--------------------|
/// | threads that have not come back from a plugin: 64 per host, 256 in all | the next one is not replaced; an error is logged |
/// | threads that open and close devices within a limit: 256 | the next call waits for a thread, at most for its own limit |
/// | bytes of [`BufferPool`](crate::BufferPool)s: none, see [`limit_buffers`](Self::limit_buffers) | [`BufferPool::new`](crate::BufferPool::new) fails |
///
/// A [`Streamer`](crate::Streamer) has a bound of its own. `pactio --stats` prints these counts on SIGUSR1.
///
/// ```
/// let resources = pactio::Resources::now();
/// println!("{} of {} threads hang", resources.lost_threads.now, resources.lost_threads.most);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Resources {
    /// Threads of hosts that run tasks and poll drivers, including those that have not come back from a plugin.
    pub threads: usize,
    /// Threads that have not come back from a plugin, and that other threads have replaced.
    pub lost_threads: Bounded,
    /// Threads that open and close devices within a limit, or for a plugin's thread.
    pub helper_threads: Bounded,
    /// Calls that wait for a helper thread.
    pub waiting_calls: usize,
    /// Bytes that pools of buffers have allocated. Pools that were made [from memory](crate::BufferPool::from_memory) of the
    /// program do not count.
    pub buffer_bytes: Bounded,
}

impl Resources {
    /// The counts of this moment. Each count is exact, but the counts may be of slightly different moments.
    pub fn now() -> Self {
        let (helper_threads, waiting_calls) = slow_calls::counts();
        Self {
            threads: THREADS.bounded().now,
            lost_threads: LOST.bounded(),
            helper_threads,
            waiting_calls,
            buffer_bytes: BUFFERS.bounded(),
        }
    }

    /// Sets the bound for the bytes of pools of buffers. Existing pools keep their memory, also if it exceeds the bound.
    ///
    /// ```
    /// use pactio::{BufferPool, Resources};
    ///
    /// Resources::limit_buffers(1 << 20);
    /// assert!(BufferPool::new(17, 64 << 10).is_err());
    /// let pool = BufferPool::new(16, 64 << 10)?;
    /// assert_eq!(Resources::now().buffer_bytes.now, 1 << 20);
    /// drop(pool);
    /// assert_eq!(Resources::now().buffer_bytes.now, 0);
    /// # Ok::<(), pactio::Error>(())
    /// ```
    pub fn limit_buffers(bytes: usize) {
        BUFFERS.limit(bytes);
    }
}
