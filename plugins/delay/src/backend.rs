//! Puts a delay onto a device.

use pactio_sdk::{Backend, OpenError, OpenRequest};

use crate::device::{DelayedDevice, Plan};

/// The filter.
pub(crate) struct Delay;

impl Backend for Delay {
    type Device = DelayedDevice;

    fn open(&self, request: &OpenRequest<'_>) -> Result<DelayedDevice, OpenError> {
        // All options have defaults, and the host has checked their values.
        let plan = Plan {
            latency: request.duration_option("latency")?.unwrap_or_default(),
            jitter: request.duration_option("jitter")?.unwrap_or_default(),
            seed: request.parsed_option::<i64>("seed", "a whole number")?.unwrap_or_default() as u64,
        };
        Ok(DelayedDevice::new(request.lower()?, plan))
    }
}
