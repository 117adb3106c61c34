//! An archive: a tree of files.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use pactio_sdk::{
    Code, Entry, ExtensionQuery, IoError, Listing, Lower, Metric, OpenError, OpenMode, Opened, Opening,
    Records, Refusals, Refused, Stat, Statistics, Tree,
};

use crate::codec::Codec;
use crate::compressed::{CompressedFile, PackedDevice, Source};
use crate::content::{Content, Extent, ZipFile};
use crate::cursor::Coded;
use crate::decoding::Decoding;
use crate::failure::corrupt;
use crate::names::{Child, Names};
use crate::reader::Reader;
use crate::storage::Storage;
use crate::stored::{StoredDevice, Stretch};
use crate::zip::{self, Zip};

/// An open archive.
pub(crate) struct Archive {
    pub(crate) storage: Arc<Storage>,
    pub(crate) names: Names,
    pub(crate) zip: Option<Zip<Reader>>,
    pub(crate) parts: Option<Parts>,
    pub(crate) decoding: Arc<Decoding>,
    pub(crate) open: Mutex<OpenFiles>,
}

/// Compressed files that are open. A second open of a file shares its decompression.
#[derive(Default)]
pub(crate) struct OpenFiles {
    by_number: HashMap<u32, Weak<CompressedFile>>,
    /// The last long files, also after they are closed: their decompression state is worth keeping.
    long: VecDeque<Arc<CompressedFile>>,
}

/// Maximum number of long files that are kept.
const MAX_LONG: usize = 8;

impl OpenFiles {
    fn get(&self, number: u32) -> Option<Arc<CompressedFile>> {
        self.by_number.get(&number)?.upgrade()
    }

    fn insert(&mut self, number: u32, packed: &Arc<CompressedFile>) {
        // Closed files are removed from time to time.
        if self.by_number.len().is_power_of_two() {
            self.by_number.retain(|_, packed| packed.strong_count() > 0);
        }
        self.by_number.insert(number, Arc::downgrade(packed));
        if !packed.is_whole() {
            self.long.truncate(MAX_LONG - 1);
            self.long.push_front(packed.clone());
        }
    }
}

/// The other files of an archive that has several.
pub(crate) struct Parts {
    /// The folder that holds the files, and the first part of their names.
    pub(crate) folder: Lower,
    pub(crate) stem: String,
    pub(crate) open: Mutex<HashMap<u16, Arc<Storage>>>,
}

impl Tree for Archive {
    fn extensions<'d>(&'d self, query: &mut ExtensionQuery<'d>) {
        query.offer::<dyn Statistics>(self).offer::<dyn Refusals>(self);
    }
}

impl Listing for Archive {
    fn list(&self, folder: &[u8], from: u64, mut entries: Records<Entry>) {
        let listed = str::from_utf8(folder).ok().and_then(|folder| self.names.list(folder, from));
        let Some(mut all) = listed else { return entries.error(IoError::from_code(Code::NOT_FOUND)) };
        loop {
            let cursor = all.cursor();
            match all.next() {
                None => return entries.complete(None),
                Some(entry) if entries.push(&entry) => {}
                // The entry does not fit into an empty answer: the caller would ask for it again for ever. 0 is no valid
                // cursor for a next answer.
                Some(_) if cursor == from || cursor == 0 => return entries.error(IoError::TOO_LARGE),
                Some(_) => return entries.complete(Some(cursor)),
            }
        }
    }
}

impl Refusals for Archive {
    fn refused(&self, from: u64, mut entries: Records<Refused>) {
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        for (index, refused) in self.names.refused(from).enumerate() {
            if !entries.push(&refused) {
                let next = (from + index) as u64;
                return if index == 0 {
                    entries.error(IoError::TOO_LARGE)
                } else {
                    entries.complete(Some(next))
                };
            }
        }
        entries.complete(None);
    }
}

impl Statistics for Archive {
    fn statistics(&self, from: u64, figures: Records<Metric>) {
        let files = Metric::count("files", self.names.count() as u64);
        let hidden = Metric::count("hidden entries", self.names.refused_count() as u64);
        figures.complete_from(from, [files, hidden].into_iter().chain(self.decoding.figures()));
    }
}

impl Opening for Archive {
    fn open(&self, name: &[u8], mode: OpenMode) -> Result<Opened, OpenError> {
        // The directory's names were converted to UTF-8 when it was read.
        let found = str::from_utf8(name).ok().and_then(|name| self.names.find(name));
        let number = match found {
            Some(Child::File(number)) => number,
            Some(Child::Folder) => {
                let text = "it is a folder; name a file in it";
                return Err(OpenError::new(IoError::from_code(Code::IS_DIRECTORY), text));
            }
            None => {
                let text = "there is no such file in the archive";
                return Err(OpenError::new(IoError::from_code(Code::NOT_FOUND), text));
            }
        };
        if mode.contains(OpenMode::WRITE) {
            let text =
                "archives are only read; to write over a file in memory, put cow on it: URL | /NAME | cow";
            return Err(OpenError::new(IoError::from_code(Code::READ_ONLY), text));
        }
        match self.names.content(number) {
            content @ Content::Stored { extents, crc } => {
                self.stored(extents, content.stat(), *crc).map(Opened::new)
            }
            Content::Zip(file) => self.zipped(number, file).map_err(|error| self.storage.blame(error)),
        }
    }
}

impl Archive {
    /// Opens a file of a PAK or VPK: finds the device of each extent, and refuses extents behind the end of their device.
    fn stored(&self, extents: &[Extent], stat: Stat, crc: Option<u32>) -> Result<StoredDevice, OpenError> {
        let stretch = |extent: &Extent| {
            let storage = match extent.part {
                None => self.storage.clone(),
                Some(part) => self.part(part)?,
            };
            let end = extent.offset.checked_add(extent.len);
            if storage.lower.info().size().is_some_and(|size| end.is_none_or(|end| end > size)) {
                return Err(corrupt("it ends behind the end of the archive's file that has it"));
            }
            Ok(Stretch { storage, offset: extent.offset, len: extent.len })
        };
        let parts = extents.iter().map(stretch).collect::<Result<_, OpenError>>()?;
        Ok(StoredDevice::new(parts, stat, crc))
    }

    /// Another file of an archive that has several.
    fn part(&self, number: u16) -> Result<Arc<Storage>, OpenError> {
        let Some(parts) = &self.parts else {
            let text = format!(
                "its bytes are in another file of the archive, number {number:03}; open the archive in its folder: \
                 file:FOLDER | archive?file=NAME_dir.vpk"
            );
            return Err(OpenError::new(IoError::from_code(Code::NOT_FOUND), text));
        };
        let mut open = parts.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(part) = open.get(&number) {
            return Ok(part.clone());
        }
        let name = format!("{}_{number:03}.vpk", parts.stem);
        let part = parts.folder.open(&name, OpenMode::READ).map_err(|error| {
            let text = format!("'{name}', which has its bytes, cannot be opened: {}", error.message());
            OpenError::new(error.error(), text)
        })?;
        let part = Storage::new(part)?;
        open.insert(number, part.clone());
        Ok(part)
    }

    /// Opens a file of a zip archive: a stored file as a range of the storage, a compressed file as a device that
    /// decompresses. Devices of one compressed file share one [`CompressedFile`].
    fn zipped(&self, number: u32, file: &ZipFile) -> Result<Opened, OpenError> {
        if file.encrypted {
            return Err(OpenError::new(IoError::UNSUPPORTED, "it is encrypted"));
        }
        let codec = match file.method {
            zip::STORED => None,
            zip::DEFLATE => Some(Codec::Deflate),
            zip::ZSTD => Some(Codec::Zstd),
            other => {
                let text = format!(
                    "it is compressed with {}; stored, deflate and zstd are known",
                    zip::method_name(other)
                );
                return Err(OpenError::new(IoError::UNSUPPORTED, text));
            }
        };
        if let Some(packed) = self.open_files().get(number) {
            return Ok(Opened::new(PackedDevice(packed)));
        }
        // Always there: only the reader of zip archives makes a `ZipFile`.
        let Some(zip) = &self.zip else { return Err(IoError::from_code(Code::CORRUPT).into()) };
        // Reads the file's header and may block, so the list of open files is not locked.
        let start = zip.locate(file)?;
        let ZipFile { packed, size, crc, .. } = *file;
        let Some(codec) = codec else {
            if packed != size {
                return Err(corrupt("it is stored as it is, but said to have two sizes"));
            }
            let parts = vec![Stretch { storage: self.storage.clone(), offset: start, len: size }];
            let stat = self.names.content(number).stat();
            return Ok(Opened::new(StoredDevice::new(parts, stat, Some(crc))));
        };
        let mut open = self.open_files();
        // Another thread may have opened the file in the meantime.
        if let Some(packed) = open.get(number) {
            return Ok(Opened::new(PackedDevice(packed)));
        }
        let source =
            Source { storage: self.storage.clone(), start, coded: Coded { codec, packed, size, crc } };
        let packed = Arc::new(CompressedFile::new(source, number, self.decoding.clone()));
        open.insert(number, &packed);
        Ok(Opened::new(PackedDevice(packed)))
    }

    fn open_files(&self) -> MutexGuard<'_, OpenFiles> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
