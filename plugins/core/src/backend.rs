//! Finds out what kind of dump it is.

use std::fs;

use pactio_sdk::{Backend, Device, OpenError, OpenRequest};

use crate::device::CoreDevice;
use crate::reader::Reader;
use crate::segments::{Segments, corrupt};
use crate::{elf, lime, map};

/// The filter.
pub(crate) struct Core;

impl Backend for Core {
    type Device = CoreDevice;

    fn open(&self, request: &OpenRequest<'_>) -> Result<CoreDevice, OpenError> {
        let below = request.below()?;
        if below.info().is_stream() {
            return Err(OpenError::invalid_input("a stream has no positions that could be addresses"));
        }
        let physical = request.option("address") == Some("physical");
        let segments = match (request.option("at"), request.option("map")) {
            (Some(_), Some(_)) => {
                return Err(OpenError::invalid_input("a raw image has at= or map=, not both"));
            }
            (Some(at), None) => {
                let size = below.info().size().ok_or_else(|| {
                    OpenError::invalid_input("at= needs a device with a size; say with map= what is where")
                })?;
                vec![map::whole(at, size).ok_or_else(|| {
                    OpenError::invalid_input(format!("at={at} is no address in hexadecimal, such as 0x8000"))
                })?]
            }
            (None, Some(path)) => {
                let text = fs::read_to_string(path).map_err(|error| {
                    let text = format!("the map {path}: {error}");
                    OpenError::new(error.into(), text)
                })?;
                map::parse(&text).map_err(|error| corrupt(format!("the map {path}: {error}")))?
            }
            (None, None) => {
                let mut reader = Reader::new(&below);
                match reader.magic()? {
                    elf::MAGIC => elf::parse(reader, physical)?,
                    lime::MAGIC => lime::parse(reader)?,
                    _ => {
                        return Err(corrupt(
                            "it is neither an ELF core file nor a LiME dump; for a raw image, say with at= or map= where it belongs",
                        ));
                    }
                }
            }
        };
        let segments = Segments::new(segments).map_err(corrupt)?;
        Ok(CoreDevice::new(below, segments))
    }
}
