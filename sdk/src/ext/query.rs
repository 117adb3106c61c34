//! How a device is asked for one of its extensions.

use core::fmt;
use core::marker::PhantomData;

use super::{Capability, Extension};
use crate::BackendDevice;

/// The question for one extension, which a device answers by [offering](Self::offer) all that it has.
///
/// ```
/// use pactio_sdk::{Answer, BackendDevice, DeviceInfo, ExtensionQuery, Flush, FlushScope, ReadView, extension_of};
///
/// struct Log;
///
/// impl BackendDevice for Log {
///     fn info(&self) -> DeviceInfo {
///         DeviceInfo::endless()
///     }
///     fn read(&self, _: u64, view: ReadView) {
///         view.error(pactio_sdk::IoError::END);
///     }
///     fn extensions<'d>(&'d self, query: &mut ExtensionQuery<'d>) {
///         query.offer::<dyn Flush>(self);
///     }
/// }
///
/// impl Flush for Log {
///     fn flush(&self, _: FlushScope, answer: Answer) {
///         answer.done();
///     }
/// }
///
/// assert!(extension_of::<dyn Flush>(&Log).is_some());
/// ```
pub struct ExtensionQuery<'d> {
    capability: Capability,
    index: usize,
    /// An `Option<&'d E>` of the extension `E` that has this index.
    slot: *mut (),
    /// Invariant, since a reference of this lifetime goes in and comes out.
    _lifetime: PhantomData<fn(&'d ()) -> &'d ()>,
}

impl<'d> ExtensionQuery<'d> {
    /// Has `ask` put the question for `E` to a device.
    pub(crate) fn find<E: Extension + ?Sized>(ask: impl FnOnce(&mut Self)) -> Option<&'d E> {
        let mut slot: Option<&'d E> = None;
        ask(&mut Self {
            capability: E::CAPABILITY,
            index: E::INDEX,
            slot: (&raw mut slot).cast(),
            _lifetime: PhantomData,
        });
        slot
    }

    /// Which extension is asked for.
    pub fn capability(&self) -> Capability {
        self.capability
    }

    #[cfg(feature = "plugin")]
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// The device has this extension. If it is offered twice, the first offer counts.
    #[inline]
    pub fn offer<E: Extension + ?Sized>(&mut self, extension: &'d E) -> &mut Self {
        if E::INDEX == self.index {
            // SAFETY: only `E` has this index, so `find` made the slot an `Option<&'d E>`, which lives while the question is put.
            let slot = unsafe { &mut *self.slot.cast::<Option<&'d E>>() };
            slot.get_or_insert(extension);
        }
        self
    }
}

/// Offers what a relay hands on.
#[cfg(feature = "plugin")]
impl<'d> ExtensionQuery<'d> {
    /// Offers the extension that is asked for, if a relay hands it on.
    pub fn offer_relay(&mut self, relay: &'d impl super::Relay) {
        struct Offer<'q, 'd, T>(&'q mut ExtensionQuery<'d>, &'d T);
        impl<T: super::Relay> super::CallExtension for Offer<'_, '_, T> {
            type Output = ();
            fn call<E: Extension + ?Sized>(self) {
                if let Some(extension) = E::of_relay(self.1) {
                    self.0.offer(extension);
                }
            }
        }
        super::ask_by_index(self.index, Offer(self, relay));
    }
}

impl fmt::Debug for ExtensionQuery<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("ExtensionQuery").field(&self.capability).finish()
    }
}

/// The extension `E` of a device, if it has that.
#[inline]
pub fn extension_of<E: Extension + ?Sized>(device: &(impl BackendDevice + ?Sized)) -> Option<&E> {
    ExtensionQuery::find(|query| device.extensions(query))
}
