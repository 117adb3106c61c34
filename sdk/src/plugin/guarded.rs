//! A backend behind its firewall: opening devices over the boundary.

use cglue::option::COption;

use super::{Backend, Lower, OpenRequest};
use crate::IoError;
use crate::abi::{
    BackendIo, BackendIoBase, BackendObj, CallError, DeviceObj, Guarded, Library, OpenError, OpenFailure,
    RawOpenRequest,
};

/// A backend and the library handle that goes into each of its devices.
#[allow(missing_debug_implementations)]
pub struct GuardedBackend<B> {
    backend: Guarded<B>,
    library: Library,
}

impl<B: Backend> GuardedBackend<B> {
    pub(crate) fn new(backend: B, library: Library) -> Self {
        Self { backend: Guarded::uncounted(backend), library }
    }

    fn open(&self, request: &RawOpenRequest<'_>, below: Option<DeviceObj>) -> Result<DeviceObj, OpenError> {
        let opened = self.backend.call(|backend| {
            let request = OpenRequest::from_raw(request)
                .ok_or_else(|| OpenError::invalid_input("text is not UTF-8"))?;
            let opened = backend.open_any(&match below {
                Some(object) => request.over(Lower::new(object)),
                None => request,
            })?;
            opened.into_object(self.library.clone())
        });
        match opened {
            Ok(opened) => opened,
            Err(CallError { error: IoError::PANICKED, message }) => Err(OpenError::panicked(message)),
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

/// Makes the object of a backend of a host, for a plugin that has no object of its own.
pub fn host_backend<B: Backend>(backend: B, library: Library) -> BackendObj {
    backend_object(GuardedBackend::new(backend, library.clone()), library)
}

/// Makes the object of a backend.
pub(super) fn backend_object<B: Backend>(backend: GuardedBackend<B>, library: Library) -> BackendObj {
    cglue::trait_obj!((backend, library) as BackendIo)
}
