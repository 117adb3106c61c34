//! The fields of records as they cross the boundary: tag, length, value.
//!
//! ```text
//!  tag: u16 │ len: u16 │ value: len bytes │ tag ...        all numbers are little-endian
//! ```
//!
//! A side skips the tags that it does not know, so that records can grow. Integers are written in 0 to 8 bytes, without the zeros
//! at their end. All records share one list of tags:

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::{Code, IoError};

macro_rules! tags {
    ($($name:ident = $number:literal, $what:literal;)*) => {
        $(#[doc = $what] pub(super) const $name: u16 = $number;)*
    };
}

tags! {
    NAME = 1, "Bytes: a name in its folder, or the name of a figure.";
    KIND = 2, "Integer: a [`Kind`](super::Kind).";
    SIZE = 3, "Integer: bytes.";
    MODIFIED = 4, "Time: when the bytes changed last.";
    ACCESSED = 5, "Time: when the bytes were read last.";
    CHANGED = 6, "Time: when the metadata changed last.";
    CREATED = 7, "Time: when the file or object was made.";
    DEVICE = 8, "Integer: the device number of a file system.";
    INODE = 9, "Integer: the number of a file in its file system.";
    STORE = 10, "Text: the store, such as its address and a bucket.";
    KEY = 11, "Bytes: its key in the store.";
    VERSION = 12, "Text: a tag that changes with the content.";
    MODE = 13, "Integer: the permission bits of the system.";
    CONTENT_TYPE = 14, "Text: the media type.";
    METADATA = 15, "Bytes: a key of the user's metadata, a zero byte, the value. May come several times.";
    START = 20, "Integer: the first position of a range.";
    END = 21, "Integer: the position behind a range.";
    RIGHTS = 22, "Integer: 1 readable, 2 writable, 4 executable.";
    SHARED = 23, "Integer: 1 if writes are seen by other processes, 0 if not.";
    FILE_OFFSET = 24, "Integer: where the range begins in the file that is mapped there.";
    HAS_BYTES = 25, "Integer: 1 if the range can be read although its rights say otherwise, 0 if it cannot.";
    PRIORITY = 30, "Integer, two's complement: a higher priority hides a lower one.";
    VALUE = 31, "Integer: the number of a figure.";
    UNIT = 32, "Integer: a [`Unit`](super::Unit).";
    REASON = 33, "Text: the reason why an entry is hidden, or a source left out.";
    CHANGE = 34, "Integer: a [`ChangeKind`](super::ChangeKind); 0 where changes were lost.";
}

/// Writes the fields of a record.
#[derive(Debug)]
pub struct Fields<'a>(pub(super) &'a mut Vec<u8>);

impl Fields<'_> {
    /// Writes bytes. Bytes after the first 65,535 are cut off: fields are not for content.
    pub(super) fn bytes(&mut self, tag: u16, value: &[u8]) {
        let value = &value[..value.len().min(usize::from(u16::MAX))];
        self.0.extend_from_slice(&tag.to_le_bytes());
        self.0.extend_from_slice(&(value.len() as u16).to_le_bytes());
        self.0.extend_from_slice(value);
    }

    pub(super) fn integer(&mut self, tag: u16, value: u64) {
        let len = 8 - value.leading_zeros() as usize / 8;
        self.bytes(tag, &value.to_le_bytes()[..len]);
    }

    /// Seconds since 1970 as 8 bytes, nanoseconds as 4.
    pub(super) fn time(&mut self, tag: u16, time: SystemTime) {
        let (seconds, nanoseconds) = match time.duration_since(UNIX_EPOCH) {
            Ok(after) => (after.as_secs().cast_signed(), after.subsec_nanos()),
            Err(before) => {
                let before = before.duration();
                let seconds = before.as_secs().cast_signed();
                // Seconds are rounded down, so that the nanoseconds are not negative.
                match before.subsec_nanos() {
                    // The earliest time has no positive counterpart.
                    0 => (seconds.wrapping_neg(), 0),
                    nanoseconds => (-seconds - 1, 1_000_000_000 - nanoseconds),
                }
            }
        };
        let mut value = [0; 12];
        value[..8].copy_from_slice(&seconds.to_le_bytes());
        value[8..].copy_from_slice(&nanoseconds.to_le_bytes());
        self.bytes(tag, &value);
    }

    pub(super) fn optional(&mut self, tag: u16, value: Option<u64>) {
        if let Some(value) = value {
            self.integer(tag, value);
        }
    }
}

/// The fields of a record that came over the boundary.
#[derive(Clone, Copy, Debug)]
pub struct FieldsOf<'a>(&'a [u8]);

impl<'a> FieldsOf<'a> {
    /// The fields in these bytes.
    ///
    /// # Errors
    ///
    /// [`Code::CORRUPT`] if a field is cut off.
    pub(super) fn new(bytes: &'a [u8]) -> Result<Self, IoError> {
        let this = Self(bytes);
        let used: usize = this.iter().map(|(_, value)| 4 + value.len()).sum();
        if used == bytes.len() { Ok(this) } else { Err(IoError::from_code(Code::CORRUPT)) }
    }

    /// All fields, up to one that is cut off.
    pub(super) fn iter(self) -> impl Iterator<Item = (u16, &'a [u8])> {
        let mut rest = self.0;
        core::iter::from_fn(move || {
            let (tag, behind) = rest.split_first_chunk::<2>()?;
            let (len, behind) = behind.split_first_chunk::<2>()?;
            let (value, behind) = behind.split_at_checked(u16::from_le_bytes(*len).into())?;
            rest = behind;
            Some((u16::from_le_bytes(*tag), value))
        })
    }

    /// The first field with a tag.
    pub(super) fn bytes(self, tag: u16) -> Option<&'a [u8]> {
        self.iter().find(|(found, _)| *found == tag).map(|(_, value)| value)
    }

    pub(super) fn integer(self, tag: u16) -> Option<u64> {
        let value = self.bytes(tag)?;
        let mut bytes = [0; 8];
        bytes.get_mut(..value.len())?.copy_from_slice(value);
        Some(u64::from_le_bytes(bytes))
    }

    pub(super) fn text(self, tag: u16) -> Option<String> {
        self.bytes(tag).map(|value| String::from_utf8_lossy(value).into_owned())
    }

    pub(super) fn time(self, tag: u16) -> Option<SystemTime> {
        let (seconds, nanoseconds) = self.bytes(tag)?.split_first_chunk::<8>()?;
        let seconds = i64::from_le_bytes(*seconds);
        let nanoseconds = u32::from_le_bytes(nanoseconds.try_into().ok()?);
        let whole = Duration::from_secs(seconds.unsigned_abs());
        let time = if seconds < 0 { UNIX_EPOCH.checked_sub(whole) } else { UNIX_EPOCH.checked_add(whole) }?;
        time.checked_add(Duration::from_nanos(nanoseconds.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_come_back_and_unknown_tags_are_skipped() {
        let mut bytes = Vec::new();
        let mut fields = Fields(&mut bytes);
        fields.bytes(999, b"of a later version");
        for (tag, value) in [(1, 0), (2, 1), (3, 0xff00), (4, u64::MAX)] {
            fields.integer(tag, value);
        }
        let times = [
            UNIX_EPOCH,
            UNIX_EPOCH + Duration::new(1, 999_999_999),
            UNIX_EPOCH - Duration::new(5, 1),
            UNIX_EPOCH - Duration::new(7, 0),
            // The earliest time that an integer of 64 bits can express.
            UNIX_EPOCH.checked_sub(Duration::from_secs(1 << 63)).unwrap_or(UNIX_EPOCH),
        ];
        for (tag, time) in (10..).zip(times) {
            fields.time(tag, time);
        }
        let fields = FieldsOf::new(&bytes).unwrap();
        for (tag, value) in [(1, 0), (2, 1), (3, 0xff00), (4, u64::MAX)] {
            assert_eq!(fields.integer(tag), Some(value), "tag {tag}");
        }
        for (tag, time) in (10..).zip(times) {
            assert_eq!(fields.time(tag), Some(time), "tag {tag}");
        }
        assert_eq!(fields.bytes(5), None);
        for cut in 1..bytes.len() {
            if let Ok(fields) = FieldsOf::new(&bytes[..cut]) {
                assert!(fields.iter().count() < 10, "a field that was cut off counts");
            }
        }
    }
}
