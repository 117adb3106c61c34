//! Detects the kind of a dump and opens it.

use std::fs;
use std::path::Path;

use pactio_sdk::{Backend, Lower, OpenError, OpenRequest};

use crate::device::CoreDevice;
use crate::files::Files;
use crate::reader::Reader;
use crate::segments::{Segment, Segments, corrupt, cut};
use crate::{elf, formats, lime, map};

/// The filter.
pub(crate) struct Core;

impl Backend for Core {
    type Device = CoreDevice;

    fn open(&self, request: &OpenRequest<'_>) -> Result<CoreDevice, OpenError> {
        let below = request.lower()?;
        if below.info().is_stream() {
            return Err(OpenError::invalid_input("a stream has no positions that could be addresses"));
        }
        let physical = request.option("address") == Some("physical");
        let mut segments = segments(request, &below, physical)?;
        // Files that the kernel generates on each read, such as the memory of a process, report a size of 0.
        if let Some(size) = below.info().size().filter(|size| *size > 0) {
            let lost = cut(&mut segments, size);
            if lost > 0 {
                // Programs show errors of plugins: the dump opens, but is not what it says.
                tracing::error!(
                    "the dump is cut off: {lost} bytes that its headers promise lie behind its end at {size} bytes; reading \
                     them fails with \"corrupt data\"; copy or take it again"
                );
            }
        }
        let files = match request.option("files") {
            Some(root) if !physical && !is_raw(request) => {
                Files::find(&mut segments, Path::new(root), &below)
            }
            Some(_) => return Err(OpenError::invalid_input("files= is for core files of processes")),
            None => Files::default(),
        };
        let segments = if physical { Segments::of_overlapping(segments) } else { Segments::new(segments) };
        let segments = segments.map_err(|what| {
            let helps = !physical && !is_raw(request) && is_physical(&below);
            corrupt(if helps { format!("{what}; try core?address=physical") } else { what })
        })?;
        Ok(CoreDevice::new(below, segments, files))
    }
}

fn is_raw(request: &OpenRequest<'_>) -> bool {
    request.option("at").or(request.option("map")).is_some()
}

/// Whether the device is an ELF file that opens with its physical addresses.
fn is_physical(below: &Lower) -> bool {
    elf::parse(Reader::new(below), true).is_ok_and(|segments| {
        // The physical addresses in a core file of a process are all zeros: it has none.
        segments.iter().any(|segment| segment.start > 0) && Segments::of_overlapping(segments).is_ok()
    })
}

/// The parts of memory, from the options or the headers below.
fn segments(request: &OpenRequest<'_>, below: &Lower, physical: bool) -> Result<Vec<Segment>, OpenError> {
    match (request.option("at"), request.option("map")) {
        (Some(_), Some(_)) => Err(OpenError::invalid_input("a raw image has at= or map=, not both")),
        (Some(at), None) => {
            let size = below.info().size().ok_or_else(|| {
                OpenError::invalid_input("at= needs a device with a size; give the addresses with map=")
            })?;
            let whole = map::whole(at, size).ok_or_else(|| {
                OpenError::invalid_input(format!("at={at} is no address in hexadecimal, such as 0x8000"))
            })?;
            Ok(vec![whole])
        }
        (None, Some(path)) => {
            let text = fs::read_to_string(path).map_err(|error| {
                let text = format!("the map {path}: {error}");
                OpenError::new(error.into(), text)
            })?;
            map::parse(&text).map_err(|error| corrupt(format!("the map {path}: {error}")))
        }
        (None, None) => {
            let mut reader = Reader::new(below);
            let magic = reader.magic()?;
            if magic.starts_with(&elf::MAGIC) {
                elf::parse(reader, physical)
            } else if magic.starts_with(&lime::MAGIC) {
                lime::parse(reader)
            } else {
                let unknown = "it is neither an ELF core file nor a LiME dump; for a raw image, say with at= or map= where it belongs";
                Err(corrupt(formats::refusal(&magic).unwrap_or_else(|| unknown.to_owned())))
            }
        }
    }
}
