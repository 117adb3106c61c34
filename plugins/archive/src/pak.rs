//! Quake's PAK: a table of names of up to 55 bytes, and uncompressed files.
//!
//! ```text
//!  "PACK" │ offset: u32 │ length: u32 │ ... files ... │ table: ( name: [u8; 56] │ offset: u32 │ length: u32 ) ...
//! ```

use pactio_sdk::OpenError;
use rawzip::ReaderAt;

use crate::content::{Content, Extent, overlap};
use crate::failure::{corrupt, unread};
use crate::names::{MAX_NAMES, Names, NamesBuilder, shown};
use crate::reader::read;

pub(crate) const MAGIC: [u8; 4] = *b"PACK";

const HEADER: u64 = 12;
const ENTRY: u64 = 64;

/// The files of an archive of `size` bytes.
pub(crate) fn parse(reader: &impl ReaderAt, size: u64, strict: bool) -> Result<Names, OpenError> {
    let number = |bytes: &[u8]| u64::from(u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]));
    let header = read(reader, 4, 8).map_err(|error| unread("its header", error))?;
    let (offset, len) = (number(&header), number(&header[4..]));
    if len % ENTRY != 0 || offset + len > size {
        return Err(corrupt(format!(
            "its table of {len} bytes at {offset:#x} does not lie in it, or is no table"
        )));
    }
    if len / ENTRY > MAX_NAMES as u64 {
        return Err(corrupt(format!("it has more than {MAX_NAMES} names")));
    }
    let table = read(reader, offset, len as usize).map_err(|error| unread("its table", error))?;
    let mut names = NamesBuilder::default();
    // No file may overlap the header, the table or another file.
    let mut ranges = vec![(None, 0, HEADER), (None, offset, offset + len)];
    for entry in table.chunks_exact(ENTRY as usize) {
        let end = entry[..56].iter().position(|&byte| byte == 0).unwrap_or(56);
        let name =
            std::str::from_utf8(&entry[..end]).map_err(|_| corrupt("it has a name that is not text"))?;
        let name = name.replace('\\', "/");
        let (offset, len) = (number(&entry[56..]), number(&entry[60..]));
        if offset + len > size {
            return Err(corrupt(format!("'{}' ends behind the end of the archive", shown(&name))));
        }
        ranges.push((None, offset, offset + len));
        let extents = vec![Extent { part: None, offset, len }];
        names.add(&name, Some(Content::Stored { extents, crc: None })).map_err(corrupt)?;
    }
    // An empty file overlaps nothing, wherever it lies.
    ranges.retain(|(_, from, behind)| from < behind);
    match overlap(ranges) {
        Some(at) => Err(corrupt(format!("files in it overlap at {at:#x}"))),
        None => names.finish(strict).map_err(corrupt),
    }
}
