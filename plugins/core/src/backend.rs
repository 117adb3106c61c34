//! Detects the kind of a dump and opens it.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use pactio_sdk::{Backend, OpenError, OpenRequest};

use crate::blocks::Packed;
use crate::device::CoreDevice;
use crate::files::Files;
use crate::seekable::seekable;
use crate::segments::{Segment, Segments, corrupt, cut};
use crate::source::{Reader, Source};
use crate::unpack::Unpacker;
use crate::{avml, elf, formats, kdump, lime, map};

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
        let mut source = Source::Below(below);
        if !is_raw(request) {
            source = seekable(source)?;
        }
        let source = Arc::new(source);
        let Dump { mut segments, unpacker, lost } = dump(request, &source, physical)?;
        if lost > 0 {
            // Programs show errors of plugins: the dump opens, but is not what it says.
            tracing::error!(
                "the dump is cut off: {lost} bytes of memory that its headers promise are not in the file; reading them fails with \
                 \"corrupt data\"; copy or take it again"
            );
        }
        let files = match request.option("files") {
            Some(root) if !physical && !is_raw(request) => {
                Files::find(&mut segments, Path::new(root), &source)
            }
            Some(_) => return Err(OpenError::invalid_input("files= is for core files of processes")),
            None => Files::default(),
        };
        let segments = if physical { Segments::of_overlapping(segments) } else { Segments::new(segments) };
        let segments = segments.map_err(|what| {
            let helps = !physical && !is_raw(request) && is_physical(&source);
            corrupt(if helps { format!("{what}; try core?address=physical") } else { what })
        })?;
        Ok(CoreDevice { source, unpacker, segments, files })
    }
}

fn is_raw(request: &OpenRequest<'_>) -> bool {
    request.option("at").or(request.option("map")).is_some()
}

/// Whether the device is an ELF file that opens with its physical addresses.
fn is_physical(source: &Source) -> bool {
    elf::parse(Reader::new(source), true).is_ok_and(|segments| {
        // The physical addresses in a core file of a process are all zeros: it has none.
        segments.iter().any(|segment| segment.start > 0) && Segments::of_overlapping(segments).is_ok()
    })
}

/// The memory in a file.
struct Dump {
    segments: Vec<Segment>,
    unpacker: Option<Unpacker>,
    /// Number of bytes that the headers promise and the file does not have.
    lost: u64,
}

/// The memory, from the options or the headers of the file.
fn dump(request: &OpenRequest<'_>, source: &Arc<Source>, physical: bool) -> Result<Dump, OpenError> {
    let mut segments = match (request.option("at"), request.option("map")) {
        (Some(_), Some(_)) => {
            return Err(OpenError::invalid_input("a raw image has at= or map=, not both"));
        }
        (Some(at), None) => {
            let Source::Below(below) = &**source else { return Err(corrupt("it is compressed")) };
            let size = below.info().size().ok_or_else(|| {
                OpenError::invalid_input("at= needs a device with a size; give the addresses with map=")
            })?;
            let whole = map::whole(at, size).ok_or_else(|| {
                OpenError::invalid_input(format!("at={at} is no address in hexadecimal, such as 0x8000"))
            })?;
            vec![whole]
        }
        (None, Some(path)) => {
            let text = fs::read_to_string(path).map_err(|error| {
                let text = format!("the map {path}: {error}");
                OpenError::new(error.into(), text)
            })?;
            map::parse(&text).map_err(|error| corrupt(format!("the map {path}: {error}")))?
        }
        (None, None) => {
            let (magic, reader) = (source.magic()?, Reader::new(source));
            if magic.starts_with(&kdump::MAGIC) {
                return Ok(packed(kdump::parse(reader, source.size())?, source));
            }
            if magic.starts_with(&avml::MAGIC) {
                return Ok(packed(avml::parse(reader)?, source));
            }
            if magic.starts_with(&elf::MAGIC) {
                elf::parse(reader, physical)?
            } else if magic.starts_with(&lime::MAGIC) {
                lime::parse(reader)?
            } else {
                let unknown = "it is no dump of a known format (an ELF core file, LiME, AVML, kdump); for a raw image, say with at= or map= where it belongs";
                return Err(corrupt(formats::refusal(&magic).unwrap_or_else(|| unknown.to_owned())));
            }
        }
    };
    let lost = source.size().map_or(0, |size| cut(&mut segments, size));
    Ok(Dump { segments, unpacker: None, lost })
}

fn packed(packed: Packed, source: &Arc<Source>) -> Dump {
    let Packed { segments, blocks, lost } = packed;
    Dump { segments, unpacker: Some(Unpacker::new(source.clone(), blocks)), lost }
}
