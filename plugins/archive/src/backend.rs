//! Finds out what kind of archive it is.

use std::sync::{Arc, Mutex};

use pactio_sdk::{Backend, Below, Code, Device, Error, OpenError, OpenMode, OpenRequest, Opened, TreeDevice};
use rawzip::ReaderAt;

use crate::decoding::{self, Decoding};
use crate::device::{Archive, Parts};
use crate::names::Names;
use crate::reader::Reader;
use crate::zip::Zip;
use crate::{pak, vpk, zip};

/// The filter.
pub(crate) struct Archives;

impl Backend for Archives {
    type Device = TreeDevice<Archive>;

    fn open(&self, request: &OpenRequest<'_>) -> Result<TreeDevice<Archive>, OpenError> {
        let below = request.below()?;
        let pool = decoding::pool()?;
        let memory = request.size_option("cache")?.unwrap_or(64 << 20);
        let decoding = Arc::new(Decoding::new(pool, memory));
        match request.option("file") {
            None => archive(below, None, decoding).map(TreeDevice),
            Some(name) => {
                let file = below.open(name, OpenMode::READ).map_err(|error| {
                    let text = format!("'{name}' below it cannot be opened: {}", error.message());
                    OpenError::new(error.error(), text)
                })?;
                let stem = name.strip_suffix("_dir.vpk").map(str::to_owned);
                let parts = stem.map(|stem| Parts { folder: below, stem, open: Mutex::default() });
                archive(file, parts, decoding).map(TreeDevice)
            }
        }
    }

    fn open_any(&self, request: &OpenRequest<'_>) -> Result<Opened, OpenError> {
        let below = request.below()?;
        if request.option("file").is_none() && below.opening().is_some() {
            // A folder is a tree already.
            return Ok(Opened::handed_on(below));
        }
        self.open(request).map(Opened::new)
    }
}

fn archive(below: Below, parts: Option<Parts>, decoding: Arc<Decoding>) -> Result<Archive, OpenError> {
    let corrupt = |what: String| OpenError::new(Error::from_code(Code::Corrupt), what);
    let Some(size) = below.info().size() else {
        let text = "an archive needs a device with a size; its directory may be at the end";
        return Err(OpenError::invalid_input(text));
    };
    let reader = Reader(below.clone());
    let mut magic = [0; 4];
    let front = reader.read_at(&mut magic, 0).map_err(OpenError::from)?;
    let (zip, items) = match &magic[..front] {
        magic if *magic == pak::MAGIC => (None, pak::parse(&reader, size).map_err(corrupt)?),
        magic if *magic == vpk::MAGIC => (None, vpk::parse(&reader, size).map_err(corrupt)?),
        magic => match Zip::parse(reader, size) {
            Ok((zip, items)) => (Some(zip), items),
            Err(what) if *magic == zip::MAGIC => return Err(corrupt(what)),
            // Something may stand in front of a zip archive, so only now it is known.
            Err(_) => return Err(corrupt("it is no archive: neither zip, nor PAK, nor VPK".to_owned())),
        },
    };
    let names = Names::new(items).map_err(corrupt)?;
    Ok(Archive { below, names, zip, parts, decoding, open: Mutex::default() })
}
