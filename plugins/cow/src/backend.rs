//! Puts an overlay onto a device.

use pactio_sdk::{Backend, OpenError, OpenRequest};

use crate::device::CowDevice;
use crate::overlay::Overlay;

/// The filter.
pub(crate) struct Cow;

impl Backend for Cow {
    type Device = CowDevice;

    fn open(&self, request: &OpenRequest<'_>) -> Result<CowDevice, OpenError> {
        let below = request.lower()?;
        if below.info().is_stream() {
            return Err(OpenError::invalid_input("a stream has no positions that could be written over"));
        }
        // The manifest has a default.
        let limit = request.size_option("limit")?.unwrap_or(0);
        Ok(CowDevice::new(below, Overlay::new(limit)))
    }
}
