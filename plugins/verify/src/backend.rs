//! Opens verified devices.

use std::path::Path;
use std::sync::Arc;

use pactio_sdk::{Backend, OpenError, OpenRequest};

use crate::device::VerifiedDevice;
use crate::hashes::Hashes;

/// The filter.
pub(crate) struct Verify;

impl Backend for Verify {
    type Device = VerifiedDevice;

    fn open(&self, request: &OpenRequest<'_>) -> Result<VerifiedDevice, OpenError> {
        let lower = request.lower()?;
        let Some(size) = lower.info().size() else {
            return Err(OpenError::invalid_input(
                "the device below has no size, so its blocks have no hashes",
            ));
        };
        let unit = request.size_option("block")?.unwrap_or(64 << 10) as usize;
        let path = Path::new(request.option("hashes").unwrap_or_default());
        let hashes = if request.flag_option("make")? && !path.exists() {
            Hashes::make(path, &lower, size, unit)?
        } else {
            Hashes::read(path, size, unit, request.option("root"))?
        };
        Ok(VerifiedDevice::new(lower, Arc::new(hashes)))
    }
}
