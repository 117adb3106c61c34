//! ELF core files, of the kernel, of `gcore` and of `kdump`.

use std::io::{Read, Seek};

use object::elf::{ET_CORE, FileHeader32, FileHeader64, NT_FILE, PF_W, PF_X, PT_LOAD};
use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endian, Endianness, FileKind, ReadCache};
use pactio_sdk::OpenError;

use crate::segments::{Segment, corrupt};

pub(crate) const MAGIC: [u8; 4] = *b"\x7fELF";

/// The parts of memory that the file has.
///
/// # Errors
///
/// If it is no core file, or damaged.
pub(crate) fn parse(reader: impl Read + Seek, physical: bool) -> Result<Vec<Segment>, OpenError> {
    let file = ReadCache::new(reader);
    let parsed = match FileKind::parse(&file) {
        Ok(FileKind::Elf32) => segments::<FileHeader32<Endianness>>(&file, physical),
        Ok(FileKind::Elf64) => segments::<FileHeader64<Endianness>>(&file, physical),
        Ok(_) | Err(_) => return Err(corrupt("it begins like an ELF file, but goes on as none")),
    };
    match parsed {
        Ok(Some(segments)) => Ok(segments),
        Ok(None) => Err(corrupt("it is an ELF file, but no core file")),
        Err(error) => Err(corrupt(format!("the ELF file is damaged: {error}"))),
    }
}

fn segments<H: FileHeader<Endian = Endianness>>(
    file: &ReadCache<impl Read + Seek>,
    physical: bool,
) -> object::Result<Option<Vec<Segment>>> {
    let header = H::parse(file)?;
    let endian = header.endian()?;
    if header.e_type(endian) != ET_CORE {
        return Ok(None);
    }
    let (mut segments, mut names) = (Vec::new(), Vec::new());
    for part in header.program_headers(endian, file)? {
        if let Some(mut notes) = part.notes(endian, file)? {
            while let Some(note) = notes.next()? {
                if note.n_type(endian) == NT_FILE && note.name() == b"CORE" {
                    names.extend(mapped_files(note.desc(), endian, header.is_class_64()));
                }
            }
        }
        if part.p_type(endian) == PT_LOAD {
            let address = if physical { part.p_paddr(endian) } else { part.p_vaddr(endian) };
            segments.push(Segment {
                start: address.into(),
                size: part.p_memsz(endian).into().max(part.p_filesz(endian).into()),
                offset: part.p_offset(endian).into(),
                dumped: part.p_filesz(endian).into(),
                writable: part.p_flags(endian).0 & PF_W.0 != 0,
                executable: part.p_flags(endian).0 & PF_X.0 != 0,
                name: String::new(),
            });
        }
    }
    if !physical {
        names.sort();
        for segment in &mut segments {
            let before = names.partition_point(|(start, ..)| *start <= segment.start);
            if let Some((_, end, name)) = names[..before].last()
                && segment.start < *end
            {
                segment.name.clone_from(name);
            }
        }
    }
    Ok(Some(segments))
}

/// The files that were mapped: start, end, path. What is damaged is left out.
fn mapped_files(note: &[u8], endian: Endianness, wide: bool) -> Vec<(u64, u64, String)> {
    let size = if wide { 8 } else { 4 };
    let word = |index: usize| -> Option<u64> {
        let bytes = note.get(index.checked_mul(size)?..)?.get(..size)?;
        Some(if wide {
            endian.read_u64(bytes.try_into().ok()?)
        } else {
            endian.read_u32(bytes.try_into().ok()?).into()
        })
    };
    let count = word(0).and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
    let paths = count.checked_mul(3).and_then(|words| words.checked_add(2)?.checked_mul(size));
    let paths = paths.and_then(|start| note.get(start..)).unwrap_or_default();
    paths
        .split(|byte| *byte == 0)
        .take(count)
        .enumerate()
        .filter_map(|(index, path)| {
            Some((word(2 + 3 * index)?, word(3 + 3 * index)?, String::from_utf8_lossy(path).into_owned()))
        })
        .collect()
}
