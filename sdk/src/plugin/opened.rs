//! The device that a tree gives when a name in it is opened.

use core::fmt;

use super::lower::HandedOn;
use super::{Lower, OpenError};
use crate::BackendDevice;
use crate::abi::{DeviceObj, Library, device_object};
use crate::device::Guarded;
use crate::firewall::Panicked;

/// A device that a tree has opened: see [`Opening`](crate::Opening).
pub struct Opened(Object);

enum Object {
    New(Box<dyn FnOnce(Library) -> Result<DeviceObj, OpenError> + Send>),
    HandedOn(Lower),
    Made(DeviceObj),
}

impl Opened {
    /// A device of this plugin.
    pub fn new(device: impl BackendDevice) -> Self {
        Self(Object::New(Box::new(|library| {
            let device = Guarded::device(device).map_err(|Panicked(message)| OpenError::panicked(message))?;
            Ok(device_object(device, library))
        })))
    }

    /// A device of another plugin, unchanged. No layer of this plugin is between the device and its user, unless another clone of
    /// `below` exists: then a layer forwards all calls.
    pub fn handed_on(below: Lower) -> Self {
        Self(Object::HandedOn(below))
    }

    /// An object that a host has made.
    #[doc(hidden)]
    pub fn object(object: DeviceObj) -> Self {
        Self(Object::Made(object))
    }

    pub(crate) fn into_object(self, library: Library) -> Result<DeviceObj, OpenError> {
        match self.0 {
            Object::New(make) => make(library),
            Object::Made(object) => Ok(object),
            Object::HandedOn(below) => match below.into_object() {
                Ok(object) => Ok(object),
                // Another clone of the device exists.
                Err(below) => Self::new(HandedOn(below)).into_object(library),
            },
        }
    }
}

impl fmt::Debug for Opened {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Object::New(_) | Object::Made(_) => f.write_str("Opened"),
            Object::HandedOn(below) => f.debug_tuple("Opened").field(below).finish(),
        }
    }
}
