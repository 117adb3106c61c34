//! Parts of memory, in order.

use std::ops::Range;

use pactio_sdk::{Code, Error, OpenError, Region};

/// More than this is no dump.
pub(crate) const MOST: usize = 1 << 20;

/// What is below is no dump, or a damaged one.
pub(crate) fn corrupt(what: impl Into<String>) -> OpenError {
    OpenError::new(Error::from_code(Code::Corrupt), what.into())
}

/// A part of memory and where the file has it.
#[derive(Clone, Debug)]
pub(crate) struct Segment {
    pub(crate) start: u64,
    pub(crate) size: u64,
    pub(crate) offset: u64,
    /// So many of its bytes are in the file, from its start on.
    pub(crate) dumped: u64,
    pub(crate) writable: bool,
    pub(crate) executable: bool,
    pub(crate) name: String,
}

impl Segment {
    fn end(&self) -> u64 {
        self.start + self.size
    }

    fn dumped(&self) -> Range<u64> {
        self.start..self.start + self.dumped
    }
}

/// Segments that do not overlap, by their addresses.
pub(crate) struct Segments {
    all: Vec<Segment>,
    /// Addresses of what is in the file, and where.
    dumped: Vec<(Range<u64>, u64)>,
}

impl Segments {
    /// # Errors
    ///
    /// Which of them make no sense.
    pub(crate) fn new(mut segments: Vec<Segment>) -> Result<Self, String> {
        segments.retain(|segment| segment.size > 0);
        if segments.is_empty() {
            return Err("there is no memory in it".to_owned());
        }
        if segments.len() > MOST {
            return Err(format!("it has {} parts, which no dump has", segments.len()));
        }
        let fits = |segment: &Segment| {
            let ends = [segment.start.checked_add(segment.size), segment.offset.checked_add(segment.dumped)];
            ends.iter().all(Option::is_some)
        };
        if let Some(wrong) = segments.iter().find(|segment| !fits(segment)) {
            return Err(format!("the part at {:#x} is longer than there are addresses", wrong.start));
        }
        segments.sort_by_key(|segment| segment.start);
        match segments.windows(2).find(|pair| pair[0].end() > pair[1].start) {
            Some(pair) => Err(format!(
                "the parts at {:#x} and {:#x} overlap; it is not clear which is meant",
                pair[0].start, pair[1].start
            )),
            None => {
                let dumped = segments.iter().filter(|segment| segment.dumped > 0);
                let dumped = dumped.map(|segment| (segment.dumped(), segment.offset)).collect();
                Ok(Self { all: segments, dumped })
            }
        }
    }

    /// What is at an address: where the file has it and how much from there on, or how long the hole is.
    pub(crate) fn at(&self, address: u64) -> Result<(u64, u64), u64> {
        let index = self.dumped.partition_point(|(range, _)| range.end <= address);
        match self.dumped.get(index) {
            Some((range, offset)) if range.start <= address => {
                Ok((offset + (address - range.start), range.end - address))
            }
            Some((range, _)) => Err(range.start - address),
            None => Err(u64::MAX),
        }
    }

    /// Regions that end behind an address. What is not in the file cannot be read.
    pub(crate) fn regions(&self, from: u64) -> impl Iterator<Item = Region> {
        let region = |segment: &Segment, range: Range<u64>, readable| Region {
            range,
            readable,
            writable: segment.writable,
            executable: segment.executable,
            name: segment.name.clone(),
        };
        let first = self.all.partition_point(|segment| segment.end() <= from);
        self.all[first..]
            .iter()
            .flat_map(move |segment| {
                let dumped = segment.dumped();
                let rest = dumped.end..segment.end();
                [region(segment, dumped, true), region(segment, rest, false)]
            })
            .filter(move |region| region.range.end > from && !region.range.is_empty())
    }
}
