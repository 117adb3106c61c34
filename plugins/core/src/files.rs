//! Pages that a core file does not have, since they are those of a mapped file: they are read from the file, if it is the same.
//!
//! A core names the files that a process had mapped, on its own machine. The file of that name here is the same if both have the
//! same build ID: the core has it in the first page of the mapping, which the kernel writes for this purpose.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Component, Path};
use std::sync::Arc;

use object::elf::{FileHeader32, FileHeader64, NT_GNU_BUILD_ID, PT_NOTE};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, FileKind, Object, ReadCache};
use pactio_sdk::{BoundPacketView, Write};

use crate::local::LocalFile;
use crate::segments::Segment;
use crate::source::{Reader, Source};

/// Bytes of the front of a mapping in which the build ID is looked for.
const FRONT: u64 = 64 << 10;

/// The files that are the same as those of a core.
#[derive(Default)]
pub(crate) struct Files(Vec<Arc<LocalFile>>);

impl Files {
    /// Finds the files of segments below `root`. The segments get the numbers of their files.
    pub(crate) fn find(segments: &mut [Segment], root: &Path, source: &Source) -> Self {
        let (mut files, mut numbers) = (Vec::new(), HashMap::<Arc<str>, Option<usize>>::new());
        let is_missing = |segment: &Segment| {
            // The kernel leaves out parts that have not changed. A part that can be written may have other bytes.
            let is_left_out = !segment.lost && !segment.writable && segment.dumped < segment.size;
            is_left_out && segment.file_offset.is_some() && !segment.name.is_empty()
        };
        let mut fronts = HashMap::<Arc<str>, Segment>::new();
        for segment in segments.iter().filter(|segment| segment.file_offset == Some(0) && segment.dumped > 0)
        {
            fronts.entry(segment.name.clone()).or_insert_with(|| segment.clone());
        }
        let missing: Vec<Arc<str>> =
            segments.iter().filter(|s| is_missing(s)).map(|s| s.name.clone()).collect();
        for name in missing {
            if numbers.contains_key(&name) {
                continue;
            }
            let found = match fronts.get(&name).map(|front| same(front, root, source)) {
                None => Err("the core does not have the first page of it".to_owned()),
                Some(found) => found,
            };
            let number = match found {
                Ok(file) => {
                    files.push(Arc::new(file));
                    Some(files.len() - 1)
                }
                Err(why) => {
                    tracing::warn!("pages of '{name}' are not read from the file: {why}");
                    None
                }
            };
            numbers.insert(name, number);
        }
        for segment in segments.iter_mut().filter(|segment| is_missing(segment)) {
            segment.file = numbers.get(&segment.name).copied().flatten();
        }
        Self(files)
    }

    /// Reads bytes of a file, on a thread of this plugin.
    pub(crate) fn read(&self, number: usize, offset: u64, view: BoundPacketView<Write>) {
        self.0[number].read(offset, view);
    }
}

/// Opens the file of a segment, if it has the build ID that the segment has.
fn same(front: &Segment, root: &Path, source: &Source) -> Result<LocalFile, String> {
    let name = Path::new(front.name.trim_start_matches('/'));
    if !name.components().all(|part| matches!(part, Component::Normal(_))) {
        return Err("it is no path below the folder".to_owned());
    }
    let path = root.join(name);
    if !fs::symlink_metadata(&path).map_err(|error| error.to_string())?.is_file() {
        return Err("it is no regular file".to_owned());
    }
    let file = File::open(&path).map_err(|error| error.to_string())?;
    let mut bytes = Vec::new();
    let mut reader = Reader::at(source, front.offset).take(front.dumped.min(FRONT));
    reader.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    let theirs = build_id(&bytes).ok_or("the core has no build ID of it")?;
    let cache = ReadCache::new(&file);
    let parsed = object::File::parse(&cache).map_err(|error| error.to_string())?;
    let ours = parsed.build_id().ok().flatten().ok_or("it has no build ID")?;
    if ours != theirs {
        return Err("it has another build ID".to_owned());
    }
    LocalFile::new(file).map_err(|error| error.to_string())
}

/// The build ID in the front of an ELF file: the rest of the file is not there.
fn build_id(front: &[u8]) -> Option<Vec<u8>> {
    fn of<H: FileHeader<Endian = Endianness>>(front: &[u8]) -> Option<Vec<u8>> {
        let header = H::parse(front).ok()?;
        let endian = header.endian().ok()?;
        let headers = header.program_headers(endian, front).ok()?;
        for part in headers.iter().filter(|part| part.p_type(endian) == PT_NOTE) {
            let Ok(Some(mut notes)) = part.notes(endian, front) else { continue };
            while let Ok(Some(note)) = notes.next() {
                if note.name() == b"GNU" && note.n_type(endian) == NT_GNU_BUILD_ID {
                    return Some(note.desc().to_vec());
                }
            }
        }
        None
    }
    match FileKind::parse(front).ok()? {
        FileKind::Elf32 => of::<FileHeader32<Endianness>>(front),
        FileKind::Elf64 => of::<FileHeader64<Endianness>>(front),
        _ => None,
    }
}
