//! `pactio.read-now/1`: reads that are answered at once, without a request.

use super::Capability;
use crate::Unfilled;

#[cfg(feature = "plugin")]
use super::extension::{RemoteExtension, guarded, of_size};
#[cfg(feature = "plugin")]
use crate::{BackendDevice, Filling};

/// Reads of bytes that the device has at hand, as in memory: no view crosses the boundary for them, and small reads make no
/// packet.
///
/// A device has this extension in addition to [`BackendDevice::read`](crate::BackendDevice::read), which answers all other reads.
/// The host uses it only where the extension is faster; it skips the extension for a while if the device declines.
///
/// ```
/// use pactio_sdk::{BackendDevice, DeviceInfo, ExtensionQuery, IoError, ReadNow, ReadView, Unfilled};
///
/// struct Text(&'static str);
///
/// impl Text {
///     fn from(&self, position: u64) -> &[u8] {
///         let position = usize::try_from(position).unwrap_or(usize::MAX);
///         self.0.as_bytes().get(position..).unwrap_or(&[])
///     }
/// }
///
/// impl BackendDevice for Text {
///     fn info(&self) -> DeviceInfo {
///         DeviceInfo::with_size(self.0.len() as u64).read_only()
///     }
///     fn read(&self, position: u64, view: ReadView) {
///         view.transfer_data(self.from(position)).complete();
///     }
///     fn extensions<'d>(&'d self, query: &mut ExtensionQuery<'d>) {
///         query.offer::<dyn ReadNow>(self);
///     }
/// }
///
/// impl ReadNow for Text {
///     fn read_now(&self, position: u64, into: &mut Unfilled<'_>) {
///         into.append(self.from(position)); // if the text is too short, the host sends a request, which fails
///     }
/// }
/// ```
pub trait ReadNow: Send + Sync {
    /// Fills all of `into` with the bytes from `position` on, without waiting. A device that cannot do so, for whatever reason,
    /// leaves some of `into` unfilled: the host then sends a request, which states the reason. At least one byte remains, and the
    /// range ends within the range of positions.
    fn read_now(&self, position: u64, into: &mut Unfilled<'_>);
}

impl Capability {
    /// [`ReadNow`].
    pub const READ_NOW: Self = Self::of_handling("pactio.read-now/1", "read at once");
}

with_table!(ReadNow, READ_NOW, ReadNowTable);

/// ===== The function of a device that answers reads at once =====
///
/// Any thread may call, any number at once; the function does not unwind or block.
#[cfg(feature = "plugin")]
#[repr(C)]
#[derive(Debug)]
pub struct ReadNowTable {
    /// Size of this table in bytes; it grows at the end.
    pub size: u32,
    /// Reads `len` bytes from `position` into `memory`, which is the callee's during the call: 1 if all of them were read. With
    /// any other answer, some may have been written.
    pub read_now: unsafe extern "C" fn(object: *const (), position: u64, memory: *mut u8, len: usize) -> u32,
}

#[cfg(feature = "plugin")]
struct TableOf<D>(D);

#[cfg(feature = "plugin")]
impl<D: BackendDevice> TableOf<D> {
    const TABLE: ReadNowTable = ReadNowTable { size: of_size::<ReadNowTable>(), read_now: read_now::<D> };
}

#[cfg(feature = "plugin")]
unsafe extern "C" fn read_now<D: BackendDevice>(
    object: *const (),
    position: u64,
    memory: *mut u8,
    len: usize,
) -> u32 {
    // SAFETY: the object belongs to the table, and its device exists during the call.
    let device = unsafe { guarded::<D>(object) };
    // SAFETY: the memory is this function's during the call.
    let mut filling = unsafe { Filling::from_raw(memory, len) };
    let read =
        device.with::<dyn ReadNow, _>(|extension| extension.read_now(position, &mut filling.unfilled()));
    u32::from(read.is_ok() && filling.is_full())
}

#[cfg(feature = "plugin")]
impl ReadNow for RemoteExtension<dyn ReadNow> {
    #[inline(always)]
    fn read_now(&self, position: u64, into: &mut Unfilled<'_>) {
        let (object, table) = self.parts();
        let (memory, len) = (into.unfilled_ptr(), into.remaining());
        // SAFETY: the device exists, since `self` does; the memory is that of `into`, which is borrowed for the call. 1 says
        // that all of it was written.
        unsafe {
            if (table.read_now)(object, position, memory, len) == 1 {
                into.advance_unchecked(len);
            }
        }
    }
}
