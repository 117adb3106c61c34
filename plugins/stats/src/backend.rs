//! Opens devices that count.

use pactio_sdk::{Backend, OpenError, OpenRequest};

use crate::device::StatsDevice;

/// The filter.
pub(crate) struct Stats;

impl Backend for Stats {
    type Device = StatsDevice;

    fn open(&self, request: &OpenRequest<'_>) -> Result<StatsDevice, OpenError> {
        request.lower().map(StatsDevice::new)
    }
}
