//! A device: something open that one can do I/O on.

use core::task::{Context, Poll};

use crate::abi::{RawDeviceInfo, RawPollingHandle};
use crate::{BoundPacketView, Error, Read, Write};

/// Something open that one can do I/O on.
///
/// All methods may be called from any thread, any number of threads at once, and must not block: what takes time is
/// answered later, from the [driver](Self::poll_driver) or from a thread of the device's own. Panics are caught: the
/// views that the call held fail, and the device is out of use from then on.
pub trait Device: Send + Sync + 'static {
    /// What the device can tell of itself. It may change over time, as a file's size does.
    fn info(&self) -> DeviceInfo;

    /// Answers a read request at `position`, in bytes from the start of the device.
    ///
    /// The `view` is to be written to. What lies past the end fails with [`Error::END`].
    fn read(&self, position: u64, view: BoundPacketView<Write>);

    /// Answers a write request at `position`. Devices that can only be read keep this default, which fails the view
    /// with [`Error::UNSUPPORTED`].
    fn write(&self, position: u64, view: BoundPacketView<Read>) {
        let _ = position;
        view.error(Error::UNSUPPORTED);
    }

    /// Who polls the device. Asked once, after opening. The default is a device that needs nobody: it answers at once
    /// or from threads of its own.
    fn polling_handle(&self) -> PollingHandle {
        PollingHandle::None
    }

    /// Moves the device's work on, as a future that never gives a value.
    ///
    /// Called by whoever waits for the device, one at a time, after its waker was woken or its descriptor became ready.
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
    size: Option<u64>,
    readable: bool,
    writable: bool,
}

const SIZE_KNOWN: u32 = 1;
const READABLE: u32 = 2;
const WRITABLE: u32 = 4;

impl DeviceInfo {
    /// A device of `size` bytes that can be read and written.
    pub const fn with_size(size: u64) -> Self {
        Self { size: Some(size), readable: true, writable: true }
    }

    /// A device without an end, or with one that is only found by reading; it can be read and written.
    pub const fn endless() -> Self {
        Self { size: None, readable: true, writable: true }
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

    /// It can be read.
    pub const fn readable(&self) -> bool {
        self.readable
    }

    /// It can be written.
    pub const fn writable(&self) -> bool {
        self.writable
    }
}

impl From<DeviceInfo> for RawDeviceInfo {
    fn from(info: DeviceInfo) -> Self {
        let mut flags = 0;
        for (bit, set) in
            [(SIZE_KNOWN, info.size.is_some()), (READABLE, info.readable), (WRITABLE, info.writable)]
        {
            flags |= if set { bit } else { 0 };
        }
        Self { flags, size: info.size.unwrap_or(0) }
    }
}

impl From<RawDeviceInfo> for DeviceInfo {
    fn from(raw: RawDeviceInfo) -> Self {
        Self {
            size: (raw.flags & SIZE_KNOWN != 0).then_some(raw.size),
            readable: raw.flags & READABLE != 0,
            writable: raw.flags & WRITABLE != 0,
        }
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

impl From<PollingHandle> for RawPollingHandle {
    fn from(handle: PollingHandle) -> Self {
        match handle {
            PollingHandle::None => Self { kind: 0, descriptor: -1, interest: 0 },
            PollingHandle::Waker => Self { kind: 1, descriptor: -1, interest: 0 },
            PollingHandle::Descriptor { descriptor, readable, writable } => {
                Self { kind: 2, descriptor, interest: u32::from(readable) | u32::from(writable) << 1 }
            }
        }
    }
}

impl From<RawPollingHandle> for PollingHandle {
    /// Kinds of a later version count as a driver that wakes its waker, which is true of all drivers.
    fn from(raw: RawPollingHandle) -> Self {
        match raw.kind {
            0 => Self::None,
            2 => Self::Descriptor {
                descriptor: raw.descriptor,
                readable: raw.interest & 1 != 0,
                writable: raw.interest & 2 != 0,
            },
            _ => Self::Waker,
        }
    }
}
