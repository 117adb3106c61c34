//! Quake's PAK: a table of names of up to 55 bytes, and files as they are.
//!
//! ```text
//!  "PACK" │ offset: u32 │ length: u32 │ ... files ... │ table: ( name: [u8; 56] │ offset: u32 │ length: u32 ) ...
//! ```

use rawzip::ReaderAt;

use crate::content::{Content, Extent, Item};
use crate::reader::read;

pub(crate) const MAGIC: [u8; 4] = *b"PACK";

const ENTRY: u32 = 64;

/// The files of an archive of `size` bytes.
pub(crate) fn parse(reader: &impl ReaderAt, size: u64) -> Result<Vec<Item>, String> {
    let cut = |error: std::io::Error| format!("its table cannot be read: {error}");
    let number = |bytes: &[u8]| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    let header = read(reader, 4, 8).map_err(cut)?;
    let (offset, len) = (number(&header), number(&header[4..]));
    if len % ENTRY != 0 || u64::from(offset) + u64::from(len) > size {
        return Err(format!("its table of {len} bytes at {offset} does not lie in it, or is no table"));
    }
    let table = read(reader, offset.into(), len as usize).map_err(cut)?;
    let items = table.chunks_exact(ENTRY as usize).map(|entry| {
        let end = entry[..56].iter().position(|&byte| byte == 0).unwrap_or(56);
        let name = String::from_utf8(entry[..end].to_vec())
            .map_err(|_| "it has a name that is not text".to_owned())?
            .replace('\\', "/");
        let (offset, len) = (number(&entry[56..]).into(), number(&entry[60..]).into());
        if offset + len > size {
            return Err(format!("'{}' ends behind the end of the archive", name.escape_debug()));
        }
        Ok(Item { name, content: Content::Stored(vec![Extent { part: None, offset, len }]) })
    });
    items.collect()
}
