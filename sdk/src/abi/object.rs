//! The trait objects of a plugin: a backend and its devices.

// The traits here are turned into tables of C functions. The generated code is cglue's: it exports names that only some uses
// need, and lacks the comments that this project has in its own code.
#![allow(unused_imports, missing_docs, clippy::undocumented_unsafe_blocks, clippy::missing_safety_doc)]

use core::task::Context;

use cglue::arc::CArc;
use cglue::option::COption;
use cglue::slice::CSliceRef;
use cglue::trait_group::{Opaquable, c_void};
use cglue::{cglue_impl_group, cglue_trait, cglue_trait_group};

use super::ext::{RawExtension, find_for_other_side};
use super::{CWaker, DeviceParam, DeviceRequest, DriverPoll, Guarded, OpenFailure, RawOpenRequest, closing};
use crate::{
    BackendDevice, Batch, BoundPacketView, Crossing, DeviceInfo, IoError, NoPos, PacketPerms, PollingHandle,
    Read, ReadWrite, Submission, Write,
};

/// The handle that keeps the host's record of a plugin's library alive in every object of that plugin.
pub type Library = CArc<c_void>;

/// An opened device.
pub type DeviceObj = DeviceGroupArcBox<'static>;

/// The object that opens devices.
pub type BackendObj = BackendIoArcBox<'static>;

/// The entry of I/O over the boundary: hands views to a parameter, such as a position in bytes.
///
/// A call does not block, may be made from any thread and any number of threads at once, and takes over the duty to answer the
/// views. [`PacketIo`](crate::PacketIo) is the same without a boundary.
#[cglue_trait]
pub trait SendIo<Perms: PacketPerms, P: Crossing + 'static> {
    /// Hands one view over in its parts, so that it crosses in registers; call it through [`send`].
    ///
    /// # Safety
    ///
    /// The arguments are the parts of one view, which is the callee's from here on.
    unsafe fn send_parts(&self, param: P, packet: *const (), start: usize, end: usize, tag: u64);
    fn send_many(&self, batch: Batch<Perms, P>);
}

/// Hands one view to an object.
#[inline(always)]
pub fn send<Perms: PacketPerms, P: Crossing + 'static>(
    object: &impl SendIo<Perms, P>,
    param: P,
    view: BoundPacketView<Perms>,
) {
    let (packet, start, end, tag) = view.into_parts();
    // SAFETY: the arguments are the parts of `view`, which `into_parts` has consumed.
    unsafe { object.send_parts(param, packet, start, end, tag) }
}

/// The information of every device about itself, its driver, and its extensions.
#[cglue_trait]
pub trait IoBackend {
    fn raw_info(&self) -> RawDeviceInfo;
    fn raw_polling_handle(&self) -> RawPollingHandle;
    /// Polls the driver.
    ///
    /// # Safety
    ///
    /// No other poll of the driver is under way, on any thread.
    unsafe fn poll_driver(&self, waker: &CWaker) -> DriverStatus;
    fn raw_extension(&self, id: CSliceRef<u8>) -> RawExtension;
}

/// Opens devices.
#[cglue_trait]
pub trait BackendIo {
    fn open_device(
        &self,
        request: &RawOpenRequest,
        below: COption<DeviceGroupArcBox<'static>>,
    ) -> Result<DeviceGroupArcBox<'static>, OpenFailure>;
}

cglue_trait_group!(
    DeviceGroup,
    {
        SendIo<Write, u64> = ReadIo,
        SendIo<Read, u64> = WriteIo,
        SendIo<ReadWrite, u64> = ExchangeIo,
        SendIo<Write, NoPos> = ReadNextIo,
        SendIo<Read, NoPos> = WriteNextIo,
        IoBackend
    },
    {}
);

cglue_impl_group!(Guarded<D: BackendDevice>, DeviceGroup, {});

impl<D: BackendDevice, Perms: DeviceRequest<P>, P: DeviceParam> SendIo<Perms, P> for Guarded<D> {
    #[inline(always)]
    unsafe fn send_parts(&self, param: P, packet: *const (), start: usize, end: usize, tag: u64) {
        // SAFETY: the caller promises that these are the parts of one view, which is the callee's from here on.
        let view = unsafe { BoundPacketView::<Perms>::from_parts(packet, start, end, tag) };
        self.send(param, view);
    }

    fn send_many(&self, batch: Batch<'_, Perms, P>) {
        self.send_batch(batch);
    }
}

impl<D: BackendDevice> IoBackend for Guarded<D> {
    fn raw_info(&self) -> RawDeviceInfo {
        let mut raw = RawDeviceInfo::from(self.info());
        raw.flags |= match self.out_of_use() {
            None => 0,
            Some(IoError::DRIVER_ENDED) => ENDED,
            Some(_) => PANICKED,
        };
        raw
    }

    fn raw_polling_handle(&self) -> RawPollingHandle {
        self.polling_handle().into()
    }

    unsafe fn poll_driver(&self, waker: &CWaker) -> DriverStatus {
        waker.with_waker(|waker| {
            // SAFETY: the caller promises that no other poll of the driver is under way.
            match unsafe { self.poll_driver(&mut Context::from_waker(waker)) } {
                DriverPoll::Pending => DriverStatus::PENDING,
                DriverPoll::Ended => DriverStatus::ENDED,
                DriverPoll::Panicked => DriverStatus::PANICKED,
            }
        })
    }

    fn raw_extension(&self, id: CSliceRef<'_, u8>) -> RawExtension {
        let id = id.as_slice();
        closing::find(self, id).unwrap_or_else(|| find_for_other_side(self, id))
    }
}

/// Makes the object of a device.
pub(crate) fn device_object<D: BackendDevice>(device: Guarded<D>, library: Library) -> DeviceObj {
    let device = device.of_library(library.clone());
    cglue::group_obj!((device, library) as DeviceGroup)
}

/// Makes the object of a device that a host lends to a filter.
///
/// # Errors
///
/// If `polling_handle` of the device panics.
pub fn host_device<D: BackendDevice>(device: D) -> Result<DeviceObj, crate::IoError> {
    let device = Guarded::device(device).map_err(|_| crate::IoError::PANICKED)?;
    // The host's own code is never unloaded, so the handle keeps nothing. The handle holds a byte, since leak checkers take a
    // pointer to an allocation without bytes for a pointer to the next allocation.
    let library: Library = CArc::<u8>::from(std::sync::Arc::new(0)).into_opaque();
    Ok(device_object(device, library))
}

/// The size and the flags of a device.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "layout-check", derive(abi_stable::StableAbi))]
pub struct RawDeviceInfo {
    /// Bits: 1 the size is known, 2 readable, 4 writable, 8 a stream; 16 out of use since its code panicked, 32 out of use since
    /// its driver ended.
    pub flags: u32,
    /// Size in bytes, if known.
    pub size: u64,
}

const SIZE_KNOWN: u32 = 1;
const READABLE: u32 = 2;
const WRITABLE: u32 = 4;
const STREAM: u32 = 8;
const PANICKED: u32 = 16;
const ENDED: u32 = 32;

impl RawDeviceInfo {
    /// Why the device is out of use, if it is.
    pub fn out_of_use(&self) -> Option<IoError> {
        if self.flags & PANICKED != 0 {
            Some(IoError::POISONED)
        } else if self.flags & ENDED != 0 {
            Some(IoError::DRIVER_ENDED)
        } else {
            None
        }
    }
}

impl From<DeviceInfo> for RawDeviceInfo {
    fn from(info: DeviceInfo) -> Self {
        let mut flags = 0;
        for (bit, set) in [
            (SIZE_KNOWN, info.size.is_some()),
            (READABLE, info.readable),
            (WRITABLE, info.writable),
            (STREAM, info.stream),
        ] {
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
            stream: raw.flags & STREAM != 0,
        }
    }
}

/// How the device is polled, and the descriptor to sleep on.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "layout-check", derive(abi_stable::StableAbi))]
pub struct RawPollingHandle {
    /// 0: no driver; 1: a driver that wakes its waker; 2: a driver that also waits for `descriptor`.
    pub kind: u32,
    /// A file descriptor that stays open while the device exists.
    pub descriptor: i32,
    /// Bits: 1 wait until it can be read, 2 until it can be written.
    pub interest: u32,
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

/// The result of a poll of a driver.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "layout-check", derive(abi_stable::StableAbi))]
pub struct DriverStatus(pub u32);

impl DriverStatus {
    /// The driver will wake its waker.
    pub const PENDING: Self = Self(0);
    /// The driver has ended and must not be polled again.
    pub const ENDED: Self = Self(1);
    /// The driver panicked and must not be polled again.
    pub const PANICKED: Self = Self(2);
}

/// Adds objects to the ABI's fingerprint.
pub(super) const fn describe_boundary(
    print: crate::fingerprint::Fingerprint,
) -> crate::fingerprint::Fingerprint {
    let print =
        crate::fingerprint::fingerprint_struct!(print, RawDeviceInfo, "RawDeviceInfo" { flags, size });
    let print = crate::fingerprint::fingerprint_struct!(print, RawPollingHandle, "RawPollingHandle" { kind, descriptor, interest });
    let print =
        crate::fingerprint::fingerprint_struct!(print, Batch<'static, Read, u64>, "Batch" { next, left });
    let print =
        crate::fingerprint::fingerprint_struct!(print, Submission<Read, u64>, "Submission" { param, view });
    let print =
        crate::fingerprint::fingerprint_struct!(print, RawExtension, "RawExtension" { object, table });
    print
        .text("SendIo::send_parts: unsafe fn(&self, P, *const (), usize, usize, u64)")
        .text("SendIo::send_many: fn(&self, Batch<Perms, P>)")
        .text("IoBackend::raw_info: fn(&self) -> RawDeviceInfo")
        .text("RawDeviceInfo::flags: size 1, readable 2, writable 4, stream 8, panicked 16, ended 32")
        .text("IoBackend::raw_polling_handle: fn(&self) -> RawPollingHandle")
        .text("IoBackend::poll_driver: fn(&self, &CWaker) -> DriverStatus")
        .text("IoBackend::raw_extension: fn(&self, CSliceRef<u8>) -> RawExtension")
        .text("BackendIo::open_device: fn(&self, &RawOpenRequest, COption<DeviceObj>) -> Result<DeviceObj, OpenFailure>")
        .number(size_of::<DeviceObj>())
        .number(size_of::<BackendObj>())
}

// Checks the texts above against the code.
const _: () = {
    const fn checked<B: BackendIo, D: IoBackend + SendIo<Read, u64>>() {
        let _: unsafe fn(&D, u64, *const (), usize, usize, u64) = <D as SendIo<Read, u64>>::send_parts;
        let _: fn(&D, Batch<'_, Read, u64>) = <D as SendIo<Read, u64>>::send_many;
        let _: fn(&D) -> RawDeviceInfo = D::raw_info;
        let _: fn(&D) -> RawPollingHandle = D::raw_polling_handle;
        let _: unsafe fn(&D, &CWaker) -> DriverStatus = D::poll_driver;
        let _: fn(&D, CSliceRef<'_, u8>) -> RawExtension = D::raw_extension;
        let _: fn(&B, &RawOpenRequest, COption<DeviceObj>) -> Result<DeviceObj, OpenFailure> = B::open_device;
    }
    checked::<BackendObj, DeviceObj>();
};
