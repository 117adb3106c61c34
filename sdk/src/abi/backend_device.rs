//! The trait of a device, its information, and how it is polled.

use core::task::{Context, Poll};

use super::ext::ExtensionQuery;
use crate::{Batch, BoundPacketView, IoError, Read, ReadWrite, Write};

/// An open object that answers I/O requests; a backend opens it.
///
/// All methods may be called from any thread, any number of threads at once, and must not block: a request that takes time is
/// answered later, from the [driver](Self::poll_driver) or from a thread of the device's own. Panics are caught: the views that
/// the call held fail, and the device is out of use from then on. The device is dropped when the last call has left it, so the
/// views that it keeps fail as well. A view that a thread of the device holds does not fail: that thread must answer it.
///
/// A device that sits on another one implements [`Filter`](crate::Filter) instead, if both have the same positions.
pub trait BackendDevice: Send + Sync + 'static {
    /// The size of the device, and which requests it answers. The info may change over time, as a file's size does.
    fn info(&self) -> DeviceInfo;

    /// Answers a read request at `position`, in bytes from the start of the device.
    ///
    /// The device writes to the `view`. Bytes past the end fail with [`IoError::END`].
    fn read(&self, position: u64, view: BoundPacketView<Write>);

    /// Answers a write request at `position`. Devices that can only be read keep this default, which fails the view
    /// with [`IoError::UNSUPPORTED`].
    fn write(&self, position: u64, view: BoundPacketView<Read>) {
        let _ = position;
        view.error(IoError::UNSUPPORTED);
    }

    /// Answers an exchange at `position`: the device's bytes and the view's change places.
    fn exchange(&self, position: u64, view: BoundPacketView<ReadWrite>) {
        let _ = position;
        view.error(IoError::UNSUPPORTED);
    }

    /// Answers many read requests: worth implementing where one lock or one system call can serve all.
    fn read_batch(&self, batch: Batch<'_, Write, u64>) {
        batch.for_each(|(position, view)| self.read(position, view));
    }

    /// Answers many write requests.
    fn write_batch(&self, batch: Batch<'_, Read, u64>) {
        batch.for_each(|(position, view)| self.write(position, view));
    }

    /// Answers a read request of the next bytes of a stream, such as a pipe or a socket. A device has positions, or is a stream.
    fn read_next(&self, view: BoundPacketView<Write>) {
        view.error(IoError::UNSUPPORTED);
    }

    /// Answers a write request of the next bytes of a stream.
    fn write_next(&self, view: BoundPacketView<Read>) {
        view.error(IoError::UNSUPPORTED);
    }

    /// Offers the [extensions](crate::ext) that the device has beyond reading and writing, each as
    /// `query.offer::<dyn Flush>(self)`.
    fn extensions<'d>(&'d self, query: &mut ExtensionQuery<'d>) {
        let _ = query;
    }

    /// States how the device is polled. The default is that of a device that needs no poll: it answers at once or from threads of
    /// its own.
    ///
    /// Called after opening. A device with a descriptor is asked again after each poll of its driver, and may name other
    /// directions: a socket is waited for to be written only while bytes wait to be sent. The descriptor stays the same.
    fn polling_handle(&self) -> PollingHandle {
        PollingHandle::None
    }

    /// Makes progress with the device's work, as the poll of a future without a value does.
    ///
    /// Called by the side that waits for the device, one call at a time, once at the beginning, and after the waker was woken or
    /// the device's descriptor became ready. The waker is the same in all calls, so that a device can keep the first, as in a
    /// `OnceLock`.
    ///
    /// Returns `Pending` after it has arranged for a wake. `Ready` means that the device has ended: views that are still in
    /// flight must have been answered.
    fn poll_driver(&self, cx: &mut Context<'_>) -> Poll<()> {
        let _ = cx;
        Poll::Ready(())
    }
}

/// The size of a device, and which requests it answers.
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

    /// The same info, but the device cannot be written.
    pub const fn read_only(mut self) -> Self {
        self.writable = false;
        self
    }

    /// The same info, but the device cannot be read.
    pub const fn write_only(mut self) -> Self {
        self.readable = false;
        self
    }

    /// The same info, but readable or writable only if `other` is, too.
    #[cfg(feature = "plugin")]
    pub(crate) const fn and(mut self, other: Self) -> Self {
        self.readable = self.readable && other.readable;
        self.writable = self.writable && other.writable;
        self
    }

    /// Size in bytes, if known.
    pub const fn size(&self) -> Option<u64> {
        self.size
    }

    /// The device is a stream and has no positions.
    pub const fn is_stream(&self) -> bool {
        self.stream
    }

    /// The device can be read.
    pub const fn readable(&self) -> bool {
        self.readable
    }

    /// The device can be written.
    pub const fn writable(&self) -> bool {
        self.writable
    }
}

/// How a device is polled, and the descriptor that a waiter may sleep on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PollingHandle {
    /// The device needs no poll.
    None,
    /// The device has a driver that wakes the waker of its last poll.
    Waker,
    /// The device has a driver that also has work when a file descriptor is ready. The descriptor stays open, and the same, while
    /// the device exists.
    Descriptor {
        /// The descriptor.
        descriptor: i32,
        /// There is work when the descriptor can be read.
        readable: bool,
        /// There is work when the descriptor can be written.
        writable: bool,
    },
}
