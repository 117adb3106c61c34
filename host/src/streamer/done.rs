//! The values that a program exchanges with a streamer: the urgency of a request, its ticket, and its end.

use std::time::{Duration, Instant};

use pactio_sdk::Attributes;

use super::memory::Loaded;
use crate::{Buffer, Error};

/// Identifies a request of a [`Streamer`](super::Streamer).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ticket(pub(super) u64);

/// The urgency of a request. A step of priority counts as much as an arrival one second earlier: a request with a higher priority
/// overtakes those that came before it, and no request waits for ever. A quarter of a second before its deadline, a request gains
/// eight steps.
///
/// ```
/// # use std::time::{Duration, Instant};
/// # use pactio::Urgency;
/// let now = Urgency::of(10).until(Instant::now() + Duration::from_millis(50));
/// let soon = Urgency::default();
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Urgency {
    pub(super) priority: i32,
    pub(super) deadline: Option<Instant>,
}

impl Urgency {
    /// An urgency with a priority; a higher priority goes first.
    pub const fn of(priority: i32) -> Self {
        Self { priority, deadline: None }
    }

    /// Adds a deadline: a request that is not done by then is given up, also when it is under way, and fails as timed out.
    #[must_use]
    pub const fn until(mut self, deadline: Instant) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// What the blocks tell the devices.
    pub(super) fn attributes(self) -> Attributes {
        let attributes = Attributes::new().with_urgency(urgency_of(self.priority));
        match self.deadline {
            Some(deadline) => attributes.with_deadline(deadline),
            None => attributes,
        }
    }
}

/// The urgency that devices see.
pub(super) fn urgency_of(priority: i32) -> i8 {
    priority.clamp(i8::MIN.into(), i8::MAX.into()) as i8
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
    pub(super) result: Result<Loaded, Error>,
    /// The results of the entries of a batch.
    pub(super) parts: Vec<Result<Loaded, Error>>,
}

impl<T> Done<T> {
    /// The bytes that were read; empty for a batch whose entries were all read. Dropping the value gives their memory back to the
    /// streamer, on another thread.
    ///
    /// # Errors
    ///
    /// If not all bytes were read. The error states the reason; for a batch, it is the error of the first entry that failed.
    pub fn bytes(&self) -> Result<&[u8], &Error> {
        match self.parts.iter().find_map(|part| part.as_ref().err()) {
            Some(error) => Err(error),
            None => self.result.as_deref(),
        }
    }

    /// The bytes that were read, as an owned vector; the thread that drops the vector frees it.
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

    /// The buffer that was given to [`Streamer::read_into`](super::Streamer::read_into), with the bytes that were read.
    ///
    /// # Errors
    ///
    /// As [`bytes`](Self::bytes). The buffer then returns to its pool.
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

/// The state of a [`Streamer`](super::Streamer).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Progress {
    /// Requests that wait to be opened, or for memory.
    pub queued: usize,
    /// Requests that are being opened or read.
    pub under_way: usize,
    /// Requests that have ended and were not handed over yet.
    pub ready: usize,
    /// Bytes of memory of the requests that are under way or ready.
    pub memory: u64,
    /// Bytes of memory of given-up requests that devices have not answered.
    pub abandoned: u64,
}
