//! The device that this thread is in a call of: records and spans of a plugin during the call are attributed to that device.

use std::marker::PhantomData;
use std::ptr;

use super::Shared;
use crate::executor::{CALL, Call, Inside, current_device};

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
    url(|url| url.map(str::to_owned))
}

/// Gives the URL of the device that this thread is in a call of, if any.
pub(crate) fn url<T>(give: impl FnOnce(Option<&str>) -> T) -> T {
    let device = current_device().cast::<Shared>();
    if device.is_null() {
        return give(None);
    }
    // SAFETY: the address comes from an `Entered` of this thread, which borrows the device; such values are only made on the
    // stack, around calls, and end in order.
    give(Some(unsafe { &(*device).url }))
}
