//! Detects the kind of an archive and opens it.

use std::sync::{Arc, Mutex};

use pactio_sdk::{Backend, Capability, Lower, OpenError, OpenMode, OpenRequest, Opened, TreeDevice};
use rawzip::ReaderAt;

use crate::decoding::{self, Decoding};
use crate::device::{Archive, Parts};
use crate::failure::{self, corrupt, unread};
use crate::names::Names;
use crate::reader::Reader;
use crate::storage::Storage;
use crate::zip::Zip;
use crate::{pak, vpk, zip};

/// The filter.
pub(crate) struct Archives;

impl Backend for Archives {
    type Device = TreeDevice<Archive>;

    fn open(&self, request: &OpenRequest<'_>) -> Result<TreeDevice<Archive>, OpenError> {
        let below = request.lower()?;
        let pool = decoding::pool()?;
        let memory = request.size_option("cache")?.unwrap_or(64 << 20);
        let strict = request.flag_option("strict")?;
        let decoding = Arc::new(Decoding::new(pool, memory));
        match request.option("file") {
            None => archive(below, None, decoding, strict).map(TreeDevice),
            Some(name) => {
                let file = below.open(name, OpenMode::READ).map_err(|error| {
                    let text = format!("'{name}' below it cannot be opened: {}", error.message());
                    OpenError::new(error.error(), text)
                })?;
                // `NAME_dir.vpk` is the directory of a VPK whose files are in `NAME_000.vpk`, `NAME_001.vpk` and so on.
                let stem = name.strip_suffix("_dir.vpk").map(str::to_owned);
                let parts = stem.map(|stem| Parts { folder: below, stem, open: Mutex::default() });
                archive(file, parts, decoding, strict).map(TreeDevice)
            }
        }
    }

    fn open_any(&self, request: &OpenRequest<'_>) -> Result<Opened, OpenError> {
        let below = request.lower()?;
        if request.option("file").is_none() && below.has(Capability::OPEN) {
            // A folder is a tree already.
            return Ok(Opened::handed_on(below));
        }
        self.open(request).map(Opened::new)
    }
}

/// Opens the archive in `below`. `parts` leads to the other files of a VPK, if the folder is known.
fn archive(
    below: Lower,
    parts: Option<Parts>,
    decoding: Arc<Decoding>,
    strict: bool,
) -> Result<Archive, OpenError> {
    let Some(size) = below.info().size() else {
        let text = "an archive needs a device with a size; its directory may be at the end";
        return Err(OpenError::invalid_input(text));
    };
    let storage = Storage::new(below.clone())?;
    let (zip, names) = read(below, size, strict).map_err(|error| storage.blame(error))?;
    // The archive must not have changed while its directory was read.
    storage.check_now()?;
    if names.refused_count() > 0 {
        let count = names.refused_count();
        tracing::warn!(
            "{count} entries of the archive are hidden; `pactio ls --refused` lists them with the reasons"
        );
    }
    Ok(Archive { storage, names, zip, parts, decoding, open: Mutex::default() })
}

/// Reads the directory of an archive of a known or unknown kind.
fn read(below: Lower, size: u64, strict: bool) -> Result<(Option<Zip<Reader>>, Names), OpenError> {
    let reader = Reader(below);
    let mut magic = [0; 4];
    let front =
        reader.read_at(&mut magic, 0).map_err(|error| unread("its beginning", failure::below(&error)))?;
    Ok(match &magic[..front] {
        magic if *magic == pak::MAGIC => (None, pak::parse(&reader, size, strict)?),
        magic if *magic == vpk::MAGIC => (None, vpk::parse(&reader, size, strict)?),
        magic => match Zip::parse(reader, size, strict)? {
            Some((zip, names)) => (Some(zip), names),
            None if *magic == zip::MAGIC => {
                return Err(corrupt(
                    "its directory, which is at the end of a zip archive, is missing: it was cut; get it again",
                ));
            }
            None if *magic == zip::SPLIT => return Err(corrupt(zip::JOIN)),
            // A zip archive may have other data in front, so its first bytes do not decide whether it is one.
            None => return Err(corrupt("it is no archive: neither zip, nor PAK, nor VPK")),
        },
    })
}
