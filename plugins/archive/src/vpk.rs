//! Valve's VPK: a directory of texts that end with a zero, and files as they are: behind it, or in files beside it.
//!
//! ```text
//!  0x55aa1234 │ version │ tree: u32 │ (version 2: four more) │ tree │ data
//!  tree:  extension ( folder ( name  entry preload )* "" )* ""
//!  entry: crc: u32 │ preload: u16 │ part: u16 │ offset: u32 │ length: u32 │ 0xffff
//! ```

use rawzip::ReaderAt;

use crate::content::{Content, Extent, Item};
use crate::names::MOST;
use crate::reader::read;

pub(crate) const MAGIC: [u8; 4] = 0x55aa_1234_u32.to_le_bytes();

/// The part that is the directory's own file.
const HERE: u16 = 0x7fff;

/// A directory that is longer is none.
const LONGEST: u32 = 1 << 30;

/// The files of an archive of which `size` bytes are here.
pub(crate) fn parse(reader: &impl ReaderAt, size: u64) -> Result<Vec<Item>, String> {
    let cut = |error: std::io::Error| format!("its directory cannot be read: {error}");
    let header = read(reader, 0, 12).map_err(cut)?;
    let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let start: u64 = match word(4) {
        1 => 12,
        2 => 28,
        other => return Err(format!("it is a VPK of version {other}; 1 and 2 are known")),
    };
    let len = word(8);
    let data = start + u64::from(len);
    if len > LONGEST || data > size {
        return Err(format!("its directory of {len} bytes ends behind its end"));
    }
    let tree = read(reader, start, len as usize).map_err(cut)?;
    let mut rest = Rest { bytes: &tree, at: 0 };
    let mut items = Vec::new();
    loop {
        let extension = rest.text()?;
        if extension.is_empty() {
            return Ok(items);
        }
        loop {
            let folder = rest.text()?;
            if folder.is_empty() {
                break;
            }
            loop {
                let name = rest.text()?;
                if name.is_empty() {
                    break;
                }
                if items.len() == MOST {
                    return Err(format!("it has more than {MOST} files"));
                }
                let content = rest.entry(start, data, size)?;
                items.push(Item { name: path(folder, name, extension), content });
            }
        }
    }
}

/// A single space stands for nothing.
fn path(folder: &str, name: &str, extension: &str) -> String {
    let folder = if folder == " " { String::new() } else { format!("{folder}/") };
    let extension = if extension == " " { String::new() } else { format!(".{extension}") };
    format!("{folder}{name}{extension}").replace('\\', "/")
}

/// What was not read yet of a directory.
struct Rest<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Rest<'a> {
    fn take(&mut self, len: usize) -> Result<&'a [u8], String> {
        let taken = self.bytes.get(self.at..).and_then(|rest| rest.get(..len));
        self.at += len;
        taken.ok_or_else(|| "its directory ends in the middle of an entry".to_owned())
    }

    fn text(&mut self) -> Result<&'a str, String> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let end = rest.iter().position(|&byte| byte == 0);
        let end = end.ok_or_else(|| "its directory ends in the middle of a name".to_owned())?;
        let text = self.take(end)?;
        self.at += 1;
        std::str::from_utf8(text).map_err(|_| "it has a name that is not text".to_owned())
    }

    fn entry(&mut self, start: u64, data: u64, size: u64) -> Result<Content, String> {
        let entry = self.take(18)?;
        let half = |at: usize| u16::from_le_bytes([entry[at], entry[at + 1]]);
        let word = |at: usize| u32::from_le_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]]);
        let (preload, part, offset, len) = (half(4), half(6), u64::from(word(8)), u64::from(word(12)));
        if half(16) != 0xffff {
            return Err("an entry of its directory does not end as entries do".to_owned());
        }
        let mut extents = Vec::new();
        if preload > 0 {
            extents.push(Extent { part: None, offset: start + self.at as u64, len: preload.into() });
            self.take(preload.into())?;
        }
        if len > 0 && part == HERE {
            if data + offset + len > size {
                return Err("a file in it ends behind its end".to_owned());
            }
            extents.push(Extent { part: None, offset: data + offset, len });
        } else if len > 0 {
            extents.push(Extent { part: Some(part), offset, len });
        }
        Ok(Content::Stored(extents))
    }
}
