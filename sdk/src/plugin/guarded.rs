//! A backend behind its firewall: opening devices over the boundary.

use cglue::option::COption;

use super::{Backend, Below, OpenError, OpenRequest};
use crate::abi::{BackendIo, DeviceObj, Library, OpenFailure, RawOpenRequest, device_object};
use crate::device::{CallError, Guarded};
use crate::firewall::Panicked;
use crate::{Code, Error, Location, State, Subject};

/// A backend and the library handle that goes into each of its devices.
#[allow(missing_debug_implementations)]
pub struct GuardedBackend<B> {
    backend: Guarded<B>,
    library: Library,
}

impl<B: Backend> GuardedBackend<B> {
    pub(crate) fn new(backend: B, library: Library) -> Self {
        Self { backend: Guarded::new(backend), library }
    }

    fn open(&self, request: &RawOpenRequest<'_>, below: Option<DeviceObj>) -> Result<DeviceObj, OpenError> {
        let opened = self.backend.call(|backend| {
            let request = OpenRequest::from_raw(request)
                .ok_or_else(|| OpenError::invalid_input("text is not UTF-8"))?;
            backend.open(&match below {
                Some(object) => request.over(Below::new(object)),
                None => request,
            })
        });
        let panicked = |message: Option<String>| {
            let mut text = "the plugin panicked while it opened the device".to_owned();
            if let Some(message) = message {
                text = format!("{text}: {message}");
            }
            OpenError::new(
                Error::new(Code::Panicked, Subject::Backend, State::Unspecified, Location::Plugin),
                text,
            )
        };
        match opened {
            Ok(device) => {
                let device = Guarded::device(device?).map_err(|Panicked(message)| panicked(message))?;
                Ok(device_object(device, self.library.clone()))
            }
            Err(CallError { error: Error::PANICKED, message }) => Err(panicked(message)),
            Err(CallError { error, .. }) => Err(OpenError::new(
                error,
                "the plugin panicked while it opened a device before, and is out of use",
            )),
        }
    }
}

impl<B: Backend> BackendIo for GuardedBackend<B> {
    fn open_device(
        &self,
        request: &RawOpenRequest<'_>,
        below: COption<DeviceObj>,
    ) -> Result<DeviceObj, OpenFailure> {
        self.open(request, below.into()).map_err(OpenFailure::from)
    }
}
