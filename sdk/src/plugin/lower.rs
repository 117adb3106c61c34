//! What a filter sits on.

use core::fmt;
use core::task::{Context, Poll};
use std::sync::Arc;

use crate::abi::{DeviceObj, Operates, Operation, Remote};
use crate::io::{Admitted, Turns};
use crate::{
    Admission, BackendDevice, Batch, BoundPacketView, Cancellation, DeviceInfo, Flush, Limits, Listing,
    Mapping, NoPos, OpenError, OpenMode, Opened, Opening, PacketIo, Provenance, Read, ReadWrite, RequestId,
    Resize, Statistics, Write,
};

/// The device below a filter: anything that a host can open. Cheap to clone; it is closed with the last clone.
///
/// It is sent views as any device is, with all that [`PacketIoExt`](crate::PacketIoExt) and the like make of that. What a filter only
/// hands on is not copied. Its driver is the host's business.
#[derive(Clone)]
pub struct Lower(Arc<Inner>);

struct Inner {
    device: Remote,
    turns: Option<Turns>,
}

impl Lower {
    pub(crate) fn new(object: DeviceObj) -> Self {
        let device = Remote::new(object);
        let turns = device.admits().then(Turns::default);
        Self(Arc::new(Inner { device, turns }))
    }

    /// Opens what has a name in it, if it is a tree: the names on the way joined with `/`. May block for as long as opening takes.
    ///
    /// # Errors
    ///
    /// If it is no tree, nothing has that name, or it cannot be opened.
    pub fn open(&self, name: &str, mode: OpenMode) -> Result<Self, OpenError> {
        self.0.device.open(name, mode).map(Self::new)
    }

    /// The object, or the same again if it is still used elsewhere.
    pub(super) fn into_object(self) -> Result<DeviceObj, Self> {
        Arc::try_unwrap(self.0).map(|inner| inner.device.into_object()).map_err(Self)
    }
}

impl BackendDevice for Lower {
    fn info(&self) -> DeviceInfo {
        self.0.device.info()
    }

    #[inline]
    fn read(&self, position: u64, view: BoundPacketView<Write>) {
        self.0.device.send(position, view);
    }

    #[inline]
    fn write(&self, position: u64, view: BoundPacketView<Read>) {
        self.0.device.send(position, view);
    }

    fn exchange(&self, position: u64, view: BoundPacketView<ReadWrite>) {
        self.0.device.send(position, view);
    }

    fn read_batch(&self, batch: Batch<'_, Write, u64>) {
        self.0.device.send_many(batch);
    }

    fn write_batch(&self, batch: Batch<'_, Read, u64>) {
        self.0.device.send_many(batch);
    }

    fn read_next(&self, view: BoundPacketView<Write>) {
        self.0.device.send(NoPos, view);
    }

    fn write_next(&self, view: BoundPacketView<Read>) {
        self.0.device.send(NoPos, view);
    }

    /// Views that are handed on keep their identity, so what is above may give this as its own.
    fn cancellation(&self) -> Option<&dyn Cancellation> {
        self.0.device.cancels().then_some(&*self.0 as _)
    }

    /// For a filter that hands on what it gets. One that makes requests of its own, which wait for room by themselves, does not
    /// give this.
    fn admission(&self) -> Option<&dyn Admission> {
        self.0.device.admits().then_some(&*self.0 as _)
    }

    fn limits(&self) -> Limits {
        self.0.device.limits()
    }

    fn flush(&self) -> Option<&dyn Flush> {
        self.0.device.does(Operation::FLUSH).then_some(&*self.0 as _)
    }

    fn resize(&self) -> Option<&dyn Resize> {
        self.0.device.does(Operation::RESIZE).then_some(&*self.0 as _)
    }

    fn listing(&self) -> Option<&dyn Listing> {
        self.0.device.does(Operation::LIST).then_some(&*self.0 as _)
    }

    fn opening(&self) -> Option<&dyn Opening> {
        self.0.device.opens().then_some(self as _)
    }

    fn provenance(&self) -> Option<&dyn Provenance> {
        self.0.device.does(Operation::PROVENANCE).then_some(&*self.0 as _)
    }

    fn mapping(&self) -> Option<&dyn Mapping> {
        self.0.device.does(Operation::MAP).then_some(&*self.0 as _)
    }

    fn statistics(&self) -> Option<&dyn Statistics> {
        self.0.device.does(Operation::STATISTICS).then_some(&*self.0 as _)
    }
}

impl Opening for Lower {
    fn open(&self, name: &str, mode: OpenMode) -> Result<Opened, OpenError> {
        Self::open(self, name, mode).map(Opened::handed_on)
    }
}

impl Operates for Inner {
    fn operate(&self, operation: Operation<'_>, view: BoundPacketView<Write>) {
        self.device.operate(operation, view);
    }
}

impl Cancellation for Inner {
    fn cancel(&self, request: RequestId) {
        self.device.cancel(request);
    }
}

impl Admission for Inner {
    fn poll_admit(&self, bytes: usize, cx: &mut Context<'_>) -> Poll<()> {
        self.device.poll_admit(bytes, cx)
    }
}

macro_rules! packet_io {
    ($($perms:ty, $param:ty;)*) => {
        $(
            impl PacketIo<$perms, $param> for Lower {
                #[inline]
                fn send_io(&self, param: $param, view: BoundPacketView<$perms>) {
                    self.0.device.send(param, view);
                }

                fn send_batch(&self, batch: Batch<'_, $perms, $param>) {
                    self.0.device.send_many(batch);
                }

                fn admit(&self, bytes: usize) -> Option<Admitted> {
                    let inner = self.0.clone();
                    self.0.turns.as_ref()?.admit(move |cx| inner.device.poll_admit(bytes, cx))
                }

                fn cancel(&self, request: RequestId) {
                    self.0.device.cancel(request);
                }
            }
        )*
    };
}

packet_io! {
    Write, u64;
    Read, u64;
    ReadWrite, u64;
    Write, NoPos;
    Read, NoPos;
}

impl fmt::Debug for Lower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Lower").field(&self.0.device).finish()
    }
}
