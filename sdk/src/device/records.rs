//! Answers that are lists: names in a folder, where a name comes from, ranges that exist, figures.
//!
//! ```text
//!  next: u64 │ len: u32 │ flags: u32 │ first: u64 │ second: u64 │ name: len bytes │ len ...
//!  └ where to go on; 0 is the end     └ little-endian, without gaps
//! ```

use core::fmt;
use core::marker::PhantomData;
use core::ops::Range;

use crate::{BoundPacketView, Code, IoError, Write};

const HEADER: usize = 24;

/// The fields of a record as they cross the boundary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawRecord<'a> {
    pub(crate) flags: u32,
    pub(crate) first: u64,
    pub(crate) second: u64,
    pub(crate) name: &'a str,
}

/// What can be listed: [`Entry`], [`Origin`], [`Region`] or [`Figure`].
pub trait Record: Sized {
    /// As it crosses the boundary.
    fn to_raw(&self) -> RawRecord<'_>;

    /// What came over the boundary.
    fn from_raw(raw: RawRecord<'_>) -> Self;
}

/// Collects records and answers with them.
///
/// Dropping it without [`complete`](Self::complete) fails the request.
#[must_use = "a list that is dropped fails its request"]
pub struct Records<R> {
    view: BoundPacketView<Write>,
    bytes: Vec<u8>,
    of: PhantomData<fn(R)>,
}

impl<R: Record> Records<R> {
    /// Answers through a view; devices get theirs made.
    pub fn new(view: BoundPacketView<Write>) -> Self {
        Self { view, bytes: vec![0; 8], of: PhantomData }
    }

    /// For whoever asks another device.
    #[cfg(feature = "plugin")]
    pub(crate) fn into_view(self) -> BoundPacketView<Write> {
        self.view
    }

    /// Adds a record; `false` if it does not fit any more, and is to be the first of the next call.
    pub fn push(&mut self, record: &R) -> bool {
        let RawRecord { flags, first, second, name } = record.to_raw();
        if self.bytes.len() + HEADER + name.len() > self.view.len() {
            return false;
        }
        self.bytes.extend_from_slice(&(name.len() as u32).to_le_bytes());
        self.bytes.extend_from_slice(&flags.to_le_bytes());
        self.bytes.extend_from_slice(&first.to_le_bytes());
        self.bytes.extend_from_slice(&second.to_le_bytes());
        self.bytes.extend_from_slice(name.as_bytes());
        true
    }

    /// Answers with what was added. `next` is what the device is given to go on; `None` is the end.
    ///
    /// # Panics
    ///
    /// If `next` is 0, which is the beginning.
    pub fn complete(mut self, next: Option<u64>) {
        assert_ne!(next, Some(0), "0 is the beginning");
        self.bytes[..8].copy_from_slice(&next.unwrap_or(0).to_le_bytes());
        self.view.transfer_data(&self.bytes).complete();
    }

    /// Answers with all that `records` gives from the one with the number `from` on, as many as fit; the number is where to go on.
    pub fn complete_from(mut self, from: u64, records: impl IntoIterator<Item = R>) {
        let skip = usize::try_from(from).unwrap_or(usize::MAX);
        for (index, record) in records.into_iter().enumerate().skip(skip) {
            if !self.push(&record) {
                // Who cannot take even one has too little room for its name.
                if index == skip {
                    return self.error(IoError::TOO_LARGE);
                }
                return self.complete(Some(index as u64));
            }
        }
        self.complete(None);
    }

    /// There is no answer.
    pub fn error(self, error: IoError) {
        self.view.error(error);
    }
}

impl<R> fmt::Debug for Records<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Records({} of {} bytes)", self.bytes.len(), self.view.len())
    }
}

/// Reads an answer: its records, and where to go on.
///
/// # Errors
///
/// [`Code::CORRUPT`] if that is no answer.
pub fn read_records<R: Record>(bytes: &[u8]) -> Result<(Vec<R>, Option<u64>), IoError> {
    fn take<const N: usize>(bytes: &mut &[u8]) -> Result<[u8; N], IoError> {
        let (front, rest) = bytes.split_first_chunk::<N>().ok_or(IoError::from_code(Code::CORRUPT))?;
        *bytes = rest;
        Ok(*front)
    }
    let mut rest = bytes;
    let next = u64::from_le_bytes(take(&mut rest)?);
    let mut records = Vec::new();
    while !rest.is_empty() {
        let len = u32::from_le_bytes(take(&mut rest)?) as usize;
        let flags = u32::from_le_bytes(take(&mut rest)?);
        let first = u64::from_le_bytes(take(&mut rest)?);
        let second = u64::from_le_bytes(take(&mut rest)?);
        let name = rest.get(..len).and_then(|name| core::str::from_utf8(name).ok());
        let name = name.ok_or(IoError::from_code(Code::CORRUPT))?;
        rest = &rest[len..];
        records.push(R::from_raw(RawRecord { flags, first, second, name }));
    }
    Ok((records, (next != 0).then_some(next)))
}

/// Something with a name in a device that is a tree.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its name in its folder, without separators.
    pub name: String,
    /// It is a folder.
    pub is_folder: bool,
    /// Size in bytes, if known.
    pub size: Option<u64>,
}

const FOLDER: u32 = 1;
const SIZED: u32 = 2;

impl Record for Entry {
    fn to_raw(&self) -> RawRecord<'_> {
        let flags = if self.is_folder { FOLDER } else { 0 } | if self.size.is_some() { SIZED } else { 0 };
        RawRecord { flags, first: self.size.unwrap_or(0), second: 0, name: &self.name }
    }

    fn from_raw(raw: RawRecord<'_>) -> Self {
        Self {
            name: raw.name.to_owned(),
            is_folder: raw.flags & FOLDER != 0,
            size: (raw.flags & SIZED != 0).then_some(raw.first),
        }
    }
}

/// Where a name comes from, in a device that is a tree made of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Origin {
    /// What the source is called.
    pub source: String,
    /// The higher hides the lower.
    pub priority: i64,
    /// It is a folder there.
    pub is_folder: bool,
    /// Size in bytes, if known.
    pub size: Option<u64>,
}

impl Record for Origin {
    fn to_raw(&self) -> RawRecord<'_> {
        let flags = if self.is_folder { FOLDER } else { 0 } | if self.size.is_some() { SIZED } else { 0 };
        let (first, second) = (self.size.unwrap_or(0), self.priority.cast_unsigned());
        RawRecord { flags, first, second, name: &self.source }
    }

    fn from_raw(raw: RawRecord<'_>) -> Self {
        Self {
            source: raw.name.to_owned(),
            priority: raw.second.cast_signed(),
            is_folder: raw.flags & FOLDER != 0,
            size: (raw.flags & SIZED != 0).then_some(raw.first),
        }
    }
}

/// A range of positions that exists.
///
/// What no region covers is a hole: a file has zeros there, other devices have nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Region {
    /// The positions.
    pub range: Range<u64>,
    /// It can be read.
    pub readable: bool,
    /// It can be written.
    pub writable: bool,
    /// It can be executed.
    pub executable: bool,
    /// What it is, such as the file that is mapped there; may be empty.
    pub name: String,
}

impl Record for Region {
    fn to_raw(&self) -> RawRecord<'_> {
        let flags =
            u32::from(self.readable) | u32::from(self.writable) << 1 | u32::from(self.executable) << 2;
        RawRecord { flags, first: self.range.start, second: self.range.end, name: &self.name }
    }

    fn from_raw(raw: RawRecord<'_>) -> Self {
        Self {
            range: raw.first..raw.second,
            readable: raw.flags & 1 != 0,
            writable: raw.flags & 2 != 0,
            executable: raw.flags & 4 != 0,
            name: raw.name.to_owned(),
        }
    }
}

/// One number of a device's statistics.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figure {
    /// What it counts, in the plural and in small letters: `hits`, `requests waiting`.
    pub name: String,
    /// The number.
    pub value: u64,
    /// Of what.
    pub unit: Unit,
}

/// What a [`Figure`] is a number of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unit {
    /// Things.
    Count,
    /// Bytes.
    Bytes,
    /// Nanoseconds.
    Nanoseconds,
}

impl Figure {
    /// A number of things.
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

impl Record for Figure {
    fn to_raw(&self) -> RawRecord<'_> {
        let flags = match self.unit {
            Unit::Count => 0,
            Unit::Bytes => 1,
            Unit::Nanoseconds => 2,
        };
        RawRecord { flags, first: self.value, second: 0, name: &self.name }
    }

    fn from_raw(raw: RawRecord<'_>) -> Self {
        let unit = match raw.flags {
            1 => Unit::Bytes,
            2 => Unit::Nanoseconds,
            _ => Unit::Count,
        };
        Self { name: raw.name.to_owned(), value: raw.first, unit }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PacketBox;

    fn entries(count: usize) -> Vec<Entry> {
        let entry = |index| Entry { name: format!("file {index}"), is_folder: index % 3 == 0, size: None };
        (0..count).map(entry).collect()
    }

    #[test]
    fn lists_come_back_whole_in_as_many_answers_as_it_takes() {
        let all = entries(50);
        let (mut got, mut from, mut answers) = (Vec::new(), Some(0), 0);
        while let Some(start) = from {
            let mut packet = PacketBox::<Write>::new_buf(200).unwrap();
            Records::new(packet.bind().unwrap()).complete_from(start, all.iter().cloned());
            let done = packet.error_clamp();
            let (part, next) =
                read_records::<Entry>(&packet.simple_contiguous_slice().unwrap()[..done]).unwrap();
            got.extend(part);
            from = next;
            answers += 1;
        }
        assert_eq!(got, all);
        assert!(answers > 5);
    }

    #[test]
    fn a_name_that_is_too_long_for_the_answer_is_an_error_and_not_an_endless_loop() {
        let mut packet = PacketBox::<Write>::new_buf(64).unwrap();
        let long = Entry { name: "x".repeat(100), is_folder: false, size: Some(1) };
        Records::new(packet.bind().unwrap()).complete_from(0, [long]);
        assert_eq!(packet.min_error(), Some((0, IoError::TOO_LARGE)));
    }

    #[test]
    fn what_is_no_answer_is_corrupt() {
        let mut packet = PacketBox::<Write>::new_buf(200).unwrap();
        let figures = [Figure::bytes("read", u64::MAX), Figure::nanoseconds("ü", 3), Figure::count("", 0)];
        Records::new(packet.bind().unwrap()).complete_from(0, figures.clone());
        let done = packet.error_clamp();
        let bytes = &packet.simple_contiguous_slice().unwrap()[..done];
        assert_eq!(read_records::<Figure>(bytes).unwrap().0, figures);
        for cut in 1..done {
            if let Ok((part, _)) = read_records::<Figure>(&bytes[..cut]) {
                assert_eq!(part, figures[..part.len()], "whole records only");
            }
        }
        assert_eq!(read_records::<Entry>(&[0; 7]).unwrap_err().code(), Code::CORRUPT);
        let mut wild = bytes.to_vec();
        wild[8..12].copy_from_slice(&u32::MAX.to_le_bytes());
        assert_eq!(read_records::<Figure>(&wild).unwrap_err().code(), Code::CORRUPT);
    }
}
