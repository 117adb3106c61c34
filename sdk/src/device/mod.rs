//! A device: something open that one can do I/O on.

mod calls;
mod counted;
#[cfg(all(unix, any(feature = "tokio", feature = "smol")))]
mod descriptor;
mod driven;
mod extensions;
mod guarded;
mod local;
mod records;
#[cfg(feature = "plugin")]
mod rests;
#[cfg(feature = "plugin")]
mod tree;

use core::task::{Context, Poll};

use crate::{Batch, BoundPacketView, IoError, Read, ReadWrite, Write};

pub use counted::{Counted, Counts};
pub use driven::{Driven, Requests};
#[cfg(feature = "plugin")]
pub use extensions::Opening;
pub use extensions::{
    Admission, Answer, Cancellation, Flush, FlushScope, Limits, Listing, Mapping, MemoryRange, Provenance,
    Registration, Resize, Statistics,
};
pub(crate) use guarded::Guarded;
#[cfg(feature = "plugin")]
pub(crate) use guarded::{CallError, DriverPoll};
pub use local::{LocalDevice, LocalDriver};
pub use records::{Entry, Figure, Origin, Record, Records, Region, Unit, read_records};
#[cfg(feature = "plugin")]
pub use rests::Rests;
#[cfg(feature = "plugin")]
pub use tree::{Tree, TreeDevice};

/// Something open that one can do I/O on.
///
/// All methods may be called from any thread, any number of threads at once, and must not block: what takes time is
/// answered later, from the [driver](Self::poll_driver) or from a thread of the device's own. Panics are caught: the
/// views that the call held fail, and the device is out of use from then on. Those that it keeps fail as well if it has a
/// driver, or can [give requests up](Self::cancellation) or [be full](Self::admission); another device answers from threads of
/// its own, and keeps nothing that only a later call would answer.
pub trait BackendDevice: Send + Sync + 'static {
    /// What the device can tell of itself. It may change over time, as a file's size does.
    fn info(&self) -> DeviceInfo;

    /// Answers a read request at `position`, in bytes from the start of the device.
    ///
    /// The `view` is to be written to. What lies past the end fails with [`IoError::END`].
    fn read(&self, position: u64, view: BoundPacketView<Write>);

    /// The device that this one sits on and hands everything to that it does not do itself: all methods with a default do so
    /// then. A device that must not let something through either has its own method for that or does not give this.
    fn below(&self) -> Option<&dyn BackendDevice> {
        None
    }

    /// Answers a write request at `position`. Devices that can only be read keep this default, which fails the view
    /// with [`IoError::UNSUPPORTED`].
    fn write(&self, position: u64, view: BoundPacketView<Read>) {
        match self.below() {
            Some(below) => below.write(position, view),
            None => view.error(IoError::UNSUPPORTED),
        }
    }

    /// Answers an exchange at `position`: the device's bytes and the view's change places.
    fn exchange(&self, position: u64, view: BoundPacketView<ReadWrite>) {
        match self.below() {
            Some(below) => below.exchange(position, view),
            None => view.error(IoError::UNSUPPORTED),
        }
    }

    /// Answers many read requests: worth implementing where one lock or one system call can serve all.
    fn read_batch(&self, batch: Batch<'_, Write, u64>) {
        batch.for_each(|(position, view)| self.read(position, view));
    }

    /// Answers many write requests.
    fn write_batch(&self, batch: Batch<'_, Read, u64>) {
        batch.for_each(|(position, view)| self.write(position, view));
    }

    /// Answers a read request of the next bytes of a stream: a pipe, a socket. A device has positions, or is a stream.
    fn read_next(&self, view: BoundPacketView<Write>) {
        match self.below() {
            Some(below) => below.read_next(view),
            None => view.error(IoError::UNSUPPORTED),
        }
    }

    /// Answers a write request of the next bytes of a stream.
    fn write_next(&self, view: BoundPacketView<Read>) {
        match self.below() {
            Some(below) => below.write_next(view),
            None => view.error(IoError::UNSUPPORTED),
        }
    }

    /// How requests are given up, if the device can do that.
    fn cancellation(&self) -> Option<&dyn Cancellation> {
        self.below()?.cancellation()
    }

    /// How requests are kept waiting while the device is full, if it can be.
    fn admission(&self) -> Option<&dyn Admission> {
        self.below()?.admission()
    }

    /// Which requests it takes, and how it likes them best. Asked once, after opening.
    fn limits(&self) -> Limits {
        self.below().map_or(Limits::NONE, BackendDevice::limits)
    }

    /// How what was written is made to last, if that is not so at once.
    fn flush(&self) -> Option<&dyn Flush> {
        self.below()?.flush()
    }

    /// How its size is changed, if that is possible.
    fn resize(&self) -> Option<&dyn Resize> {
        self.below()?.resize()
    }

    /// How its names are listed, if it is a tree.
    fn listing(&self) -> Option<&dyn Listing> {
        self.below()?.listing()
    }

    /// How what has a name is opened, if it is a tree. Nothing is handed on here: what is opened would lack all that this device
    /// does.
    #[cfg(feature = "plugin")]
    fn opening(&self) -> Option<&dyn Opening> {
        None
    }

    /// Where names come from, if it is a tree made of others.
    fn provenance(&self) -> Option<&dyn Provenance> {
        self.below()?.provenance()
    }

    /// Which positions exist, if not all do.
    fn mapping(&self) -> Option<&dyn Mapping> {
        self.below()?.mapping()
    }

    /// What it counts.
    fn statistics(&self) -> Option<&dyn Statistics> {
        self.below()?.statistics()
    }

    /// How it is told of memory beforehand, if that makes it faster. Nothing is handed on here: a host tells the device below by
    /// itself, which may outlive this one.
    fn registration(&self) -> Option<&dyn Registration> {
        None
    }

    /// Who polls the device. Asked once, after opening. The default is a device that needs nobody: it answers at once
    /// or from threads of its own.
    fn polling_handle(&self) -> PollingHandle {
        PollingHandle::None
    }

    /// Moves the device's work on, as a future that never gives a value.
    ///
    /// Called by whoever waits for the device, one at a time, after its waker was woken or its descriptor became ready.
    /// The waker is the same in all calls, so that the first can be kept, as in a `OnceLock`.
    ///
    /// It returns `Pending` after arranging for a wake; `Ready` says that the device has ended: what is still in flight
    /// must have been answered.
    fn poll_driver(&self, cx: &mut Context<'_>) -> Poll<()> {
        let _ = cx;
        Poll::Ready(())
    }
}

/// What a device tells of itself.
///
/// ```
/// use pactio_sdk::DeviceInfo;
/// let info = DeviceInfo::with_size(4096).read_only();
/// assert_eq!(info.size(), Some(4096));
/// assert!(info.readable() && !info.writable());
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceInfo {
    pub(crate) size: Option<u64>,
    pub(crate) readable: bool,
    pub(crate) writable: bool,
    pub(crate) stream: bool,
}

impl DeviceInfo {
    /// A device of `size` bytes that can be read and written.
    pub const fn with_size(size: u64) -> Self {
        Self { size: Some(size), readable: true, writable: true, stream: false }
    }

    /// A device without an end, or with one that is only found by reading; it can be read and written.
    pub const fn endless() -> Self {
        Self { size: None, readable: true, writable: true, stream: false }
    }

    /// A stream: bytes come and go in order, without positions. It can be read and written.
    pub const fn stream() -> Self {
        Self { size: None, readable: true, writable: true, stream: true }
    }

    /// The same, but it cannot be written.
    pub const fn read_only(mut self) -> Self {
        self.writable = false;
        self
    }

    /// The same, but it cannot be read.
    pub const fn write_only(mut self) -> Self {
        self.readable = false;
        self
    }

    /// Size in bytes, if known.
    pub const fn size(&self) -> Option<u64> {
        self.size
    }

    /// It is a stream and has no positions.
    pub const fn is_stream(&self) -> bool {
        self.stream
    }

    /// It can be read.
    pub const fn readable(&self) -> bool {
        self.readable
    }

    /// It can be written.
    pub const fn writable(&self) -> bool {
        self.writable
    }
}

/// Who polls a device, and what a waiter may sleep on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PollingHandle {
    /// Nobody needs to poll it.
    None,
    /// It has a driver that wakes the waker it was last polled with.
    Waker,
    /// It has a driver that also has work when a file descriptor is ready. The descriptor stays open, and the same,
    /// while the device exists.
    Descriptor {
        /// The descriptor.
        descriptor: i32,
        /// There is work when it can be read.
        readable: bool,
        /// There is work when it can be written.
        writable: bool,
    },
}
