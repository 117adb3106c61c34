//! Dumps of LiME: one header per range of physical memory, with the range behind it.

use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;

use pactio_sdk::OpenError;

use crate::segments::{MAX_SEGMENTS, Segment, corrupt};

pub(crate) const MAGIC: [u8; 4] = *b"EMiL";

/// Bytes of a header: magic, version, first and last address, eight unused bytes.
const HEADER: u64 = 32;

/// # Errors
///
/// If a header is invalid.
pub(crate) fn parse(mut reader: impl Read + Seek) -> Result<Vec<Segment>, OpenError> {
    let name: Arc<str> = "System RAM".into();
    let mut segments = Vec::new();
    let mut at = 0u64;
    loop {
        let mut header = Vec::with_capacity(HEADER as usize);
        reader.seek(SeekFrom::Start(at)).map_err(OpenError::from)?;
        reader.by_ref().take(HEADER).read_to_end(&mut header).map_err(OpenError::from)?;
        if header.is_empty() {
            return Ok(segments);
        }
        let field = |start: usize| -> Option<u64> {
            Some(u64::from_le_bytes(header.get(start..start + 8)?.try_into().ok()?))
        };
        let damaged = |what: &str| corrupt(format!("the LiME header at {at:#x} {what}"));
        let (Some(_), Some(start), Some(last)) = (field(24), field(8), field(16)) else {
            return Err(damaged("is cut off"));
        };
        if header[..4] != MAGIC || header[4..8] != 1u32.to_le_bytes() {
            return Err(damaged("is none of version 1"));
        }
        let size = last.checked_sub(start).and_then(|size| size.checked_add(1));
        let offset = at + HEADER;
        let (Some(size), Some(next)) = (size, size.and_then(|size| offset.checked_add(size))) else {
            return Err(damaged("ends before it begins"));
        };
        if segments.len() == MAX_SEGMENTS {
            return Err(damaged("is one too many"));
        }
        segments.push(Segment::physical(start, size, Some(offset), false, &name));
        at = next;
    }
}
