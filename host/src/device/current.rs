//! The device that this thread is in a call of: records and spans of a plugin during the call are attributed to that device.

use std::cell::Cell;
use std::ptr;

use super::Shared;

thread_local! {
    static CURRENT: Cell<*const Shared> = const { Cell::new(ptr::null()) };
}

/// While this value lives, the thread is in a call of a device, which the value borrows.
pub(super) struct Entered<'d> {
    device: &'d Shared,
    before: *const Shared,
}

impl<'d> Entered<'d> {
    #[inline(always)]
    pub(super) fn new(device: &'d Shared) -> Self {
        Self { device, before: CURRENT.with(|current| current.replace(device)) }
    }
}

impl Drop for Entered<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        debug_assert!(CURRENT.with(|current| ptr::eq(current.get(), self.device)), "calls end in order");
        CURRENT.with(|current| current.set(self.before));
    }
}

/// Gives the URL of the device that this thread is in a call of, if any.
pub(crate) fn url<T>(give: impl FnOnce(Option<&str>) -> T) -> T {
    let device = CURRENT.with(Cell::get);
    if device.is_null() {
        return give(None);
    }
    // SAFETY: an `Entered` of this thread borrows the device; such values are only made on the stack, around calls, and end in order.
    give(Some(unsafe { &(*device).url }))
}
