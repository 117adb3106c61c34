//! Zip: a directory at the end, and files that are stored or compressed.

use rawzip::{CompressionMethod, RECOMMENDED_BUFFER_SIZE, ReaderAt, ZipArchive, ZipLocator};

use crate::content::{Content, Item, ZipFile};
use crate::names::MOST;

/// What a zip file begins with, unless something is in front of it.
pub(crate) const MAGIC: [u8; 4] = *b"PK\x03\x04";

/// A file's header before its name.
const HEADER: u64 = 30;

/// The directory of a zip archive.
pub(crate) struct Zip<R> {
    archive: ZipArchive<R>,
}

impl<R: ReaderAt> Zip<R> {
    /// Finds the directory of an archive of `size` bytes, and the files that it names.
    pub(crate) fn parse(reader: R, size: u64) -> Result<(Self, Vec<Item>), String> {
        let mut buffer = vec![0; RECOMMENDED_BUFFER_SIZE];
        let archive = ZipLocator::new()
            .locate_in_reader(reader, &mut buffer, size)
            .map_err(|(_, error)| format!("its directory cannot be read: {error}"))?;
        let end = archive.directory_offset();
        let mut items = Vec::new();
        // Where each begins, and the least that it takes.
        let mut ranges = Vec::new();
        let mut entries = archive.entries(&mut buffer);
        loop {
            let entry =
                entries.next_entry().map_err(|error| format!("its directory cannot be read: {error}"))?;
            let Some(entry) = entry else { break };
            if items.len() == MOST {
                return Err(format!("it has more than {MOST} files"));
            }
            let path = entry.file_path();
            let written = path.as_bytes();
            let name = text(written);
            let packed = entry.compressed_size_hint();
            let start = entry.local_header_offset();
            let least =
                (HEADER + written.len() as u64).checked_add(packed).and_then(|len| start.checked_add(len));
            match least {
                Some(behind) if behind <= end => ranges.push((start, behind)),
                _ => return Err(format!("'{}' reaches into its directory", name.escape_debug())),
            }
            let content = if entry.is_dir() {
                Content::Folder
            } else {
                Content::Zip(ZipFile {
                    place: entry.wayfinder(),
                    method: entry.compression_method().as_u16(),
                    packed,
                    size: entry.uncompressed_size_hint(),
                    crc: entry.crc32(),
                    encrypted: entry.flags().is_encrypted(),
                })
            };
            items.push(Item { name, content });
        }
        // Bytes that are part of two files make a small archive that unpacks to a huge one.
        ranges.sort_unstable();
        if let Some(pair) = ranges.windows(2).find(|pair| pair[0].1 > pair[1].0) {
            return Err(format!("files in it overlap at {}", pair[1].0));
        }
        Ok((Self { archive }, items))
    }

    /// Where a file's bytes are: the offset of the first.
    pub(crate) fn locate(&self, file: &ZipFile) -> Result<u64, String> {
        let entry = self.archive.get_entry(file.place).map_err(|error| error.to_string())?;
        let (start, end) = entry.compressed_data_range();
        if end > self.archive.directory_offset() {
            return Err("it reaches into the archive's directory".to_owned());
        }
        let mut header = vec![0; RECOMMENDED_BUFFER_SIZE];
        let header = entry.local_header(&mut header).map_err(|error| error.to_string())?;
        if header.compression_method().as_u16() != file.method {
            return Err("its header and the archive's directory say different things".to_owned());
        }
        Ok(start)
    }
}

/// Stored as it is.
pub(crate) const STORED: u16 = CompressionMethod::STORE.as_u16();
pub(crate) const DEFLATE: u16 = CompressionMethod::DEFLATE.as_u16();
pub(crate) const ZSTD: u16 = CompressionMethod::ZSTD.as_u16();

/// A method that is not known here, in words.
pub(crate) fn method_name(method: u16) -> String {
    CompressionMethod::new(method).name().map_or_else(|| format!("method {method}"), str::to_lowercase)
}

/// A name as text: UTF-8, as all tools write it by now, or what DOS had.
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
