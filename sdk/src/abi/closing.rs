//! `pactio.closing/1`: closes a device, and says whether its code panicked.
//!
//! A drop has no result. So the host closes a device by this function, and drops the object afterwards. The sdk provides the
//! function for every device; a plugin that was built with an older sdk has only the drop.

use super::ext::RawExtension;
use super::{BackendDevice, DeviceObj, Guarded, IoBackend as _};

/// The id of the function.
const ID: &[u8] = b"pactio.closing/1";

/// ===== The function that closes a device =====
///
/// The host calls the function once, while no other call of the device is under way; only the drop of the object follows. The
/// function may block for as long as closing takes, and does not unwind.
#[repr(C)]
#[derive(Debug)]
pub struct ClosingTable {
    /// Size of this table in bytes; it grows at the end.
    pub size: u32,
    /// Drops the plugin's device; returns 0 on success, 1 if the device's code panicked.
    pub close: unsafe extern "C" fn(object: *const ()) -> u32,
}

struct TableOf<D>(D);

impl<D: BackendDevice> TableOf<D> {
    const TABLE: ClosingTable = ClosingTable { size: size_of::<ClosingTable>() as u32, close: close::<D> };
}

unsafe extern "C" fn close<D: BackendDevice>(object: *const ()) -> u32 {
    // SAFETY: `find` gave this table together with a `Guarded<D>` as the object, and the caller has not dropped the object.
    let device = unsafe { &*object.cast::<Guarded<D>>() };
    u32::from(device.close().is_err())
}

/// The table and its object, if `id` is the id of this function.
pub(super) fn find<D: BackendDevice>(device: &Guarded<D>, id: &[u8]) -> Option<RawExtension> {
    let table: &'static ClosingTable = &TableOf::<D>::TABLE;
    let (object, table) = (core::ptr::from_ref(device).cast(), core::ptr::from_ref(table).cast());
    (id == ID).then_some(RawExtension { object, table })
}

/// Closes a device of the other side and drops its object; `false` if the device's code panicked.
pub(super) fn close_and_drop(object: DeviceObj) -> bool {
    let closing = object.raw_extension(ID.into());
    if closing.table.is_null() {
        return true;
    }
    // SAFETY: each table begins with its size; a library stays loaded, so its tables are static.
    let size = unsafe { *closing.table.cast::<u32>() } as usize;
    if size < size_of::<ClosingTable>() {
        return true;
    }
    // SAFETY: the table was found under the id of `ClosingTable`, and is at least as long; a library stays loaded.
    let table = unsafe { &*closing.table.cast::<ClosingTable>() };
    // SAFETY: the device exists until the end of this function, which owns it, so no other call is under way.
    unsafe { (table.close)(closing.object) == 0 }
}
