//! Answers that are lists: the names in a folder, the origins of a name, the regions of a device, figures.
//!
//! ```text
//!  next: u64 │ len: u32 │ fields: len bytes │ len ...      all numbers are little-endian
//!  └ the cursor of the next answer; 0 is the end
//! ```
//!
//! A record consists of [fields](Fields), each with a tag and a length. Records can grow: a side skips the fields that it does
//! not know.

use core::fmt;
use core::marker::PhantomData;
use core::ops::Range;

use super::field::{self, Fields, FieldsOf};
use super::{Kind, Name, Stat};
use crate::{BoundPacketView, Cause, Code, IoError, RequestId, Write};

/// A record of a list: [`Entry`], [`Origin`], [`Refused`], [`Region`], [`Metric`], [`Stat`] or
/// [`Change`](super::Change).
pub trait Record: Sized {
    /// Writes its fields.
    fn write(&self, fields: &mut Fields<'_>);

    /// Reads a record from its fields; unknown fields are skipped.
    ///
    /// # Errors
    ///
    /// [`Code::CORRUPT`] if a required field is missing.
    fn read(fields: FieldsOf<'_>) -> Result<Self, IoError>;
}

/// Collects records and answers with them.
///
/// Dropping it without [`complete`](Self::complete) fails the request.
#[must_use = "dropping a list fails its request"]
pub struct Records<R> {
    view: BoundPacketView<Write>,
    bytes: Vec<u8>,
    of: PhantomData<fn(R)>,
}

impl<R: Record> Records<R> {
    /// Answers through a view. Devices receive finished `Records`.
    pub fn new(view: BoundPacketView<Write>) -> Self {
        Self { view, bytes: vec![0; 8], of: PhantomData }
    }

    #[cfg(feature = "plugin")]
    pub(crate) fn into_view(self) -> BoundPacketView<Write> {
        self.view
    }

    /// The request that is answered.
    pub fn request(&self) -> RequestId {
        self.view.request()
    }

    /// The answer is not wanted any more: see [`BoundPacketView::is_cancelled`].
    pub fn is_cancelled(&self) -> bool {
        self.view.is_cancelled()
    }

    /// Adds a record; `false` if there is no more room. The record is then the first of the next answer.
    pub fn push(&mut self, record: &R) -> bool {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(&[0; 4]);
        record.write(&mut Fields(&mut self.bytes));
        if self.bytes.len() > self.view.len() {
            self.bytes.truncate(start);
            return false;
        }
        let len = (self.bytes.len() - start - 4) as u32;
        self.bytes[start..start + 4].copy_from_slice(&len.to_le_bytes());
        true
    }

    /// Answers with the records that were added. `next` is the cursor that the device gets for the next answer; `None` is the
    /// end.
    ///
    /// # Panics
    ///
    /// If `next` is 0, which is the beginning.
    pub fn complete(mut self, next: Option<u64>) {
        assert_ne!(next, Some(0), "0 is the beginning");
        self.bytes[..8].copy_from_slice(&next.unwrap_or(0).to_le_bytes());
        self.view.transfer_data(&self.bytes).complete();
    }

    /// Answers with the records from number `from` on, as many as there is room for; the cursor is the number of the next record.
    pub fn complete_from(mut self, from: u64, records: impl IntoIterator<Item = R>) {
        let skip = usize::try_from(from).unwrap_or(usize::MAX);
        for (index, record) in records.into_iter().enumerate().skip(skip) {
            if !self.push(&record) {
                // After an answer without a record, the caller would ask again for ever.
                if index == skip {
                    return self.error(IoError::TOO_LARGE);
                }
                return self.complete(Some(index as u64));
            }
        }
        self.complete(None);
    }

    /// Answers with one record, or with the reason why there is none.
    pub fn complete_one(mut self, record: Result<R, impl Into<Cause>>) {
        match record {
            Ok(record) if self.push(&record) => self.complete(None),
            Ok(_) => self.error(IoError::TOO_LARGE),
            Err(cause) => self.fail(&cause.into()),
        }
    }

    /// Answers that the list failed.
    pub fn error(self, error: IoError) {
        self.view.error(error);
    }

    /// Answers that the list failed, with a text for people where the cause has one.
    pub fn fail(self, cause: &Cause) {
        self.view.fail(cause);
    }
}

impl<R> fmt::Debug for Records<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Records({} of {} bytes)", self.bytes.len(), self.view.len())
    }
}

/// Reads an answer: its records, and the cursor of the next one.
///
/// # Errors
///
/// [`Code::CORRUPT`] if the bytes are no answer.
pub fn read_records<R: Record>(bytes: &[u8]) -> Result<(Vec<R>, Option<u64>), IoError> {
    let corrupt = IoError::from_code(Code::CORRUPT);
    let (next, mut rest) = bytes.split_first_chunk::<8>().ok_or(corrupt)?;
    let mut records = Vec::new();
    while !rest.is_empty() {
        let (len, behind) = rest.split_first_chunk::<4>().ok_or(corrupt)?;
        let (fields, behind) = behind.split_at_checked(u32::from_le_bytes(*len) as usize).ok_or(corrupt)?;
        rest = behind;
        records.push(R::read(FieldsOf::new(fields)?)?);
    }
    let next = u64::from_le_bytes(*next);
    Ok((records, (next != 0).then_some(next)))
}

/// A name in a tree, with the metadata that is cheap to get.
///
/// ```
/// use pactio_sdk::Entry;
///
/// let file = Entry::file("notes.txt", Some(120));
/// assert_eq!((file.name.to_str(), file.stat.size), (Some("notes.txt"), Some(120)));
/// assert!(Entry::folder("music").is_folder());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Entry {
    /// Its name in its folder, without separators.
    pub name: Name,
    /// The metadata that is cheap to get: at least whether the entry is a folder.
    pub stat: Stat,
}

impl Entry {
    /// An entry with more metadata than its kind and size.
    pub fn new(name: impl Into<Name>, stat: Stat) -> Self {
        Self { name: name.into(), stat }
    }

    /// A file, with its size in bytes if that is known.
    pub fn file(name: impl Into<Name>, size: Option<u64>) -> Self {
        Self::new(name, Stat { size, ..Stat::of(Kind::FILE) })
    }

    /// A folder.
    pub fn folder(name: impl Into<Name>) -> Self {
        Self::new(name, Stat::of(Kind::FOLDER))
    }

    /// The entry is a folder.
    pub fn is_folder(&self) -> bool {
        self.stat.is_folder()
    }

    /// Size in bytes, if it is known.
    pub fn size(&self) -> Option<u64> {
        self.stat.size
    }
}

impl Record for Entry {
    fn write(&self, fields: &mut Fields<'_>) {
        fields.bytes(field::NAME, &self.name);
        self.stat.write_fields(fields);
    }

    fn read(fields: FieldsOf<'_>) -> Result<Self, IoError> {
        let name = fields.bytes(field::NAME).ok_or(IoError::from_code(Code::CORRUPT))?;
        Ok(Self { name: name.into(), stat: Stat::read_fields(fields) })
    }
}

/// A source that has a name, in a tree that is made of several sources.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Origin {
    /// The name of the source.
    pub source: String,
    /// A source with a higher priority hides a source with a lower one.
    pub priority: i64,
    /// The metadata of the name in this source that is cheap to get.
    pub stat: Stat,
    /// The reason why the source was left out, if it was left out. Such a source serves no name.
    pub absent: Option<String>,
}

impl Origin {
    /// A source with its priority, and the metadata of the name in it that is cheap to get.
    pub fn new(source: impl Into<String>, priority: i64, stat: Stat) -> Self {
        Self { source: source.into(), priority, stat, absent: None }
    }

    /// A source that was left out, and the reason.
    pub fn absent(source: impl Into<String>, priority: i64, reason: impl Into<String>) -> Self {
        Self { absent: Some(reason.into()), ..Self::new(source, priority, Stat::default()) }
    }
}

impl Record for Origin {
    fn write(&self, fields: &mut Fields<'_>) {
        fields.bytes(field::NAME, self.source.as_bytes());
        fields.integer(field::PRIORITY, self.priority.cast_unsigned());
        if let Some(reason) = &self.absent {
            fields.bytes(field::REASON, reason.as_bytes());
        }
        self.stat.write_fields(fields);
    }

    fn read(fields: FieldsOf<'_>) -> Result<Self, IoError> {
        let source = fields.text(field::NAME).ok_or(IoError::from_code(Code::CORRUPT))?;
        let priority = fields.integer(field::PRIORITY).unwrap_or(0).cast_signed();
        let absent = fields.text(field::REASON);
        Ok(Self { source, priority, stat: Stat::read_fields(fields), absent })
    }
}

/// An entry of a tree that is hidden.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refused {
    /// The name as it is written in the storage, which need not be a valid name.
    pub name: Name,
    /// The reason, in words.
    pub reason: String,
}

impl Refused {
    /// A hidden entry.
    pub fn new(name: impl Into<Name>, reason: impl Into<String>) -> Self {
        Self { name: name.into(), reason: reason.into() }
    }
}

impl Record for Refused {
    fn write(&self, fields: &mut Fields<'_>) {
        fields.bytes(field::NAME, &self.name);
        fields.bytes(field::REASON, self.reason.as_bytes());
    }

    fn read(fields: FieldsOf<'_>) -> Result<Self, IoError> {
        let name = fields.bytes(field::NAME).ok_or(IoError::from_code(Code::CORRUPT))?;
        Ok(Self { name: name.into(), reason: fields.text(field::REASON).unwrap_or_default() })
    }
}

/// A range of positions that exists. Positions in no region are a hole: a file has zeros there, other devices have nothing.
///
/// ```
/// use pactio_sdk::Region;
///
/// let mut region = Region::new(0x1000..0x3000);
/// region.writable = false;
/// assert!(region.readable && region.name.is_empty());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Region {
    /// The positions.
    pub range: Range<u64>,
    /// The range can be read.
    pub readable: bool,
    /// The range can be written.
    pub writable: bool,
    /// The range can be executed.
    pub executable: bool,
    /// Whether the device has bytes of the range, if that differs from `readable` or is known: the rights are those of a process,
    /// and a debugger reads more. Memory without rights may hold bytes, and some memory of the kernel cannot be read.
    pub has_bytes: Option<bool>,
    /// Whether written bytes are visible to other users of the memory, if that is known.
    pub shared: Option<bool>,
    /// The offset of the range in the file that is mapped there, if one is.
    pub file_offset: Option<u64>,
    /// The file that is mapped there, if one is: device and inode.
    pub file: Option<(u64, u64)>,
    /// A name for the range, such as the path of the file that is mapped there; may be empty.
    pub name: Name,
}

impl Region {
    /// A range that can be read and written, without a name.
    pub fn new(range: Range<u64>) -> Self {
        Self {
            range,
            readable: true,
            writable: true,
            executable: false,
            has_bytes: None,
            shared: None,
            file_offset: None,
            file: None,
            name: Name::default(),
        }
    }

    /// Reads of the range give bytes, at least of some of its positions.
    pub fn has_bytes(&self) -> bool {
        self.has_bytes.unwrap_or(self.readable)
    }
}

impl Record for Region {
    fn write(&self, fields: &mut Fields<'_>) {
        fields.integer(field::START, self.range.start);
        fields.integer(field::END, self.range.end);
        let rights =
            u64::from(self.readable) | u64::from(self.writable) << 1 | u64::from(self.executable) << 2;
        fields.integer(field::RIGHTS, rights);
        fields.optional(field::HAS_BYTES, self.has_bytes.map(u64::from));
        fields.optional(field::SHARED, self.shared.map(u64::from));
        fields.optional(field::FILE_OFFSET, self.file_offset);
        if let Some((device, inode)) = self.file {
            fields.integer(field::DEVICE, device);
            fields.integer(field::INODE, inode);
        }
        if !self.name.is_empty() {
            fields.bytes(field::NAME, &self.name);
        }
    }

    fn read(fields: FieldsOf<'_>) -> Result<Self, IoError> {
        let (start, end) = (fields.integer(field::START), fields.integer(field::END));
        let (Some(start), Some(end)) = (start, end) else { return Err(IoError::from_code(Code::CORRUPT)) };
        let rights = fields.integer(field::RIGHTS).unwrap_or(0);
        Ok(Self {
            range: start..end,
            readable: rights & 1 != 0,
            writable: rights & 2 != 0,
            executable: rights & 4 != 0,
            has_bytes: fields.integer(field::HAS_BYTES).map(|has| has != 0),
            shared: fields.integer(field::SHARED).map(|shared| shared != 0),
            file_offset: fields.integer(field::FILE_OFFSET),
            file: fields.integer(field::DEVICE).zip(fields.integer(field::INODE)),
            name: fields.bytes(field::NAME).unwrap_or_default().into(),
        })
    }
}

/// One number of a device's statistics.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metric {
    /// The quantity, in the plural and in lower case: `hits`, `requests waiting`.
    pub name: String,
    /// The number.
    pub value: u64,
    /// The unit of the number.
    pub unit: Unit,
}

/// The unit of a [`Metric`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unit {
    /// A number of objects or events.
    Count,
    /// Bytes.
    Bytes,
    /// Nanoseconds.
    Nanoseconds,
}

impl Metric {
    /// A number of objects or events.
    pub fn count(name: &str, value: u64) -> Self {
        Self { name: name.to_owned(), value, unit: Unit::Count }
    }

    /// A number of bytes.
    pub fn bytes(name: &str, value: u64) -> Self {
        Self { name: name.to_owned(), value, unit: Unit::Bytes }
    }

    /// A time in nanoseconds.
    pub fn nanoseconds(name: &str, value: u64) -> Self {
        Self { name: name.to_owned(), value, unit: Unit::Nanoseconds }
    }
}

impl Record for Metric {
    fn write(&self, fields: &mut Fields<'_>) {
        fields.bytes(field::NAME, self.name.as_bytes());
        fields.integer(field::VALUE, self.value);
        let unit = match self.unit {
            Unit::Count => 0,
            Unit::Bytes => 1,
            Unit::Nanoseconds => 2,
        };
        fields.integer(field::UNIT, unit);
    }

    fn read(fields: FieldsOf<'_>) -> Result<Self, IoError> {
        let (name, value) = (fields.text(field::NAME), fields.integer(field::VALUE));
        let (Some(name), Some(value)) = (name, value) else { return Err(IoError::from_code(Code::CORRUPT)) };
        let unit = match fields.integer(field::UNIT) {
            Some(1) => Unit::Bytes,
            Some(2) => Unit::Nanoseconds,
            _ => Unit::Count,
        };
        Ok(Self { name, value, unit })
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;
    use crate::{Identity, PacketBox};

    fn entries(count: usize) -> Vec<Entry> {
        let entry = |index| {
            let name = format!("file {index}");
            if index % 3 == 0 { Entry::folder(name) } else { Entry::file(name, None) }
        };
        (0..count).map(entry).collect()
    }

    /// One record as it comes over the boundary.
    fn across<R: Record>(record: &R) -> R {
        let mut packet = PacketBox::<Write>::new_buf(4096).unwrap();
        let mut records = Records::new(packet.bind().unwrap());
        assert!(records.push(record));
        records.complete(None);
        let bytes = packet.simple_contiguous_slice().unwrap();
        let (mut read, next) = read_records::<R>(bytes).unwrap();
        assert_eq!((read.len(), next), (1, None));
        read.remove(0)
    }

    #[test]
    fn lists_come_back_whole_in_as_many_answers_as_it_takes() {
        let all = entries(50);
        let (mut got, mut from, mut answers) = (Vec::new(), Some(0), 0);
        while let Some(start) = from {
            let mut packet = PacketBox::<Write>::new_buf(200).unwrap();
            Records::new(packet.bind().unwrap()).complete_from(start, all.iter().cloned());
            let (part, next) = read_records::<Entry>(packet.simple_contiguous_slice().unwrap()).unwrap();
            got.extend(part);
            from = next;
            answers += 1;
        }
        assert_eq!(got, all);
        assert!(answers > 5, "{answers} answers");
    }

    #[test]
    fn a_record_that_is_too_long_for_an_answer_is_an_error_and_not_an_endless_loop() {
        let mut packet = PacketBox::<Write>::new_buf(64).unwrap();
        let long = Entry::file("x".repeat(100), Some(1));
        Records::new(packet.bind().unwrap()).complete_from(0, [long]);
        assert_eq!(packet.min_error(), Some((0, IoError::TOO_LARGE)));
    }

    #[test]
    fn every_field_of_every_record_comes_back() {
        let mut stat = Stat::of(Kind::BLOCK_DEVICE).with_size(u64::MAX).with_mode(0o7755).with_version("v 1");
        stat.modified = Some(UNIX_EPOCH + Duration::new(1_700_000_000, 5));
        stat.accessed = Some(UNIX_EPOCH);
        stat.changed = Some(UNIX_EPOCH - Duration::from_secs(3));
        stat.created = Some(UNIX_EPOCH + Duration::from_nanos(1));
        stat.content_type = Some("text/plain; charset=utf-8".to_owned());
        stat.metadata = vec![("owner".to_owned(), "me".to_owned()), (String::new(), "empty key".to_owned())];
        for identity in [Identity::file(0, u64::MAX), Identity::stored("s3:bucket", b"k\0\xff".to_vec())] {
            stat.identity = Some(identity);
            assert_eq!(across(&stat), stat);
        }
        assert_eq!(across(&Stat::default()), Stat::default());
        let entry = Entry::new(b"\xff name".to_vec(), stat.clone());
        assert_eq!(across(&entry), entry);
        let origin = Origin::new("base", -7, stat);
        assert_eq!(across(&origin), origin);
        let mut region = Region::new(0..u64::MAX);
        assert_eq!(across(&region), region);
        (region.readable, region.executable, region.shared) = (false, true, Some(false));
        (region.file, region.file_offset, region.name) = (Some((1, 0)), Some(0), "lib.so".into());
        assert_eq!(across(&region), region);
        for figure in [Metric::bytes("read", u64::MAX), Metric::nanoseconds("ü", 3), Metric::count("", 0)] {
            assert_eq!(across(&figure), figure);
        }
    }

    #[test]
    fn bytes_that_are_no_answer_are_corrupt() {
        let mut packet = PacketBox::<Write>::new_buf(200).unwrap();
        let figures = [Metric::bytes("read", u64::MAX), Metric::nanoseconds("ü", 3), Metric::count("", 0)];
        Records::new(packet.bind().unwrap()).complete_from(0, figures.clone());
        let bytes = packet.simple_contiguous_slice().unwrap();
        assert_eq!(read_records::<Metric>(bytes).unwrap().0, figures);
        for cut in 1..bytes.len() {
            if let Ok((part, _)) = read_records::<Metric>(&bytes[..cut]) {
                assert_eq!(part, figures[..part.len()], "whole records only");
            }
        }
        assert_eq!(read_records::<Entry>(&[0; 7]).unwrap_err().code(), Code::CORRUPT);
        assert_eq!(
            read_records::<Entry>(&[0; 12]).unwrap_err().code(),
            Code::CORRUPT,
            "an entry without a name"
        );
        let mut wild = bytes.to_vec();
        wild[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(read_records::<Metric>(&wild).unwrap_err().code(), Code::CORRUPT);
    }
}
