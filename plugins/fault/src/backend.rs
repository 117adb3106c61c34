//! Puts faults onto a device.

use pactio_sdk::{Backend, Code, IoError, OpenError, OpenRequest};

use crate::device::{FaultyDevice, Plan};

/// The filter.
pub(crate) struct Fault;

/// Errors by the option's values.
const ERRORS: [(&str, Code); 6] = [
    ("io", Code::IO),
    ("busy", Code::BUSY),
    ("timed-out", Code::TIMED_OUT),
    ("disconnected", Code::DISCONNECTED),
    ("no-space", Code::NO_SPACE),
    ("corrupt", Code::CORRUPT),
];

/// The names alone.
pub(crate) const NAMES: &[&str] = &{
    let mut names = [""; ERRORS.len()];
    let mut index = 0;
    while index < names.len() {
        names[index] = ERRORS[index].0;
        index += 1;
    }
    names
};

impl Backend for Fault {
    type Device = FaultyDevice;

    fn open(&self, request: &OpenRequest<'_>) -> Result<FaultyDevice, OpenError> {
        // All options have defaults, and the host has checked their values.
        let percent = |name| request.parsed_option::<u8>(name, "0 to 100").map(Option::unwrap_or_default);
        let name = request.option("error").unwrap_or_default();
        let code = ERRORS.iter().find(|(known, _)| *known == name).map_or(Code::IO, |(_, code)| *code);
        let plan = Plan {
            read: percent("read")?,
            write: percent("write")?,
            error: IoError::from_code(code),
            partly: request.flag_option("partly")?,
            seed: request.parsed_option::<i64>("seed", "a whole number")?.unwrap_or(1) as u64,
        };
        Ok(FaultyDevice::new(request.lower()?, plan))
    }
}
