//! The kinds of request that a device answers.

use super::BackendDevice;
use crate::{Batch, BoundPacketView, Crossing, NoPos, PacketPerms, Read, ReadWrite, Write};

/// Permissions of a view, and its parameter, that a [`BackendDevice`] has a method for:
///
/// | permissions | parameter | method |
/// |-------------|-----------|--------|
/// | [`Write`] | `u64` | [`read`](BackendDevice::read) |
/// | [`Read`] | `u64` | [`write`](BackendDevice::write) |
/// | [`ReadWrite`] | `u64` | [`exchange`](BackendDevice::exchange) |
/// | [`Write`] | [`NoPos`] | [`read_next`](BackendDevice::read_next) |
/// | [`Read`] | [`NoPos`] | [`write_next`](BackendDevice::write_next) |
///
/// The trait is sealed: the boundary between host and plugin has these five kinds.
pub trait DeviceRequest<P: DeviceParam>: PacketPerms + sealed::Sealed<P> {
    /// Hands a view to the device's method.
    fn send<D: BackendDevice>(device: &D, param: P, view: BoundPacketView<Self>);

    /// The request is a read of a position: it may be answered at once by [`ReadNow`](super::ext::ReadNow).
    const MAY_BE_AT_HAND: bool = false;

    /// The position, if the request [may be at hand](Self::MAY_BE_AT_HAND).
    fn read_position(param: P) -> Option<u64> {
        let _ = param;
        None
    }

    /// Hands many views to the device, in order.
    fn send_batch<D: BackendDevice>(device: &D, batch: Batch<'_, Self, P>) {
        batch.for_each(|(param, view)| Self::send(device, param, view));
    }
}

/// A parameter of the requests of devices: a position in bytes, or [`NoPos`].
pub trait DeviceParam: Crossing + Copy + Send + 'static {}

impl DeviceParam for u64 {}
impl DeviceParam for NoPos {}

mod sealed {
    pub trait Sealed<P> {}
}

impl sealed::Sealed<u64> for Write {}
impl sealed::Sealed<u64> for Read {}
impl sealed::Sealed<u64> for ReadWrite {}
impl sealed::Sealed<NoPos> for Write {}
impl sealed::Sealed<NoPos> for Read {}

impl DeviceRequest<u64> for Write {
    const MAY_BE_AT_HAND: bool = true;

    #[inline(always)]
    fn send<D: BackendDevice>(device: &D, position: u64, view: BoundPacketView<Self>) {
        device.read(position, view);
    }

    #[inline(always)]
    fn read_position(position: u64) -> Option<u64> {
        Some(position)
    }

    fn send_batch<D: BackendDevice>(device: &D, batch: Batch<'_, Self, u64>) {
        device.read_batch(batch);
    }
}

impl DeviceRequest<u64> for Read {
    #[inline(always)]
    fn send<D: BackendDevice>(device: &D, position: u64, view: BoundPacketView<Self>) {
        device.write(position, view);
    }

    fn send_batch<D: BackendDevice>(device: &D, batch: Batch<'_, Self, u64>) {
        device.write_batch(batch);
    }
}

impl DeviceRequest<u64> for ReadWrite {
    fn send<D: BackendDevice>(device: &D, position: u64, view: BoundPacketView<Self>) {
        device.exchange(position, view);
    }
}

impl DeviceRequest<NoPos> for Write {
    fn send<D: BackendDevice>(device: &D, _: NoPos, view: BoundPacketView<Self>) {
        device.read_next(view);
    }
}

impl DeviceRequest<NoPos> for Read {
    fn send<D: BackendDevice>(device: &D, _: NoPos, view: BoundPacketView<Self>) {
        device.write_next(view);
    }
}
