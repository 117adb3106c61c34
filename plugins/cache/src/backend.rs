//! Puts a cache onto a device.

use pactio_sdk::{Backend, OpenError, OpenRequest};

use crate::device::CachedDevice;

/// The filter.
pub(crate) struct Cache;

impl Backend for Cache {
    type Device = CachedDevice;

    fn open(&self, request: &OpenRequest<'_>) -> Result<CachedDevice, OpenError> {
        let below = request.lower()?;
        if below.info().is_stream() {
            return Err(OpenError::invalid_input(
                "a stream has no positions, so nothing of it can be read again",
            ));
        }
        // The manifest has defaults.
        let (size, block) =
            (request.size_option("size")?.unwrap_or(0), request.size_option("block")?.unwrap_or(1));
        if !block.is_power_of_two() {
            return Err(OpenError::invalid_input(format!(
                "block is {block} bytes, but must be a power of two"
            )));
        }
        if size < block {
            return Err(OpenError::invalid_input(format!(
                "size is {size} bytes, which is less than a block of {block}"
            )));
        }
        Ok(CachedDevice::new(below, size, block as usize))
    }
}
