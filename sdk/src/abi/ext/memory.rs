//! `pactio.memory/1`: memory can be registered with the device before requests use it.

use core::ptr::NonNull;

use super::Capability;
use crate::IoError;

#[cfg(feature = "plugin")]
use super::extension::{RemoteExtension, guarded, of_size};
#[cfg(feature = "plugin")]
use crate::{BackendDevice, Code};

/// Registers memory, which makes requests in that memory faster: a kernel's ring looks up the pages once, and not for each
/// request.
pub trait Registration: Send + Sync {
    /// Registers memory: requests may lie in it from now on, until it is [forgotten](Self::forget). Gives a number for the
    /// memory.
    ///
    /// # Errors
    ///
    /// If the memory cannot be registered. Requests in that memory are answered nevertheless.
    fn register(&self, memory: MemoryRange) -> Result<u64, IoError>;

    /// Forgets the memory of that number: no request lies in the memory now, or will later.
    fn forget(&self, number: u64);
}

/// A range of memory whose address is stable until it is unregistered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryRange {
    start: NonNull<u8>,
    len: usize,
}

// SAFETY: the value is an address and a length; it gives no access to the memory.
unsafe impl Send for MemoryRange {}
// SAFETY: the value is an address and a length; it gives no access to the memory.
unsafe impl Sync for MemoryRange {}

impl MemoryRange {
    /// `len` bytes from `start`.
    ///
    /// # Safety
    ///
    /// The bytes stay allocated until each device that registered them has [forgotten](Registration::forget) them or is
    /// dropped.
    pub const unsafe fn new(start: NonNull<u8>, len: usize) -> Self {
        Self { start, len }
    }

    /// The first byte.
    pub const fn start(&self) -> NonNull<u8> {
        self.start
    }

    /// Length in bytes.
    pub const fn len(&self) -> usize {
        self.len
    }

    /// There are no bytes.
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }
}

impl Capability {
    /// [`Registration`].
    pub const MEMORY: Self = Self::of_handling("pactio.memory/1", "register memory");
}

with_table!(Registration, MEMORY, MemoryTable);

/// ===== The functions of a device that registers memory =====
///
/// Any thread may call; no function unwinds. Registering may take as long as a system call that looks up all pages.
#[cfg(feature = "plugin")]
#[repr(C)]
#[derive(Debug)]
pub struct MemoryTable {
    /// Size of this table in bytes; it grows at the end.
    pub size: u32,
    /// Registers memory: requests may lie in it from now on, and it stays allocated until it is forgotten. Gives 0 and writes a
    /// number for the memory, or gives an error.
    pub register:
        unsafe extern "C" fn(object: *const (), start: *mut u8, len: usize, number: *mut u64) -> u32,
    /// Forgets memory: no request lies in it any more.
    pub forget: unsafe extern "C" fn(object: *const (), number: u64),
}

#[cfg(feature = "plugin")]
struct TableOf<D>(D);

#[cfg(feature = "plugin")]
impl<D: BackendDevice> TableOf<D> {
    const TABLE: MemoryTable =
        MemoryTable { size: of_size::<MemoryTable>(), register: register::<D>, forget: forget::<D> };
}

#[cfg(feature = "plugin")]
unsafe extern "C" fn register<D: BackendDevice>(
    object: *const (),
    start: *mut u8,
    len: usize,
    number: *mut u64,
) -> u32 {
    let Some(start) = NonNull::new(start) else { return IoError::from_code(Code::INVALID_INPUT).to_raw() };
    // SAFETY: the object belongs to the table, and its device exists during the call; the caller keeps the memory allocated until
    // it is forgotten.
    let (device, memory) = unsafe { (guarded::<D>(object), MemoryRange::new(start, len)) };
    match device.with::<dyn Registration, _>(|extension| extension.register(memory)).and_then(|result| result)
    {
        Ok(registered) => {
            // SAFETY: `number` is valid for a write.
            unsafe { number.write(registered) };
            0
        }
        Err(error) => error.to_raw(),
    }
}

#[cfg(feature = "plugin")]
unsafe extern "C" fn forget<D: BackendDevice>(object: *const (), number: u64) {
    // SAFETY: the object belongs to the table, and its device exists during the call.
    let device = unsafe { guarded::<D>(object) };
    // A device that is out of use has no requests any more.
    let _ = device.with::<dyn Registration, _>(|extension| extension.forget(number));
}

#[cfg(feature = "plugin")]
impl Registration for RemoteExtension<dyn Registration> {
    fn register(&self, memory: MemoryRange) -> Result<u64, IoError> {
        let (object, table) = self.parts();
        let mut number = 0;
        // SAFETY: the device exists, since `self` does; the maker of the `MemoryRange` has promised that the memory stays
        // allocated.
        let raw = unsafe { (table.register)(object, memory.start().as_ptr(), memory.len(), &raw mut number) };
        IoError::from_raw(raw).map_or(Ok(number), Err)
    }

    fn forget(&self, number: u64) {
        let (object, table) = self.parts();
        // SAFETY: the device exists, since `self` does.
        unsafe { (table.forget)(object, number) };
    }
}
