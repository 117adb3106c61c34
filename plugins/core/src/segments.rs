//! Parts of memory, in order.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use pactio_sdk::{Code, IoError, OpenError, Region};

/// Maximum number of parts in a dump.
pub(crate) const MAX_SEGMENTS: usize = 1 << 20;

/// An error for a device below that is no dump, or a damaged one.
pub(crate) fn corrupt(what: impl Into<String>) -> OpenError {
    OpenError::new(IoError::from_code(Code::CORRUPT), what.into())
}

/// The message for a dump with more parts than [`MAX_SEGMENTS`].
pub(crate) fn too_many(count: impl std::fmt::Display) -> String {
    format!("it has {count} parts, which no dump has")
}

/// A part of memory and its place in the file.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) start: u64,
    pub(crate) size: u64,
    pub(crate) offset: u64,
    /// Number of its bytes that are in the file, from its start on.
    pub(crate) dumped: u64,
    /// The headers place all its bytes in the file, but the file ends before them.
    pub(crate) lost: bool,
    pub(crate) writable: bool,
    pub(crate) executable: bool,
    /// Many parts may share the name of one file.
    pub(crate) name: Arc<str>,
    /// The offset of its start in the file of that name, if the dump says it.
    pub(crate) file_offset: Option<u64>,
    /// The number of the file that has the bytes that were not dumped, if it is the file of that name.
    pub(crate) file: Option<usize>,
}

impl Segment {
    /// Physical memory. Its bytes are at an offset, or were not dumped, or are lost.
    pub(crate) fn physical(start: u64, size: u64, place: Option<u64>, lost: bool, name: &Arc<str>) -> Self {
        Self {
            start,
            size,
            offset: place.unwrap_or(0),
            dumped: if place.is_some() { size } else { 0 },
            lost,
            writable: false,
            executable: false,
            name: name.clone(),
            file_offset: None,
            file: None,
        }
    }

    /// Its last address. The size must not be 0, and the segment must end with the last of all addresses at the latest.
    fn last(&self) -> u64 {
        self.start + (self.size - 1)
    }

    fn fits(&self) -> bool {
        self.start.checked_add(self.size - 1).is_some() && self.offset.checked_add(self.dumped).is_some()
    }

    /// The places of its bytes, without holes.
    fn places(&self) -> impl Iterator<Item = Promised> + use<> {
        let held = self.dumped > 0 || self.lost;
        let last = if self.lost { self.last() } else { self.start.wrapping_add(self.dumped.wrapping_sub(1)) };
        let place = if self.lost { Place::Lost } else { Place::File(self.offset) };
        let held = held.then_some(Promised { first: self.start, last, place });
        let mapped = self.file.zip(self.file_offset).filter(|_| self.dumped < self.size && !self.lost);
        let mapped = mapped.map(|(number, offset)| Promised {
            first: self.start + self.dumped,
            last: self.last(),
            place: Place::Mapped(number, offset.saturating_add(self.dumped)),
        });
        held.into_iter().chain(mapped)
    }

    /// The half that is in the file, and the half that is not. Either may have no size.
    fn halves(&self) -> [Self; 2] {
        let start = self.start.wrapping_add(self.dumped);
        let file_offset = self.file_offset.and_then(|offset| offset.checked_add(self.dumped));
        let rest =
            Self { start, size: self.size - self.dumped, offset: 0, dumped: 0, file_offset, ..self.clone() };
        [Self { size: self.dumped, ..self.clone() }, rest]
    }

    /// The addresses from `first` to `last` of one half.
    fn part(&self, first: u64, last: u64) -> Self {
        let (size, skipped) = (last - first + 1, first - self.start);
        let (offset, dumped) = if self.dumped > 0 { (self.offset + skipped, size) } else { (0, 0) };
        let file_offset = self.file_offset.and_then(|offset| offset.checked_add(skipped));
        Self { start: first, size, offset, dumped, file_offset, ..self.clone() }
    }
}

/// Divides segments whose bytes lie behind the end of a file of `size` bytes, and returns the number of lost bytes.
pub(crate) fn cut(segments: &mut Vec<Segment>, size: u64) -> u64 {
    let (mut lost, mut parts) = (0u64, Vec::new());
    for segment in &mut *segments {
        let there = size.saturating_sub(segment.offset).min(segment.dumped);
        let missing = segment.dumped - there;
        if missing == 0 {
            continue;
        }
        lost = lost.saturating_add(missing);
        let rest = |skipped: u64, size| Segment {
            start: segment.start.wrapping_add(skipped),
            size,
            offset: 0,
            dumped: 0,
            file_offset: segment.file_offset.and_then(|offset| offset.checked_add(skipped)),
            ..segment.clone()
        };
        parts.push(Segment { lost: true, ..rest(there, missing) });
        // The headers say of these bytes that they were not dumped.
        parts.push(rest(segment.dumped, segment.size - segment.dumped));
        (segment.size, segment.dumped) = (there, there);
    }
    segments.append(&mut parts);
    lost
}

/// The content of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In the file below, at this offset.
    File(u64),
    /// In the mapped file of a number, at this offset.
    Mapped(usize, u64),
    /// The file below ends before it.
    Lost,
    /// Not dumped.
    Hole,
}

/// Segments that do not overlap, in the order of their addresses.
pub(crate) struct Segments {
    all: Vec<Segment>,
    known: Vec<Promised>,
}

/// Addresses with bytes that are, or should be, somewhere.
struct Promised {
    first: u64,
    last: u64,
    /// The place of the first byte.
    place: Place,
}

impl Segments {
    /// # Errors
    ///
    /// Names a segment that is invalid, or two that overlap.
    pub(crate) fn new(segments: Vec<Segment>) -> Result<Self, String> {
        let sorted = Self::sorted(checked(segments)?);
        match sorted.all.windows(2).find(|pair| pair[0].last() >= pair[1].start) {
            Some(pair) => Err(format!(
                "the parts at {:#x} and {:#x} overlap; it is not clear which is meant",
                pair[0].start, pair[1].start
            )),
            None => Ok(sorted),
        }
    }

    /// Of overlapping segments, the halves that are in the file are used first; of these, the longer one, and the other is cut.
    ///
    /// # Errors
    ///
    /// Names a segment that is invalid.
    pub(crate) fn of_overlapping(segments: Vec<Segment>) -> Result<Self, String> {
        let mut halves: Vec<Segment> = checked(segments)?.iter().flat_map(Segment::halves).collect();
        halves.retain(|half| half.size > 0);
        halves.sort_by_key(|half| Reverse((half.dumped, half.lost || half.file.is_some(), half.size)));
        let mut taken = Taken::default();
        let parts = halves.iter().flat_map(|half| {
            let free = taken.take(half.start, half.last()).into_iter();
            free.map(|(first, last)| half.part(first, last))
        });
        Ok(Self::sorted(parts.collect()))
    }

    fn sorted(mut all: Vec<Segment>) -> Self {
        all.sort_by_key(|segment| segment.start);
        let known = all.iter().flat_map(Segment::places);
        Self { known: known.collect(), all }
    }

    /// Looks up an address: its place, and the number of bytes from there on that are in the same one.
    pub(crate) fn at(&self, address: u64) -> (Place, u64) {
        let index = self.known.partition_point(|part| part.last < address);
        match self.known.get(index) {
            Some(part) if part.first <= address => {
                let skipped = address - part.first;
                let place = match part.place {
                    Place::File(offset) => Place::File(offset + skipped),
                    Place::Mapped(number, offset) => Place::Mapped(number, offset.saturating_add(skipped)),
                    place => place,
                };
                (place, (part.last - address).saturating_add(1))
            }
            Some(part) => (Place::Hole, part.first - address),
            None => (Place::Hole, u64::MAX),
        }
    }

    /// Regions that end behind an address. Bytes that were not dumped are not readable; lost bytes are, as far as the dump says.
    pub(crate) fn regions(&self, from: u64) -> impl Iterator<Item = Region> {
        let first = self.all.partition_point(|segment| segment.last() < from);
        self.all[first..]
            .iter()
            .flat_map(|segment| {
                let has_all = segment.lost || segment.file.is_some();
                let dumped = if has_all { segment.size } else { segment.dumped };
                let dumped = segment.start.saturating_add(dumped);
                // A half-open range cannot contain the last of all addresses.
                let end = segment.start.saturating_add(segment.size);
                [(segment, segment.start..dumped, true), (segment, dumped..end, false)]
            })
            .filter(move |(_, range, _)| range.end > from && !range.is_empty())
            .map(|(segment, range, readable)| {
                let mut region = Region::new(range);
                let skipped = region.range.start - segment.start;
                region.file_offset = segment.file_offset.and_then(|offset| offset.checked_add(skipped));
                (region.readable, region.writable) = (readable, segment.writable);
                region.executable = segment.executable;
                region.name = (&*segment.name).into();
                region
            })
    }
}

/// The segments that have a size, if all of these are valid.
fn checked(mut segments: Vec<Segment>) -> Result<Vec<Segment>, String> {
    segments.retain(|segment| segment.size > 0);
    if segments.is_empty() {
        return Err("there is no memory in it".to_owned());
    }
    if segments.len() > MAX_SEGMENTS {
        return Err(too_many(segments.len()));
    }
    match segments.iter().find(|segment| !segment.fits()) {
        Some(wrong) => Err(format!("the part at {:#x} is longer than there are addresses", wrong.start)),
        None => Ok(segments),
    }
}

/// Runs of taken addresses: the last address by the first one.
#[derive(Default)]
struct Taken(BTreeMap<u64, u64>);

impl Taken {
    /// Takes the addresses from `first` to `last`, and returns those that were free. All runs that these touch become one, so
    /// that no run is visited twice.
    fn take(&mut self, first: u64, last: u64) -> Vec<(u64, u64)> {
        let before = self.0.range(..first).next_back().filter(|(_, end)| **end >= first);
        let run = before.map_or(first, |(start, _)| *start);
        let within: Vec<_> = self.0.range(run..=last).map(|(start, end)| (*start, *end)).collect();
        let (mut free, mut next, mut end) = (Vec::new(), Some(first), last);
        for (taken, until) in within {
            self.0.remove(&taken);
            if let Some(from) = next.filter(|from| *from < taken) {
                free.push((from, taken - 1));
            }
            next = until.checked_add(1);
            end = end.max(until);
        }
        free.extend(next.filter(|from| *from <= last).map(|from| (from, last)));
        self.0.insert(run, end);
        free
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Start, size, dumped; the name is its number.
    fn segments(parts: &[(u64, u64, u64)]) -> Vec<Segment> {
        let segment = |(index, (start, size, dumped)): (usize, &(u64, u64, u64))| Segment {
            start: *start,
            size: *size,
            offset: 1000 * index as u64,
            dumped: *dumped,
            lost: false,
            writable: false,
            executable: false,
            name: index.to_string().into(),
            file_offset: None,
            file: None,
        };
        parts.iter().enumerate().map(segment).collect()
    }

    #[test]
    fn the_longer_of_two_that_overlap_serves_and_what_is_in_the_file_before_what_is_not() {
        // Checks the regions of the result.
        let check = |parts: &[(u64, u64, u64)], expected: &[(u64, u64, bool, &str)]| {
            let flat = Segments::of_overlapping(segments(parts)).unwrap();
            let seen: Vec<_> = flat.regions(0).collect();
            let seen: Vec<_> = seen
                .iter()
                .map(|region| {
                    (region.range.start, region.range.end, region.readable, region.name.to_str().unwrap())
                })
                .collect();
            assert_eq!(seen, expected, "{parts:?}");
            for (start, end, readable, name) in expected {
                let offset = name.parse::<u64>().unwrap();
                let offset = 1000 * offset + (start - parts[offset as usize].0);
                let (place, len) = flat.at(*start);
                assert_eq!(place, if *readable { Place::File(offset) } else { Place::Hole }, "{parts:?}");
                assert!(!readable || len == end - start, "{parts:?}");
            }
        };
        check(&[(10, 20, 20), (20, 50, 50)], &[(10, 20, true, "0"), (20, 70, true, "1")]);
        check(&[(20, 50, 50), (60, 20, 20)], &[(20, 70, true, "0"), (70, 80, true, "1")]);
        // One within another, and one on both sides.
        check(&[(30, 5, 5), (20, 50, 50)], &[(20, 70, true, "1")]);
        check(
            &[(0, 50, 50), (40, 30, 30), (60, 50, 50)],
            &[(0, 50, true, "0"), (50, 60, true, "1"), (60, 110, true, "2")],
        );
        // The longer one has fewer bytes in the file.
        check(
            &[(0, 100, 10), (20, 20, 20)],
            &[(0, 10, true, "0"), (10, 20, false, "0"), (20, 40, true, "1"), (40, 100, false, "0")],
        );
        check(&[(0, 20, 0), (0, 10, 0), (15, 10, 10)], &[(0, 15, false, "0"), (15, 25, true, "2")]);
    }

    #[test]
    fn bytes_behind_the_end_of_the_file_are_lost_and_neither_holes_nor_in_the_way_of_others() {
        // The second part has 20 bytes in the file and 10 that were not dumped.
        let mut parts = segments(&[(0, 100, 100), (200, 30, 20)]);
        assert_eq!(cut(&mut parts, 1010), 10);
        let flat = Segments::new(parts.clone()).unwrap();
        assert_eq!(flat.at(200), (Place::File(1000), 10));
        assert_eq!(flat.at(210), (Place::Lost, 10));
        assert_eq!(flat.at(220).0, Place::Hole);
        let readable: Vec<_> = flat.regions(0).map(|region| (region.range, region.readable)).collect();
        assert_eq!(readable, [(0..100, true), (200..210, true), (210..220, true), (220..230, false)]);
        assert_eq!(cut(&mut parts, 30), 80);
        let flat = Segments::new(parts).unwrap();
        assert_eq!(flat.at(30), (Place::Lost, 70));
        assert_eq!(flat.at(200), (Place::Lost, 10));
        // A part that is in the file comes before one that is lost, and that before one that was not dumped.
        let mut parts = segments(&[(0, 50, 50), (10, 20, 20), (40, 100, 0)]);
        assert_eq!(cut(&mut parts, 5), 45 + 20);
        let flat = Segments::of_overlapping(parts).unwrap();
        assert_eq!((flat.at(0), flat.at(5)), ((Place::File(0), 5), (Place::Lost, 45)));
        assert_eq!(flat.at(50).0, Place::Hole);
        // The last of all addresses may be lost, too.
        let mut parts = segments(&[(u64::MAX - 99, 100, 100)]);
        assert_eq!(cut(&mut parts, 40), 60);
        assert_eq!(Segments::new(parts).unwrap().at(u64::MAX), (Place::Lost, 1));
    }

    #[test]
    fn each_address_is_as_the_rule_says_whatever_overlaps() {
        let mut seed = 7u64;
        let mut random = |below: u64| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            (seed >> 33) % below
        };
        for round in 0..300 {
            let base = if round % 2 == 0 { 0 } else { u64::MAX - 99 };
            let parts: Vec<_> = (0..1 + random(8))
                .map(|_| {
                    let (start, size) = (random(80), 1 + random(20));
                    (base + start, size, random(size + 1))
                })
                .collect();
            let flat = Segments::of_overlapping(segments(&parts)).unwrap();
            for address in (0..100).map(|at| base + at) {
                let there = |part: &&(u64, u64, u64)| part.0 <= address && address - part.0 < part.2;
                let most = parts.iter().filter(there).map(|part| part.2).max();
                match (flat.at(address), most) {
                    ((Place::Hole, _), None) => {}
                    ((Place::File(offset), _), Some(most)) => {
                        let part = parts[(offset / 1000) as usize];
                        assert_eq!((part.2, offset % 1000), (most, address - part.0), "{parts:?} {address}");
                    }
                    wrong => panic!("{parts:?} {address}: {wrong:?}"),
                }
            }
        }
    }

    #[test]
    fn the_last_of_all_addresses_is_one_too() {
        for made in [Segments::new, Segments::of_overlapping] {
            let top = made(segments(&[(0x1000, 16, 16), (u64::MAX - 99, 100, 100)])).unwrap();
            assert_eq!(top.at(u64::MAX), (Place::File(1099), 1));
            assert_eq!(top.at(u64::MAX - 99), (Place::File(1000), 100));
            assert_eq!(top.regions(0x2000).next().unwrap().range, u64::MAX - 99..u64::MAX);
            assert!(made(segments(&[(u64::MAX - 99, 101, 0)])).is_err());
        }
    }
}
