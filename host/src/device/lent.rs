//! A device as a filter gets it.

use std::task::{Context, Poll};

use pactio_sdk::abi::{DeviceObj, host_device};
use pactio_sdk::io::PacketIo;
use pactio_sdk::{
    Admission, Batch, BoundPacketView, Cancellation, Device as AnyDevice, DeviceInfo, Read, ReadWrite,
    RequestId, Write,
};

use super::Device;

/// Hands on what a filter sends, as if the filter's code were a user of the device: so its driver is looked after.
struct Lent(Device);

impl Device {
    /// The device as an object that a plugin can be given.
    pub(crate) fn lend(&self) -> Result<DeviceObj, pactio_sdk::Error> {
        host_device(Lent(self.clone()))
    }
}

impl AnyDevice for Lent {
    fn info(&self) -> DeviceInfo {
        self.0.info()
    }

    #[inline]
    fn read(&self, position: u64, view: BoundPacketView<Write>) {
        self.0.send_io(position, view);
    }

    #[inline]
    fn write(&self, position: u64, view: BoundPacketView<Read>) {
        self.0.send_io(position, view);
    }

    fn exchange(&self, position: u64, view: BoundPacketView<ReadWrite>) {
        self.0.send_io(position, view);
    }

    fn read_batch(&self, batch: Batch<'_, Write, u64>) {
        self.0.send_batch(batch);
    }

    fn write_batch(&self, batch: Batch<'_, Read, u64>) {
        self.0.send_batch(batch);
    }

    fn read_next(&self, view: BoundPacketView<Write>) {
        self.0.send_io(pactio_sdk::NoPos, view);
    }

    fn write_next(&self, view: BoundPacketView<Read>) {
        self.0.send_io(pactio_sdk::NoPos, view);
    }

    fn cancellation(&self) -> Option<&dyn Cancellation> {
        self.0.0.remote.cancels().then_some(self)
    }

    fn admission(&self) -> Option<&dyn Admission> {
        self.0.0.remote.admits().then_some(self)
    }
}

impl Cancellation for Lent {
    fn cancel(&self, request: RequestId) {
        self.0.0.cancel(request);
    }
}

impl Admission for Lent {
    fn poll_admit(&self, bytes: usize, cx: &mut Context<'_>) -> Poll<()> {
        // The filter's own users wait for their turn above it, so nobody else asks.
        self.0.0.remote.poll_admit(bytes, cx)
    }
}
