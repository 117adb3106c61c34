//! `pactio.open/2`: the device is a tree, and opens the names in it.

use core::mem::MaybeUninit;

use super::Capability;
use super::extension::{RemoteExtension, guarded, of_size};
use crate::abi::{DeviceObj, OpenFailure};
use crate::{BackendDevice, OpenError, OpenMode, Opened};

/// Opens the names in a tree. The counterpart of [`Listing`](super::Listing).
pub trait Opening: Send + Sync {
    /// Opens `name`: the names on the path, joined with `/`, none of them empty, `.` or `..`; names are bytes. The call may block
    /// for as long as opening takes. The opened device may outlive this device.
    ///
    /// # Errors
    ///
    /// With a message for people, as [`Backend::open`](crate::Backend::open).
    fn open(&self, name: &[u8], mode: OpenMode) -> Result<Opened, OpenError>;
}

impl Capability {
    /// [`Opening`].
    pub const OPEN: Self = Self::of_storage("pactio.open/2", "open names");
}

with_table!(Opening, OPEN, OpeningTable);

/// ===== The function of a device that opens the names in it =====
///
/// Any thread may call; the function does not unwind, and may block for as long as opening takes.
#[repr(C)]
#[derive(Debug)]
pub struct OpeningTable {
    /// Size of this table in bytes; it grows at the end.
    pub size: u32,
    /// Opens a name. The name is borrowed for the call, `mode` holds the bits of [`OpenMode`]. Gives 0 and writes `device`, or
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

struct TableOf<D>(D);

impl<D: BackendDevice> TableOf<D> {
    const TABLE: OpeningTable = OpeningTable { size: of_size::<OpeningTable>(), open: open::<D> };
}

unsafe extern "C" fn open<D: BackendDevice>(
    object: *const (),
    name: *const u8,
    name_len: usize,
    mode: u32,
    device: *mut MaybeUninit<DeviceObj>,
    failure: *mut MaybeUninit<OpenFailure>,
) -> u32 {
    // SAFETY: the object belongs to the table, and its device exists during the call; the name is borrowed for the call.
    let (tree, name) = unsafe { (guarded::<D>(object), core::slice::from_raw_parts(name, name_len)) };
    match tree.open(name, OpenMode(mode)) {
        Ok(opened) => {
            // SAFETY: `device` is valid for a write.
            unsafe { device.write(MaybeUninit::new(opened)) };
            0
        }
        Err(error) => {
            // SAFETY: `failure` is valid for a write.
            unsafe { failure.write(MaybeUninit::new(error.into())) };
            1
        }
    }
}

impl RemoteExtension<dyn Opening> {
    /// Opens a name.
    ///
    /// # Errors
    ///
    /// As [`Opening::open`].
    pub(crate) fn open_object(&self, name: &[u8], mode: OpenMode) -> Result<DeviceObj, OpenError> {
        let (object, table) = self.parts();
        let (mut device, mut failure) = (MaybeUninit::uninit(), MaybeUninit::<OpenFailure>::uninit());
        // SAFETY: the device exists, since `self` does; both places are valid for a write.
        let status = unsafe {
            (table.open)(object, name.as_ptr(), name.len(), mode.bits(), &raw mut device, &raw mut failure)
        };
        if status == 0 {
            // SAFETY: 0 means that `device` was written.
            return Ok(unsafe { device.assume_init() });
        }
        // SAFETY: any other number means that `failure` was written.
        Err(unsafe { failure.assume_init() }.into())
    }
}

impl Opening for RemoteExtension<dyn Opening> {
    fn open(&self, name: &[u8], mode: OpenMode) -> Result<Opened, OpenError> {
        self.open_object(name, mode).map(Opened::object)
    }
}
