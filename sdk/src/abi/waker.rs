//! A waker that crosses the boundary and keeps its count.
//!
//! A [`CWaker`] is one pointer to an object that begins with a table of C functions. On the other side that pointer is
//! the data of a plain [`Waker`], so nothing is allocated there, and two wakers for one object `will_wake` each other.

use core::mem::ManuallyDrop;
use core::ptr::NonNull;
use core::task::{RawWaker, RawWakerVTable, Waker};
use std::sync::Arc;

use crate::firewall;

/// A counted reference to something that can be woken.
#[repr(transparent)]
#[cfg_attr(feature = "layout-check", derive(abi_stable::StableAbi))]
pub struct CWaker {
    #[cfg_attr(feature = "layout-check", sabi(unsafe_opaque_field))]
    object: NonNull<WakerObject>,
}

/// The first field of every object behind a [`CWaker`].
#[repr(C)]
pub(crate) struct WakerObject {
    table: &'static WakerTable,
}

/// ===== The functions of a waker =====
///
/// Each count that `clone` adds is taken away by exactly one `wake` or `drop`. Any thread may call; none unwinds.
#[repr(C)]
pub(crate) struct WakerTable {
    /// Size of this table in bytes; it grows at the end.
    size: u32,
    clone: unsafe extern "C" fn(NonNull<WakerObject>),
    wake: unsafe extern "C" fn(NonNull<WakerObject>),
    wake_by_ref: unsafe extern "C" fn(NonNull<WakerObject>),
    drop: unsafe extern "C" fn(NonNull<WakerObject>),
}

// SAFETY: the contract of the table allows any thread.
unsafe impl Send for CWaker {}
// SAFETY: the contract of the table allows any thread.
unsafe impl Sync for CWaker {}

/// The object for a Rust [`Waker`] of this side.
#[repr(C)]
struct Adapted {
    object: WakerObject,
    waker: Waker,
}

static ADAPTED: WakerTable = WakerTable {
    size: size_of::<WakerTable>() as u32,
    clone: adapted_clone,
    wake: adapted_wake,
    wake_by_ref: adapted_wake_by_ref,
    drop: adapted_drop,
};

unsafe extern "C" fn adapted_clone(object: NonNull<WakerObject>) {
    // SAFETY: the object is an `Arc<Adapted>` and the caller holds a count.
    unsafe { Arc::increment_strong_count(object.as_ptr().cast::<Adapted>()) };
}

unsafe extern "C" fn adapted_wake(object: NonNull<WakerObject>) {
    // SAFETY: the object is an `Arc<Adapted>`, and the caller's count is consumed.
    let adapted = unsafe { Arc::from_raw(object.as_ptr().cast::<Adapted>()) };
    let _ = firewall::contain(move || {
        adapted.waker.wake_by_ref();
        drop(adapted);
    });
}

unsafe extern "C" fn adapted_wake_by_ref(object: NonNull<WakerObject>) {
    // SAFETY: the object is an `Adapted`, and the caller holds a count during the call.
    let adapted = unsafe { &*object.as_ptr().cast::<Adapted>() };
    let _ = firewall::contain(|| adapted.waker.wake_by_ref());
}

unsafe extern "C" fn adapted_drop(object: NonNull<WakerObject>) {
    // SAFETY: the object is an `Arc<Adapted>`, and the caller's count is consumed.
    let adapted = unsafe { Arc::from_raw(object.as_ptr().cast::<Adapted>()) };
    let _ = firewall::contain(move || drop(adapted));
}

impl From<Waker> for CWaker {
    /// Allocates once. Keep the result and use it for as long as its waker [`will_wake`](Self::will_wake).
    fn from(waker: Waker) -> Self {
        let adapted = Arc::new(Adapted { object: WakerObject { table: &ADAPTED }, waker });
        // SAFETY: a pointer from an `Arc` is not null, and the object comes first in `Adapted`.
        Self { object: unsafe { NonNull::new_unchecked(Arc::into_raw(adapted).cast_mut().cast()) } }
    }
}

impl CWaker {
    /// Whether this waker was made, by this library, from one that wakes the same task as `waker`.
    pub fn will_wake(&self, waker: &Waker) -> bool {
        // SAFETY: the object is alive while `self` is; only an object with this library's table is an `Adapted`.
        unsafe {
            core::ptr::eq((*self.object.as_ptr()).table, &ADAPTED)
                && (*self.object.as_ptr().cast::<Adapted>()).waker.will_wake(waker)
        }
    }

    /// Calls `f` with a plain waker for this object, without changing the count.
    pub(crate) fn with_waker<R>(&self, f: impl FnOnce(&Waker) -> R) -> R {
        // SAFETY: the functions behind `raw` keep the contract of `RawWaker`. No count is taken, since the waker is not
        // dropped, and it does not outlive the borrow of `self`.
        let waker = unsafe { ManuallyDrop::new(Waker::from_raw(raw(self.object))) };
        f(&waker)
    }
}

impl Clone for CWaker {
    fn clone(&self) -> Self {
        // SAFETY: `self` holds a count; the new value gets the one that `clone` adds.
        unsafe { ((*self.object.as_ptr()).table.clone)(self.object) };
        Self { object: self.object }
    }
}

impl Drop for CWaker {
    fn drop(&mut self) {
        // SAFETY: the count of `self` is consumed, and `self` ends.
        unsafe { ((*self.object.as_ptr()).table.drop)(self.object) };
    }
}

impl core::fmt::Debug for CWaker {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_tuple("CWaker").field(&self.object).finish()
    }
}

fn raw(object: NonNull<WakerObject>) -> RawWaker {
    static VTABLE: RawWakerVTable = RawWakerVTable::new(raw_clone, raw_wake, raw_wake_by_ref, raw_drop);
    RawWaker::new(object.as_ptr().cast_const().cast(), &VTABLE)
}

fn object_of(data: *const ()) -> NonNull<WakerObject> {
    // SAFETY: `raw` is the only maker of these wakers, and its data is not null.
    unsafe { NonNull::new_unchecked(data.cast_mut().cast()) }
}

unsafe fn raw_clone(data: *const ()) -> RawWaker {
    let object = object_of(data);
    // SAFETY: the waker holds a count; the new one gets the count that `clone` adds.
    unsafe { ((*object.as_ptr()).table.clone)(object) };
    raw(object)
}

unsafe fn raw_wake(data: *const ()) {
    let object = object_of(data);
    // SAFETY: the waker's count is consumed.
    unsafe { ((*object.as_ptr()).table.wake)(object) };
}

unsafe fn raw_wake_by_ref(data: *const ()) {
    let object = object_of(data);
    // SAFETY: the waker holds a count during the call.
    unsafe { ((*object.as_ptr()).table.wake_by_ref)(object) };
}

unsafe fn raw_drop(data: *const ()) {
    let object = object_of(data);
    // SAFETY: the waker's count is consumed.
    unsafe { ((*object.as_ptr()).table.drop)(object) };
}

/// Adds wakers to the ABI's fingerprint.
pub(super) const fn describe_boundary(
    print: crate::fingerprint::Fingerprint,
) -> crate::fingerprint::Fingerprint {
    let print = crate::fingerprint::fingerprint_struct!(print, CWaker, "CWaker" { object });
    let print = crate::fingerprint::fingerprint_struct!(print, WakerObject, "WakerObject" { table });
    crate::fingerprint::fingerprint_struct!(print, WakerTable, "WakerTable" { size, clone, wake, wake_by_ref, drop })
        .text("each: unsafe extern C fn(NonNull<WakerObject>)")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::task::Wake;

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn rule_7_clones_wakes_and_drops_leave_the_count_as_it_was() {
        let counter = Arc::new(Counter::default());
        let crossing = CWaker::from(Waker::from(counter.clone()));
        assert_eq!(Arc::strong_count(&counter), 2);
        let clones: Vec<Waker> = (0..3).map(|_| crossing.with_waker(Waker::clone)).collect();
        assert!(clones[0].will_wake(&clones[1]), "two clones of one waker do not know each other");
        crossing.with_waker(|waker| assert!(clones[2].will_wake(waker)));
        let mut clones = clones.into_iter();
        clones.next().unwrap().wake();
        clones.next().unwrap().wake_by_ref();
        drop(clones);
        let second = crossing.clone();
        drop(crossing);
        assert_eq!(Arc::strong_count(&counter), 2, "the object is kept by the last clone");
        drop(second);
        assert_eq!(Arc::strong_count(&counter), 1);
        assert_eq!(counter.0.load(Ordering::SeqCst), 2);
    }

    #[test]
    fn a_waker_that_panics_is_contained() {
        struct Panics;
        impl Wake for Panics {
            fn wake(self: Arc<Self>) {
                panic!("wake");
            }
        }
        let crossing = CWaker::from(Waker::from(Arc::new(Panics)));
        crossing.with_waker(Waker::wake_by_ref);
        crossing.with_waker(Waker::clone).wake();
    }

    #[test]
    fn identity_is_known_on_the_making_side() {
        let waker = Waker::from(Arc::new(Counter::default()));
        let other = Waker::from(Arc::new(Counter::default()));
        let crossing = CWaker::from(waker.clone());
        assert!(crossing.will_wake(&waker));
        assert!(!crossing.will_wake(&other));
    }
}
