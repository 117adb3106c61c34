//! The device below a filter, as an object for the filter's plugin.

use std::task::{Context, Poll};

use pactio_sdk::abi::{DeviceObj, DeviceParam, DeviceRequest, host_device};
use pactio_sdk::ext::{Operation, Relay};
use pactio_sdk::io::PacketIo;
use pactio_sdk::{
    Admission, BackendDevice, Batch, BoundPacketView, Cancellation, Capability, DeviceInfo, ExtensionQuery,
    IoError, Limiting, Limits, NoPos, OpenError, OpenMode, Opened, Opening, Read, ReadNow, ReadWrite,
    RequestId, Unfilled, Write,
};

use super::Device;
use crate::executor::note_call_from_plugin;

/// Hands requests on as a user of the device would send them, so that they pass through the host's layers and the device's driver
/// is polled.
struct LowerDevice(Device);

impl Device {
    /// The device as an object for a plugin.
    pub(crate) fn lend(&self) -> Result<DeviceObj, IoError> {
        host_device(LowerDevice(self.clone()))
    }
}

impl LowerDevice {
    #[inline]
    fn send<Perms: DeviceRequest<P>, P: DeviceParam>(&self, param: P, view: BoundPacketView<Perms>)
    where
        Device: PacketIo<Perms, P>,
    {
        note_call_from_plugin();
        self.0.send_io(param, view);
    }
}

impl BackendDevice for LowerDevice {
    fn info(&self) -> DeviceInfo {
        self.0.info()
    }

    #[inline]
    fn read(&self, position: u64, view: BoundPacketView<Write>) {
        self.send(position, view);
    }

    #[inline]
    fn write(&self, position: u64, view: BoundPacketView<Read>) {
        self.send(position, view);
    }

    fn exchange(&self, position: u64, view: BoundPacketView<ReadWrite>) {
        self.send(position, view);
    }

    fn read_batch(&self, batch: Batch<'_, Write, u64>) {
        note_call_from_plugin();
        self.0.send_batch(batch);
    }

    fn write_batch(&self, batch: Batch<'_, Read, u64>) {
        note_call_from_plugin();
        self.0.send_batch(batch);
    }

    fn read_next(&self, view: BoundPacketView<Write>) {
        self.send(NoPos, view);
    }

    fn write_next(&self, view: BoundPacketView<Read>) {
        self.send(NoPos, view);
    }

    #[inline(always)]
    fn extensions<'d>(&'d self, query: &mut ExtensionQuery<'d>) {
        if !query.is_for::<dyn ReadNow>() {
            self.other_extensions(query);
        } else if self.0.0.read_now.is_some() {
            query.offer::<dyn ReadNow>(self);
        }
    }
}

impl LowerDevice {
    /// The extensions of the device, except for the registration of memory, which only the host does.
    fn other_extensions<'d>(&'d self, query: &mut ExtensionQuery<'d>) {
        match query.capability() {
            // The host knows the limits of each device, also of a plugin without this extension.
            Capability::LIMITS => query.offer::<dyn Limiting>(self),
            Capability::MEMORY => query,
            capability if self.0.serving(capability).is_none() => query,
            Capability::CANCELLATION => query.offer::<dyn Cancellation>(self),
            Capability::ADMISSION => query.offer::<dyn Admission>(self),
            Capability::OPEN => query.offer::<dyn Opening>(self),
            // All other extensions are operations, which a relay hands on in the same way.
            _ => {
                query.offer_relay(self);
                query
            }
        };
    }
}

impl Limiting for LowerDevice {
    /// The requests that the device handles best; the host fits all others to the limits.
    fn limits(&self) -> Limits {
        self.0.limits().without_bounds()
    }
}

impl Opening for LowerDevice {
    fn open(&self, name: &[u8], mode: OpenMode) -> Result<Opened, OpenError> {
        note_call_from_plugin();
        let device = self.0.open_in(name, mode)?;
        Ok(Opened::object(device.lend()?))
    }
}

impl ReadNow for LowerDevice {
    fn read_now(&self, position: u64, into: &mut Unfilled<'_>) {
        note_call_from_plugin();
        // The device at the top decides whether the read is tried.
        self.0.0.read_at_once(position, into);
    }
}

impl Relay for LowerDevice {
    fn relay<E: Operation + ?Sized>(&self, number: u64, text: &[u8], view: BoundPacketView<Write>) {
        note_call_from_plugin();
        self.0.serving(E::OPERATION).unwrap_or(&self.0).0.operate::<E>(number, text, view);
    }
}

impl Cancellation for LowerDevice {
    fn cancel(&self, request: RequestId) {
        note_call_from_plugin();
        self.0.0.cancel(request);
    }
}

impl Admission for LowerDevice {
    fn poll_admit(&self, bytes: usize, cx: &mut Context<'_>) -> Poll<()> {
        note_call_from_plugin();
        // The users of the filter queue above the filter.
        match &self.0.0.room {
            Some(room) => room.ask_from_above(&self.0.0, bytes, cx),
            None => Poll::Ready(()),
        }
    }
}
