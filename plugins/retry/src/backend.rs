//! Opens devices that retry.

use std::sync::Arc;

use pactio_schedule::Schedule;
use pactio_sdk::{Backend, OpenError, OpenRequest};

use crate::device::{Plan, RetryingDevice, Shared};

/// The filter.
pub(crate) struct Retry;

impl Backend for Retry {
    type Device = RetryingDevice;

    fn open(&self, request: &OpenRequest<'_>) -> Result<RetryingDevice, OpenError> {
        // All other options have defaults, and the host has checked their values.
        let plan = Plan {
            attempts: request.parsed_option("attempts", "a whole number")?.unwrap_or(u32::MAX),
            within: request.duration_option("within")?.unwrap_or_default(),
            delay: request.duration_option("delay")?.unwrap_or_default(),
            longest: request.duration_option("longest")?.unwrap_or_default(),
            io: request.flag_option("io")?,
        };
        let (below, schedule) = (request.lower()?, Schedule::default());
        let shared = Shared::new(below, schedule.later(), plan);
        Ok(RetryingDevice { shared: Arc::new(shared), schedule })
    }
}
