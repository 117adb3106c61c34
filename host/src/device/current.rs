//! The device that this thread is in a call of: records and spans of a plugin during the call are attributed to that device.

use std::marker::PhantomData;
use std::ptr;

use super::Shared;
use crate::executor::{CALL, Call, Inside, current_url, set_url_of};

// The lowest bits of a device's address have the kind of the call.
const _: () = assert!(align_of::<Shared>() > CALL);

/// While this value lives, the thread is in a call of a device, which the value borrows.
pub(super) struct Entered<'d> {
    _inside: Inside,
    _device: PhantomData<&'d Shared>,
}

impl<'d> Entered<'d> {
    #[inline(always)]
    pub(super) fn new(device: &'d Shared, call: Call) -> Self {
        Self { _inside: Inside::enter(ptr::from_ref(device).cast(), call), _device: PhantomData }
    }
}

/// The URL of the device that this thread is in a call of, if any. A program can use it to report which plugin ends the process.
///
/// ```
/// assert_eq!(pactio::device_in_call(), None);
/// ```
pub fn device_in_call() -> Option<String> {
    current_url(|url| url.map(str::to_owned))
}

/// Tells the executor how to get the URL of a device from its address, for the records of plugins. The first call counts; later
/// calls change nothing.
pub(super) fn register_url_of_device() {
    /// # Safety
    ///
    /// A device is at the address.
    unsafe fn url_of(device: *const ()) -> *const str {
        // SAFETY: the caller promises that a device is there.
        unsafe { ptr::from_ref((*device.cast::<Shared>()).url.as_str()) }
    }
    // SAFETY: threads only enter devices by an `Entered`, which borrows a `Shared`; such values are only made on the stack,
    // around calls, and end in order.
    unsafe { set_url_of(url_of) };
}
