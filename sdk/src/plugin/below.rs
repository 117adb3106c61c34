//! What a filter sits on.

use core::fmt;
use core::task::{Context, Poll};
use std::sync::Arc;

use crate::abi::{DeviceObj, Remote};
use crate::io::{Admitted, Turns};
use crate::{
    Admission, Batch, BoundPacketView, Cancellation, DeviceInfo, NoPos, PacketIo, Read, ReadWrite, RequestId,
    Write,
};

/// The device below a filter: anything that a host can open. Cheap to clone; it is closed with the last clone.
///
/// It is sent views as any device is, with all that [`PacketIoExt`](crate::PacketIoExt) and the like make of that. What a filter only
/// hands on is not copied. Its driver is the host's business.
#[derive(Clone)]
pub struct Below(Arc<Inner>);

struct Inner {
    device: Remote,
    turns: Option<Turns>,
}

impl Below {
    pub(crate) fn new(object: DeviceObj) -> Self {
        let device = Remote::new(object);
        let turns = device.admits().then(Turns::default);
        Self(Arc::new(Inner { device, turns }))
    }

    /// What the device tells of itself now.
    pub fn info(&self) -> DeviceInfo {
        self.0.device.info()
    }

    /// How it gives requests up: what a filter returns from [`Device::cancellation`](crate::Device::cancellation) that hands views
    /// on, since these keep their identity.
    pub fn cancellation(&self) -> Option<&dyn Cancellation> {
        self.0.device.cancels().then_some(self)
    }

    /// How it says that it is full: what a filter returns from [`Device::admission`](crate::Device::admission) that hands on what it
    /// gets. A filter that makes requests of its own, which wait for room by themselves, does not.
    pub fn admission(&self) -> Option<&dyn Admission> {
        self.0.device.admits().then_some(self)
    }
}

impl Cancellation for Below {
    fn cancel(&self, request: RequestId) {
        self.0.device.cancel(request);
    }
}

impl Admission for Below {
    fn poll_admit(&self, bytes: usize, cx: &mut Context<'_>) -> Poll<()> {
        self.0.device.poll_admit(bytes, cx)
    }
}

macro_rules! packet_io {
    ($($perms:ty, $param:ty;)*) => {
        $(
            impl PacketIo<$perms, $param> for Below {
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

impl fmt::Debug for Below {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Below").field(&self.0.device).finish()
    }
}
