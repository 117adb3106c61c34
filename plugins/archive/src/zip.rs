//! Zip: a directory at the end, and files that are stored or compressed.

use std::sync::OnceLock;

use pactio_sdk::OpenError;
use rawzip::{CompressionMethod, ErrorKind, ReaderAt, ZipArchive, ZipLocator};

use crate::content::{Content, ZipFile, overlap};
use crate::failure::{corrupt, unread};
use crate::names::{Coming, Names, bounded, clean, shown};
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
const MOST_ENDS: usize = 64;

/// A zip archive.
pub(crate) struct Zip<R> {
    reader: R,
    /// Where its directory begins.
    directory: u64,
}

impl<R: ReaderAt> Zip<R> {
    /// Finds the directory of an archive of `size` bytes, and the files that it names; `None`, if there is no directory.
    ///
    /// # Errors
    ///
    /// If the directory cannot be read, or is corrupt.
    pub(crate) fn parse(reader: R, size: u64) -> Result<Option<(Self, Names)>, OpenError> {
        let tail = Tail::new(&reader, size).map_err(|error| unread("its end", error))?;
        let mut buffer = vec![0; PIECE];
        let Some(archive) = locate(&tail, &mut buffer, size)? else { return Ok(None) };
        let directory = archive.directory_offset();
        let mut names = Coming::default();
        // The range that each file takes at least.
        let mut ranges = Vec::new();
        let mut entries = archive.entries(&mut buffer);
        while let Some(entry) = entries.next_entry().map_err(|error| failed(&tail, &error))? {
            let path = entry.file_path();
            let written = path.as_bytes();
            bounded(written).map_err(corrupt)?;
            let (name, name_len) = (text(written), written.len() as u16);
            let (header, packed) = (entry.local_header_offset(), entry.compressed_size_hint());
            let least = (HEADER + u64::from(name_len)).checked_add(packed);
            match least.and_then(|len| header.checked_add(len)) {
                Some(behind) if behind <= directory => ranges.push((None, header, behind)),
                _ => return Err(corrupt(format!("'{}' reaches into its directory", shown(&name)))),
            }
            let content = (!name.ends_with('/')).then(|| {
                Content::Zip(ZipFile {
                    header,
                    name_len,
                    start: OnceLock::new(),
                    method: entry.compression_method().as_u16(),
                    packed,
                    size: entry.uncompressed_size_hint(),
                    crc: entry.crc32(),
                    encrypted: entry.flags().is_encrypted(),
                })
            });
            names.add(&name, content).map_err(corrupt)?;
        }
        if let Some(at) = overlap(ranges) {
            return Err(corrupt(format!("files in it overlap at {at}")));
        }
        drop(tail);
        Ok(Some((Self { reader, directory }, names.finish())))
    }

    /// The offset of the first byte of the file with this name.
    pub(crate) fn locate(&self, file: &ZipFile, name: &str) -> Result<u64, OpenError> {
        if let Some(start) = file.start.get() {
            return Ok(*start);
        }
        let len = HEADER as usize + usize::from(file.name_len);
        let header = read(&self.reader, file.header, len).map_err(|error| unread("its header", error))?;
        if !header.starts_with(&MAGIC) {
            return Err(corrupt("there is no header where the archive's directory says"));
        }
        let half = |at: usize| u16::from_le_bytes([header[at], header[at + 1]]);
        let (method, name_len, extra_len) = (half(8), half(26), half(28));
        let same = method == file.method && name_len == file.name_len;
        if !same || clean(&text(&header[HEADER as usize..])) != name {
            return Err(corrupt("its header and the archive's directory say different things"));
        }
        let start = file.header + len as u64 + u64::from(extra_len);
        if start.checked_add(file.packed).is_none_or(|end| end > self.directory) {
            return Err(corrupt("it reaches into the archive's directory"));
        }
        Ok(*file.start.get_or_init(|| start))
    }
}

/// Finds the last directory. Bytes that look like the end of a directory may be in the comment of the real end record, which then
/// reaches to the end of the archive. A directory further in front belongs to another archive, which is stored in this one.
fn locate<'t, R: ReaderAt>(
    tail: &'t Tail<'t, R>,
    buffer: &mut [u8],
    size: u64,
) -> Result<Option<ZipArchive<&'t Tail<'t, R>>>, OpenError> {
    let (mut end, mut first) = (size, None);
    for _ in 0..MOST_ENDS {
        let (at, found) = match ZipLocator::new().locate_in_reader(tail, buffer, end) {
            Ok(archive) => (archive.eocd_offset(), Ok(archive)),
            Err((_, error)) => match error.eocd_offset() {
                Some(at) => (at, Err(failed(tail, &error))),
                None if matches!(error.kind(), ErrorKind::MissingEndOfCentralDirectory) => break,
                None => return Err(failed(tail, &error)),
            },
        };
        let found = found.and_then(|archive| {
            let ends = end == size || archive.end_offset() == size;
            let there = ends && is_directory(tail, archive.directory_offset());
            if there { Ok(archive) } else { Err(corrupt("its directory is not where its end says")) }
        });
        let found = if is_part(tail, at) { Err(corrupt(JOIN)) } else { found };
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

/// Whether an entry of a directory is at `at`, or the end of an empty directory.
fn is_directory(reader: &impl ReaderAt, at: u64) -> bool {
    let mut signature = [0; 4];
    reader.read_exact_at(&mut signature, at).is_ok() && [ENTRY, END, END_64].contains(&signature)
}

/// Whether the end of a directory at `at` refers to other files of the archive.
fn is_part(reader: &impl ReaderAt, at: u64) -> bool {
    let mut numbers = [0; 4];
    // All ones refer to the longer form (zip64), which is found by the locator in front.
    let other = |number: &[u8]| !matches!(number, [0, 0] | [255, 255]);
    if reader.read_exact_at(&mut numbers, at + 4).is_ok() && numbers.chunks_exact(2).any(other) {
        return true;
    }
    let mut locator = [0; 20];
    at.checked_sub(20).is_some_and(|at| reader.read_exact_at(&mut locator, at).is_ok())
        && locator.starts_with(&LOCATOR_64)
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
