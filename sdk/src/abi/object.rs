//! The trait objects of a plugin: a backend and its devices.

// The traits here are turned into tables of C functions. That code is cglue's: it exports names that only some uses need,
// and does not say of itself what this project says of its own code.
#![allow(unused_imports, missing_docs, clippy::undocumented_unsafe_blocks, clippy::missing_safety_doc)]

use abi_stable::StableAbi;
use cglue::arc::CArc;
use cglue::trait_group::c_void;
use cglue::{cglue_impl_group, cglue_trait, cglue_trait_group};

use super::{CWaker, OpenFailure, RawOpenRequest};
use crate::plugin::{Guarded, GuardedBackend};
use crate::{Backend, BoundPacketView, Device, PacketPerms, Read, Write};

/// The handle that keeps the host's record of a plugin's library alive in every object of that plugin.
pub type Library = CArc<c_void>;

/// An opened device.
pub type DeviceObj = DeviceGroupArcBox<'static>;

/// What opens devices.
pub type BackendObj = BackendIoArcBox<'static>;

/// The one entry of I/O: hands a view to a parameter, such as a position in bytes.
///
/// It does not block, may be called from any thread and any number of threads at once, and takes over the duty to
/// answer the view.
#[cglue_trait]
pub trait PacketIo<Perms: PacketPerms, Param: 'static> {
    fn send_io(&self, param: Param, view: BoundPacketView<Perms>);
}

/// What every device can tell of itself, and its driver.
#[cglue_trait]
pub trait IoBackend {
    fn raw_info(&self) -> RawDeviceInfo;
    fn raw_polling_handle(&self) -> RawPollingHandle;
    fn poll_driver(&self, waker: &CWaker) -> DriverStatus;
}

/// Opens devices.
#[cglue_trait]
pub trait BackendIo {
    fn open_device(&self, request: &RawOpenRequest) -> Result<DeviceGroupArcBox<'static>, OpenFailure>;
}

cglue_trait_group!(
    DeviceGroup,
    { PacketIo<Write, u64> = ReadIo, PacketIo<Read, u64> = WriteIo, IoBackend },
    {}
);

cglue_impl_group!(Guarded<D: Device>, DeviceGroup, {});

/// Makes the object of a device.
pub(crate) fn device_object<D: Device>(device: Guarded<D>, library: Library) -> DeviceObj {
    cglue::group_obj!((device, library) as DeviceGroup)
}

/// Makes the object of a backend.
pub(crate) fn backend_object<B: Backend>(backend: GuardedBackend<B>, library: Library) -> BackendObj {
    cglue::trait_obj!((backend, library) as BackendIo)
}

/// What a device tells of itself.
#[repr(C)]
#[derive(Clone, Copy, Debug, StableAbi)]
pub struct RawDeviceInfo {
    /// Bits: 1 the size is known, 2 readable, 4 writable.
    pub flags: u32,
    /// Size in bytes, if known.
    pub size: u64,
}

/// Who polls the device, and what to sleep on.
#[repr(C)]
#[derive(Clone, Copy, Debug, StableAbi)]
pub struct RawPollingHandle {
    /// 0: no driver; 1: a driver that wakes its waker; 2: a driver that also waits for `descriptor`.
    pub kind: u32,
    /// A file descriptor that stays open while the device exists.
    pub descriptor: i32,
    /// Bits: 1 wait until it can be read, 2 until it can be written.
    pub interest: u32,
}

/// What a driver said when it was polled.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, StableAbi)]
pub struct DriverStatus(pub u32);

impl DriverStatus {
    /// It will wake its waker.
    pub const PENDING: Self = Self(0);
    /// It has ended and is not to be polled again.
    pub const ENDED: Self = Self(1);
    /// It panicked and is not to be polled again.
    pub const PANICKED: Self = Self(2);
}

/// What the ABI's fingerprint says of objects.
pub(super) const fn describe_boundary(print: super::Fingerprint) -> super::Fingerprint {
    let print = super::fingerprint_struct!(print, RawDeviceInfo, "RawDeviceInfo" { flags, size });
    let print = super::fingerprint_struct!(print, RawPollingHandle, "RawPollingHandle" { kind, descriptor, interest });
    print
        .text("PacketIo::send_io: fn(&self, Param, BoundPacketView<Perms>)")
        .text("IoBackend::raw_info: fn(&self) -> RawDeviceInfo")
        .text("IoBackend::raw_polling_handle: fn(&self) -> RawPollingHandle")
        .text("IoBackend::poll_driver: fn(&self, &CWaker) -> DriverStatus")
        .text("BackendIo::open_device: fn(&self, &RawOpenRequest) -> Result<DeviceObj, OpenFailure>")
        .number(size_of::<DeviceObj>())
        .number(size_of::<BackendObj>())
}

// The texts above are held against the code.
const _: () = {
    const fn checked<B: BackendIo, D: IoBackend + PacketIo<Read, u64>>() {
        let _: fn(&D, u64, BoundPacketView<Read>) = <D as PacketIo<Read, u64>>::send_io;
        let _: fn(&D) -> RawDeviceInfo = D::raw_info;
        let _: fn(&D) -> RawPollingHandle = D::raw_polling_handle;
        let _: fn(&D, &CWaker) -> DriverStatus = D::poll_driver;
        let _: fn(&B, &RawOpenRequest) -> Result<DeviceObj, OpenFailure> = B::open_device;
    }
    checked::<BackendObj, DeviceObj>();
};
