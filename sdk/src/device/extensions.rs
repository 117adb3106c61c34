//! What a device may do beyond reading and writing. Each is asked for by name, and a device need not have any.

use core::fmt;
use core::ptr::NonNull;
use core::task::{Context, Poll};

use super::records::{Entry, Figure, Origin, Records, Region};
use crate::{BoundPacketView, IoError, RequestId, Write};

/// An extension of devices that can give requests up (rule 21).
///
/// A device without it answers as if nobody had asked, which delays only whoever waits for the cancelled request. Views know
/// that they were [cancelled](BoundPacketView::is_cancelled) either way.
pub trait Cancellation: Send + Sync {
    /// Answers the views of `request` soon, with [`IoError::CANCELLED`] where nothing was done. It may know none of them, since
    /// an answer may be on its way.
    fn cancel(&self, request: RequestId);
}

/// An extension of devices that can be full (rule 20).
///
/// Requests then wait their turn with whoever made them, in order, and other devices go on. One admission may stand for several
/// requests or for larger ones, where a host makes them fit the [limits](Limits) of the device.
pub trait Admission: Send + Sync {
    /// Asks to take a request of so many bytes, or a batch of requests with so many together. `Ready`: it will be submitted
    /// right away. `Pending`: the device has kept the
    /// waker and wakes it when it may have room. One at a time asks.
    fn poll_admit(&self, bytes: usize, cx: &mut Context<'_>) -> Poll<()>;
}

/// An extension of devices that keep what was written for a while: it can be made to last.
pub trait Flush: Send + Sync {
    /// Makes everything last that was answered before this call. The answer may come later.
    fn flush(&self, scope: FlushScope, answer: Answer);
}

/// What is to last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlushScope {
    /// The bytes, and what is needed to find them.
    Data,
    /// The bytes and all that is known of them, such as times.
    All,
    /// Nothing need last, but others see it from now on: for devices that show what was written only as a whole.
    Visible,
}

/// An extension of devices whose size can be changed.
pub trait Resize: Send + Sync {
    /// Makes the device `size` bytes long. What is new reads as zeros.
    fn resize(&self, size: u64, answer: Answer);
}

/// An extension of devices that are a tree of names.
pub trait Listing: Send + Sync {
    /// Lists a folder: the names on the way joined with `/`, empty for the root. `from` is 0, or what the answer before gave
    /// to go on.
    fn list(&self, folder: &str, from: u64, entries: Records<Entry>);
}

/// An extension of devices that are a tree of names: opens what has one. The counterpart of [`Listing`].
#[cfg(feature = "plugin")]
pub trait Opening: Send + Sync {
    /// Opens what has this name: the names on the way joined with `/`, none of them empty, `.` or `..`. It may block for as long as
    /// opening takes, and what it gives may outlive this device.
    ///
    /// # Errors
    ///
    /// With a message for people, as [`Backend::open`](crate::Backend::open).
    fn open(&self, name: &str, mode: crate::OpenMode) -> Result<crate::Opened, crate::OpenError>;
}

/// An extension of devices that are a tree made of others: says which of them have a name.
pub trait Provenance: Send + Sync {
    /// Lists what has the name, in the order in which it is looked up: the first serves it and hides the rest. `from` is 0, or what
    /// the answer before gave to go on.
    fn provenance(&self, name: &str, from: u64, origins: Records<Origin>);
}

/// An extension of devices of which not every position exists.
pub trait Mapping: Send + Sync {
    /// Says which positions from `from` on exist, in order. A region may begin before `from`. The answer goes on at a position.
    fn map(&self, from: u64, regions: Records<Region>);
}

/// An extension of devices that count what they do.
pub trait Statistics: Send + Sync {
    /// Gives the figures, in the order in which they should be shown. `from` is 0, or what the answer before gave to go on.
    fn statistics(&self, from: u64, figures: Records<Figure>);
}

/// An extension of devices that are faster with memory that they were told of before, as a kernel's ring is, which looks its pages
/// up once.
pub trait Registration: Send + Sync {
    /// From now on requests may lie in this memory, until it is [forgotten](Self::forget). Gives a number for it.
    ///
    /// # Errors
    ///
    /// If it cannot be registered. Requests that lie in it are answered all the same.
    fn register(&self, memory: MemoryRange) -> Result<u64, IoError>;

    /// No request lies in the memory of that number any more, and none will.
    fn forget(&self, number: u64);
}

/// MemoryRange that stays where it is for a while.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryRange {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: it is an address and a length.
unsafe impl Send for MemoryRange {}
// SAFETY: as above.
unsafe impl Sync for MemoryRange {}

impl MemoryRange {
    /// So many bytes.
    ///
    /// # Safety
    ///
    /// They stay allocated until whoever was told of them has [forgotten](Registration::forget) them, or is gone.
    pub const unsafe fn new(start: NonNull<u8>, len: usize) -> Self {
        Self { start, len }
    }

    /// Where it begins.
    pub const fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Length in bytes.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// There are no bytes.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

/// Owes an answer without bytes. Dropping it fails the request.
#[must_use = "an answer that is dropped is a failure"]
pub struct Answer(BoundPacketView<Write>);

impl Answer {
    /// Answers through a view of at least one byte; devices get theirs made.
    pub fn new(view: BoundPacketView<Write>) -> Self {
        Self(view)
    }

    #[cfg(feature = "plugin")]
    pub(crate) fn into_view(self) -> BoundPacketView<Write> {
        self.0
    }

    /// It was done.
    pub fn done(self) {
        self.0.transfer_data(&[1]).complete();
    }

    /// It was not.
    pub fn error(self, error: IoError) {
        self.0.error(error);
    }

    /// One or the other.
    pub fn result(self, result: Result<(), IoError>) {
        match result {
            Ok(()) => self.done(),
            Err(error) => self.error(error),
        }
    }

    /// Nobody waits for it any more.
    pub fn is_cancelled(&self) -> bool {
        self.0.is_cancelled()
    }
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Answer")
    }
}

/// Which requests a device takes, and how it likes them best. A host keeps to it: whoever uses the device need not.
///
/// ```
/// use pactio_sdk::Limits;
/// let limits = Limits::NONE.with_alignment(4096).with_largest(1 << 20);
/// assert!(limits.takes(8192, 4096));
/// assert!(!limits.takes(8192, 100) && !limits.takes(0, 1 << 21));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub(crate) alignment: u32,
    pub(crate) memory_alignment: u32,
    pub(crate) largest: u64,
    pub(crate) in_flight: u32,
    pub(crate) zero_copy: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self::NONE
    }
}

impl Limits {
    /// Anything goes.
    pub const NONE: Self =
        Self { alignment: 1, memory_alignment: 1, largest: u64::MAX, in_flight: 0, zero_copy: false };

    /// Positions and lengths are multiples of `bytes`. A host reads more and gives away a part; a write that does not fit is
    /// refused.
    ///
    /// # Panics
    ///
    /// If that is not a power of two.
    pub const fn with_alignment(mut self, bytes: u32) -> Self {
        assert!(bytes.is_power_of_two(), "an alignment is a power of two");
        self.alignment = bytes;
        self
    }

    /// MemoryRange whose address is a multiple of `bytes` is used without a copy.
    ///
    /// # Panics
    ///
    /// If that is not a power of two.
    pub const fn with_memory_alignment(mut self, bytes: u32) -> Self {
        assert!(bytes.is_power_of_two(), "an alignment is a power of two");
        self.memory_alignment = bytes;
        self
    }

    /// No request has more than `bytes`. A host splits those that have.
    ///
    /// # Panics
    ///
    /// If that is less than the alignment.
    pub const fn with_largest(mut self, bytes: u64) -> Self {
        assert!(bytes >= self.alignment as u64, "a request has at least one unit of the alignment");
        self.largest = bytes;
        self
    }

    /// So many requests should be in flight to keep the device busy. It is a wish; see [`Admission`] for a bound.
    pub const fn with_in_flight(mut self, count: u32) -> Self {
        self.in_flight = count;
        self
    }

    /// Bytes go from the device into the memory of the request, or the other way, without another copy.
    pub const fn with_zero_copy(mut self) -> Self {
        self.zero_copy = true;
        self
    }

    /// Positions and lengths are multiples of this.
    pub const fn alignment(&self) -> u32 {
        self.alignment
    }

    /// What an address must be a multiple of, so that nothing is copied.
    pub const fn memory_alignment(&self) -> u32 {
        self.memory_alignment
    }

    /// The most bytes of one request, if there is a limit.
    pub const fn largest(&self) -> Option<u64> {
        if self.largest == u64::MAX { None } else { Some(self.largest) }
    }

    /// How many requests should be in flight, if the device says so.
    pub const fn in_flight(&self) -> Option<u32> {
        if self.in_flight == 0 { None } else { Some(self.in_flight) }
    }

    /// Nothing is copied on the way.
    pub const fn zero_copy(&self) -> bool {
        self.zero_copy
    }

    /// The same for a device that takes every request, and makes of it what this one takes.
    #[must_use]
    pub const fn without_bounds(mut self) -> Self {
        self.alignment = 1;
        self.largest = u64::MAX;
        self
    }

    /// Such a request is taken as it is.
    pub const fn takes(&self, position: u64, len: u64) -> bool {
        let unit = self.alignment as u64 - 1;
        len <= self.largest && position & unit == 0 && len & unit == 0
    }

    /// All requests are.
    pub const fn takes_all(&self) -> bool {
        self.alignment == 1 && self.largest == u64::MAX
    }
}
