//! The device that a tree gives when a name in it is opened.

use core::fmt;

use super::{BackendDevice, DeviceObj, Guarded, Library, OpenError, device_object};
use crate::firewall::Panicked;

/// A device that a tree has opened: see [`Opening`](crate::Opening).
pub struct Opened(Make);

/// Makes the object of the device, which keeps the library loaded.
type Make = Box<dyn FnOnce(Library) -> Result<DeviceObj, OpenError> + Send>;

impl Opened {
    /// A device of this plugin.
    pub fn new(device: impl BackendDevice) -> Self {
        Self::made_by(|library| {
            let device = Guarded::device(device).map_err(|Panicked(message)| OpenError::panicked(message))?;
            Ok(device_object(device, library))
        })
    }

    /// An object that a host has made.
    #[doc(hidden)]
    pub fn object(object: DeviceObj) -> Self {
        Self::made_by(|_| Ok(object))
    }

    pub(crate) fn made_by(
        make: impl FnOnce(Library) -> Result<DeviceObj, OpenError> + Send + 'static,
    ) -> Self {
        Self(Box::new(make))
    }

    pub(crate) fn into_object(self, library: Library) -> Result<DeviceObj, OpenError> {
        (self.0)(library)
    }
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Opened")
    }
}
