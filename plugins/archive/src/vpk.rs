//! Valve's VPK: a directory of zero-terminated texts, and uncompressed files behind it or in other files of the folder.
//!
//! ```text
//!  0x55aa1234 │ version │ tree: u32 │ (version 2: four more) │ tree │ data
//!  tree:  extension ( folder ( name  entry preload )* "" )* ""
//!  entry: crc: u32 │ preload: u16 │ part: u16 │ offset: u32 │ length: u32 │ 0xffff
//! ```

use pactio_sdk::OpenError;
use rawzip::ReaderAt;

use crate::content::{Content, Extent, overlap};
use crate::failure::{corrupt, unread};
use crate::names::{self, Names, NamesBuilder};
use crate::reader::read;

pub(crate) const MAGIC: [u8; 4] = 0x55aa_1234_u32.to_le_bytes();

/// The part number of the directory's own file.
const HERE: u16 = 0x7fff;

/// Maximum length of a directory. A longer one is refused as corrupt.
const LONGEST: u32 = 1 << 30;

/// Maximum length of a name or an extension, as in file systems: an extension is kept with each name that has it.
const LONGEST_NAME: usize = 255;

/// The files of an archive. `size` is the size of the directory's own file.
pub(crate) fn parse(reader: &impl ReaderAt, size: u64, strict: bool) -> Result<Names, OpenError> {
    let header = read(reader, 0, 12).map_err(|error| unread("its header", error))?;
    let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
    let start: u64 = match word(4) {
        1 => 12,
        2 => 28,
        other => return Err(corrupt(format!("it is a VPK of version {other}; 1 and 2 are known"))),
    };
    let len = word(8);
    let data = start + u64::from(len);
    if len > LONGEST || data > size {
        return Err(corrupt(format!("its directory of {len} bytes ends behind its end")));
    }
    let tree = read(reader, start, len as usize).map_err(|error| unread("its directory", error))?;
    Rest { bytes: &tree, at: 0 }.names(start, data, size, strict).map_err(corrupt)
}

/// The unread rest of a directory.
struct Rest<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Rest<'a> {
    /// Reads all names of the directory, and refuses files that overlap. A single space stands for no folder, and for no
    /// extension. `start` and `data` are the offsets of the directory and of the bytes behind it; `size` is the size of the
    /// file.
    fn names(&mut self, start: u64, data: u64, size: u64, strict: bool) -> Result<Names, String> {
        let mut names = NamesBuilder::default();
        let mut ranges = Vec::new();
        while let Some(extension) = self.text(LONGEST_NAME)? {
            while let Some(folder) = self.text(names::LONGEST)? {
                let folder = match folder {
                    " " => Some(names.folder("")?),
                    folder => names.folder_of_files(&folder.replace('\\', "/"))?,
                };
                while let Some(name) = self.text(LONGEST_NAME)? {
                    let (extents, crc) = self.entry(start, data, size)?;
                    let range = |extent: &Extent| (extent.part, extent.offset, extent.offset + extent.len);
                    ranges.extend(extents.iter().map(range));
                    let name = if extension == " " { name.to_owned() } else { format!("{name}.{extension}") };
                    let name = name.replace('\\', "/");
                    // `None`: the folder's name is refused, and its files are hidden with it.
                    if let Some(folder) = folder {
                        names.check_and_put(folder, &name, Content::Stored { extents, crc: Some(crc) })?;
                    }
                }
            }
        }
        // Files with equal content may share a whole range.
        ranges.sort_unstable();
        ranges.dedup();
        match overlap(ranges) {
            Some(at) => Err(format!("files in it overlap at {at:#x}")),
            None => names.finish(strict),
        }
    }

    fn take(&mut self, len: usize) -> Result<&'a [u8], String> {
        let taken = self.bytes.get(self.at..).and_then(|rest| rest.get(..len));
        self.at += len;
        taken.ok_or_else(|| "its directory ends in the middle of an entry".to_owned())
    }

    /// Reads a text up to its zero; `None` for an empty text, which ends a level.
    fn text(&mut self, longest: usize) -> Result<Option<&'a str>, String> {
        let rest = self.bytes.get(self.at..).unwrap_or_default();
        let Some(end) = rest.iter().take(longest + 1).position(|&byte| byte == 0) else {
            return Err(if rest.len() > longest {
                format!("it has a text of more than {longest} bytes: pack it again with shorter names")
            } else {
                "its directory ends in the middle of a name".to_owned()
            });
        };
        let text = self.take(end)?;
        self.at += 1;
        let text = std::str::from_utf8(text).map_err(|_| "it has a name that is not text".to_owned())?;
        Ok((!text.is_empty()).then_some(text))
    }

    /// Reads an entry, and gives the parts of its file and the file's check sum. The parameters are those of
    /// [`names`](Self::names).
    fn entry(&mut self, start: u64, data: u64, size: u64) -> Result<(Vec<Extent>, u32), String> {
        // The fields of an entry without its preload, as in the head comment of this file.
        let entry = self.take(18)?;
        let half = |at: usize| u16::from_le_bytes([entry[at], entry[at + 1]]);
        let word = |at: usize| u32::from_le_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]]);
        let (preload, part, offset, len) = (half(4), half(6), u64::from(word(8)), u64::from(word(12)));
        if half(16) != 0xffff {
            return Err("an entry of its directory does not end as entries do".to_owned());
        }
        let mut extents = Vec::new();
        // The first bytes of a file may be in the directory, directly behind the entry.
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
        Ok((extents, word(0)))
    }
}
