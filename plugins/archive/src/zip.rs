//! Zip: a directory at the end, and files that are stored or compressed.

use std::sync::OnceLock;

use pactio_sdk::OpenError;
use rawzip::extra_fields::{ExtraFieldId, ExtraFields};
use rawzip::{CompressionMethod, ErrorKind, ReaderAt, ZipArchive, ZipFileHeaderRecord, ZipLocator};

use crate::content::{Content, ZipFile, overlap};
use crate::failure::{corrupt, unread};
use crate::names::{Names, NamesBuilder, shown};
use crate::reader::{Tail, read};

/// The first bytes of a zip file, unless other data is in front of them.
pub(crate) const MAGIC: [u8; 4] = *b"PK\x03\x04";

/// The first bytes of the first part of a split archive.
pub(crate) const SPLIT: [u8; 4] = *b"PK\x07\x08";

/// The message for a part of a split archive.
pub(crate) const JOIN: &str =
    "it is a part of a split archive; put the parts together first: zip -s 0 NAME.zip --out WHOLE.zip";

const ENTRY: [u8; 4] = *b"PK\x01\x02";
const END: [u8; 4] = *b"PK\x05\x06";
const END_64: [u8; 4] = *b"PK\x06\x06";
const LOCATOR_64: [u8; 4] = *b"PK\x06\x07";

/// Length of a file's header before its name.
const HEADER: u64 = 30;

/// The directory is read in pieces of this size. The longest entry fits: three texts of up to 64 KiB.
const PIECE: usize = 1 << 20;

/// Maximum number of places that are tried because they look like the end of a directory.
const MAX_ENDS: usize = 64;

/// Longest extra fields of a header that are read with it, in one request.
const EXTRA: u64 = 64;

/// A zip archive.
pub(crate) struct Zip<R> {
    reader: R,
    /// The position at which its directory begins.
    directory: u64,
}

impl<R: ReaderAt> Zip<R> {
    /// Finds the directory of an archive of `size` bytes, and the files that it names; `None`, if there is no directory.
    ///
    /// # Errors
    ///
    /// If the directory cannot be read, or is corrupt.
    pub(crate) fn parse(reader: R, size: u64, strict: bool) -> Result<Option<(Self, Names)>, OpenError> {
        let tail = Tail::new(&reader, size).map_err(|error| unread("its end", error))?;
        let mut buffer = vec![0; PIECE];
        let Some(archive) = locate(&tail, &mut buffer, size)? else { return Ok(None) };
        let base = tail.base();
        let (directory, expected) = (archive.directory_offset() + base, archive.entries_hint());
        let mut names = NamesBuilder::default();
        // The minimum range of each file: a header without texts, and the compressed bytes.
        let mut ranges = Vec::new();
        let mut entries = archive.entries(&mut buffer);
        let mut count = 0u64;
        while let Some(entry) = entries.next_entry().map_err(|error| failed(&tail, &error))? {
            count += 1;
            let (name, is_folder) = name_of(&entry);
            let (header, packed) =
                (entry.local_header_offset().checked_add(base), entry.compressed_size_hint());
            let behind = header.and_then(|header| header.checked_add(HEADER)?.checked_add(packed));
            match (header, behind) {
                (Some(header), Some(behind)) if behind <= directory => ranges.push((None, header, behind)),
                _ => return Err(corrupt(format!("'{}' reaches into its directory", shown(&name)))),
            }
            let content = (!is_folder).then(|| {
                Content::Zip(ZipFile {
                    header: header.unwrap_or_default(),
                    start: OnceLock::new(),
                    method: entry.compression_method().as_u16(),
                    packed,
                    size: entry.uncompressed_size_hint(),
                    crc: entry.crc32(),
                    encrypted: entry.flags().is_encrypted(),
                    described_behind: entry.flags().has_data_descriptor(),
                })
            });
            names.add(&name, content).map_err(corrupt)?;
        }
        // Without the longer form (zip64), tools write the last 16 bits of the number.
        if expected != count && (expected > 0xffff || expected != count & 0xffff) {
            let text = format!(
                "its directory has {count} entries, but its end says {expected}: it was cut or changed"
            );
            return Err(corrupt(text));
        }
        if let Some(at) = overlap(ranges) {
            return Err(corrupt(format!("files in it overlap at {at:#x}")));
        }
        drop(tail);
        Ok(Some((Self { reader, directory }, names.finish(strict).map_err(corrupt)?)))
    }

    /// The offset of the first byte of a file. Its header is read, and compared with the directory. The names may differ: tools
    /// write them in different character sets.
    pub(crate) fn locate(&self, file: &ZipFile) -> Result<u64, OpenError> {
        if let Some(start) = file.start.get() {
            return Ok(*start);
        }
        let read = |len: u64| {
            let len = len.min(self.directory.saturating_sub(file.header)).max(HEADER);
            read(&self.reader, file.header, len as usize).map_err(|error| unread("its header", error))
        };
        // 256 bytes for the name. Only long sizes (zip64) that lie behind these bytes need a second request.
        let mut header = read(HEADER + 256 + EXTRA)?;
        if !header.starts_with(&MAGIC) {
            return Err(corrupt("there is no header where the archive's directory says"));
        }
        let half = |header: &[u8], at: usize| u64::from(u16::from_le_bytes([header[at], header[at + 1]]));
        let (name_len, extra_len) = (half(&header, 26), half(&header, 28));
        let word =
            |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let (method, crc, packed, size) = (half(&header, 8), word(14), word(18), word(22));
        let extra = HEADER + name_len;
        let start = file.header + extra + extra_len;
        let (mut packed, mut size) = (u64::from(packed), u64::from(size));
        if packed == u64::from(u32::MAX) || size == u64::from(u32::MAX) {
            if (header.len() as u64) < extra + extra_len {
                header = read(extra + extra_len)?;
            }
            let fields = header.get(extra as usize..).unwrap_or_default();
            let mut sizes = zip64_sizes(&fields[..fields.len().min(extra_len as usize)]);
            // The field has the file's size first. A number is taken for each size that is all ones in the header.
            for size in [&mut size, &mut packed] {
                if *size == u64::from(u32::MAX)
                    && let Some(long) = sizes.next()
                {
                    *size = long;
                }
            }
        }
        // If size and check sum follow the file's bytes, the header has zeros or the same values.
        let open = file.described_behind;
        let same = |here: u64, there: u64| here == there || (open && here == 0);
        if method != u64::from(file.method)
            || !same(crc.into(), file.crc.into())
            || !same(packed, file.packed)
            || !same(size, file.size)
        {
            return Err(corrupt("its header and the archive's directory say different things"));
        }
        if start.checked_add(file.packed).is_none_or(|end| end > self.directory) {
            return Err(corrupt("it reaches into the archive's directory"));
        }
        Ok(*file.start.get_or_init(|| start))
    }
}

/// The long sizes (zip64) of the extra fields of a header: of the file, and of its compressed bytes.
fn zip64_sizes(fields: &[u8]) -> impl Iterator<Item = u64> + '_ {
    let field = ExtraFields::new(fields).find(|(id, _)| *id == ExtraFieldId::ZIP64);
    let numbers = field.map_or(&[][..], |(_, bytes)| bytes).chunks_exact(8);
    numbers.filter_map(|number| Some(u64::from_le_bytes(number.try_into().ok()?)))
}

/// The name of an entry, and whether the entry is a folder. Info-ZIP's field with a name in UTF-8 takes precedence, if the
/// field's check sum is that of the written name.
fn name_of(entry: &ZipFileHeaderRecord<'_>) -> (String, bool) {
    let path = entry.file_path();
    let written = path.as_bytes();
    let unicode = entry.extra_fields().find_map(|(id, field)| {
        let (version, rest) = (field.first()?, field.get(1..)?);
        let (crc, name) = rest.split_first_chunk::<4>()?;
        let belongs = id == ExtraFieldId::INFO_ZIP_UNICODE_PATH
            && *version == 1
            && u32::from_le_bytes(*crc) == crc32fast::hash(written);
        belongs.then(|| str::from_utf8(name).ok()).flatten()
    });
    let name = unicode.map_or_else(|| text(written), |name| name.replace('\\', "/"));
    // The attribute that DOS, and most other systems, give folders.
    const FOLDER: u32 = 0x10;
    let is_empty = entry.uncompressed_size_hint() == 0 && entry.compressed_size_hint() == 0;
    let is_folder = name.ends_with('/') || (is_empty && entry.external_attributes() & FOLDER != 0);
    (name, is_folder)
}

/// Finds the last directory. The comment of the real end record may contain bytes that look like the end of a directory; the real
/// record, with its comment, reaches to the end of the archive. A directory further in front belongs to another archive, which is
/// stored in this one.
fn locate<'t, R: ReaderAt>(
    tail: &'t Tail<'t, R>,
    buffer: &mut [u8],
    size: u64,
) -> Result<Option<ZipArchive<&'t Tail<'t, R>>>, OpenError> {
    // Each round searches in front of the record of the round before. `first` is the error of the rearmost record, which is
    // reported if no record is right.
    let (mut end, mut first) = (size, None);
    for _ in 0..MAX_ENDS {
        tail.set_base(0);
        let (at, found) = match locate_one(tail, buffer, end) {
            Found::No => break,
            Found::Failed(error) => return Err(error),
            Found::At(at, found) => (at, found),
        };
        let is_part = is_part(tail, at);
        let check = |archive: ZipArchive<&'t Tail<'t, R>>| {
            // Bytes behind the archive are tolerated only behind the rearmost record.
            let ends = end == size || archive.end_offset() + tail.base() == size;
            let there = ends
                && is_directory(tail, archive.directory_offset(), archive.entries_hint())
                && !is_said_further(tail, archive.eocd_offset(), archive.directory_offset());
            if there { Ok(archive) } else { Err(corrupt("its directory is not where its end says")) }
        };
        let mut found = found.and_then(check);
        // The archive may have other bytes in front that its positions do not count.
        if found.is_err()
            && let Some(base) = base_of_long_form(tail, at)
        {
            tail.set_base(base);
            if let Found::At(_, again) = locate_one(tail, buffer, end - base) {
                found = again.and_then(check);
            }
        }
        let found = if is_part { Err(corrupt(JOIN)) } else { found };
        // A failed read must not be taken for a missing directory.
        if let Some(error) = tail.failed() {
            return Err(unread("its directory", error));
        }
        match found {
            Ok(archive) => return Ok(Some(archive)),
            Err(error) => first.get_or_insert(error),
        };
        end = at;
    }
    first.map_or(Ok(None), Err)
}

/// The last end of a directory before a position.
enum Found<'t, R> {
    /// No end was found.
    No,
    /// An end is at this position, and may be wrong.
    At(u64, Result<ZipArchive<&'t Tail<'t, R>>, OpenError>),
    /// The archive cannot be read.
    Failed(OpenError),
}

/// Searches backwards from `end` for the signature of an end record, and reads this record.
fn locate_one<'t, R: ReaderAt>(tail: &'t Tail<'t, R>, buffer: &mut [u8], end: u64) -> Found<'t, R> {
    match ZipLocator::new().locate_in_reader(tail, buffer, end) {
        Ok(archive) => Found::At(archive.eocd_offset(), Ok(archive)),
        // An error with an offset: a signature was found, but its record cannot be used. The caller searches in front of it.
        Err((_, error)) => match error.eocd_offset() {
            Some(at) => Found::At(at, Err(failed(tail, &error))),
            None if matches!(error.kind(), ErrorKind::MissingEndOfCentralDirectory) => Found::No,
            None => Found::Failed(failed(tail, &error)),
        },
    }
}

/// The number of bytes in front of an archive of the longer form (zip64) whose positions do not count these bytes. The number is
/// the real position of the end record, directly before its locator, minus the position that the locator states. `at` is the
/// position of the shorter end.
fn base_of_long_form<R: ReaderAt>(tail: &Tail<'_, R>, at: u64) -> Option<u64> {
    /// Lengths of the locator, and of the record without further data.
    const LOCATOR: u64 = 20;
    const RECORD: u64 = 56;
    let mut locator = [0; LOCATOR as usize];
    let locator_at = at.checked_sub(LOCATOR)?;
    tail.read_exact_at(&mut locator, locator_at).ok()?;
    let said = u64::from_le_bytes(locator[8..16].try_into().ok()?);
    let record_at = locator_at.checked_sub(RECORD)?;
    let mut record = [0; 12];
    tail.read_exact_at(&mut record, record_at).ok()?;
    let is_record = locator.starts_with(&LOCATOR_64)
        && record.starts_with(&END_64)
        && record[4..12] == (RECORD - 12).to_le_bytes();
    record_at.checked_sub(said).filter(|&base| is_record && base > 0)
}

/// Whether the position that the end at `at` states for the directory is behind the real one. Bytes in front of an archive have
/// the opposite effect: the real position is behind the stated one.
fn is_said_further(reader: &impl ReaderAt, at: u64, directory: u64) -> bool {
    let mut said = [0; 4];
    // A value of all ones refers to the longer form (zip64).
    reader.read_exact_at(&mut said, at + 16).is_ok()
        && said != [0xff; 4]
        && u64::from(u32::from_le_bytes(said)) > directory
}

/// Whether an entry of a directory is at `at`, or the end of a directory without entries.
fn is_directory(reader: &impl ReaderAt, at: u64, entries: u64) -> bool {
    let mut signature = [0; 4];
    reader.read_exact_at(&mut signature, at).is_ok()
        && if entries == 0 { [END, END_64].contains(&signature) } else { signature == ENTRY }
}

/// Whether the end of a directory at `at` refers to other files of the archive.
fn is_part(reader: &impl ReaderAt, at: u64) -> bool {
    // The numbers of this file of the archive and of the file where the directory begins: 0 in an archive of one file.
    let mut numbers = [0; 4];
    // A value of all ones refers to the longer form (zip64), whose locator is directly in front.
    let other = |number: &[u8]| !matches!(number, [0, 0] | [255, 255]);
    if reader.read_exact_at(&mut numbers, at + 4).is_ok() && numbers.chunks_exact(2).any(other) {
        return true;
    }
    let mut locator = [0; 20];
    at.checked_sub(20).is_some_and(|at| reader.read_exact_at(&mut locator, at).is_ok())
        && locator.starts_with(&LOCATOR_64)
        // The last four bytes are the number of files of the archive. 0 is accepted as 1.
        && !matches!(locator[16..], [0 | 1, 0, 0, 0])
}

/// The error for the failure of the device below, or else for a corrupt directory.
fn failed<R: ReaderAt>(tail: &Tail<'_, R>, error: &rawzip::Error) -> OpenError {
    match tail.failed() {
        Some(below) => unread("its directory", below),
        None => corrupt(format!("its directory makes no sense: {error}")),
    }
}

/// Stored without compression.
pub(crate) const STORED: u16 = CompressionMethod::STORE.as_u16();
pub(crate) const DEFLATE: u16 = CompressionMethod::DEFLATE.as_u16();
pub(crate) const ZSTD: u16 = CompressionMethod::ZSTD.as_u16();

/// The name of an unsupported method.
pub(crate) fn method_name(method: u16) -> String {
    CompressionMethod::new(method).name().map_or_else(|| format!("method {method}"), str::to_lowercase)
}

/// A name as text: UTF-8, as current tools write it, or else the code page of DOS.
fn text(bytes: &[u8]) -> String {
    /// The upper half of code page 437.
    const UPPER: &str = "ÇüéâäàåçêëèïîìÄÅÉæÆôöòûùÿÖÜ¢£¥₧ƒáíóúñÑªº¿⌐¬½¼¡«»░▒▓│┤╡╢╖╕╣║╗╝╜╛┐└┴┬├─┼╞╟╚╔╩╦╠═╬╧╨╤╥╙╘╒╓╫╪┘┌█▄▌▐▀αßΓπΣσµτΦΘΩδ∞φε∩≡±≥≤⌠⌡÷≈°∙·√ⁿ²■\u{a0}";
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.to_owned(),
        Err(_) => bytes
            .iter()
            .map(|&byte| match byte {
                0..128 => char::from(byte),
                upper => UPPER.chars().nth(usize::from(upper) - 128).unwrap_or('\u{fffd}'),
            })
            .collect(),
    };
    text.replace('\\', "/")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_utf_8_or_what_dos_had() {
        assert_eq!(text("größe".as_bytes()), "größe");
        assert_eq!(text(b"gr\x94\xe1e"), "größe");
        assert_eq!(text(b"a\\b\xff"), "a/b\u{a0}");
    }
}
