//! `pactio.cancellation/1`: requests can be cancelled (rule P21). Views learn of it through their origins (`packet/view.rs`); a
//! filter hands the call on with `Lower::cancel`.

use super::Capability;
use crate::RequestId;

#[cfg(feature = "plugin")]
use super::extension::{RemoteExtension, guarded, of_size};
#[cfg(feature = "plugin")]
use crate::BackendDevice;

/// Cancels requests.
///
/// A device without this extension answers as if the request had not been cancelled, which delays only the caller that waits for
/// the cancelled request. Views report that they were [cancelled](crate::BoundPacketView::is_cancelled) either way.
pub trait Cancellation: Send + Sync {
    /// Answers the views of `request` soon, with [`IoError::CANCELLED`](crate::IoError::CANCELLED) where nothing was done. A
    /// device that has no view of the request does nothing: an answer may be on its way. A filter hands the call to the device
    /// below, for the views that the filter has sent on.
    fn cancel(&self, request: RequestId);
}

impl Capability {
    /// [`Cancellation`].
    pub const CANCELLATION: Self = Self::of_handling("pactio.cancellation/1", "cancel");
}

with_table!(Cancellation, CANCELLATION, CancellationTable);

/// ===== The function of a device that can cancel requests =====
///
/// Any thread may call; the function does not unwind or block.
#[cfg(feature = "plugin")]
#[repr(C)]
#[derive(Debug)]
pub struct CancellationTable {
    /// Size of this table in bytes; it grows at the end.
    pub size: u32,
    /// Answers the views of the request soon.
    pub cancel: unsafe extern "C" fn(object: *const (), request: u64),
}

#[cfg(feature = "plugin")]
struct TableOf<D>(D);

#[cfg(feature = "plugin")]
impl<D: BackendDevice> TableOf<D> {
    const TABLE: CancellationTable =
        CancellationTable { size: of_size::<CancellationTable>(), cancel: cancel::<D> };
}

#[cfg(feature = "plugin")]
unsafe extern "C" fn cancel<D: BackendDevice>(object: *const (), request: u64) {
    // SAFETY: the object belongs to the table, and its device exists during the call.
    let device = unsafe { guarded::<D>(object) };
    // A device that is out of use has failed all of its views.
    let _ = device.with::<dyn Cancellation, _>(|extension| extension.cancel(RequestId(request)));
}

#[cfg(feature = "plugin")]
impl Cancellation for RemoteExtension<dyn Cancellation> {
    fn cancel(&self, request: RequestId) {
        let (object, table) = self.parts();
        // SAFETY: the device exists, since `self` does.
        unsafe { (table.cancel)(object, request.to_raw()) };
    }
}
