//! `pactio.admission/1`: a device can be full, and requests wait with the caller until it has room (rule P20).

use core::task::{Context, Poll};

use super::Capability;

#[cfg(feature = "plugin")]
use super::extension::{RemoteExtension, guarded, of_size};
#[cfg(feature = "plugin")]
use crate::{BackendDevice, abi::CWaker};

/// Admits requests while the device has room.
///
/// Requests wait with the caller, in order, and requests to other devices continue. If a host changes requests to fit the
/// [limits](crate::Limits) of the device, one admission may stand for several or larger requests.
pub trait Admission: Send + Sync {
    /// Asks for room for a request of `bytes` bytes, or for a batch of requests with `bytes` bytes together. `Ready`: the caller
    /// submits the request right away. `Pending`: the device has kept the waker, and wakes it when the device may have room. Only
    /// one caller asks at a time.
    fn poll_admit(&self, bytes: usize, cx: &mut Context<'_>) -> Poll<()>;
}

impl Capability {
    /// [`Admission`].
    pub const ADMISSION: Self = Self::of_handling("pactio.admission/1", "back-pressure");
}

with_table!(Admission, ADMISSION, AdmissionTable);

/// ===== The function of a device that can be full =====
///
/// Any thread may call, one at a time; the function does not unwind or block.
#[cfg(feature = "plugin")]
#[repr(C)]
#[derive(Debug)]
pub struct AdmissionTable {
    /// Size of this table in bytes; it grows at the end.
    pub size: u32,
    /// Asks for room for `bytes` bytes: 1 if the device has room, and the request is submitted right away. Otherwise, if there is
    /// a waker, the device wakes it when the device may have room.
    pub poll_admit: unsafe extern "C" fn(object: *const (), bytes: usize, waker: Option<&CWaker>) -> u32,
}

#[cfg(feature = "plugin")]
struct TableOf<D>(D);

#[cfg(feature = "plugin")]
impl<D: BackendDevice> TableOf<D> {
    const TABLE: AdmissionTable =
        AdmissionTable { size: of_size::<AdmissionTable>(), poll_admit: poll_admit::<D> };
}

/// The plugin's side of [`AdmissionTable::poll_admit`]. Without a waker it only asks: the host does that first, since there is
/// room in most cases.
#[cfg(feature = "plugin")]
unsafe extern "C" fn poll_admit<D: BackendDevice>(
    object: *const (),
    bytes: usize,
    waker: Option<&CWaker>,
) -> u32 {
    // SAFETY: the object belongs to the table, and its device exists during the call.
    let device = unsafe { guarded::<D>(object) };
    let polled = match waker {
        Some(waker) => waker.with_waker(|waker| device.poll_admit(bytes, &mut Context::from_waker(waker))),
        None => device.poll_admit(bytes, &mut Context::from_waker(core::task::Waker::noop())),
    };
    u32::from(polled == Poll::Ready(()))
}

#[cfg(feature = "plugin")]
impl Admission for RemoteExtension<dyn Admission> {
    fn poll_admit(&self, bytes: usize, cx: &mut Context<'_>) -> Poll<()> {
        let (object, table) = self.parts();
        let ask = |waker: Option<&CWaker>| {
            // SAFETY: the device exists, since `self` does.
            unsafe { (table.poll_admit)(object, bytes, waker) != 0 }
        };
        // Asks without a waker first: in most cases there is room.
        if ask(None) || ask(Some(&CWaker::from(cx.waker().clone()))) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }
}
