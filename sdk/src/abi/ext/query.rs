//! The look-up of an extension of a device.

use core::fmt;
use core::marker::PhantomData;

use super::{Capability, Extension};
use crate::BackendDevice;

/// A query for one extension, which a device answers by [offering](Self::offer) all of its extensions.
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
    /// Calls `ask` with a query for `E`; gives the extension that the device offers.
    #[inline(always)]
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

    /// The extension that the query is for.
    pub fn capability(&self) -> Capability {
        self.capability
    }

    /// Whether the query is for this extension.
    #[inline(always)]
    pub fn is_for<E: Extension + ?Sized>(&self) -> bool {
        E::INDEX == self.index
    }

    #[cfg(feature = "plugin")]
    pub(crate) fn index(&self) -> usize {
        self.index
    }

    /// Offers an extension of the device. If it is offered twice, the first offer counts.
    #[inline(always)]
    pub fn offer<E: Extension + ?Sized>(&mut self, extension: &'d E) -> &mut Self {
        if self.is_for::<E>() {
            // SAFETY: only `E` has this index, so `find` made the slot an `Option<&'d E>`, which lives while the query is in use.
            let slot = unsafe { &mut *self.slot.cast::<Option<&'d E>>() };
            slot.get_or_insert(extension);
        }
        self
    }
}

/// Offers on behalf of a relay.
#[cfg(feature = "plugin")]
impl<'d> ExtensionQuery<'d> {
    /// Offers the extension that the query is for, if a relay hands it on.
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

/// The extension `E` of a device, if the device has it.
#[inline(always)]
pub fn extension_of<E: Extension + ?Sized>(device: &(impl BackendDevice + ?Sized)) -> Option<&E> {
    ExtensionQuery::find(|query| device.extensions(query))
}
