//! What a device can beyond the base: tables of functions that are looked up by a name with a version.
//!
//! A new extension is a new name; tables grow at the end. A host that does not know a name never asks, and a device
//! that does not know one has nothing to give.

use core::mem::MaybeUninit;
use core::ptr;
use core::task::{Context, Poll};

use abi_stable::StableAbi;

use super::{CWaker, DeviceObj, OpenFailure, Operation, operation};
use crate::device::{Guarded, Limits};
use crate::{BackendDevice, Code, IoError, MemoryRange, OpenError, OpenMode, RequestId};

/// Name of the extension of devices that can give requests up; its table is a [`CancellationTable`].
pub const CANCELLATION: &str = "pactio.cancellation/1";

/// Name of the extension of devices that can be full; its table is an [`AdmissionTable`].
pub const ADMISSION: &str = "pactio.admission/1";

/// Name of the extension of devices that do not take every request; its table is a [`LimitsTable`].
pub const LIMITS: &str = "pactio.limits/1";

/// Name of the extension of devices that are a tree and open what is in it; its table is an [`OpeningTable`].
pub const OPENING: &str = "pactio.open/1";

/// Name of the extension of devices that are told of memory beforehand; its table is a [`MemoryTable`].
pub const MEMORY: &str = "pactio.memory/1";

/// An extension, or two null pointers. It is valid while its device exists.
#[repr(C)]
#[derive(Clone, Copy, Debug, StableAbi)]
pub struct RawExtension {
    /// The first argument of all functions of the table.
    #[sabi(unsafe_opaque_field)]
    pub object: *const (),
    /// The table; its type follows from the name.
    #[sabi(unsafe_opaque_field)]
    pub table: *const (),
}

/// ===== The functions of a device that can give requests up =====
///
/// Any thread may call; none unwinds or blocks.
#[repr(C)]
#[derive(Debug)]
pub struct CancellationTable {
    /// Size of this table in bytes; it grows at the end.
    pub size: u32,
    /// Answers the views of the request soon.
    pub cancel: unsafe extern "C" fn(object: *const (), request: u64),
}

/// ===== The functions of a device that can be full =====
///
/// Any thread may call, one at a time; none unwinds or blocks.
#[repr(C)]
#[derive(Debug)]
pub struct AdmissionTable {
    /// Size of this table in bytes; it grows at the end.
    pub size: u32,
    /// Asks for room for a request of so many bytes: 1 if it will be submitted right away. Otherwise, if there is a waker, the
    /// device wakes it when it may have room.
    pub poll_admit: unsafe extern "C" fn(object: *const (), bytes: usize, waker: Option<&CWaker>) -> u32,
}

/// ===== The function of a device that opens what has a name in it =====
///
/// Any thread may call; it does not unwind, and may block for as long as opening takes.
#[repr(C)]
#[derive(Debug)]
pub struct OpeningTable {
    /// Size of this table in bytes; it grows at the end.
    pub size: u32,
    /// Opens it. The name is UTF-8 and borrowed for the call, `mode` are bits of [`OpenMode`]. Gives 0 and writes `device`, or
    /// another number and writes `failure`.
    pub open: unsafe extern "C" fn(
        object: *const (),
        name: *const u8,
        name_len: usize,
        mode: u32,
        device: *mut MaybeUninit<DeviceObj>,
        failure: *mut MaybeUninit<OpenFailure>,
    ) -> u32,
}

/// ===== The function of a device that does not take every request =====
///
/// Any thread may call; it does not unwind or block.
#[repr(C)]
#[derive(Debug)]
pub struct LimitsTable {
    /// Size of this table in bytes; it grows at the end.
    pub size: u32,
    /// Writes the limits, which stay the same for the device's life.
    pub limits: unsafe extern "C" fn(object: *const (), out: *mut RawLimits),
}

/// ===== The functions of a device that is told of memory beforehand =====
///
/// Any thread may call; none unwinds. Registering may take as long as a system call that looks up all pages.
#[repr(C)]
#[derive(Debug)]
pub struct MemoryTable {
    /// Size of this table in bytes; it grows at the end.
    pub size: u32,
    /// Requests may lie in this memory from now on, which stays allocated until it is forgotten. Gives 0 and writes a number for
    /// it, or an error.
    pub register:
        unsafe extern "C" fn(object: *const (), start: *mut u8, len: usize, number: *mut u64) -> u32,
    /// No request lies in it any more.
    pub forget: unsafe extern "C" fn(object: *const (), number: u64),
}

/// [`Limits`] as they cross the boundary.
#[repr(C)]
#[derive(Debug)]
pub struct RawLimits {
    /// A power of two.
    pub alignment: u32,
    /// A power of two.
    pub memory_alignment: u32,
    /// The most bytes of a request.
    pub largest: u64,
    /// 0 if there is no wish.
    pub in_flight: u32,
    /// 1 if nothing is copied.
    pub zero_copy: u32,
}

impl From<Limits> for RawLimits {
    fn from(limits: Limits) -> Self {
        let Limits { alignment, memory_alignment, largest, in_flight, zero_copy } = limits;
        Self { alignment, memory_alignment, largest, in_flight, zero_copy: zero_copy.into() }
    }
}

impl From<RawLimits> for Limits {
    /// What makes no sense counts as no limit.
    fn from(raw: RawLimits) -> Self {
        let power = |number: u32| if number.is_power_of_two() { number } else { 1 };
        let alignment = power(raw.alignment);
        Self {
            alignment,
            memory_alignment: power(raw.memory_alignment),
            largest: if raw.largest < u64::from(alignment) { u64::MAX } else { raw.largest },
            in_flight: raw.in_flight,
            zero_copy: raw.zero_copy != 0,
        }
    }
}

struct TablesOf<D>(D);

impl<D: BackendDevice> TablesOf<D> {
    const CANCELLATION: CancellationTable =
        CancellationTable { size: size_of::<CancellationTable>() as u32, cancel: cancel::<D> };
    const ADMISSION: AdmissionTable =
        AdmissionTable { size: size_of::<AdmissionTable>() as u32, poll_admit: poll_admit::<D> };
    const OPENING: OpeningTable = OpeningTable { size: size_of::<OpeningTable>() as u32, open: open::<D> };
    const MEMORY: MemoryTable =
        MemoryTable { size: size_of::<MemoryTable>() as u32, register: register::<D>, forget: forget::<D> };
    const LIMITS: LimitsTable = LimitsTable { size: size_of::<LimitsTable>() as u32, limits: limits::<D> };
}

unsafe extern "C" fn open<D: BackendDevice>(
    object: *const (),
    name: *const u8,
    name_len: usize,
    mode: u32,
    device: *mut MaybeUninit<DeviceObj>,
    failure: *mut MaybeUninit<OpenFailure>,
) -> u32 {
    // SAFETY: the object is the `Guarded<D>` that gave the table, and exists; the name is borrowed for the call.
    let (tree, name) =
        unsafe { (&*object.cast::<Guarded<D>>(), core::slice::from_raw_parts(name, name_len)) };
    let opened = match core::str::from_utf8(name) {
        Ok(name) => tree.open(name, OpenMode(mode)),
        Err(_) => Err(OpenError::invalid_input("the name is not UTF-8")),
    };
    match opened {
        Ok(opened) => {
            // SAFETY: it is valid for a write.
            unsafe { device.write(MaybeUninit::new(opened)) };
            0
        }
        Err(error) => {
            // SAFETY: it is valid for a write.
            unsafe { failure.write(MaybeUninit::new(error.into())) };
            1
        }
    }
}

unsafe extern "C" fn register<D: BackendDevice>(
    object: *const (),
    start: *mut u8,
    len: usize,
    number: *mut u64,
) -> u32 {
    let Some(start) = ptr::NonNull::new(start) else {
        return IoError::from_code(Code::INVALID_INPUT).to_raw();
    };
    // SAFETY: the object is the `Guarded<D>` that gave the table, and exists; the memory is as the caller says.
    let registered = unsafe { (*object.cast::<Guarded<D>>()).register(MemoryRange::new(start, len)) };
    match registered {
        Ok(registered) => {
            // SAFETY: it is valid for a write.
            unsafe { number.write(registered) };
            0
        }
        Err(error) => error.to_raw(),
    }
}

unsafe extern "C" fn forget<D: BackendDevice>(object: *const (), number: u64) {
    // SAFETY: the object is the `Guarded<D>` that gave the table, and exists.
    unsafe { &*object.cast::<Guarded<D>>() }.forget(number);
}

unsafe extern "C" fn limits<D: BackendDevice>(object: *const (), out: *mut RawLimits) {
    // SAFETY: the object is the `Guarded<D>` that gave the table, and exists; `out` is valid for a write.
    unsafe { out.write((*object.cast::<Guarded<D>>()).limits().into()) };
}

unsafe extern "C" fn cancel<D: BackendDevice>(object: *const (), request: u64) {
    // SAFETY: the object is the `Guarded<D>` that gave the table, and exists.
    unsafe { &*object.cast::<Guarded<D>>() }.cancel(RequestId(request));
}

unsafe extern "C" fn poll_admit<D: BackendDevice>(
    object: *const (),
    bytes: usize,
    waker: Option<&CWaker>,
) -> u32 {
    // SAFETY: as in `cancel`.
    let device = unsafe { &*object.cast::<Guarded<D>>() };
    let polled = match waker {
        Some(waker) => waker.with_waker(|waker| device.poll_admit(bytes, &mut Context::from_waker(waker))),
        None => device.poll_admit(bytes, &mut Context::from_waker(core::task::Waker::noop())),
    };
    u32::from(polled == Poll::Ready(()))
}

/// Looks an extension up.
pub(super) fn extension<D: BackendDevice>(device: &Guarded<D>, id: &[u8]) -> RawExtension {
    let table: *const () = if id == CANCELLATION.as_bytes() && device.cancels() {
        ptr::from_ref(&TablesOf::<D>::CANCELLATION).cast()
    } else if id == ADMISSION.as_bytes() && device.admits() {
        ptr::from_ref(&TablesOf::<D>::ADMISSION).cast()
    } else if id == OPENING.as_bytes() && device.opens() {
        ptr::from_ref(&TablesOf::<D>::OPENING).cast()
    } else if id == MEMORY.as_bytes() && device.registers() {
        ptr::from_ref(&TablesOf::<D>::MEMORY).cast()
    } else if id == LIMITS.as_bytes() && device.limits() != Limits::NONE {
        ptr::from_ref(&TablesOf::<D>::LIMITS).cast()
    } else {
        let operation = Operation::ALL.iter().find(|operation| id == operation.id().as_bytes());
        match operation {
            Some(operation) if device.does(operation) => {
                ptr::from_ref(operation::table::<D>(operation)).cast()
            }
            _ => ptr::null(),
        }
    };
    let object = if table.is_null() { ptr::null() } else { ptr::from_ref(device).cast() };
    RawExtension { object, table }
}

/// What the ABI's fingerprint says of extensions. Their own tables are not part of it: they have versions.
pub(super) const fn describe_boundary(print: super::Fingerprint) -> super::Fingerprint {
    super::fingerprint_struct!(print, RawExtension, "RawExtension" { object, table })
}
