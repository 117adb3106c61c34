//! Puts limits onto a device.

use pactio_sdk::{Backend, OpenError, OpenRequest};

use crate::device::{Bounds, LimitedDevice};

/// The filter.
pub(crate) struct Limit;

impl Backend for Limit {
    type Device = LimitedDevice;

    fn open(&self, request: &OpenRequest<'_>) -> Result<LimitedDevice, OpenError> {
        let bounds = Bounds {
            bytes: request.size_option("rate")?,
            requests: request.parsed_option("requests", "a whole number")?,
            in_flight: request.parsed_option("in-flight", "a whole number")?,
        };
        if bounds.bytes.is_none() && bounds.requests.is_none() && bounds.in_flight.is_none() {
            return Err(OpenError::invalid_input(
                "nothing is limited; give rate, requests or in-flight, such as limit?rate=10MiB",
            ));
        }
        Ok(LimitedDevice::new(request.lower()?, bounds))
    }
}
