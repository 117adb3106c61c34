//! ELF core files, of the kernel, of `gcore` and of `kdump`.

use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;

use object::elf::{ET_CORE, FileHeader32, FileHeader64, NT_FILE, PF_W, PF_X, PT_LOAD, PT_NOTE};
use object::read::elf::{FileHeader, NoteIterator, ProgramHeader};
use object::{Endian, Endianness, FileKind, ReadCache};
use pactio_sdk::OpenError;

use crate::segments::{MAX_SEGMENTS, Segment, corrupt, too_many};

pub(crate) const MAGIC: [u8; 4] = *b"\x7fELF";

/// Maximum number of bytes of notes that are read. The note of the mapped files is in front of the notes of further threads.
const MAX_NOTES: u64 = 16 << 20;

/// Maximum length of a path in bytes, as in the system. Longer ones are cut.
const LONGEST_PATH: usize = 4096;

/// The parts of memory in the file.
///
/// # Errors
///
/// If the file is no core file, or damaged.
pub(crate) fn parse(reader: impl Read + Seek, physical: bool) -> Result<Vec<Segment>, OpenError> {
    let file = ReadCache::new(reader);
    match FileKind::parse(&file) {
        Ok(FileKind::Elf32) => segments::<FileHeader32<Endianness>>(file, physical),
        Ok(FileKind::Elf64) => segments::<FileHeader64<Endianness>>(file, physical),
        Ok(_) | Err(_) => Err(corrupt("it begins like an ELF file, but goes on as none")),
    }
}

fn segments<H: FileHeader<Endian = Endianness>>(
    file: ReadCache<impl Read + Seek>,
    physical: bool,
) -> Result<Vec<Segment>, OpenError> {
    let damaged = |error: object::Error| corrupt(format!("the ELF file is damaged: {error}"));
    let header = H::parse(&file).map_err(damaged)?;
    let endian = header.endian().map_err(damaged)?;
    if header.e_type(endian) != ET_CORE {
        return Err(corrupt("it is an ELF file, but no core file"));
    }
    let count = header.phnum(endian, &file).map_err(damaged)?;
    if count as usize > MAX_SEGMENTS {
        return Err(corrupt(too_many(count)));
    }
    let wide = header.is_class_64();
    let nowhere = if wide { u64::MAX } else { u32::MAX.into() };
    let (mut segments, mut notes) = (Vec::new(), Vec::new());
    for part in header.program_headers(endian, &file).map_err(damaged)? {
        let (offset, dumped) = (part.p_offset(endian).into(), part.p_filesz(endian).into());
        let address = if physical { part.p_paddr(endian) } else { part.p_vaddr(endian) }.into();
        match part.p_type(endian) {
            // The kernel marks memory without a physical address this way.
            PT_LOAD if physical && address == nowhere => {}
            PT_LOAD => segments.push(Segment {
                start: address,
                size: part.p_memsz(endian).into().max(dumped),
                offset,
                dumped,
                lost: false,
                writable: part.p_flags(endian).0 & PF_W.0 != 0,
                executable: part.p_flags(endian).0 & PF_X.0 != 0,
                name: Arc::default(),
                file_offset: None,
                file: None,
            }),
            PT_NOTE if !physical => notes.push((offset, dumped, part.p_align(endian))),
            _ => {}
        }
    }
    let mut files = mapped_files::<H>(file.into_inner(), &notes, endian, wide);
    files.sort();
    for segment in &mut segments {
        let before = files.partition_point(|file| file.start <= segment.start);
        if let Some(file) = files[..before].last()
            && segment.start < file.end
        {
            segment.name = file.name.clone();
            segment.file_offset = file.offset.checked_add(segment.start - file.start);
        }
    }
    Ok(segments)
}

/// A file that was mapped.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Mapped {
    start: u64,
    end: u64,
    /// The offset of the mapping in the file.
    offset: u64,
    name: Arc<str>,
}

/// The mapped files, from notes at the given offsets, of the given sizes and alignments. Notes that are damaged or not in the
/// file only mean that names are missing.
fn mapped_files<H: FileHeader<Endian = Endianness>>(
    mut reader: impl Read + Seek,
    notes: &[(u64, u64, H::Word)],
    endian: Endianness,
    wide: bool,
) -> Vec<Mapped> {
    let (mut files, mut room) = (Vec::new(), MAX_NOTES);
    for (offset, size, align) in notes {
        let mut bytes = Vec::new();
        if reader.seek(SeekFrom::Start(*offset)).is_ok() {
            // The bytes before a failed read are used.
            let _ = reader.by_ref().take(room.min(*size)).read_to_end(&mut bytes);
        }
        room -= bytes.len() as u64;
        let Ok(mut notes) = NoteIterator::<H>::new(endian, *align, &bytes) else { continue };
        while let Ok(Some(note)) = notes.next() {
            if note.n_type(endian) == NT_FILE && note.name() == b"CORE" {
                files.extend(files_of(note.desc(), endian, wide));
            }
        }
        if room == 0 {
            break;
        }
    }
    files
}

/// The files that one note names. Damaged entries are left out.
fn files_of(note: &[u8], endian: Endianness, wide: bool) -> Vec<Mapped> {
    let size = if wide { 8 } else { 4 };
    let word = |index: usize| -> Option<u64> {
        let bytes = note.get(index.checked_mul(size)?..)?.get(..size)?;
        Some(if wide {
            endian.read_u64(bytes.try_into().ok()?)
        } else {
            endian.read_u32(bytes.try_into().ok()?).into()
        })
    };
    let page = word(1).unwrap_or(1);
    let count = word(0).and_then(|count| usize::try_from(count).ok()).unwrap_or(0);
    let paths = count.checked_mul(3).and_then(|words| words.checked_add(2)?.checked_mul(size));
    let paths = paths.and_then(|start| note.get(start..)).unwrap_or_default();
    paths
        .split(|byte| *byte == 0)
        .take(count)
        .enumerate()
        .filter_map(|(index, path)| {
            let path = String::from_utf8_lossy(&path[..path.len().min(LONGEST_PATH)]);
            let offset = word(4 + 3 * index)?.saturating_mul(page);
            Some(Mapped { start: word(2 + 3 * index)?, end: word(3 + 3 * index)?, offset, name: path.into() })
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::io::{self, Cursor};

    use super::*;

    /// A core file of 64 bits without its parts: header, `count` in a section header for the case that the header cannot hold it,
    /// headers of parts by type, offset, address and size.
    fn file(count: u32, parts: &[(u32, u64, u64, u64)]) -> Vec<u8> {
        let mut file = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x04\0\x3e\0\x01\0\0\0".to_vec();
        [0u64, 128, 64].iter().for_each(|word| file.extend(word.to_le_bytes()));
        file.extend([0; 4]);
        let many = u16::try_from(count).unwrap_or(u16::MAX);
        [64, 56, many, 64, 1, 0].iter().for_each(|half: &u16| file.extend(half.to_le_bytes()));
        file.extend([0; 44]);
        file.extend(count.to_le_bytes());
        file.resize(128, 0);
        for (kind, offset, address, size) in parts {
            file.extend([kind.to_le_bytes(), 4u32.to_le_bytes()].concat());
            [*offset, *address, 0, *size, *size, 0].iter().for_each(|word| file.extend(word.to_le_bytes()));
        }
        file
    }

    /// A note that names one file.
    fn note(start: u64, end: u64, path: &[u8]) -> Vec<u8> {
        let words = [1, 4096, start, end, 0];
        let description = [&words.map(u64::to_le_bytes).concat(), path, &[0]].concat();
        let header = [5, description.len() as u32, NT_FILE.0].map(u32::to_le_bytes).concat();
        [&header[..], b"CORE\0\0\0\0", &description].concat()
    }

    /// Counts the bytes that are read.
    struct Counting<'c>(Cursor<Vec<u8>>, &'c Cell<usize>);

    impl Read for Counting<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let count = self.0.read(buffer)?;
            self.1.set(self.1.get() + count);
            Ok(count)
        }
    }

    impl Seek for Counting<'_> {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            self.0.seek(to)
        }
    }

    #[test]
    fn notes_are_read_up_to_a_limit() {
        let named = note(0x1000, 0x2000, b"/a");
        let mut parts = vec![(1, 0, 0x1000, 0x1000), (4, 32_768, 0, named.len() as u64)];
        // Zeros are many empty notes, of twelve bytes each.
        parts.extend((0..300).map(|index| (4, 40_000 + 12 * index, 0, 12 * 700_000)));
        let mut content = file(parts.len() as u32, &parts);
        content.resize(32_768, 0);
        content.extend(named);
        content.resize(9 << 20, 0);
        let read = Cell::new(0);
        let segments = parse(Counting(Cursor::new(content), &read), false).unwrap();
        assert_eq!(&*segments[0].name, "/a");
        assert!(read.get() < 17 << 20, "{} bytes", read.get());
    }

    #[test]
    fn parts_share_the_name_of_their_file_and_it_is_not_longer_than_paths_are() {
        let parts = [(4, 512, 0, 10_200), (1, 0, 0x1000, 0x1000), (1, 0, 0x2000, 0x1000)];
        let mut content = file(3, &parts);
        content.resize(512, 0);
        content.extend(note(0x1000, 0x3000, &[b'x'; 10_000]));
        let segments = parse(Cursor::new(content), false).unwrap();
        assert_eq!(segments[0].name.len(), LONGEST_PATH);
        assert!(Arc::ptr_eq(&segments[0].name, &segments[1].name));
    }

    #[test]
    fn a_damaged_note_or_one_that_is_not_there_means_no_names_and_the_others_count() {
        let good = note(0x1000, 0x2000, b"/a");
        let size = good.len() as u64;
        for wrong in
            [(4, u64::MAX - 7, 0, 4096), (4, 1 << 40, 0, u64::MAX), (4, 520, 0, size), (4, 512, 0, size - 9)]
        {
            let mut content = file(3, &[(1, 0, 0x1000, 0x1000), wrong, (4, 512, 0, size)]);
            content.resize(512, 0);
            content.extend(&good);
            assert_eq!(&*parse(Cursor::new(content.clone()), false).unwrap()[0].name, "/a", "{wrong:?}");
            content.truncate(520);
            assert_eq!(&*parse(Cursor::new(content), false).unwrap()[0].name, "", "{wrong:?}");
        }
    }

    #[test]
    fn more_parts_than_any_dump_has_are_not_read() {
        let error = parse(Cursor::new(file(MAX_SEGMENTS as u32 + 1, &[])), false).unwrap_err();
        assert_eq!(error.message(), "it has 1048577 parts, which no dump has");
    }

    #[test]
    fn what_has_no_physical_address_is_left_out() {
        let mut content = file(2, &[(1, 0, 0x1000, 0x1000), (1, 0, 0x2000, 0x1000)]);
        // The physical address of the second.
        content[128 + 56 + 24..][..8].fill(0xff);
        assert_eq!(parse(Cursor::new(content.clone()), true).unwrap().len(), 1);
        assert_eq!(parse(Cursor::new(content), false).unwrap().len(), 2);
    }
}
