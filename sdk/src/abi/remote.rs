//! A device of the other side of the boundary.

use core::fmt;
use std::sync::OnceLock;

use super::ext::{
    self, CallExtension, Capability, Extension, ExtensionQuery, Opening, Operates, Operation, RawExtension,
    RemoteExtension,
};
use super::{CWaker, DeviceObj, DeviceParam, DriverStatus, IoBackend, SendIo, closing};
use crate::{
    Batch, BoundPacketView, DeviceInfo, IoError, Limiting, Limits, OpenError, OpenMode, PacketPerms,
    PollingHandle, Write,
};

/// An opened device of the other side of the boundary, with the extensions that it has.
pub struct Remote {
    object: DeviceObj,
    /// By index in the list of extensions; each is looked up when it is first used.
    extensions: [OnceLock<RawExtension>; ext::COUNT],
}

// SAFETY: a `DeviceObj` is only made by this crate, from a `BackendDevice`, which is `Send` and `Sync`.
unsafe impl Send for Remote {}
// SAFETY: a `DeviceObj` is only made by this crate, from a `BackendDevice`, which is `Send` and `Sync`.
unsafe impl Sync for Remote {}

impl Remote {
    /// A device that was just opened.
    pub fn new(object: DeviceObj) -> Self {
        Self { object, extensions: [const { OnceLock::new() }; ext::COUNT] }
    }

    /// Hands a view over.
    #[inline(always)]
    pub fn send<Perms: PacketPerms, P: DeviceParam>(&self, param: P, view: BoundPacketView<Perms>)
    where
        DeviceObj: SendIo<Perms, P>,
    {
        super::send(&self.object, param, view);
    }

    /// Hands many views over in one call.
    #[inline]
    pub fn send_many<Perms: PacketPerms, P: DeviceParam>(&self, batch: Batch<'_, Perms, P>)
    where
        DeviceObj: SendIo<Perms, P>,
    {
        self.object.send_many(batch);
    }

    /// The information that the device gives about itself now.
    pub fn info(&self) -> DeviceInfo {
        self.object.raw_info().into()
    }

    /// Why the device is out of use, if it is: its code panicked, or its driver ended.
    pub fn out_of_use(&self) -> Option<IoError> {
        self.object.raw_info().out_of_use()
    }

    /// The limits of the requests that the device takes. The method calls into the plugin, if the device has limits.
    pub fn limits(&self) -> Limits {
        self.extension::<dyn Limiting>().map_or(Limits::NONE, Limiting::limits)
    }

    fn remote_extension<E: Extension + ?Sized>(&self) -> Option<&RemoteExtension<E>> {
        let id = E::CAPABILITY.id().as_bytes();
        let raw = self.extensions[E::INDEX].get_or_init(|| self.object.raw_extension(id.into()));
        // SAFETY: `raw` was found under the id of `E`, and the device exists as long as `self`.
        unsafe { RemoteExtension::<E>::new(raw) }
    }

    /// An extension, if the device has it.
    pub fn extension<E: Extension + ?Sized>(&self) -> Option<&E> {
        self.remote_extension::<E>().map(E::of_remote)
    }

    /// Whether the device has an extension.
    pub fn has(&self, capability: Capability) -> bool {
        struct Has<'a>(&'a Remote);
        impl CallExtension for Has<'_> {
            type Output = bool;
            fn call<E: Extension + ?Sized>(self) -> bool {
                self.0.extension::<E>().is_some()
            }
        }
        ext::ask_by_id(capability.id().as_bytes(), Has(self)).unwrap_or(false)
    }

    /// Offers the extension that `query` asks for, if the device has it: for layers over the device.
    pub fn extensions<'d>(&'d self, query: &mut ExtensionQuery<'d>) {
        struct Forward<'d, 'q>(&'d Remote, &'q mut ExtensionQuery<'d>);
        impl<'d> CallExtension for Forward<'d, '_> {
            type Output = ();
            fn call<E: Extension + ?Sized>(self) {
                if let Some(extension) = self.0.extension::<E>() {
                    self.1.offer(extension);
                }
            }
        }
        ext::ask_by_index(query.index(), Forward(self, query));
    }

    /// Runs an operation of an extension; the bytes of the view are the answer. Fails the view with [`IoError::UNSUPPORTED`] if
    /// the device does not have the extension.
    pub fn operate<E: Operation + ?Sized>(&self, number: u64, text: &[u8], view: BoundPacketView<Write>) {
        match self.remote_extension::<E>() {
            Some(extension) => extension.operate(number, text, view),
            None => view.error(IoError::UNSUPPORTED),
        }
    }

    /// Runs the operation of the extension with this id, as [`operate`](Self::operate) does.
    pub fn operate_by_id(&self, id: &[u8], number: u64, text: &[u8], view: BoundPacketView<Write>) {
        struct Operate<'a>(&'a Remote, u64, &'a [u8], BoundPacketView<Write>);
        impl CallExtension for Operate<'_> {
            type Output = ();
            fn call<E: Extension + ?Sized>(self) {
                match self.0.extension::<E>() {
                    Some(extension) => extension.operate_any(self.1, self.2, self.3),
                    None => self.3.error(IoError::UNSUPPORTED),
                }
            }
        }
        // For an unknown id, `ask_by_id` would drop the view, which then fails as unanswered and not as unsupported.
        if ext::EXTENSIONS.iter().any(|capability| capability.id().as_bytes() == id) {
            ext::ask_by_id(id, Operate(self, number, text, view));
        } else {
            view.error(IoError::UNSUPPORTED);
        }
    }

    /// Opens a name in the device. May block for as long as opening takes.
    ///
    /// # Errors
    ///
    /// If the device is no tree, has no such name, or the name cannot be opened.
    pub fn open(&self, name: &[u8], mode: OpenMode) -> Result<DeviceObj, OpenError> {
        match self.remote_extension::<dyn Opening>() {
            Some(tree) => tree.open_object(name, mode),
            None => Err(OpenError::new(IoError::UNSUPPORTED, "it has no names in it")),
        }
    }

    /// Closes the device, which takes as long as its plugin takes; `false` if the plugin's code panicked in it.
    pub fn close(self) -> bool {
        closing::close_and_drop(self.object)
    }

    /// The object.
    pub fn into_object(self) -> DeviceObj {
        self.object
    }

    /// How the device is polled.
    pub fn polling_handle(&self) -> PollingHandle {
        self.object.raw_polling_handle().into()
    }

    /// Polls the device's driver. The wakers of all calls wake the same task: a device may keep only the first of them.
    ///
    /// # Safety
    ///
    /// No other poll of the driver is under way, on any thread.
    pub unsafe fn poll_driver(&self, waker: &CWaker) -> DriverStatus {
        // SAFETY: the caller promises that no other poll of the driver is under way.
        unsafe { self.object.poll_driver(waker) }
    }
}

impl fmt::Debug for Remote {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Remote").field("info", &self.info()).finish_non_exhaustive()
    }
}
